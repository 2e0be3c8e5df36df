"""Reading one partition from a chosen offset on (reference: SimpleFetchManager, MessageIterator)."""

import asyncio
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, TypeAlias, TypedDict

from metaq.client import asking
from metaq.client.asking import Fetched
from metaq.client.message import Block, Message, read_run
from metaq.client.partitioner import Place, parse_partition
from metaq.client.preference import DEFAULT_MAX_LAG, Preference, check_max_lag, parse_preference
from metaq.client.replicas import Replicas
from metaq.client.scan import find_record
from metaq.client.source import Reached, Source
from metaq.errors import (
    ClientError,
    ConfigError,
    CorruptMessage,
    LinkClosed,
    NoBroker,
    Refused,
    RegistryError,
    RequestTimeout,
)
from metaq.model import ClusterPartition, TopicPartition
from metaq.net.link import Link
from metaq.protocol.commands import Want
from metaq.record import HEADER, HEADER_SIZE

Start: TypeAlias = Literal["earliest", "latest"] | int

_WINDOW: Final = 1 << 20  # bytes that are looked through at least for the record behind a corrupt one
POLL: Final = 30.0  # seconds that a broker is asked to wait for a message
_STAND_IN: Final = 1.5  # seconds that a slave is, while there is no master: then the master may be back
_POLL_SIZE: Final = 16 << 10  # bytes of the answer: many may come at the same time
_CUT_TRIES: Final = 6  # looks at a log that ends within a record, before that is called corrupt


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderOptions:
    """How a reader behaves; seconds and bytes."""

    timeout: float = 10.0  # for one answer
    max_size: int = 1 << 20  # asked for at once; a larger message is fetched in pieces
    largest: int = 64 << 20  # a record that claims to be larger is taken for a corrupt one
    first_delay: float = 0.005  # at the end of the partition; doubled as long as nothing comes
    longest_delay: float = 0.5
    give_up_after: float | None = None  # seconds of trouble without a break after which it is raised; None: never
    group: str = "pymetaq-reader"  # what the broker counts the gets under
    read_from: str = "master"  # as for consumers
    max_lag: float | None = DEFAULT_MAX_LAG  # None: a slave may lag behind for ever

    def __post_init__(self) -> None:
        if self.max_size < 1:
            raise ConfigError(f"max_size is at least 1, not {self.max_size}")
        parse_preference(self.read_from)
        check_max_lag(self.max_lag)

    @property
    def preference(self) -> Preference:
        """What `read_from` says."""
        return parse_preference(self.read_from)


class ReaderKeywords(TypedDict, total=False):
    """Those of them that a user chooses, as keywords."""

    max_size: int
    timeout: float
    give_up_after: float | None
    read_from: str
    max_lag: float | None


