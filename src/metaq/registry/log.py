"""The registry's log: changes in, each told when it is durable; snapshots now and then (docs/registry.md, Files).

A round is all that was appended while the one before was on its way to the disk: one write, one sync. If none is on its
way, it goes at once: who has more to append in the same turn of the loop commits at its end.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from metaq.errors import StoreError
from metaq.ports import Files, Timer, Worker
from metaq.registry.changes import Change
from metaq.registry.entries import pack_change
from metaq.registry.log_files import LogFiles
from metaq.registry.snapshot import Capture
from metaq.registry.snapshots import Snapshots
from metaq.registry.state import State

log = logging.getLogger(__name__)

_SEAL_AFTER: Final = 0.1  # seconds without a round

Done = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """Sizes in bytes: of one file of the log, and of the log after which a snapshot is written.

    An opening replays that much log at most, and what came while the snapshot was written; it takes about a second for
    each 10 MiB.
    """

    file_size: int = 4 << 20
    snapshot_after: int = 64 << 20


class Held(NamedTuple):
    """What an open log holds of the outside: two threads, and the lock of its folder."""

    files: Files
    workers: tuple[Worker, Worker]
    lock: int


class FileLog:
    """`changes.Log` on files; `opening.open_registry` makes it. For the loop only.

    `failed` is called once, with a StoreError, when the disk has failed: from then on no `done` is called, and the
    server has to end. A snapshot that fails is only logged, and tried again later: the log before it is still there.
    """

    def __init__(
        self, state: State, log_files: LogFiles, snapshots: Snapshots, held: Held, options: LogOptions
    ) -> None:
        self._state = state
        self._files = log_files
        self._snapshots = snapshots
        self._held = held
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._parts: list[bytes] = []  # changes of the round that gathers
        self._waiting: list[Done] = []  # told when it is durable
        self._sent: list[Done] = []  # told when the round on its way is
        self._scheduled = self._closed = False
        self._capture: Capture | None = None  # its snapshot begins when what was appended before it is durable:
        self._boundary = (0, 0)  # so many of the parts and of those who wait
        self._due = False  # a snapshot is
        self._due_at = options.snapshot_after  # in bytes of log so far
        self._seal_timer: Timer | None = None
        self._moved: asyncio.Future[None] | None = None  # of the one who waits for something to come to its end
        self.failed: Callable[[StoreError], None] = lambda error: log.critical("%s", error)
        self.failure: StoreError | None = None

    def append(self, change: Change) -> None:
        """See `changes.Log`."""
        self._parts.append(pack_change(change))

    def commit(self, done: Done) -> None:
        """See `changes.Log`."""
        self._waiting.append(done)
        if self._due:
            self._take_capture()
        if self._files.busy or self._scheduled or self.failure:
            return
        if self._parts:
            self._turn()
        else:  # nobody is told before this returns
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def snapshot_soon(self) -> None:
        """Have a snapshot written, beginning with the next commit."""
        self._due = self._capture is None and not self._snapshots.busy

    async def close(self) -> None:
        """Let all that was appended become durable, write a snapshot, so that the next opening is quick, and let go.

        Nothing may be appended from here on. Raises StoreError if the disk failed, now or earlier.
        """
        try:
            self._turn()
            await self._until(lambda: not self._files.busy and self._capture is None and not self._snapshots.busy)
            if self.failure is None and self._files.mark().sequence > self._snapshots.newest:
                self._take_capture()
                self._turn()
                await self._until(lambda: not self._snapshots.busy)
            if self.failure is None:
                self._files.seal(self._sealed, durable=True)
                await self._until(lambda: not self._files.busy)
            if self.failure is not None:
                raise StoreError(f"the registry was not closed in order: {self.failure}")
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close as a crash would: nothing more is written, nobody is told."""
        if self._closed:
            return
        self._closed = True
        if self._seal_timer is not None:
            self._seal_timer.cancel()
        self._state.tree.release()
        for worker in self._held.workers:
            worker.close()
        self._snapshots.close()
        self._files.close()
        self._held.files.close(self._held.lock)

    # Rounds

    def _turn(self) -> None:
        self._scheduled = False
        if not (self._files.busy or self._closed or self.failure):
            for done in self._next_round():
                done()

    def _next_round(self) -> list[Done]:
        """Send on its way what has gathered; return those who do not have to wait for it."""
        parts, waiting = self._parts, self._waiting
        self._parts, self._waiting = [], []
        if self._capture is not None:
            count, told = self._boundary
            parts, self._parts = parts[:count], parts[count:]
            waiting, self._waiting = waiting[:told], waiting[told:]
            self._boundary = (0, 0)
            if not parts:  # all before the capture is durable
                self._begin_snapshot(self._capture)
                return waiting + self._next_round()
        if not parts:
            return waiting
        self._sent = waiting
        self._files.write(b"".join(parts), self._finish)
        return []

    def _finish(self, error: BaseException | None) -> None:
        if self._closed:
            return
        sent, self._sent = self._sent, []
        if error is not None:
            self._fail(error)
            return
        if self._files.reach >= self._due_at:
            self.snapshot_soon()
        sent += self._next_round()  # the disk need not wait until all are told
        for done in sent:
            done()
        if not self._files.busy and self._seal_timer is None:
            self._seal_timer = self._loop.call_later(_SEAL_AFTER, self._seal)
        self._wake()

    def _fail(self, error: BaseException) -> None:
        if self.failure is None:
            if not isinstance(error, OSError):
                log.error("the thread of the registry's log failed", exc_info=error)
            why = (isinstance(error, OSError) and error.strerror) or repr(error)
            self.failure = StoreError(f"{self._files.path}: cannot write the registry's log: {why}")
            self._parts.clear()
            self._waiting.clear()
            self.failed(self.failure)
        self._wake()

    def _seal(self) -> None:
        self._seal_timer = None
        if not (self._files.busy or self._parts or self._closed or self.failure):
            self._files.seal(self._sealed)

    def _sealed(self, error: BaseException | None) -> None:
        if error is not None and not self._closed:
            self._fail(error)
        self._turn()
        self._wake()

    # Snapshots

    def _take_capture(self) -> None:
        """Capture the state, which is exactly what was appended so far."""
        self._due = False
        self._capture = Capture(self._state.zxid, dict(self._state.sessions), self._state.tree.capture())
        self._boundary = (len(self._parts), len(self._waiting))

    def _begin_snapshot(self, capture: Capture) -> None:
        self._capture = None
        reach, mark = self._files.reach, self._files.mark()
        if mark.sequence == self._snapshots.newest:  # there is one of this place; it must not count as two
            self._state.tree.release()
            return

        def done(error: BaseException | None) -> None:
            self._state.tree.release()
            if error is None:
                self._due_at = reach + self._options.snapshot_after
            else:
                log.error("cannot write a snapshot of the registry, its log grows: %s", error)
                self._due_at = self._files.reach + self._options.file_size
            self._wake()

        self._snapshots.begin(capture, mark, done)

    # Waiting

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for something, or for a failure."""
        while not condition() and self.failure is None:
            self._moved = self._loop.create_future()
            await self._moved

    def _wake(self) -> None:
        if self._moved is not None and not self._moved.done():
            self._moved.set_result(None)
