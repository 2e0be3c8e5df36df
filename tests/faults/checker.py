"""What may never happen to messages, whatever happens to a broker: the one checker of all fault tests."""

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import Final

from metaq.model import TopicPartition
from metaq.record import HEADER_SIZE, walk
from tests.embedding import Dial, Peer

CHUNK: Final = 1 << 20  # bytes asked for at once
Messages = dict[int, tuple[int, bytes]]  # offset → id and body


@dataclass
class Ledger:
    """What was sent, what was acknowledged, and what the logs held when they were looked at last.

    Bodies are told apart by a number at their beginning; each is sent once.
    """

    random: Random
    sent: dict[bytes, TopicPartition] = field(default_factory=dict)
    acknowledged: dict[TopicPartition, Messages] = field(default_factory=dict)
    logs: dict[TopicPartition, bytes] = field(default_factory=dict)
    count: int = 0  # messages acknowledged so far

    def body(self, target: TopicPartition, size: int) -> bytes:
        """Return a body nobody has sent before, to be sent to this partition."""
        number = b"%d:" % len(self.sent)
        body = number + bytes(range(256)) * (size // 256) + self.random.randbytes(min(size, 64))
        self.sent[body] = target
        return body

    def acknowledge(self, target: TopicPartition, offset: int, id: int, body: bytes) -> None:
        """Note that the broker has said it keeps a message."""
        messages = self.acknowledged.setdefault(target, {})
        assert offset not in messages, f"{target}: offset {offset} was given out twice"
        messages[offset] = (id, body)
        self.count += 1

    def check(self, target: TopicPartition, log: bytes, *, lost_tail: bool = False) -> None:
        """Compare a whole log with what was promised.

        All acknowledged messages are there, with id and body, at their offset; all else is something that was sent to
        this partition and not answered; nothing is there twice; what was there before still is, where it was.
        `lost_tail`: the power failed and the topic does not sync, so messages may be missing at its end alone.
        """
        messages = self.acknowledged.setdefault(target, {})
        before = self.logs.get(target, b"")
        if lost_tail:
            before = before[: len(log)]
            for offset in [offset for offset in messages if offset >= len(log)]:
                del messages[offset]
        assert log.startswith(before), f"{target}: what was read before has changed"
        end, missing, bodies = 0, dict(messages), set()
        for record in walk(log):
            end = record.position + HEADER_SIZE + len(record.body)
            assert record.body not in bodies, f"{target}: {record.body[:20]!r} is there twice"
            bodies.add(record.body)
            assert self.sent.get(record.body) == target, f"{target}: {record.body[:20]!r} was not sent to it"
            promised = missing.pop(record.position, None)
            assert promised is None or promised == (record.id, record.body), f"{target}: {record.position} has changed"
        assert end == len(log), f"{target}: {len(log) - end} bytes behind the last message"
        assert not missing, f"{target}: acknowledged messages are missing at {sorted(missing)[:5]}"
        self.logs[target] = log


@dataclass
class Producer:
    """Sends as fast as it is answered, up to `window` messages at a time, until the connection ends."""

    ledger: Ledger
    targets: list[TopicPartition]
    window: int = 20
    large: float = 0.0  # share of messages of `large_size` bytes
    large_size: int = 300_000
    refused: int = 0

    async def run(self, dial: Dial) -> None:
        """Return when the connection has ended. Raises AssertionError if an answer makes no sense."""
        chance = self.ledger.random
        waiting: dict[int, tuple[TopicPartition, bytes]] = {}
        opaque = 0
        try:
            peer = await dial()
            while True:
                wire = []
                while len(waiting) < self.window:
                    target = chance.choice(self.targets)
                    size = self.large_size if chance.random() < self.large else chance.randrange(200)
                    body = self.ledger.body(target, size)
                    opaque += 1
                    waiting[opaque] = (target, body)
                    wire.append(
                        b"put %b %d %d 0 -1 %d\r\n%b" % (target[0].encode(), target[1], len(body), opaque, body)
                    )
                await peer.sends(b"".join(wire))
                self._take(await peer.frame(), waiting)
                while b"\r\n" in peer.received and len(waiting) > self.window // 2:
                    self._take(await peer.frame(), waiting)
        except ConnectionError:
            pass

    def _take(self, reply: bytes, waiting: dict[int, tuple[TopicPartition, bytes]]) -> None:
        head, _, text = reply.partition(b"\r\n")
        _, status, _, opaque = head.split(b" ")
        target, body = waiting.pop(int(opaque))
        if status == b"200":
            id, partition, offset = map(int, text.split(b" "))
            assert partition == target.partition
            self.ledger.acknowledge(target, offset, id, body)
        else:
            assert status == b"500", reply
            self.refused += 1


async def read_log(peer: Peer, target: TopicPartition) -> bytes:
    """Return all of a partition, from offset 0 on, in the way a consumer would."""
    found = bytearray()
    while True:
        reply = await peer.asks(b"get %b g %d %d %d 1\r\n" % (target[0].encode(), target[1], len(found), CHUNK))
        head, _, body = reply.partition(b"\r\n")
        if head.startswith(b"result 404 "):
            return bytes(found)
        assert head.startswith(b"value "), reply[:200]
        found += body


async def check_all(dial: Dial, ledger: Ledger, targets: list[TopicPartition], *, lost_tail: bool = False) -> None:
    """Read all partitions and compare them with what was promised."""
    peer = await dial()
    for target in targets:
        ledger.check(target, await read_log(peer, target), lost_tail=lost_tail and target.topic == "quick")


async def acknowledged(ledger: Ledger, count: int, producers: list[asyncio.Task[None]]) -> None:
    """Return when `count` more messages are acknowledged, or all producers have ended."""
    goal = ledger.count + count
    while ledger.count < goal and not all(producer.done() for producer in producers):
        await asyncio.sleep(0.001)