class Reader:
    """The messages of one partition, one after the other, also those that are still to come.

    Iterating waits at the end, and through any trouble with the network. It ends when the reader is closed. After an
    error iterating may go on: nothing is lost, nothing comes twice.
    """

    def __init__(self, topic: str, partition: Place, start: Start, replicas: Replicas, options: ReaderOptions) -> None:
        if isinstance(start, str) and start not in ("earliest", "latest"):
            raise ConfigError(f"a reader begins at 'earliest', 'latest' or an offset, not at {start!r}")
        self.topic = topic
        self._place: Place = parse_partition(partition) if isinstance(partition, str) else partition
        self._target = TopicPartition(topic, 0)
        self._replicas = replicas
        self._routes = replicas.routes
        self._source: Source | None = None  # None: not asked for yet
        self._options = options
        self._preference = options.preference
        self._start = start
        self._offset: int | None = start if isinstance(start, int) else None  # where to fetch next
        self._size = options.max_size
        self._ready: list[Message] = []  # fetched and not handed out, the last one first
        self._at_end: Link | None = None  # who said last that no more is there
        self._over: Link | None = None  # who was asked last
        self._polling: asyncio.Task[Block | None] | None = None
        self._stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def offset(self) -> int | None:
        """The offset of the next message, or of the record that is corrupt. None: the start is not looked up yet."""
        return self._ready[-1].offset if self._ready else self._offset

    @property
    def partition(self) -> str:
        """`<brokerId>-<partition>`; before the first fetch only the number, if no more was said."""
        return str(self._place)

    @property
    def is_closed(self) -> bool:
        """Whether it was stopped."""
        return self._stopped.done()

    def seek(self, offset: int) -> None:
        """Go on at this offset; it must be that of a message, or the end."""
        self._ready.clear()
        self._offset = offset
        self._at_end = None
        if self._polling is not None:
            self._polling.cancel()

    async def close(self) -> None:
        """Stop: iterating ends, also where it is waiting now."""
        if not self._stopped.done():
            self._stopped.set_result(None)
            if self._source is not None:
                self._source.end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        """Return the next message, waiting for it. Raises as `fetch`."""
        if self._ready and not self._stopped.done():
            return self._ready.pop()
        messages = await self.fetch()
        if not messages:
            raise StopAsyncIteration
        messages.reverse()
        self._ready = messages
        return messages.pop()

    async def fetch(self, wait: float | None = None) -> list[Message]:
        """Return the next messages, at least one, at most what one answer holds.

        Waits at the end of the partition for `wait` seconds (None: for ever), then returns an empty list; so it does
        when the reader is closed. Raises CorruptMessage (see `skip`) and Refused; LinkClosed, RequestTimeout and
        NoBroker only if trouble lasts longer than the options allow. The reader may be used on after each of them.
        """
        if self._ready and not self._stopped.done():
            messages, self._ready = self._ready, []
            messages.reverse()
            return messages
        loop = asyncio.get_running_loop()
        began = good = loop.time()
        delay = self._options.first_delay
        while not self._stopped.done():
            try:
                block = await self._ask(POLL if wait is None else wait - (loop.time() - began))
                if block:
                    messages = list(block)
                    self._offset = block.end  # before a corrupt one, should there be one
                    return messages
                good = now = loop.time()
                left = delay if wait is None else wait - (now - began)
                if left <= 0:
                    break
            except (LinkClosed, RequestTimeout, NoBroker, RegistryError) as exc:
                limit = self._options.give_up_after
                if not self._stopped.done() and limit is not None and loop.time() - good > limit:
                    raise type(exc)(f"{self.topic} {self.partition}: {exc}") from exc
                left = delay
            await self._pause(min(delay, left))
            delay = min(2 * delay, self._options.longest_delay)
        return []

    async def skip(self) -> int:
        """Move past the corrupt record at `offset` to the next one that is whole, or to the end; return that offset.

        That is the first one whose checksum fits, be it within the body of the corrupt one: its length may be what is
        wrong. Where it is only cut by the end of the log nothing is moved: the rest of it may come, as in a slave.
        """
        link = await self._link()
        self.seek(begin := await self._begin(link))
        size = max(self._options.max_size, self._size, _WINDOW)

        async def fetch(offset: int, size: int) -> bytes | None:
            return (await self._get(link, offset, size)).data

        head = await fetch(begin, HEADER_SIZE)
        if head is None:
            return begin
        found = await find_record(fetch, begin + 1, size, asking.LATEST)
        is_cut = not found.data and found.offset < begin + self._claim(head)
        self.seek(end := begin if is_cut else found.offset)
        return end

    def _claim(self, head: bytes) -> int:
        """Return how many bytes a record says it has; 0: it makes no sense."""
        if len(head) < HEADER_SIZE:
            return HEADER_SIZE
        length = HEADER.unpack(head)[0]
        return HEADER_SIZE + length if 0 <= length <= self._options.largest else 0

    # one fetch

    async def look(self, wait: float = 0.0) -> Block | None:
        """Ask once; return whole messages, None if there is nothing now. Raises CorruptMessage, ClientError.

        `wait`: have a broker that can wait so many seconds for a message; others answer at once. Where a broker fails
        and another may be read from, that one is asked.
        """
        try:
            return await self._look(wait)
        except (CorruptMessage, LinkClosed, Refused, RequestTimeout):
            over, source = self._over, self._source
            if over is None or source is None or not source.avoid(over) or (await source.way()).link is over:
                raise
            return await self._look(0.0)

    async def _look(self, wait: float) -> Block | None:
        link = self._over = await self._link()
        offset = await self._begin(link)
        size = min(self._size, _POLL_SIZE) if wait else self._size
        if wait and self._source is not None and self._source.stands_in:
            wait = min(wait, _STAND_IN)
        fetched = await self._get(link, offset, size, wait)
        self._at_end = link if fetched.data is None or len(fetched.data) < size else None
        if fetched.moved is not None:
            moved_from, offset = offset, await self._moved(link, offset, fetched.moved)
            self._offset = offset
            if offset != moved_from:
                fetched = await self._get(link, offset, self._size)
        if fetched.data is None:
            return None
        return await self._messages(link, offset, fetched.data)

    async def _messages(self, link: Link, offset: int, data: bytes) -> Block:
        """Return the messages in `data`, which begins at `offset`, fetching the rest of the first one if it is cut."""
        self._offset, tries = offset, 0
        while True:
            run = read_run(self.topic, self.partition, offset, data, self._options.largest)
            if run.messages:
                self._offset = run.end
                return run.messages
            if run.error is not None:
                raise run.error
            rest = await self._rest(link, offset + len(data), run.missing)
            tries = 0 if rest else tries + 1
            if tries >= _CUT_TRIES:
                raise CorruptMessage(
                    f"{self.topic} {self.partition}: the record at offset {offset} is cut: {len(data)} bytes of it"
                    f" are there, {run.missing} more are missing"
                )
            data += rest
            self._size = max(self._size, len(data))  # the next one may be as large

    async def _rest(self, link: Link, offset: int, missing: int) -> bytes:
        """Return up to `missing` bytes of a record that goes on at `offset`; nothing if they are not there yet."""
        parts: list[bytes] = []
        while missing:
            data = (await self._get(link, offset, missing)).data
            if not data:
                await self._pause(self._options.first_delay)
                break
            parts.append(data)
            offset += len(data)
            missing -= len(data)
        return b"".join(parts)

    async def _moved(self, link: Link, offset: int, nearest: int) -> int:
        """Return where to go on when there is nothing at an offset and the broker names the nearest one."""
        source = self._source
        if source is None or (await source.way()).is_master:
            return nearest
        if nearest < offset:
            return offset  # a slave of 1.4.6.2 names its end; it will have more
        return offset if source.avoid(link) and (await source.way()).link is not link else nearest

    async def _link(self) -> Link:
        place = self._place = await self._routes.resolve(self._place, self._options.timeout)
        self._target = TopicPartition(self.topic, place.partition)
        if self._source is None:
            options = self._options
            key = ClusterPartition(self.topic, place)
            self._source = self._replicas.source(key, self._preference, options.max_lag, options.timeout)
            self._source.begin(self.reached, self._read_elsewhere)
        return (await self._source.way()).link

    def reached(self) -> Reached | None:
        """Return where it is to fetch next, and whether nothing more was there when it was looked at last."""
        return None if self._offset is None else Reached(self._offset, self._at_end is not None)

    def _read_elsewhere(self) -> None:
        """Leave off waiting for a broker: another is read from now."""
        if self._polling is not None:
            self._polling.cancel()

    async def _begin(self, link: Link) -> int:
        """Return where to fetch; looks it up the first time."""
        if self._offset is None:
            wanted = asking.LATEST if self._start == "latest" else 0
            options = self._options
            try:
                found = await asking.nearest_offset(link, self._target, options.group, wanted, options.timeout)
            except Refused as exc:
                raise self._refused(link, exc) from exc
            self._offset = found or 0  # not there yet: also for "latest", all that comes will be new
        return self._offset

    @property
    def may_poll(self) -> bool:
        """Whether no more is there, and the broker that said so can be asked to wait for it."""
        return self._at_end is not None and asking.can_wait(self._at_end)

    async def _ask(self, wait: float) -> Block | None:
        """Do as `look`, and where nothing is there wait for it, if the broker can, until the reader is closed."""
        block = None if self.may_poll and wait > 0 else await self.look()
        return await self._poll(wait) if block is None and self.may_poll and wait > 0 else block

    async def _poll(self, wait: float) -> Block | None:
        if self._stopped.done():
            return None
        poll = self.look(min(wait, POLL))
        polling = self._polling = asyncio.create_task(poll, name=f"poll {self.topic} {self.partition}")
        try:
            either: list[asyncio.Future[Any]] = [polling, self._stopped]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._polling = None
            if not polling.done():
                polling.cancel()
                await asyncio.wait([polling])
        return None if polling.cancelled() else polling.result()

    async def _get(self, link: Link, offset: int, size: int, wait: float = 0.0) -> Fetched:
        options = self._options
        try:
            return await asking.fetch(link, options.group, Want(self._target, offset, size), options.timeout, wait)
        except Refused as exc:
            raise self._refused(link, exc) from exc

    def _refused(self, link: Link, exc: Refused) -> ClientError:
        where = f"get from {self.topic} {self.partition} at {link.address}, offset {self._offset}"
        return Refused(exc.status, f"{exc.text} ({where})")

    async def _pause(self, seconds: float) -> None:
        await asyncio.wait([self._stopped], timeout=seconds)
