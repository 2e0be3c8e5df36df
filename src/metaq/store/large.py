"""Large runs: bulk data of one partition that goes straight to its file, so that it is written once (design.md §2)."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from metaq.store.entries import Extent
from metaq.store.log import PartitionLog


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
    def trim(self, log: PartitionLog, base: int) -> None:
        """Cut what a failed large run left behind the end of a log, in the segment `base`."""

    def tails_grew(self, size: int) -> None:
        """Hear of what a round added to tails, in bytes."""
