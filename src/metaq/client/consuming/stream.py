"""One partition that a consumer owns: what is fetched of it ahead, and how far its messages are dealt with."""

import asyncio
import logging
from collections import deque
from contextlib import suppress
from typing import Final, Protocol

from metaq.client.consuming.fetching import GroupReader
from metaq.client.consuming.options import ConsumerOptions
from metaq.client.consuming.pool import Pool
from metaq.client.consuming.progress import Progress
from metaq.client.consuming.starting import Starting
from metaq.client.message import Block
from metaq.client.reader import ReaderOptions
from metaq.cluster.znodes import NO_MESSAGE, Position
from metaq.errors import CorruptMessage, MetaqError, NoBroker, NoStoredOffset, OffsetLost, Refused
from metaq.model import ClusterPartition

log = logging.getLogger(__name__)

_AHEAD: Final = 2  # runs fetched and not handed out
_FIRST_DELAY: Final = 0.005  # seconds after a look that found nothing; doubles up to the option's
_LONGEST_TROUBLE: Final = 2.0  # seconds between two tries while a broker is away or refuses


class Held(Protocol):
    """Messages in somebody's hand."""

    def settle(self) -> None: ...
    def stop(self) -> None: ...


class Stream:
    """Fetches until it is stopped. Trouble with brokers is waited out; what nobody can mend goes to the pool."""

    def __init__(
        self, key: ClusterPartition, stored: Position | None, starting: Starting, pool: Pool, options: ReaderOptions
    ) -> None:
        self.key = key
        self.progress: Progress | None = None  # None: where to begin is not known yet
        self.committed = stored
        self.held: set[Held] = set()
        self.corrupt_raises = False
        self.is_corrupt = False  # a corrupt record was raised, and not skipped yet
        self._stored = stored
        self._starting = starting
        self._pool = pool
        self._options = options
        self._runs: deque[Block] = deque()
        self._is_busy = False
        self._is_paused = False
        self._wanted = asyncio.Event()  # whether more should be fetched
        self._wanted.set()
        self._idle: asyncio.Future[None] | None = None
        self._reader: GroupReader | None = None
        self._is_stopped = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to fetch."""
        task = self._task = asyncio.get_running_loop().create_task(self._fetch_on(), name=f"fetch {self.key}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    # handing out

    @property
    def can_be_taken(self) -> bool:
        """Whether there is a run to hand out, now."""
        return bool(self._runs) and not (self._is_busy or self._is_paused or self._is_stopped)

    def take(self) -> Block:
        """Hand out a run; no other is until `free`."""
        self._is_busy = True
        block = self._runs.popleft()
        self._pool.account(-block.size)
        self._want()
        return block

    def free(self) -> None:
        """Let the next run be handed out."""
        self._is_busy = False
        if self.can_be_taken:
            self._pool.offer(self)

    def drop(self, held: Held) -> None:
        """Take note that something is not in hand any longer."""
        self.held.discard(held)
        if not self.held and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def position(self) -> Position | None:
        """Return how far all messages are dealt with; None: nothing is known yet."""
        for each in self.held:
            each.settle()
        return None if self.progress is None else self.progress.position

    # steering

    def pause(self) -> None:
        """Hand out and fetch nothing until `resume`; what is in hand stays there."""
        self._is_paused = True
        self._want()

    def resume(self) -> None:
        self._is_paused = False
        self._want()
        if self.can_be_taken:
            self._pool.offer(self)

    @property
    def is_paused(self) -> bool:
        return self._is_paused

    def seek(self, position: Position) -> None:
        """Go on at another offset; what is in hand is taken back."""
        self._take_back()
        self._cancel()
        self._is_busy = False
        self.progress = Progress(position)
        self._reader = None
        self.start()

    async def skip(self) -> None:
        """Go on behind the record that is corrupt."""
        if self._reader is not None:
            offset = await self._reader.skip()
            self.is_corrupt = False
            self._is_paused = False
            self.seek(Position(NO_MESSAGE, offset))

    def stop(self) -> None:
        """Fetch and hand out no more; what is in hand is taken back, but for the message being handled."""
        self._is_stopped = True
        self._cancel()
        self._take_back()

    async def finished(self, timeout: float) -> None:
        """After `stop`: wait until nothing is in hand, for `timeout` seconds at most, and the fetching has ended."""
        if self.held:
            self._idle = asyncio.get_running_loop().create_future()
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._idle
        if self._tasks:
            await asyncio.wait(self._tasks)

    # fetching

    async def _fetch_on(self) -> None:
        delay = _FIRST_DELAY
        while True:
            await self._wanted.wait()
            try:
                block = await self._look()
            except (NoStoredOffset, OffsetLost) as exc:
                self._pool.fail(exc)
                return
            except CorruptMessage as exc:
                await self._pass_over(exc)
                continue
            except MetaqError as exc:
                self._complain(exc, delay)
                await asyncio.sleep(delay)
                delay = min(2 * delay, _LONGEST_TROUBLE)
                continue
            if block:
                delay = _FIRST_DELAY
                self._keep(block)
            else:
                await asyncio.sleep(min(delay, self._options.longest_delay))
                delay = min(2 * delay, self._options.longest_delay)

    async def _look(self) -> Block | None:
        if self.progress is None:
            self.progress = Progress(await self._starting.begin(self.key, self._stored))
        if self._reader is None:
            self._reader = GroupReader(self.key, self.progress.position.offset, self._starting, self._options)
        async with self._pool.turn(self.key.partition.broker_id):
            return await self._reader.look()

    def _keep(self, block: Block) -> None:
        self._pool.account(block.size)
        self._runs.append(block)
        self._want()
        if self.can_be_taken and len(self._runs) == 1:
            self._pool.offer(self)

    async def _pass_over(self, error: CorruptMessage) -> None:
        """Look once more at a record that seems corrupt; if it stays so, skip it, or leave it to the user."""
        assert self._reader is not None
        try:
            block = await self._reader.look()
            if block:
                self._keep(block)
        except CorruptMessage:
            if self.corrupt_raises:
                self.is_corrupt = True
                self.pause()
                self._pool.fail(error)
                return
            offset = await self._reader.skip()
            log.error("%s; skipped, going on at %d", error, offset)
        except MetaqError:
            return  # the next look will meet it again

    def _complain(self, error: MetaqError, delay: float) -> None:
        level = logging.WARNING if delay >= _LONGEST_TROUBLE or isinstance(error, Refused) else logging.DEBUG
        if isinstance(error, NoBroker) and delay < _LONGEST_TROUBLE:
            level = logging.DEBUG  # it changes hands
        log.log(level, "%s: not fetched, trying again in %g s: %s", self.key, delay, error)

    def _want(self) -> None:
        if len(self._runs) < _AHEAD and not self._is_paused:
            self._wanted.set()
        else:
            self._wanted.clear()

    def _take_back(self) -> None:
        for each in list(self.held):
            each.settle()
            each.stop()
        self._pool.account(-sum(block.size for block in self._runs))
        self._runs.clear()
        self._want()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s: fetching failed", self.key, exc_info=error)
            self._pool.fail(MetaqError(f"{self.key}: fetching failed: {error!r}"))


def reader_options(group: str, options: ConsumerOptions) -> ReaderOptions:
    """Return how the readers of a consumer behave."""
    return ReaderOptions(
        timeout=options.timeout, max_size=options.max_size, longest_delay=options.longest_delay, group=group
    )
