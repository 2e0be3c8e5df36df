"""Puts on their way: gathered into rounds, journaled, acknowledged (design.md §1 rules 1-3, §2).

`append` and `commit` are the hot path: `append` for each message, `commit` once for what one connection sent. While one
round is being written the next one gathers; it goes as soon as the journal is free. In one turn of the loop the first
batch goes at once, so that a lone producer does not wait for the turn to end; the others of that turn go together.
"""

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from metaq.errors import DiskFull, StoreError
from metaq.ports import Scheduler
from metaq.store.copied import roll_waiting
from metaq.store.entries import Batch, Create, Intent, Kind, Roll, pack, pack_batch, pack_run_head
from metaq.store.journal import Journal
from metaq.store.large import LargeRun, LargeRuns, LargeWriter
from metaq.store.log import Countdown, Gate, PartitionLog, tell
from metaq.store.replicating import Replicator, copied
from metaq.store.sent import NOTHING, Sent
from metaq.store.space import write_error

log_ = logging.getLogger(__name__)

_RUN: Final = int(Kind.RUN)
_LONE: Final = 15  # batches
_NO_GATES: Final[list[Gate]] = []


class Rounds:
    """Gathers appends into rounds. `waiting_bytes` counts what is committed but not yet acknowledged."""

    def __init__(
        self, journal: Journal, loop: Scheduler, writer: LargeWriter, large_run: int, fatal: Callable[[Exception], None]
    ) -> None:
        self._journal = journal
        self._call_soon = loop.call_soon
        self._writer = writer
        self._large_runs = LargeRuns(writer, self)
        self._large_run = large_run
        self._fatal = fatal
        self._scheduled = self._turn_open = False
        self.replicator: Replicator | None = None  # None: nobody else need have a round before it is acknowledged
        self._dirty: list[PartitionLog] = []
        self._gates: list[Gate] = []
        self._parts: list[bytes | memoryview] = []  # entries of the round being gathered that are packed already
        self._runs: list[tuple[PartitionLog, int, int, bytes | memoryview]] = []  # runs, for when they are written
        self._begun: list[PartitionLog] = []  # logs that this round tells the journal of
        self._after: list[Gate] = []  # what happens in memory once the round is written, or cannot be
        self.stamps: dict[PartitionLog, list[Batch]] = {}  # of batches whose ends are pending or in this round
        self._must_sync = self._sync_wanted = False
        self.rolls: dict[PartitionLog, list[int]] = {}  # where copied segments begin in what waits for a held log
        self._touched: dict[PartitionLog, None] = {}  # in order: a set of them would differ from run to run
        self._looks: list[Callable[[], None]] = []
        self._failed: Exception | None = None
        self.waiting_bytes = self._gathered_bytes = 0
        self._lone = 0  # so many batches may go without looking whether others come in the same turn: none did
        self._sent = NOTHING
        self.sync_due = False  # `sync_later` was called; whoever syncs sets it back
        self.sync_now: Callable[[], None] = lambda: None  # a topic's threshold is passed
        self.sync_later: Callable[[], None] = lambda: None  # something was written that is not synced
        self.most_waiting = 1 << 62
        self.crowded: Callable[[], None] = lambda: None  # more than `most_waiting` bytes wait to become safe
        self.full: Callable[[], None] = lambda: None  # there was no room for the journal
        self.undone: Callable[[PartitionLog], None] = lambda log: None  # what was not visible of it is void

    def append(self, log: PartitionLog, record: bytes | memoryview) -> int:
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

    def append_batch(self, log: PartitionLog, records: bytes, batch: Batch) -> None:
        """Add the records of a batch, `batch.offset` being the log's end, and its stamp to the same round."""
        self.append(log, records)
        log.messages += batch[3] - 1  # record_count
        if batch[5][0]:  # stamp.producer
            self.stamps.setdefault(log, []).append(batch)

    def follow(self, log: PartitionLog) -> None:
        """Have the gate of the next `commit` wait for all of a log that is on its way, too."""
        if log.held:
            self._touched[log] = None

    def commit(self, gate: Gate, size: int) -> None:
        """Have `gate` told, with None or the error, when everything appended since the last commit is safe or lost.

        `size` is about the bytes appended. Safe means: on disk if the topic syncs before acknowledging, else written.
        """
        if self._touched:
            gate = Countdown(partial(self._held_went, gate, size), 1 + len(self._touched))
            for log in self._touched:
                log.held_gates.append(gate)
            self._touched.clear()
        else:
            self._gathered_bytes += size
        self._gates.append(gate)
        self.waiting_bytes += size
        if self.waiting_bytes > self.most_waiting:
            self.crowded()
        if self._turn_open:
            return  # goes at its end
        if self._journal.busy or self._failed is not None or not self._dirty or self._dirty[0].sync:
            self._schedule()  # a round that syncs takes so long that waiting for the turn's other batches pays
            return
        if self._lone:
            self._lone -= 1
        else:
            self._turn_open = True
            self._call_soon(self._end_turn)
        self._close()

    def _held_went(self, gate: Gate, size: int, error: Exception | None) -> None:
        """What was committed while a log of it was held is safe, perhaps rounds later, or lost: it waits no more."""
        self.waiting_bytes -= size
        gate(error)

    def add(self, entries: bytes, step: Gate, gate: Gate) -> None:
        """Journal entries, synced; `step` hears of it, or of the error, before `gate`."""
        self._parts.append(entries)
        self._after.append(step)
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

    @property
    def failure(self) -> Exception | None:
        """Return why nothing can be journaled any more, None while it can."""
        return self._failed

    def stop(self, error: Exception) -> None:
        """Refuse with this error what is committed from here on, and what is still on its way."""
        if self._failed is None:
            self._failed = error

    def give_up(self, error: Exception) -> None:
        """The disk has failed: refuse all that waits and all that comes, and say so."""
        if self._failed is None:
            self._failed = error
            if not self._journal.busy:  # else the round on its way does it when it ends
                self._refuse(error, NOTHING)
            self._fatal(error)

    def _schedule(self) -> None:
        if not self._scheduled and not self._journal.busy and not self._turn_open:
            self._scheduled = True
            self._call_soon(self._close)

    def _end_turn(self) -> None:
        self._turn_open = False
        if self._gates and not self._scheduled:
            self._close()
        else:
            self._lone = _LONE

    def _look(self, log: PartitionLog) -> None:
        """An append met the mark: the segment is full, or the log is held by a large run."""
        if log.held:
            self._touched[log] = None
        else:
            self.roll(log)

    def roll(self, log: PartitionLog) -> None:
        """Begin a segment at the end of a log that is not held."""
        self._seal((log,))
        self.announce(log)
        log.bases.append(log.end)
        log.set_limit(log.limit)
        self._parts.append(pack(Roll(log.id, log.end)))

    def announce(self, log: PartitionLog) -> None:
        """Tell the journal of a log, with the next round, if it does not know it yet."""
        if not log.announced:
            log.announced = True
            self._begun.append(log)
            create = Create(log.id, log.bases[0], log.key.topic, log.key.partition, log.root)
            self._parts.append(pack(create))

    def _seal(self, logs: Iterable[PartitionLog]) -> None:
        """Make the pending records of each log a run of the round; those held go when their large run is done."""
        add_part, add_run = self._parts.append, self._runs.append
        for log in logs:
            pending = log.pending
            if not pending or log.held:
                continue
            if not log.announced:
                self.announce(log)
            count = len(pending)
            data = pending[0] if count == 1 else b"".join(pending)
            pending.clear()
            messages = log.messages = log.messages + count
            if messages > log.sync_at:
                self._want_sync(log, messages)
            end = log.end
            size = len(data)
            offset = end - size
            add_part(pack_run_head(_RUN, log.id, log.bases[-1], offset, size))
            add_part(data)
            add_run((log, offset, end, data))

    def _add_stamps(self) -> None:
        """Add the stamps of this round's batches; of a log that is held they go with what is held."""
        all_stamps, self.stamps = self.stamps, {}
        for log, stamps in all_stamps.items():
            if log.held:
                self.stamps[log] = stamps
            else:
                self._parts.extend(map(pack_batch, stamps))

    def _want_sync(self, log: PartitionLog, messages: int) -> None:
        """The log syncs before it acknowledges, or has more messages than its threshold since it last wanted a sync."""
        if log.sync:
            self._must_sync = True
        else:
            self._sync_wanted = True
            log.sync_at = messages + log.threshold

    def _close(self) -> None:
        """Hand the round that gathered to the journal."""
        self._scheduled = False
        if self._journal.busy:
            return
        if self._failed is not None:
            self._refuse(self._failed, NOTHING)
            return
        dirty, self._dirty = self._dirty, []
        large = self._take_large(dirty) if self._gathered_bytes >= self._large_run else []
        self._seal(dirty)
        if self.stamps:
            self._add_stamps()
        gates, self._gates = self._gates, []
        if self.replicator is not None:
            gates = copied(self.replicator, self, self._runs, large, gates)
        if large:
            self._after.append(self._large_runs.write_after(large, gates))
            gates = []
        self._sent = Sent(self._runs, self._begun, self._after, gates, self._gathered_bytes)
        parts = self._parts
        self._parts, self._runs, self._begun, self._after, self._gathered_bytes = [], [], [], [], 0
        if parts:
            sync, self._must_sync = self._must_sync, False
            self._journal.write(parts, sync, self._finish)
            if not sync:
                self._note_unsynced()
        else:
            self._finish(None)

    def _note_unsynced(self) -> None:
        """A round was written, not synced: the disk must have it within the topics' thresholds and intervals."""
        if self._sync_wanted:
            self._sync_wanted = False
            self.sync_now()
        if not self.sync_due:
            self.sync_due = True
            self.sync_later()

    def _finish(self, error: OSError | None) -> None:
        """The round is written: show it to readers, then acknowledge."""
        sent, self._sent = self._sent, NOTHING
        runs, _, after, gates, size = sent
        self.waiting_bytes -= size
        if error is not None or self._failed is not None:
            self._fail(error, sent)
            return
        if not after:
            # No command of anybody is carried out before this function ends: so the replies may leave first, and
            # their receivers go on while the rest is done here.
            for gate in gates:
                gate(None)
            gates = _NO_GATES
        grown = 0
        watched: list[PartitionLog] = []
        for log, offset, end, data in runs:
            log.tail_starts.append(offset)  # extend_tail, without the call
            log.tail_runs.append(data)
            log.visible = end
            grown += end - offset
            if not log.listed:
                log.listed = True
                self._writer.tails.append(log)
            if log.watchers is not None:
                watched.append(log)
        self._writer.tails_grew(grown)
        for log in watched:  # now that all of the round is there: who waits for several has them at once
            log.wake()
        for step in after:
            step(None)
        if self._looks:
            self._look_now()  # not behind the gates: they may begin the next round
        for gate in gates:
            gate(None)
        if (self._gates or self._dirty or self._parts) and not (self._scheduled or self._journal.busy):
            self._close()

    def _look_now(self) -> None:
        looks, self._looks = self._looks, []
        for look in looks:
            look()

    def _take_large(self, dirty: list[PartitionLog]) -> list[LargeRun]:
        """Hold the logs that sync and have a large run in this round; it leaves the round."""
        # no earlier round is on its way now: what is not visible, or behind a roll of this round, is pending
        return [
            self._hold(log)
            for log in dirty
            if log.sync and not log.held and log.end - max(log.visible, log.bases[-1]) >= self._large_run
        ]

    def _hold(self, log: PartitionLog) -> LargeRun:
        self.announce(log)
        parts, log.pending = log.pending, []
        log.messages, size = log.messages + len(parts), sum(map(len, parts))
        parts = parts if size >= len(parts) << 16 else [b"".join(parts)]  # short ones cost more one by one
        self._parts.append(pack(Intent(log.id, log.end)))
        log.held, log.roll_at = True, -1
        self._gathered_bytes -= size  # it waits until it is released, not until this round is written
        offset = log.end - size
        stamps = [(batch.offset + batch.length > offset, pack_batch(batch)) for batch in self.stamps.pop(log, ())]
        self._parts.extend(stamp for its, stamp in stamps if not its)  # of what stands before a roll of this round
        return LargeRun(log, log.bases[-1], offset, parts, size, b"".join(stamp for its, stamp in stamps if its))

    def release(self, run: LargeRun, error: Exception | None) -> None:
        """The log is free again; what was held goes into the next round, or is lost with the large run."""
        self.waiting_bytes -= run.size
        self.let_go(run.log, error)
        if isinstance(error, DiskFull):  # else the journal may have the extent: the next opening finds out
            self._writer.trim(run.log, run.base)

    def let_go(self, log: PartitionLog, error: Exception | None) -> None:
        """A log that was held is free: what waited goes into the next round, or is refused with the error."""
        log.held, gates, log.held_gates = False, log.held_gates, []
        rolls = self.rolls.pop(log, ())
        if error is not None:
            self._undo(log)
            tell(gates, error)
            return
        log.set_limit(log.limit)
        if rolls:
            roll_waiting(self, log, rolls)
        self._gates.extend(gates)
        if log.pending:
            self._dirty.append(log)

    def fail(self, error: BaseException) -> None:
        """End it: what was written may not be on disk, and nobody can tell."""
        self.give_up(StoreError(str(error)))

    def _fail(self, error: OSError | None, sent: Sent) -> None:
        """A round could not be written. No room for a next journal file: all that waits is refused. Else: the end."""
        failure = self._failed or (write_error(error) if error is not None else None)
        assert failure is not None
        told, full = self._failed is not None, isinstance(failure, DiskFull)
        if not full:
            self._failed = failure
        self._refuse(failure, sent)
        self._look_now()
        if full:
            self.full()
        elif not told:
            self._fatal(failure)

    def _refuse(self, failure: Exception, sent: Sent) -> None:
        """Undo in memory what this round and the one being gathered did, and tell those who wait."""
        gathered = Sent(self._runs, self._begun, self._after, self._gates, self._gathered_bytes)
        dirty = self._dirty
        self._parts, self._runs, self._begun, self._after, self._gates, self._dirty = [], [], [], [], [], []
        self.waiting_bytes -= self._gathered_bytes
        self._gathered_bytes = 0
        for log in (*sent.begun, *gathered.begun):
            log.announced = False
        for log in {*(run[0] for run in (*sent.runs, *gathered.runs)), *dirty}:
            if not log.held:
                self._undo(log)
        for step in (*sent.after, *gathered.after):
            step(failure)
        tell([*sent.gates, *gathered.gates], failure)

    def _undo(self, log: PartitionLog) -> None:
        """Forget what of a log could not be written."""
        log.undo()
        self.stamps.pop(log, None)
        self.undone(log)
