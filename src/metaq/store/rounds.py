"""Puts on their way: gathered into rounds, journaled, acknowledged (design.md §1 rules 1-3, §2).

`append` and `commit` are the hot path: `append` for each message, `commit` once for what one connection sent. While one
round is being written the next one gathers; it goes as soon as the journal is free. In one turn of the loop the first
batch goes at once, so that a lone producer does not wait for the turn to end; the others of that turn go together.
"""

import errno
import logging
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple, Protocol

from metaq.errors import DiskFull, StoreError
from metaq.ports import Scheduler
from metaq.record import HEADER_SIZE
from metaq.store.entries import Create, Extent, Intent, Kind, Roll, pack, pack_run_head
from metaq.store.journal import Journal
from metaq.store.log import Gate, PartitionLog

log_ = logging.getLogger(__name__)

FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class LargeRun(NamedTuple):
    """A run that goes straight to the partition file."""

    log: PartitionLog
    base: int
    offset: int
    data: bytes


class LargeWriter(Protocol):
    """Moves tails into partition files, and writes large runs there at once. `tails` are the logs that have a tail."""

    tails: list[PartitionLog]

    def write_large(self, run: LargeRun, done: Callable[[Extent | None, BaseException | None], None]) -> None: ...
    def tails_grew(self, size: int) -> None:
        """Hear of what a round added to tails, in bytes."""


class Countdown:
    """A gate of several: passes on once all have been told, with the first error."""

    __slots__ = ("_count", "_error", "_then")

    def __init__(self, then: Gate, count: int) -> None:
        self._then = then
        self._count = count
        self._error: Exception | None = None

    def __call__(self, error: Exception | None) -> None:
        self._error = self._error or error
        self._count -= 1
        if not self._count:
            self._then(self._error)


