"""One partition that a consumer owns: what is fetched of it ahead, and how far its messages are dealt with."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Protocol

from metaq.client.consuming.fetching import GroupReader
from metaq.client.consuming.options import ConsumerOptions
from metaq.client.consuming.pool import Pool
from metaq.client.consuming.progress import Progress
from metaq.client.consuming.starting import Starting
from metaq.client.message import Block
from metaq.client.reader import POLL, ReaderOptions
from metaq.client.source import Reached, Source
from metaq.cluster.znodes import NO_MESSAGE, Position
from metaq.errors import CorruptMessage, MetaqError, NoBroker, NoStoredOffset, NoTimeInIds, OffsetLost, Refused
from metaq.model import ClusterPartition

log = logging.getLogger(__name__)

_AHEAD: Final = 2  # runs fetched and not handed out
_SHORT: Final = 1.0  # seconds; a broker that answers sooner that nothing came did not wait
_FIRST_DELAY: Final = 0.005  # seconds after a look that found nothing; doubles up to the option's
_LONGEST_TROUBLE: Final = 2.0  # seconds between two tries while a broker is away or refuses


class Held(Protocol):
    """Messages in somebody's hand."""

    def settle(self) -> None:
        """Note how far they are dealt with."""

    def stop(self) -> None:
        """Begin no other of them."""

    def pause(self) -> int | None:
        """Begin no other until `resume`; return the offset from which on they are to be fetched again, if any are."""

    def resume(self) -> None: ...


