"""The background writer: moves tails into partition files, and writes large runs there at once (design.md §2).

Tails wait in memory on purpose, up to a bound: the later a tail is moved, the more puts go into one write. Nothing is
lost by waiting, the journal has it.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from metaq.errors import StoreError
from metaq.ports import Worker
from metaq.store.awaiting import call
from metaq.store.entries import Extent
from metaq.store.large import LargeRun
from metaq.store.log import PartitionLog
from metaq.store.partition_files import PartitionFiles, Piece

_JOB_BYTES: Final = 8 << 20
_JOB_LOGS: Final = 128
_EAGER: Final = 4 << 20  # bytes of tails that may wait in any case
_WORTH: Final = 16 << 10  # bytes of one partition that are worth a write: the thread takes the loop's time for each


class Mover:
    """Moves tails. `unmoved` is the number of tail bytes in memory; `wanted` is set when they should be moved.

    That is at three quarters of the bound when many partitions share it, and much sooner when few do: their writes are
    large enough then, and memory that is used again soon stays in the processor's cache.
    """

    def __init__(self, worker: Worker, files: PartitionFiles, memory: int, wanted: asyncio.Event) -> None:
        self.worker = worker
        self.files = files
        self.memory = memory
        self.unmoved = 0
        self._mark = min(_EAGER, memory // 2)
        self._wanted = wanted
        self.tails: list[PartitionLog] = []
        self.crowded: Callable[[], None] = lambda: None  # tails take more than the bound
        self.failed: Callable[[Exception], None] = lambda error: None  # files could not be cut or removed

    def tails_grew(self, size: int) -> None:
        """Hear of what a round added to tails."""
        self.unmoved += size
        if self.unmoved > self._mark:
            self._mark = min(max(_EAGER, _WORTH * len(self.tails)), self.memory * 3 // 4)
            if self.unmoved > self._mark:
                self._wanted.set()
            if self.unmoved > self.memory:
                self.crowded()

    async def relieve(self) -> None:
        """Move the largest tails until half of what is worth waiting for is left.

        Raises OSError; what was not moved stays.
        """
        goal = self.unmoved - self._mark // 2
        if goal <= 0:
            return  # without looking at tens of thousands of tails, every second
        largest = []
        for log in sorted(self.tails, key=_tail_size, reverse=True):
            if goal <= 0:
                break
            largest.append(log)
            goal -= log.visible - log.moved
        await self._move(largest)

    async def move_all(self) -> None:
        """Move all tails that there are now. Raises OSError; what was not moved stays."""
        await self._move(list(self.tails))

    async def _move(self, logs: list[PartitionLog]) -> None:
        try:
            await self._move_in_jobs(logs)
        finally:
            for log in logs:
                log.listed = bool(log.tail_runs)
            self.tails[:] = [log for log in self.tails if log.listed]

    async def _move_in_jobs(self, logs: list[PartitionLog]) -> None:
        """Write a bounded number of tails and bytes at once: large runs wait in the same line."""
        batch: list[tuple[PartitionLog, int, int]] = []
        pieces: list[Piece] = []
        size = 0
        for log in logs:
            if log.tail_runs:
                pieces += tail_pieces(log)
                batch.append((log, log.visible, log.cuts))
                size += log.visible - log.moved
            if size > _JOB_BYTES or len(batch) >= _JOB_LOGS:
                await self._write(pieces, batch)
                batch, pieces, size = [], [], 0
        if batch:
            await self._write(pieces, batch)

    async def _write(self, pieces: list[Piece], batch: list[tuple[PartitionLog, int, int]]) -> None:
        def work() -> None:
            for piece in pieces:
                self.files.write(piece)

        await call(self.worker, work)
        for log, end, cuts in batch:
            self._moved(log, end, cuts)

    def _moved(self, log: PartitionLog, end: int, cuts: int) -> None:
        if log.cuts == cuts and end > log.moved:
            self.unmoved -= log.forget_moved(end)

    def write_large(self, run: LargeRun, done: Callable[[Extent | None, BaseException | None], None]) -> None:
        """Write a run into the partition file, what the tail holds before it first, and sync it (recovery rule 5)."""
        log, end, cuts = run.log, run.log.visible, run.log.cuts
        pieces = tail_pieces(log)
        piece = Piece(log.directory, run.base, run.offset - run.base, run.parts)

        def work() -> Extent:
            for before in pieces:
                self.files.write(before)
            return Extent(log.id, run.base, run.offset, run.size, self.files.write_synced(piece))

        def finish(extent: Extent | None, error: BaseException | None) -> None:
            if error is None and pieces:
                self._moved(log, end, cuts)
            done(extent, error)

        self.worker.submit(work, finish)

    def cut(self, log: PartitionLog, to: int) -> None:
        """End a log at `to` in memory now and in its files soon; the journal has said so."""
        bases = list(log.bases)
        self.unmoved -= log.cut_back(to)
        self._submit(partial(self.files.cut, log.directory, bases, to))  # also what is on its way there

    def trim(self, log: PartitionLog, base: int) -> None:
        """Cut what a large run left behind the end of a log, in the segment `base`; nobody was told of it."""
        self._submit(partial(self.files.cut, log.directory, sorted({*log.bases, base}), log.visible))

    def drop(self, log: PartitionLog, before: Callable[[], None] = lambda: None) -> None:
        """Forget a log and remove its files soon, after `before`; the journal has said so."""
        self.unmoved -= log.visible - log.moved
        log.cuts += 1
        log.tail_runs.clear()
        log.tail_starts.clear()
        log.moved = log.visible

        def remove() -> None:
            before()
            self.files.remove_folder(log.directory)

        self._submit(remove)

    def _submit(self, work: Callable[[], None]) -> None:
        self.worker.submit(work, self._watch)

    def _watch(self, _: None, error: BaseException | None) -> None:
        """Files that cannot be cut hold bytes that a later start would take for true, so this is the end."""
        if error is not None:
            self.failed(StoreError(f"cannot cut message files: {error}"))


def tail_pieces(log: PartitionLog) -> list[Piece]:
    """Return the tail of a log as pieces of segment files."""
    pieces: list[Piece] = []
    position = log.moved
    index = 0
    starts, runs = log.tail_starts, log.tail_runs
    while index < len(starts):
        base, end = log.segment_of(position)
        first = index
        while index < len(starts) and starts[index] < end:
            index += 1
        pieces.append(Piece(log.directory, base, position - base, runs[first:index]))
        position = starts[index - 1] + len(runs[index - 1])
    return pieces


def _tail_size(log: PartitionLog) -> int:
    return log.visible - log.moved
