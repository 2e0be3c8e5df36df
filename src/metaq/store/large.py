"""Large runs: bulk data of one partition that goes straight to its file, so that it is written once (design.md §2)."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

from metaq.errors import DiskFull, StoreError
from metaq.store.entries import Extent, pack
from metaq.store.log import Countdown, Gate, PartitionLog, tell
from metaq.store.space import write_error


class LargeRun(NamedTuple):
    """A run of `size` bytes that goes straight to the partition file. Its parts are long.

    `stamps` are the packed entries of the batches in it.
    """

    log: PartitionLog
    base: int
    offset: int
    parts: list[bytes | memoryview]
    size: int
    stamps: bytes


class LargeWriter(Protocol):
    """Moves tails into partition files, and writes large runs there at once. `tails` are the logs that have a tail."""

    tails: list[PartitionLog]

    def write_large(self, run: LargeRun, done: Callable[[Extent | None, BaseException | None], None]) -> None: ...
    def trim(self, log: PartitionLog, base: int) -> None:
        """Cut what a failed large run left behind the end of a log, in the segment `base`."""

    def tails_grew(self, size: int) -> None:
        """Hear of what a round added to tails, in bytes."""


class Holder(Protocol):
    """Holds the logs that have a large run on its way: the rounds, as far as large runs need them."""

    def add(self, entries: bytes, step: Gate, gate: Gate) -> None:
        """Journal entries with the next round, synced; `step` changes the memory then, before `gate` is told."""

    def release(self, run: LargeRun, error: Exception | None) -> None:
        """The log is free again: the run is safe, or lost with what was held."""

    def give_up(self, error: Exception) -> None:
        """The disk has failed."""


class LargeRuns:
    """Has large runs written when the round with their intents is; they are safe when their extents are journaled."""

    def __init__(self, writer: LargeWriter, holder: Holder) -> None:
        self._writer = writer
        self._holder = holder

    def write_after(self, runs: list[LargeRun], gates: list[Gate]) -> Gate:
        """Return the step for the round with the intents: its gates wait for that round and for all of the runs."""
        together = Countdown(lambda error: tell(gates, error), 1 + len(runs))

        def begin(error: Exception | None) -> None:
            for run in runs:
                if error is None:
                    self._writer.write_large(run, partial(self._written, run, together))
                else:
                    self._holder.release(run, error)
                    together(error)
            together(error)

        return begin

    def _written(self, run: LargeRun, gate: Gate, extent: Extent | None, error: BaseException | None) -> None:
        if extent is None:
            failure = write_error(error) if isinstance(error, OSError) else StoreError(f"cannot write: {error!r}")
            self._holder.release(run, failure)
            gate(failure)
            if not isinstance(failure, DiskFull):
                self._holder.give_up(failure)
            return

        def settle(error: Exception | None) -> None:
            if error is None:
                run.log.visible = run.log.moved = run.offset + run.size
                run.log.wake()
            self._holder.release(run, error)

        self._holder.add(pack(extent) + run.stamps, settle, gate)
