"""What a store does by itself, now and then: move tails, make checkpoints, sync, look at the disk, retire segments."""

import asyncio
import logging
import re
from collections.abc import Iterable
from functools import partial
from itertools import pairwise
from typing import Final, Protocol

from metaq.config.cron import Cron
from metaq.config.model import DeletePolicy
from metaq.errors import StoreError
from metaq.ports import Clock, Files, Worker
from metaq.store import checkpoint as checkpoints
from metaq.store.awaiting import call
from metaq.store.checkpoint import Checkpoint, LogState, ProducerState
from metaq.store.journal import Journal, Mark
from metaq.store.log import PartitionLog, segment_name
from metaq.store.mover import Mover
from metaq.store.producers import ProducerTable, states_of
from metaq.store.retention import Sealed, dispose, expired
from metaq.store.rounds import Rounds
from metaq.store.space import FULL, Space

log_ = logging.getLogger(__name__)

_SEGMENT: Final = re.compile(r"[0-9]{20}\.meta")
_TICK: Final = 1.0  # seconds between looks at the disk and the calendar
_CHECKPOINT_AGE: Final = 60.0  # seconds after which a journal is let go even if it is short
_MANY_FILES: Final = 256  # files to sync from which on one call for the whole file system is quicker
_SYNC_FILES: Final = 32  # files synced in one job: a read or a large run waits for no more than these
_STEP_BACK: Final = 1.0  # seconds: less than that is a clock being kept right
_PRODUCER_AGE: Final = 7 * 86400.0


class Captured:
    """All logs at one moment, in columns: tens of thousands of tuples would set off the garbage collector."""

    def __init__(self, logs: Iterable[PartitionLog], producers: ProducerTable) -> None:
        self.producers = producers.copy()
        self.logs = [log for log in logs if log.announced]
        self.bases = [_base(log) for log in self.logs]
        self.visible = [log.visible for log in self.logs]
        self.high = [log.end if log.held else log.visible for log in self.logs]
        self.cuts = [log.cuts for log in self.logs]
        self.epochs = {log.id: tuple(log.epochs) for log in self.logs if log.epochs}

    def states(self) -> Iterable[LogState]:
        """Yield what a checkpoint has of each; made where it is no hurry."""
        for log, base, visible, high in zip(self.logs, self.bases, self.visible, self.high, strict=True):
            topic, partition = log.key
            epochs = self.epochs.get(log.id, ())
            yield LogState(log.id, topic, partition, log.root, base, visible, max(high, visible), epochs)

    def producer_states(self) -> Iterable[ProducerState]:
        """Yield the producers' batches that were safe; those on their way come with the journal, or not at all."""
        visible = {log.id: end for log, end in zip(self.logs, self.visible, strict=True)}
        return states_of(self.producers, visible)


class Logs(Protocol):
    """The store, as far as housekeeping needs it."""

    def all(self) -> Iterable[PartitionLog]: ...
    def forget_segment(self, log: PartitionLog, base: int) -> None: ...


class Parts(Protocol):
    """The pieces of a store that housekeeping keeps going."""

    journal: Journal
    rounds: Rounds
    mover: Mover
    space: Space
    producers: ProducerTable
    next_log_id: int


