"""Calls handlers: many partitions or keys at once, each in order; what fails is tried again, then rejected."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from metaq.client.consuming.duplicates import Duplicates
from metaq.client.consuming.handlers import Handler, Piece
from metaq.client.consuming.lane import Lane
from metaq.client.consuming.options import ConsumerOptions
from metaq.client.consuming.rejecting import Rejects
from metaq.client.consuming.run import Run
from metaq.client.consuming.stream import Stream
from metaq.client.message import Message
from metaq.errors import ConfigError

log = logging.getLogger(__name__)

_MOST: Final = 2000  # messages of one partition in lanes; below it the next run is taken
_FAR: Final = 100_000  # messages of one partition from the first one that is not dealt with on
_SPARE: Final = 4  # lanes that are ready, for each call at once; below it the next run of any partition is taken


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerOptions:
    """How handlers are called.

    `concurrency`: calls at once. Messages of one partition are handled one after the other; with `key`, a function of
    a message ("attribute": its attribute), only those of one partition that have the same key.
    """

    concurrency: int = 1
    key: Callable[[Message], Hashable] | str | None = None

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise ConfigError(f"concurrency is at least 1, not {self.concurrency}")
        if isinstance(self.key, str) and self.key != "attribute":
            raise ConfigError(f"key is a function or 'attribute', not {self.key!r}")


class Source(Protocol):
    """Where messages come from: a consumer."""

    @property
    def duplicates(self) -> Duplicates | None:
        """What is to be told of messages that are dealt with."""

    async def next_run(self, wait: float | None = None) -> Run | None: ...


class Dispatcher:
    """Runs handlers until its source ends."""

    def __init__(
        self, source: Source, handler: Handler, rejects: Rejects, options: ConsumerOptions, how: HandlerOptions
    ) -> None:
        self.acks = options.ack == "auto"
        self.duplicates = source.duplicates
        self._source = source
        self._handler = handler
        self._rejects = rejects
        self._options = options
        self._how = how
        self._key = (lambda m: m.attribute) if how.key == "attribute" else how.key
        self._lanes: dict[Hashable, Lane] = {}
        self._load: Counter[Stream] = Counter()  # messages in lanes
        self._full: set[Stream] = set()  # of which no run is taken before some of those are handled
        self._left: dict[Stream, None] = {}  # of which messages were taken out of lanes, and not handled
        self._ready: asyncio.Queue[Lane] = asyncio.Queue()
        self._hungry = asyncio.Event()  # few lanes are ready
        self._working = 0
        self._calm = asyncio.Event()
        self._told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended = asyncio.Event()

    # life

    async def run(self) -> None:
        """Return when the source has ended and handlers have, or after the time allowed.

        Raises what the source, or the function that names keys, raises. Messages in lanes are fetched again then.
        """
        work = [self._feed(), self._recover(), *(self._work() for _ in range(self._how.concurrency))]
        jobs = [asyncio.create_task(each, name="handlers") for each in work]
        try:
            await asyncio.wait([*jobs, self._told], return_when=asyncio.FIRST_COMPLETED)
            self.stop()
            for lane in list(self._lanes.values()):
                lane.settle()
                lane.stop()
            await self._handlers_ended()
        finally:
            self.stop()
            try:
                await self._end(jobs)
            finally:
                self._ended.set()
        for job in jobs:
            if not job.cancelled():
                job.result()

    async def _end(self, jobs: Sequence[asyncio.Task[None]]) -> None:
        for job in jobs:
            job.cancel()
        await asyncio.wait(jobs)
        for lane in list(self._lanes.values()):
            self.retire(lane)
        for stream in self._left:
            stream.rewind()

    def stop(self) -> None:
        """End: begin no other message."""
        if not self._told.done():
            self._told.set_result(None)

    async def ended(self) -> None:
        """Return when `run` has ended."""
        await self._ended.wait()

    async def _handlers_ended(self) -> None:
        try:
            async with asyncio.timeout(self._options.release_timeout):
                while self._working:
                    self._calm.clear()
                    await self._calm.wait()
        except TimeoutError:
            log.warning("%d handlers have not ended within %g s", self._working, self._options.release_timeout)

    # lanes

    async def _feed(self) -> None:
        """Put the messages of runs into lanes, as long as there is somebody to handle them."""
        enough = _SPARE * self._how.concurrency
        while (run := await self._source.next_run()) is not None:
            try:
                self._adopt(run)
            except BaseException:
                run.stop()
                run.stream.drop(run)
                self._left[run.stream] = None
                raise
            while self._ready.qsize() >= enough:
                self._hungry.clear()
                await self._hungry.wait()

    def _adopt(self, run: Run) -> None:
        stream = run.stream
        messages = run.begin()
        for message in messages:
            self._lane(stream, message).messages.append(message)
        self._load[stream] += len(messages)
        stream.drop(run)
        self._full.add(stream)
        self._free(stream)

    def _lane(self, stream: Stream, message: Message) -> Lane:
        assert not isinstance(self._key, str)
        key = (stream, stream.progress, None if self._key is None else self._key(message))
        lane = self._lanes.get(key)
        if lane is None or lane.is_stopped:
            lane = self._lanes[key] = Lane(key, stream, self)
            stream.held[lane] = None
            self.queue(lane)
        return lane

    def queue(self, lane: Lane) -> None:
        """Give a lane its turn."""
        lane.timer = None
        lane.is_parked = False
        self._ready.put_nowait(lane)

    def retire(self, lane: Lane) -> None:
        """Have done with a lane, of which no handler has anything."""
        if self._lanes.get(lane.key) is lane:
            del self._lanes[lane.key]
        if lane.timer is not None:
            lane.timer.cancel()
        if lane.messages:
            self._left[lane.stream] = None
        self._unload(lane, len(lane.messages))
        lane.messages.clear()
        lane.stream.drop(lane)

    def _unload(self, lane: Lane, count: int) -> None:
        """Count what is in a lane no longer, and let more come."""
        self._load[lane.stream] -= count
        self._free(lane.stream)
        if not self._load[lane.stream]:
            del self._load[lane.stream]

    def _free(self, stream: Stream) -> None:
        """Let the next run of a partition come, if it is one that waits and few enough of it are here."""
        pending = 0 if stream.progress is None else stream.progress.pending
        if stream in self._full and self._load[stream] < _MOST and pending < _FAR:
            self._full.discard(stream)
            stream.free()

    # handling

    async def _work(self) -> None:
        while True:
            lane = await self._ready.get()
            self._hungry.set()
            self._working += 1
            try:
                await self._advance(lane)
            finally:
                self._working -= 1
                self._calm.set()

    async def _advance(self, lane: Lane) -> None:
        if lane.stream.is_paused and not lane.is_stopped:
            lane.is_parked = True
            return
        if not lane.is_stopped:
            error: BaseException | None = None
            try:
                error = await self._call(lane.begin())
            finally:
                count = lane.end()
                lane.failures = (0 if count else lane.failures) + (error is not None)
                self._unload(lane, count)
            if error is not None and lane.goes_on() and not await self._give_up(lane, error):
                return
        if lane.goes_on():
            self.queue(lane)
        else:
            self.retire(lane)

    async def _call(self, piece: Piece) -> BaseException | None:
        """Call the handler; return what it raised."""
        try:
            await self._handler(piece)
        except asyncio.CancelledError as exc:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                piece.is_stopped = True
                raise
            return exc  # it waited for something that was cancelled
        except Exception as exc:  # noqa: BLE001 - whatever it was: it is tried again, then rejected with it
            return exc
        return None

    async def _give_up(self, lane: Lane, error: BaseException) -> bool:
        """Reject the message that failed too often; False: it has its turn again, later."""
        message = lane.messages[0]
        if lane.failures > self._options.retries:
            lane.is_rejecting = True
            try:
                await self._rejects.reject(message, error)
            except Exception as exc:
                log.exception("%s %s: message at %d not rejected", message.topic, message.partition, message.offset)
                error = exc
            else:
                lane.finish(message)
                lane.messages.popleft()
                lane.failures = 0
                self._unload(lane, 1)
                return True
            finally:
                lane.is_rejecting = False
            if lane.is_stopped:
                return True
        delay = min(self._options.first_backoff * 2 ** min(lane.failures - 1, 30), self._options.longest_backoff)
        log.warning(
            "%s %s: the handler failed at %d, trying again in %g s: %r",
            message.topic, message.partition, message.offset, delay, error,
        )  # fmt: skip
        lane.timer = asyncio.get_running_loop().call_later(delay, self.queue, lane)
        return False

    # what was rejected

    async def _recover(self) -> None:
        """Give messages that were rejected to the handler once more, now and then."""
        while True:
            self._working += 1
            try:
                await self._rejects.recover(self._handle_again)
            except Exception:
                log.exception("rejected messages not recovered, trying again in %g s", self._options.recover_every)
            finally:
                self._working -= 1
                self._calm.set()
            await asyncio.sleep(self._options.recover_every)

    async def _handle_again(self, message: Message) -> bool:
        """Handle a message that was rejected; False: not any more."""
        if self._told.done():
            return False
        error = await self._call(Piece([message]))
        if error is not None:
            raise error if isinstance(error, Exception) else RuntimeError(repr(error)) from error
        return True