class Stream:
    """Fetches until it is stopped. Trouble is waited out; what nobody but the user can mend goes to the pool."""

    def __init__(
        self, source: Source, stored: Position | None, starting: Starting, pool: Pool, options: ReaderOptions
    ) -> None:
        self.source = source
        self.key: ClusterPartition = source.key
        self.progress: Progress | None = None  # None: where to begin is not known yet
        self.committed = stored
        self.held: dict[Held, None] = {}  # in the order they came
        self.is_lost = False  # another may own it: nothing is stored any more
        self.corrupt_raises = False
        self.is_corrupt = False  # a corrupt record was raised, and not skipped yet
        self.began: Callable[[Stream], Awaitable[object]] | None = None  # awaited once it is known where to begin
        self.after: asyncio.Task[None] | None = None  # nothing is fetched before it ends
        self._stored = stored
        self._starting = starting
        self._pool = pool
        self._options = options
        self._runs: deque[Block] = deque()
        self._taken: Block | None = None  # what was handed out last, until it is dealt with
        self._is_busy = False
        self._is_blocked = False  # what was taken back is in hand yet
        self._is_paused = False
        self._wanted = asyncio.Event()  # whether more should be fetched
        self._wanted.set()
        self._idle: asyncio.Future[None] | None = None
        self._reader: GroupReader | None = None
        self._from: int | None = None  # where the next reader begins; None: at the position
        self._is_stopped = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to fetch."""
        self.source.begin(self._reached, self._read_elsewhere)
        self._begin_to_fetch()

    def _begin_to_fetch(self) -> None:
        task = self._task = asyncio.get_running_loop().create_task(self._fetch_on(), name=f"fetch {self.key}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # handing out

    @property
    def can_be_taken(self) -> bool:
        """Whether there is a run to hand out, now."""
        return bool(self._runs) and not (self._is_busy or self._is_blocked or self._is_paused or self._is_stopped)

    def take(self) -> Block:
        """Hand out a run; no other is until `free`."""
        self._is_busy = True
        block = self._taken = self._runs.popleft()
        self._pool.account(-block.size)
        self._want()
        return block

    def free(self) -> None:
        """Let the next run be handed out."""
        self._is_busy = False
        taken, self._taken = self._taken, None
        if taken is not None and taken.error is not None and not self._is_stopped:
            self._drop_ahead()  # what was fetched behind a corrupt record is not to be trusted
            self._fetch_from(taken.end)
        elif self.can_be_taken:
            self._pool.offer(self)

    def drop(self, held: Held) -> None:
        """Take note that something is not in hand any longer."""
        self.held.pop(held, None)
        if self.held:
            return
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        if self._is_blocked:
            self._is_blocked = False
            if self.can_be_taken:
                self._pool.offer(self)

    def position(self) -> Position | None:
        """Return how far all messages are dealt with; None: nothing is known yet."""
        for each in self.held:
            each.settle()
        return None if self.progress is None else self.progress.position

    # steering

    def pause(self) -> None:
        """Hand out and fetch nothing until `resume`; what is being handled stays in hand."""
        if self._is_paused:
            return
        self._is_paused = True
        again = [offset for each in self.held if (offset := each.pause()) is not None]
        again += [self._runs[0].offset] if self._runs else [] if self._next is None else [self._next]
        self._taken = None
        self._drop_ahead()  # it would take the room of partitions that go on
        self._fetch_from(min(again, default=None))

    def resume(self) -> None:
        """Go on where it was."""
        self._is_paused = False
        self._want()
        for each in list(self.held):
            each.resume()

    @property
    def is_paused(self) -> bool:
        return self._is_paused

    def seek(self, position: Position) -> None:
        """Go on at another offset. What is in hand is taken back; nothing is handed out before it is let go of."""
        self._take_back()
        self.progress = Progress(position)
        self._fetch_from(None)

    def rewind(self) -> None:
        """Fetch what is not dealt with again."""
        if self.progress is not None and not self._is_stopped:
            self.seek(self.progress.position)

    async def skip(self) -> None:
        """Go on behind the record that is corrupt. What was fetched before it is handed out as if nothing had been."""
        reader = self._have_reader()
        await self._skip(reader)
        if reader is self._reader:
            self.is_corrupt = False
            self._want()

    def stop(self) -> None:
        """Fetch and hand out no more; what is in hand is taken back, but for the message being handled."""
        self._is_stopped = True
        self.source.end()
        self._cancel()
        self._take_back()

    async def finished(self, timeout: float) -> None:
        """After `stop`: wait until nothing is in hand, for `timeout` seconds at most, and the fetching has ended.

        Nor is anything then of what this stream was to begin after.
        """
        if self.held:
            self._idle = asyncio.get_running_loop().create_future()
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._idle
        if ending := self._tasks | ({self.after} if self.after is not None else set()):
            await asyncio.wait(ending)

    # fetching

    async def _fetch_on(self) -> None:
        if self.after is not None:
            await asyncio.wait([self.after])
        delay = _FIRST_DELAY
        while True:
            await self._wanted.wait()
            longest = self._options.longest_delay
            try:
                found = await self._look()
            except (NoStoredOffset, OffsetLost, NoTimeInIds) as exc:
                self._pool.fail(exc)
                return
            except Exception as exc:  # noqa: BLE001 - a partition that is ours is fetched from, whatever happens
                self._complain(exc, delay)
                found, longest = False, _LONGEST_TROUBLE
            if found:
                delay = _FIRST_DELAY
            else:
                await asyncio.sleep(min(delay, longest))
                delay = min(2 * delay, longest)

    async def _look(self) -> bool:
        """Fetch once; return whether to do so again at once: that brought something, or the broker will wait now."""
        if self.progress is None:
            await self._begin()
        reader = self._have_reader()
        if reader.may_poll and self._pool.has_room:
            return await self._poll(reader)
        is_ahead = bool(self._runs) or self._is_busy or self._is_blocked
        async with self._pool.turn(self.key.partition.broker_id, is_ahead=is_ahead):
            block = await self._ask(reader)
        return block is not None or (reader.may_poll and self._pool.has_room)

    async def _poll(self, reader: GroupReader) -> bool:
        """Have the broker wait for a message. That takes nobody's turn: what comes is little.

        False: it did not wait, and is not to be asked again at once.
        """
        clock = asyncio.get_running_loop().time
        began = clock()
        block = await self._ask(reader, POLL)
        if block is not None:
            await asyncio.sleep(0)  # who waits for it has it before the broker is asked again
        return block is not None or clock() - began > _SHORT

    async def _ask(self, reader: GroupReader, wait: float = 0.0) -> Block | None:
        """Fetch once and keep what that brought."""
        try:
            block = await reader.look(wait)
        except CorruptMessage:
            block = await self._look_again(reader)
        if block:
            self._keep(block)
        return block or None

    async def _begin(self) -> None:
        position = await self._starting.begin(self.source, self._stored)
        self.progress = Progress(position)
        if self.began is not None and position != self._stored:
            await self.began(self)

    def _have_reader(self) -> GroupReader:
        if self._reader is None:
            assert self.progress is not None
            offset = self.progress.position.offset if self._from is None else self._from
            self._reader = GroupReader(self.source, offset, self._starting, self._options, self._moved)
        return self._reader

    def _keep(self, block: Block) -> None:
        self._pool.account(block.size)
        self._runs.append(block)
        self._want()
        if self.can_be_taken and len(self._runs) == 1:
            self._pool.offer(self)

    async def _look_again(self, reader: GroupReader) -> Block | None:
        """Look once more at a record that seems corrupt; if it stays so, skip it, or leave it to the user."""
        try:
            return await reader.look()
        except CorruptMessage as exc:
            if self.corrupt_raises:
                self.is_corrupt = True
                self._want()
                self._pool.fail(exc)
                return None
            if not await self._skip(reader):
                raise  # nothing is behind it: there may be, later
            log.error("%s; skipped, going on at %d", exc, reader.offset)
            return None

    async def _skip(self, reader: GroupReader) -> bool:
        """Move the reader behind a corrupt record; return whether it could."""
        begin, progress = reader.offset, self.progress
        end = await reader.skip()
        if progress is not None and progress.position.offset == begin:  # all before it is dealt with
            progress.reach(progress.position.message_id, end)
        return end != begin

    def _moved(self, offset: int) -> None:
        """The log is another than it was: what is before the position is to be handled from this offset on."""
        if self.progress is not None and offset < self.progress.position.offset:
            self._take_back()
            self.progress = Progress(Position(NO_MESSAGE, offset))

    def _complain(self, error: Exception, delay: float) -> None:
        if not isinstance(error, MetaqError):
            log.error("%s: not fetched, trying again", self.key, exc_info=error)
            return
        level = logging.WARNING if delay >= _LONGEST_TROUBLE or isinstance(error, Refused) else logging.DEBUG
        if isinstance(error, NoBroker) and delay < _LONGEST_TROUBLE:
            level = logging.DEBUG  # it changes hands
        log.log(level, "%s: not fetched, trying again in %g s: %s", self.key, delay, error)

    def _want(self) -> None:
        if len(self._runs) < _AHEAD and not (self._is_paused or self.is_corrupt):
            self._wanted.set()
        else:
            self._wanted.clear()

    @property
    def _next(self) -> int | None:
        """Where to fetch next; None: at the position."""
        return self._from if self._reader is None else self._reader.offset

    def _fetch_from(self, offset: int | None) -> None:
        """Leave off what is being fetched, and begin anew."""
        self._reader, self._from = None, offset
        if self._task is not None:
            self._task.cancel()
            self._begin_to_fetch()

    def _reached(self) -> Reached | None:
        return None if self._reader is None else self._reader.reached()

    def _read_elsewhere(self) -> None:
        """Leave off waiting for a broker, and go on at the same offset with the one that is read from now."""
        if not self._is_stopped and self._reader is not None:
            self._fetch_from(self._next)

    def _take_back(self) -> None:
        for each in list(self.held):
            each.settle()
            each.stop()
        self._is_busy = False
        self._taken = None
        self._is_blocked = bool(self.held)
        self.is_corrupt = False
        self._drop_ahead()

    def _drop_ahead(self) -> None:
        self._pool.account(-sum(block.size for block in self._runs))
        self._runs.clear()
        self._want()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


def reader_options(group: str, options: ConsumerOptions) -> ReaderOptions:
    """Return how the readers of a consumer behave."""
    return ReaderOptions(
        timeout=options.timeout, max_size=options.max_size, longest_delay=options.longest_delay, group=group
    )
