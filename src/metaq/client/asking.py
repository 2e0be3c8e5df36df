"""Questions to one broker and what their answers mean: get, offset, stats, version (protocol.md §2)."""

from typing import Final, NamedTuple

from metaq.errors import LinkClosed, Refused, Status
from metaq.model import BrokerAddress, BrokerPartition, TopicPartition
from metaq.net.link import Link
from metaq.ports import World
from metaq.protocol.commands import Get, Offset, Reply, Result, Stats, Value, Version, Want
from metaq.protocol.encoder import encode

LATEST: Final = (1 << 63) - 1  # an offset nobody reaches: the answer names the end


class Fetched(NamedTuple):
    """The answer to get: data; or None, with the offset to use instead (`moved`) or nothing there yet."""

    data: bytes | None
    moved: int | None = None


class Position(NamedTuple):
    """One partition as `stats offsets` tells it."""

    topic: str
    partition: int
    first: int
    end: int


def can_wait(link: Link) -> bool:
    """Say whether the broker at the other end can be asked to wait until something is there."""
    return link.is_open and "wait" in link.extensions


async def fetch(link: Link, group: str, want: Want, timeout: float, wait: float = 0.0) -> Fetched:
    """Get what is wanted; where nothing is there, have the broker wait for it, so many seconds and 60 at most.

    That is only for a broker that `can_wait`; others answer at once. 404 and 403 are "nothing there yet", as for the
    Java client; so is an answer without a byte.

    Raises Refused for other answers, and what Link.request raises.
    """
    target, offset, max_size = want
    ms = int(wait * 1000) if wait and can_wait(link) else 0

    def build(opaque: int) -> bytes:
        return encode(Get(target, group, offset, max_size, opaque, ms))

    reply = await link.request(build, timeout + ms / 1000)
    match reply:
        case Value(data, _):
            return Fetched(data or None)
        case Result(Status.MOVED, body, _):
            return Fetched(None, _number(link, body))
        case Result(Status.NOT_FOUND | Status.FORBIDDEN, _, _):
            return Fetched(None)
        case Result(status, body, _):
            raise Refused(status, _text(body))


async def nearest_offset(link: Link, target: TopicPartition, group: str, offset: int, timeout: float) -> int | None:
    """Return the nearest valid offset: of 0 the first one, of LATEST the end. None: the partition is not there yet."""
    reply = await link.request(lambda opaque: encode(Offset(target, group, offset, opaque)), timeout)
    if isinstance(reply, Result) and reply.status == Status.NOT_FOUND:
        return None
    return _number(link, _success(link, reply))


async def stats(link: Link, item: str, timeout: float) -> bytes:
    """Return the answer to `stats`, as it is."""
    return _success(link, await link.request(lambda opaque: encode(Stats(item, opaque)), timeout))


async def stats_at(world: World, address: BrokerAddress, item: str, timeout: float) -> bytes:
    """Return what a broker answers to `stats`, over a connection of its own; `timeout` for that and for the answer."""
    link = Link(world.network, address, random=world.random)
    link.start()
    try:
        await link.ready(timeout)
        return await stats(link, item, timeout)
    finally:
        await link.close()


async def version(link: Link, timeout: float) -> str:
    """Return what the broker calls its version."""
    return _text(_success(link, await link.request(lambda opaque: encode(Version(opaque)), timeout)))


def parse_stats(text: str) -> dict[str, str]:
    """Return key → rest of each line of an answer to `stats`; of keys that repeat, the last."""
    lines = [line.partition(" ") for line in text.split("\r\n") if line not in ("STATS", "END", "")]
    return {key: value for key, _, value in lines}


def parse_offsets(text: str) -> list[Position]:
    """Return the partitions in an answer to `stats offsets`; lines of another shape are passed over."""
    found = []
    for line in text.split("\r\n"):
        match line.split(" "):
            case [topic, "part", partition, "min_offset", first, "max_offset", end]:
                if all(_is_number(word) for word in (partition, first, end)):
                    found.append(Position(topic, int(partition), int(first), int(end)))
    return found


def place(topic: str, partition: BrokerPartition, link: Link) -> str:
    """Return how a partition is named in messages to people."""
    return f"{topic} {partition} at {link.address}"


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit()


def _success(link: Link, reply: Reply) -> bytes:
    if not isinstance(reply, Result):
        raise LinkClosed(f"{link.address}: answered with data where a status was due")
    if reply.status != Status.SUCCESS:
        raise Refused(reply.status, _text(reply.body))
    return reply.body


def _number(link: Link, body: bytes) -> int:
    if not (body.isdigit() and len(body) <= 19):
        raise LinkClosed(f"{link.address}: answered with {body[:40]!r} where an offset was due")
    return int(body)


def _text(body: bytes) -> str:
    return body.decode("utf-8", "replace")