class Housekeeping:
    """Runs beside the broker; one step at a time, so that no two of them meet. `wanted` calls it before its tick."""

    def __init__(self, store: Logs, parts: Parts, place: str, files: Files, clock: Clock) -> None:
        self._store = store
        self._parts = parts
        self._place = place
        self._files = files
        self._clock = clock
        self.wanted = asyncio.Event()
        self.journal_limit = 1 << 62
        self.boot_id = ""
        self._last_checkpoint = clock.monotonic()
        self._covered = 0  # the sequence that the last checkpoint covers
        self._due: dict[str, float | None] = {}
        self._looked = 0.0  # at the calendar, by the wall clock
        self._retired: list[str] = []
        self._one_checkpoint = asyncio.Lock()
        self._finished = False  # the clean checkpoint is made
        self.worker: Worker = parts.mover.worker

    async def run(self) -> None:
        """Keep house until cancelled. Raises StoreError if the disk fails."""
        while True:
            try:
                async with asyncio.timeout(_TICK):
                    await self.wanted.wait()
            except TimeoutError:
                pass
            self.wanted.clear()
            await self.step()

    def _checkpoint_due(self) -> bool:
        """Half the journal's limit is used, or it is old, or what a crash left would be replayed once more."""
        journal = self._parts.journal
        age = self._clock.monotonic() - self._last_checkpoint
        waits = journal.sequence > self._covered
        full = journal.backlog() * 2 > self.journal_limit
        return full or (age > _CHECKPOINT_AGE and waits) or journal.older_bytes > 0

    async def step(self) -> None:
        """Do what is due. Raises StoreError if the disk fails; one that is full is waited for."""
        parts = self._parts
        try:
            parts.space.set_full(await call(self.worker, partial(parts.space.check, parts.mover.unmoved)))
            await parts.mover.relieve()
            if self._checkpoint_due():
                await self.checkpoint()
            await self.retire(self._clock.time())
        except OSError as exc:
            if exc.errno not in FULL:
                raise StoreError(f"cannot write message files: {exc}") from exc
            place = parts.space.place_of(str(exc.filename)) or self._place
            parts.space.set_full(parts.space.full | frozenset([place]))

    async def checkpoint(self, *, clean: bool = False) -> None:
        """Make everything journaled so far durable in the partition files, then let the journal before it go.

        Paced: files are synced a few at a time, in another thread than rounds are. One at a time; after the clean one
        there is none. Raises OSError; nothing is lost then.
        """
        async with self._one_checkpoint:
            if not self._finished:
                await self._checkpoint(clean)
                self._finished = clean

    async def _checkpoint(self, clean: bool) -> None:
        parts = self._parts
        parts.producers.age_out(self._clock.time(), _PRODUCER_AGE)
        mark, captured = await self._capture()
        self.wanted.clear()
        await parts.mover.move_all()
        files = parts.mover.files
        names = await call(self.worker, files.unsynced)
        if len(names) > _MANY_FILES:
            await call(self.worker, files.sync_everything)
        for start in range(0, len(names), _SYNC_FILES):
            await call(self.worker, partial(files.sync_files, names[start : start + _SYNC_FILES]))
        await call(self.worker, files.sync_folders)
        made = Checkpoint(
            mark=mark,
            clean=clean,
            highest_id=parts.journal.highest_id,
            next_log_id=parts.next_log_id,
            boot_id=self.boot_id,
        )

        def save() -> None:  # the states are made here too: of 50,000 partitions that takes 0.2 s
            made.logs.extend(captured.states())
            made.producers.extend(captured.producer_states())
            checkpoints.save(self._files, f"{self._place}/checkpoint", made)

        await call(self.worker, save)
        self._settle(mark, captured)

    def _settle(self, mark: Mark, captured: Captured) -> None:
        for log, base, cuts in zip(captured.logs, captured.bases, captured.cuts, strict=True):
            if log.cuts == cuts:  # else the journal brings back what was put since the cut: recovery begins there
                log.durable = base
        self._parts.journal.release(mark)
        retired, self._retired = self._retired, []
        self._parts.journal.add_free(retired)
        self._covered = mark.sequence
        self._last_checkpoint = self._clock.monotonic()

    def retire_later(self, paths: list[str]) -> None:
        """Remember journal files of earlier generations: free after the next checkpoint."""
        self._retired = paths

    async def _capture(self) -> tuple[Mark, Captured]:
        """Return a place between two rounds, and the state of all logs there. The loop waits for this one."""
        future: asyncio.Future[tuple[Mark, Captured]] = asyncio.get_running_loop().create_future()

        def look() -> None:
            if not future.cancelled():
                future.set_result((self._parts.journal.mark(), Captured(self._store.all(), self._parts.producers)))

        self._parts.rounds.at_pause(look)
        return await future

    # -- retention

    def schedule(self, logs: Iterable[PartitionLog], now: float) -> None:
        """Take the calendars of these logs' topics; those known go on as they are."""
        wanted = {log.config.delete_when for log in logs}
        self._due = {text: self._due.get(text) or Cron.parse(text).next_after(now) for text in wanted}
        self._looked = max(self._looked, now)  # a step back is noticed also before the first look

    async def retire(self, now: float) -> None:
        """Remove expired segments of the topics whose calendar says so."""
        if (back := self._looked - now) > _STEP_BACK:  # or nothing would be due before the clock is there again
            log_.warning("the clock was set back by %.0f seconds; segments are retired by the new time", back)
            self._due = {text: Cron.parse(text).next_after(now) for text in self._due}
        self._looked = now
        due = {text for text, time in self._due.items() if time is not None and time <= now}
        new = {log.config.delete_when for log in self._store.all()} - self._due.keys()
        for text in due | new:
            self._due[text] = Cron.parse(text).next_after(now)
        for log in list(self._store.all()) if due else []:
            if log.config.delete_when in due and len(log.bases) > 1:
                await self.retire_log(log, now)

    async def retire_log(self, log: PartitionLog, now: float) -> None:
        """Remove the expired segments of one log: from memory first, so that nobody reads what goes."""
        policy = log.config.delete_policy
        bases = list(log.bases)
        ages = await call(self.worker, partial(_ages, self._files, log.directory))
        sealed = [Sealed(base, end, ages.get(base, now)) for base, end in pairwise(bases)]
        for base in expired(sealed, policy, now, min(log.durable, log.moved)):
            if log.bases[0] != base or len(log.bases) < 2:
                return
            del log.bases[0]
            self._store.forget_segment(log, base)
            try:
                await call(self.worker, partial(self._dispose, log.directory, base, policy))
            except OSError as exc:
                log_.error("%s: cannot %s segment %s: %s", log.key, policy.action, segment_name(base), exc)
                if not isinstance(exc, FileNotFoundError):
                    log.bases.insert(0, base)  # it is still there, and tried again when the calendar says so
                return
            log_.info("%s: segment %s: %s", log.key, segment_name(base), policy.action)

    def _dispose(self, directory: str, base: int, policy: DeletePolicy) -> None:
        self._parts.mover.files.forget(directory, base)
        dispose(self._files, directory, base, policy)


def _ages(files: Files, directory: str) -> dict[int, float]:
    """Return {base: seconds since 1970 when it was last written} of the segments that have a file already."""
    try:
        entries = files.list(directory)
    except FileNotFoundError:
        return {}
    return {int(entry.name[:20]): entry.mtime for entry in entries if _SEGMENT.fullmatch(entry.name)}


def _base(log: PartitionLog) -> int:
    """Return where the segment begins that the visible end lies in; one behind it may have begun with what waits."""
    base = log.bases[-1]
    return (
        base if base <= log.visible else max((base for base in log.bases if base <= log.visible), default=log.bases[0])
    )
