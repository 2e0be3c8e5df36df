"""What a round needs of another broker: that it has the runs, too, before anybody is told that they are safe."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, Protocol

from metaq.store.entries import Batch
from metaq.store.large import LargeRun
from metaq.store.log import Gate, PartitionLog, tell


class Run(NamedTuple):
    """Records of one partition, from `offset` on, in the segment that begins at `base`; a round appends them.

    `batches` that end in them are added by whoever sends them.
    """

    log: PartitionLog
    base: int
    offset: int
    data: bytes
    batches: Sequence[Batch] = ()


class Replicator(Protocol):
    """Has each round copied to another broker."""

    def begin(self, runs: Sequence[Run], gate: Gate) -> Gate:
        """Send runs, in order; return what is to be told when they are written here, or cannot be.

        `gate` is told when they are both written here and copied, or with the error of either. Until then the copier
        keeps `confirmed` of their logs at or below what is copied.
        """


class Waiting(Protocol):
    """Counts the bytes that are not safe yet."""

    waiting_bytes: int


def copied(
    replicator: Replicator,
    waiting: Waiting,
    runs: Sequence[tuple[PartitionLog, int, int, bytes | memoryview]],
    large: Sequence[LargeRun],
    gates: list[Gate],
) -> list[Gate]:
    """Have what a round appends copied; return its gates: they tell those given when it is written and copied."""
    copies = [Run(log, log.base_of(offset), offset, bytes(data)) for log, offset, _, data in runs]
    copies += [Run(run.log, run.base, run.offset, b"".join(run.parts)) for run in large]
    if not copies:
        return gates
    size = sum(len(run.data) for run in copies)
    waiting.waiting_bytes += size
    return [replicator.begin(copies, partial(_over, waiting, size, gates))]


def _over(waiting: Waiting, size: int, gates: list[Gate], error: Exception | None) -> None:
    waiting.waiting_bytes -= size
    tell(gates, error)
