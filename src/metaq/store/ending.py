"""Logs that end: cut back, dropped, and the same with the bytes kept aside first (design.md §2)."""

from collections.abc import Callable
from functools import partial
from typing import Protocol

from metaq.errors import StoreError
from metaq.model import TopicPartition
from metaq.ports import Files
from metaq.store.aside import Aside
from metaq.store.entries import Cut, Drop, pack
from metaq.store.log import Gate, PartitionLog, segment_name
from metaq.store.mover import Mover, tail_pieces
from metaq.store.producers import ProducerTable
from metaq.store.reader import Reader
from metaq.store.rounds import Rounds

Job = Callable[[], object]


class Parts(Protocol):
    """The pieces of a store that a log has to leave."""

    rounds: Rounds
    mover: Mover
    reader: Reader
    producers: ProducerTable


class Endings:
    """Ends logs, durably. A log is held meanwhile: what is put is refused. Its gate is told once."""

    def __init__(self, parts: Parts, logs: dict[TopicPartition, PartitionLog], files: Files, aside: str) -> None:
        self._parts = parts
        self._logs = logs
        self._files = files
        self._place = aside
        self._aside = Aside(files, aside)

    def cut(self, log: PartitionLog, to: int, gate: Gate) -> None:
        """End a log at `to`, durably (a replica that followed a deposed master). What is put meanwhile is refused.

        ValueError if `to` is not within it or if something of it is on its way.
        """
        self._hold(log, to)
        self._cut(log, to, gate)

    def drop(self, log: PartitionLog, gate: Gate) -> None:
        """Remove a log and its files, durably. What is put meanwhile is refused.

        ValueError if something of it is on its way.
        """
        self._hold(log)
        self._drop(log, self._parts.mover.drop, gate)

    def set_aside(self, log: PartitionLog, to: int, gate: Gate) -> None:
        """End a log at `to` as `cut` does, its bytes from there on kept in `aside` first, durably.

        ValueError as of `cut`. The gate hears StoreError if they cannot be kept; the log is as it was then.
        """
        self._hold(log, to)
        self._run(log, [self._settle(log), *self._copies(log, to)], partial(self._cut, log, to), gate)

    def move_aside(self, log: PartitionLog, gate: Gate) -> None:
        """Remove a log as `drop` does, all its files kept in `aside`: moved there, copied from another file system.

        They are on disk before the log is gone, and in `aside` a little later; a crash in between leaves that to the
        next opening. Errors are those of `set_aside`.
        """
        self._hold(log)
        jobs = [self._settle(log)]
        if not self._same_disk(log):
            self._run(
                log, [*jobs, *self._copies(log, log.start)], partial(self._drop, log, self._parts.mover.drop), gate
            )
        else:
            self._run(log, jobs, partial(self._drop, log, self._move_files), gate)

    # -- steps

    def _hold(self, log: PartitionLog, to: int | None = None) -> None:
        """Hold a log, or a put would be journaled behind its own end."""
        if log.held or log.end != log.visible or (to is not None and not log.start <= to <= log.visible):
            what = "dropped" if to is None else f"cut to {to}"
            raise ValueError(f"{log.key} cannot be {what}: it goes from {log.start} to {log.visible}, and is busy")
        log.held = True
        log.set_limit(log.limit)

    def _settle(self, log: PartitionLog) -> Job:
        """Return the job that brings what is in memory to the files, synced: a dropped log is not replayed."""
        pieces, files = tail_pieces(log), self._parts.mover.files

        def settle() -> None:
            for piece in pieces:
                files.write(piece)
            files.sync_files([name for name in files.unsynced() if name[0] == log.directory])
            files.sync_folders(log.directory)

        return settle

    def _copies(self, log: PartitionLog, to: int) -> list[Job]:
        """Return the jobs that keep what stands from `to` on: one for each segment, others' come in between."""
        ends = [*log.bases[1:], log.visible]
        return [
            partial(self._keep, log.directory, base, max(0, to - base))
            for base, end in zip(log.bases, ends, strict=True)
            if end > to
        ]

    def _keep(self, directory: str, base: int, position: int) -> None:
        if self._files.exists(f"{directory}/{segment_name(base)}"):  # else retention was faster
            self._aside.keep(directory, base, position)

    def _same_disk(self, log: PartitionLog) -> bool:
        space = self._files.free_space
        return space(log.directory.rpartition("/")[0])[0] == space(self._place)[0]

    def _run(self, log: PartitionLog, jobs: list[Job], then: Callable[[Gate], None], gate: Gate) -> None:
        """Have jobs done by the thread of the files, one after the other; `then(gate)` if all went well."""

        def done(_: object, error: BaseException | None) -> None:
            if error is not None:
                failure = error if isinstance(error, StoreError) else StoreError(f"cannot set {log.key} aside: {error}")
                self._parts.rounds.let_go(log, failure)
                gate(failure)
            elif jobs:
                self._parts.mover.worker.submit(jobs.pop(0), done)
            else:
                then(gate)

        done(None, None)

    def _cut(self, log: PartitionLog, to: int, gate: Gate) -> None:
        parts = self._parts
        to = max(to, log.start)  # retention may have gone on

        def then() -> None:
            for base in log.bases:
                if base > to:
                    parts.reader.forget(log.directory, base)
            parts.producers.cut(log.id, to)
            parts.mover.cut(log, to)
            log.wake()

        self._journal(log, pack(Cut(log.id, to)), then, gate)

    def _drop(self, log: PartitionLog, remove: Callable[[PartitionLog], None], gate: Gate) -> None:
        parts = self._parts

        def then() -> None:
            del self._logs[log.key]
            for base in log.bases:
                parts.reader.forget(log.directory, base)
            parts.producers.forget_log(log.id)
            remove(log)
            log.wake()

        self._journal(log, pack(Drop(log.id)), then, gate)

    def _move_files(self, log: PartitionLog) -> None:
        mover = self._parts.mover
        mover.drop(log, partial(self._aside.move, log.directory))

    def _journal(self, log: PartitionLog, entry: bytes, then: Callable[[], None], gate: Gate) -> None:
        """Journal that a log ends."""

        def step(error: Exception | None) -> None:
            if error is None:
                then()
            self._parts.rounds.let_go(log, error or StoreError(f"{log.key} was cut or dropped"))

        self._parts.rounds.announce(log)
        self._parts.rounds.add(entry, step, gate)