class Rounds:
    """Gathers appends into rounds. `waiting_bytes` counts what is committed but not yet acknowledged."""

    def __init__(
        self,
        journal: Journal,
        scheduler: Scheduler,
        writer: LargeWriter,
        large_run: int,
        fatal: Callable[[Exception], None],
    ) -> None:
        self._journal = journal
        self._call_soon = scheduler.call_soon
        self._writer = writer
        self._large_run = large_run
        self._fatal = fatal
        self._scheduled = False
        self._dirty: list[PartitionLog] = []
        self._gates: list[Gate] = []
        self._parts: list[bytes] = []  # entries of the round being gathered that are packed already
        self._runs: list[tuple[PartitionLog, int, bytes]] = []  # their runs, for when they are written
        self._after: list[Callable[[], None]] = []  # what happens in memory once the round is written
        self._must_sync = False
        self._touched: set[PartitionLog] = set()
        self._looks: list[Callable[[], None]] = []
        self._failed: Exception | None = None
        self.waiting_bytes = 0
        self._gathered_bytes = 0
        self._turn_open = False
        self.most_waiting = 1 << 62
        self.crowded: Callable[[], None] = lambda: None  # more than `most_waiting` bytes wait to become safe
        self.sync_wanted: Callable[[], None] = lambda: (
            None
        )  # a topic's count of unsynced messages is over its threshold

    def append(self, log: PartitionLog, record: bytes) -> int:
        """Add one record behind the last; return its offset. It is safe when the gate of the next `commit` is told."""
        offset = log.end
        if offset >= log.roll_at:
            self._look(log)
        pending = log.pending
        if not pending:
            self._dirty.append(log)
        pending.append(record)
        log.end = offset + len(record)
        return offset

    def commit(self, gate: Gate, size: int) -> None:
        """Have `gate` told, with None or the error, when everything appended since the last commit is safe or lost.

        `size` is about the bytes appended. Safe means: on disk if the topic syncs before acknowledging, else written.
        """
        if self._touched:
            gate = Countdown(gate, 1 + len(self._touched))
            for log in self._touched:
                log.held_gates.append(gate)
            self._touched.clear()
        self._gates.append(gate)
        self._gathered_bytes += size
        self.waiting_bytes += size
        if self.waiting_bytes > self.most_waiting:
            self.crowded()
        if self._turn_open or self._journal.busy or self._failed is not None or not self._dirty or self._dirty[0].sync:
            self._schedule()  # a round that syncs takes so long that waiting for the turn's other batches pays
        else:
            self._turn_open = True
            self._call_soon(self._end_turn)
            self._close()

    def add_entry(self, entry: bytes, then: Callable[[], None], gate: Gate) -> None:
        """Journal something that is no run, synced; `then` changes the memory when it is durable, before `gate` is told."""
        self._parts.append(entry)
        self._after.append(then)
        self._must_sync = True
        self._gates.append(gate)
        self._schedule()

    def at_pause(self, look: Callable[[], None]) -> None:
        """Call `look` between two rounds: all that was handed to the journal is visible then, nothing is on its way."""
        if self._journal.busy:
            self._looks.append(look)
        else:
            look()

    def idle(self) -> bool:
        """Return whether nothing is on its way or waiting to go."""
        return not (self._journal.busy or self._dirty or self._gates or self._parts or self.waiting_bytes)

    def _schedule(self) -> None:
        if self._failed is not None:
            self._tell(self._take_gates(), self._failed)
        elif not self._scheduled and not self._journal.busy and not self._turn_open:
            self._scheduled = True
            self._call_soon(self._close)

    def _end_turn(self) -> None:
        self._turn_open = False
        if self._gates and not self._scheduled:
            self._close()

    def _look(self, log: PartitionLog) -> None:
        """An append met the mark: the segment is full, or the log is held by a large run."""
        if log.held:
            self._touched.add(log)
            return
        if log.pending:
            self._seal(log)
        self._announce(log)
        log.bases.append(log.end)
        log.set_limit(log.limit)
        self._parts.append(pack(Roll(log.id, log.end)))

    def _announce(self, log: PartitionLog) -> None:
        if not log.announced:
            log.announced = True
            create = Create(log.id, log.bases[0], log.key.topic, log.key.partition, log.root)
            self._parts.append(pack(create))

    def _seal(self, log: PartitionLog) -> None:
        """Make the pending records of a log a run of the round."""
        pending = log.pending
        count = len(pending)
        data = pending[0] if count == 1 else b"".join(pending)
        log.pending = []
        size = len(data)
        log.messages += count
        log.counter.puts += count
        log.counter.bytes += size - HEADER_SIZE * count
        offset = log.end - size
        if not log.announced:
            self._announce(log)
        if log.sync:
            self._must_sync = True
        else:
            self._count_unsynced(log, count)
        parts = self._parts
        parts.append(pack_run_head(Kind.RUN, log.id, log.bases[-1], offset, size))
        parts.append(data)
        self._runs.append((log, offset, data))

    def _count_unsynced(self, log: PartitionLog, count: int) -> None:
        started = self._journal.syncs_started
        if log.sync_mark != started:
            log.sync_mark = started
            log.unsynced = 0
        log.unsynced += count
        if log.unsynced > log.config.unflush_threshold:
            self.sync_wanted()

    def _close(self) -> None:
        """Hand the round that gathered to the journal."""
        self._scheduled = False
        if self._journal.busy or self._failed is not None:
            return
        dirty, self._dirty = self._dirty, []
        large = []
        for log in dirty:
            if log.held:
                continue  # goes when the large run is done
            if log.pending:
                if log.sync and self._is_large(log):
                    large.append(self._hold(log))
                else:
                    self._seal(log)
        gates, size = self._take_gates(), self._gathered_bytes
        self._gathered_bytes = 0
        if large:
            gates = self._write_large_after(large, gates)
        parts, self._parts = self._parts, []
        runs, self._runs = self._runs, []
        after, self._after = self._after, []
        if not parts:
            self._finish([], after, gates, size, None)
            return
        sync, self._must_sync = self._must_sync, False
        self._journal.write(b"".join(parts), sync, lambda error: self._finish(runs, after, gates, size, error))

    def _finish(
        self,
        runs: list[tuple[PartitionLog, int, bytes]],
        after: list[Callable[[], None]],
        gates: list[Gate],
        size: int,
        error: OSError | None,
    ) -> None:
        """A round is written: show it to readers, then acknowledge."""
        if error is not None:
            self.waiting_bytes -= size
            self._fail(error, [log for log, _, _ in runs], gates)
            return
        grown = 0
        for log, offset, data in runs:
            log.tail_starts.append(offset)  # extend_tail, without the call
            log.tail_runs.append(data)
            log.visible = offset + len(data)
            grown += len(data)
            if not log.listed:
                log.listed = True
                self._writer.tails.append(log)
            if log.watchers:
                log.wake()
        self._writer.tails_grew(grown)
        for step in after:
            step()
        self.waiting_bytes -= size
        for gate in gates:
            gate(None)
        if self._journal.busy:
            return
        if self._looks:
            looks, self._looks = self._looks, []
            for look in looks:
                look()
        if (self._gates or self._dirty or self._parts) and not self._scheduled:
            self._close()

    def _take_gates(self) -> list[Gate]:
        gates, self._gates = self._gates, []
        return gates

    def _is_large(self, log: PartitionLog) -> bool:
        # no earlier round is on its way now: what is not visible, or behind a roll of this round, is pending
        return log.end - max(log.visible, log.bases[-1]) >= self._large_run

    def _hold(self, log: PartitionLog) -> LargeRun:
        self._announce(log)
        data, count = b"".join(log.pending), len(log.pending)
        log.messages += count
        log.counter.puts += count
        log.counter.bytes += len(data) - HEADER_SIZE * count
        log.pending = []
        self._parts.append(pack(Intent(log.id, log.end)))
        log.held = True
        log.roll_at = -1
        return LargeRun(log, log.bases[-1], log.end - len(data), data)

    def _write_large_after(self, large: list[LargeRun], gates: list[Gate]) -> list[Gate]:
        """Write large runs when the round with their intents is; its gates wait for both."""
        together = Countdown(lambda error: self._tell(gates, error), 1 + len(large))

        def begin(error: Exception | None) -> None:
            for run in large:
                if error is None:
                    self._writer.write_large(run, partial(self._wrote_large, run, together))
                else:
                    self._release(run, error)
                    together(error)
            together(error)

        return [begin]

    def _wrote_large(self, run: LargeRun, gate: Gate, extent: Extent | None, error: BaseException | None) -> None:
        if extent is None:
            if isinstance(error, OSError):
                failure = write_error(error)
                self._release(run, failure)
                gate(failure)
                return
            assert error is not None
            raise error

        def settle() -> None:
            run.log.visible = run.log.moved = run.offset + len(run.data)
            run.log.wake()
            self._release(run, None)

        self.add_entry(pack(extent), settle, gate)

    def _release(self, run: LargeRun, error: Exception | None) -> None:
        """The log is free again; what was held goes into the next round, or is lost with the large run."""
        log = run.log
        log.held = False
        gates, log.held_gates = log.held_gates, []
        if error is not None:
            log.undo()
            self._tell(gates, error)
            return
        log.set_limit(log.limit)
        self._gates.extend(gates)
        if log.pending:
            self._dirty.append(log)

    def _fail(self, error: OSError, logs: list[PartitionLog], gates: list[Gate]) -> None:
        """A round could not be written. No room for a next journal file: all that waits is refused. Else: the end."""
        failure = write_error(error)
        if not isinstance(failure, DiskFull):
            self._failed = failure
        gates = gates + self._take_gates()
        for log in {*logs, *self._dirty}:
            if not log.held:
                log.undo()
            log.announced = log.announced and log.moved > 0
        self._dirty = []
        self._parts, self._runs, self._after = [], [], []
        self.waiting_bytes -= self._gathered_bytes
        self._gathered_bytes = 0
        self._tell(gates, failure)
        if self._failed is not None:
            self._fatal(self._failed)

    def _tell(self, gates: list[Gate], error: Exception | None) -> None:
        for gate in gates:
            gate(error)


def write_error(error: OSError) -> Exception:
    """Return what an error of a write means to the one who asked for it."""
    if error.errno in FULL:
        return DiskFull("disk full")
    return StoreError(f"cannot write: {error}")
