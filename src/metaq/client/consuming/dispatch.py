"""Calls handlers: many partitions or keys at once, each in order; what fails is tried again, then rejected."""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol

from metaq.client.consuming.handlers import Handler, Piece
from metaq.client.consuming.options import ConsumerOptions
from metaq.client.consuming.rejecting import Rejects
from metaq.client.consuming.run import Run
from metaq.client.consuming.stream import Stream
from metaq.client.message import Message
from metaq.errors import ConfigError

log = logging.getLogger(__name__)

_PIECE: Final = 100  # messages handled at a turn, before another lane has its turn
_MOST: Final = 2000  # messages of one partition in lanes; below it the next run is taken


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

    async def next_run(self, wait: float | None = None) -> Run | None: ...


class Lane:
    """Messages handled in order: those of a partition, or of one key in it. At most one handler at a time."""

    def __init__(self, key: Hashable, stream: Stream, retire: "Callable[[Lane], None]", *, acks: bool) -> None:
        self.key = key
        self.stream = stream
        self.messages: deque[Message] = deque()
        self.failures = 0  # of the first one, in a row
        self.is_stopped = False
        self.piece: Piece | None = None  # what a handler has
        self.timer: asyncio.TimerHandle | None = None
        self._retire = retire  # called when it is stopped and no handler has any of it
        self._progress = stream.progress if acks else None
        self._settled = 0  # of the piece

    def settle(self) -> None:
        """Take note of what the handler is through with."""
        piece = self.piece
        if piece is None:
            return
        count = piece.count
        for message in islice(piece.messages, self._settled, count):
            self.finish(message)
        self._settled = count

    def finish(self, message: Message) -> None:
        if self._progress is not None:
            self._progress.finish(message)

    def stop(self) -> None:
        """Begin no other message."""
        self.is_stopped = True
        if self.piece is None:
            self._retire(self)
        else:
            self.piece.is_stopped = True

    def begin(self) -> Piece:
        self._settled = 0
        self.piece = Piece(list(islice(self.messages, _PIECE)))
        return self.piece

    def end(self) -> int:
        """Take away what was handled, or, where it was stopped, everything; return how many that were."""
        self.settle()
        count = 0 if self.piece is None else self.piece.count
        self.piece = None
        if self.is_stopped:
            count = len(self.messages)
        for _ in range(count):
            self.messages.popleft()
        return count


class Dispatcher:
    """Runs handlers until its source ends."""

    def __init__(
        self, source: Source, handler: Handler, rejects: Rejects, options: ConsumerOptions, how: HandlerOptions
    ) -> None:
        self._source = source
        self._handler = handler
        self._rejects = rejects
        self._options = options
        self._how = how
        self._acks = options.ack == "auto"
        self._key = (lambda m: m.attribute) if how.key == "attribute" else how.key
        self._lanes: dict[Hashable, Lane] = {}
        self._load: Counter[Stream] = Counter()  # messages in lanes
        self._ready: asyncio.Queue[Lane] = asyncio.Queue()
        self._working = 0
        self._calm = asyncio.Event()

    async def run(self) -> None:
        """Return when the source has ended and handlers have, or after the time allowed. Raises what it raises."""
        jobs = [asyncio.create_task(self._work(), name="handler") for _ in range(self._how.concurrency)]
        jobs.append(asyncio.create_task(self._recover(), name="recover"))
        try:
            while (run := await self._source.next_run()) is not None:
                self._adopt(run)
            while self._working:
                self._calm.clear()
                await asyncio.wait_for(self._calm.wait(), self._options.release_timeout)
        except TimeoutError:
            log.warning("%d handlers have not ended within %g s", self._working, self._options.release_timeout)
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.wait(jobs)
            for lane in list(self._lanes.values()):
                self._retire(lane)

    def _adopt(self, run: Run) -> None:
        """Put the messages of a run into lanes."""
        stream = run.stream
        messages = run.begin()
        for message in messages:
            self._lane(stream, message).messages.append(message)
        self._load[stream] += len(messages)
        stream.drop(run)
        if self._load[stream] < _MOST:
            stream.free()

    def _lane(self, stream: Stream, message: Message) -> Lane:
        assert not isinstance(self._key, str)
        key = (stream, stream.progress, None if self._key is None else self._key(message))
        lane = self._lanes.get(key)
        if lane is None or lane.is_stopped:
            lane = self._lanes[key] = Lane(key, stream, self._retire, acks=self._acks)
            stream.held.add(lane)
            self._ready.put_nowait(lane)
        return lane

    async def _work(self) -> None:
        while True:
            lane = await self._ready.get()
            lane.timer = None
            self._working += 1
            try:
                await self._advance(lane)
            finally:
                self._working -= 1
                self._calm.set()

    async def _advance(self, lane: Lane) -> None:
        error: Exception | None = None
        if not lane.is_stopped:
            try:
                await self._handler(lane.begin())
            except Exception as exc:  # noqa: BLE001 - whatever it was: it is tried again, then rejected with it
                error = exc
            except asyncio.CancelledError:
                lane.stop()
                raise
            finally:
                self._unload(lane, lane.end(), error)
            if error is not None and lane.messages and not await self._give_up(lane, error):
                return
        if lane.messages and not lane.is_stopped:
            self._ready.put_nowait(lane)
        else:
            self._retire(lane)

    async def _give_up(self, lane: Lane, error: Exception) -> bool:
        """Reject the message that failed too often; False: it has its turn again, later."""
        message = lane.messages[0]
        if lane.failures > self._options.retries:
            try:
                await self._rejects.reject(message, error)
            except Exception as exc:
                log.exception("%s %s: message at %d not rejected", message.topic, message.partition, message.offset)
                error = exc
            else:
                if not lane.is_stopped:
                    lane.finish(message)
                    lane.messages.popleft()
                    self._unload(lane, 1, None)
                return True
        if lane.is_stopped:
            return True
        delay = min(self._options.first_backoff * 2 ** min(lane.failures - 1, 30), self._options.longest_backoff)
        log.warning(
            "%s %s: the handler failed at %d, trying again in %g s: %r",
            message.topic, message.partition, message.offset, delay, error,
        )  # fmt: skip
        lane.timer = asyncio.get_running_loop().call_later(delay, self._ready.put_nowait, lane)
        return False

    def _unload(self, lane: Lane, count: int, error: Exception | None) -> None:
        """Count what was handled, and let more come."""
        if count:
            lane.failures = 0
        if error is not None:
            lane.failures += 1
        was, stream = self._load[lane.stream], lane.stream
        self._load[stream] -= count
        if was >= _MOST > self._load[stream]:
            stream.free()

    def _retire(self, lane: Lane) -> None:
        if self._lanes.get(lane.key) is lane:
            del self._lanes[lane.key]
        if lane.timer is not None:
            lane.timer.cancel()
        self._unload(lane, len(lane.messages), None)
        lane.messages.clear()
        lane.stream.drop(lane)
        if not self._load[lane.stream]:
            del self._load[lane.stream]

    async def _recover(self) -> None:
        """Give messages that were rejected to the handler once more, now and then."""

        async def again(message: Message) -> None:
            await self._handler(Piece([message]))

        while True:
            await self._rejects.recover(again)
            await asyncio.sleep(self._options.recover_every)
