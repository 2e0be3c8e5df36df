"""Room on the file systems: below a reserve puts are refused, before writing fails (design.md §2)."""

import errno
import logging
from collections.abc import Iterable
from typing import Final

from metaq.errors import DiskFull, StoreError
from metaq.ports import Files

log = logging.getLogger(__name__)

FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class Space:
    """Knows which folders have no room. `full` is empty in good times; the broker looks at that first."""

    def __init__(self, files: Files, places: Iterable[str], reserve: int) -> None:
        self._files = files
        self._places = sorted(set(places))
        self._reserve = reserve
        self.full: frozenset[str] = frozenset()

    def check(self, unmoved: int) -> frozenset[str]:
        """Return the places that are short of room once `unmoved` bytes of tails are in their files. Blocks."""
        return frozenset(place for place in self._places if self._files.free_space(place)[1] - unmoved < self._reserve)

    def place_of(self, path: str) -> str | None:
        """Return the place that a file lies in, None if in none of them."""
        inside = [place for place in self._places if path == place or path.startswith(place + "/")]
        return max(inside, key=len, default=None)

    def set_full(self, full: frozenset[str]) -> None:
        """Take the answer of `check`, or add a place where a write just failed."""
        for place in full - self.full:
            log.error("%s: the disk is full, puts are refused", place)
        for place in self.full - full:
            log.warning("%s: there is room again, puts are accepted", place)
        self.full = full


def write_error(error: OSError) -> Exception:
    """Return what an error of a write means to the one who asked for it."""
    if error.errno in FULL:
        return DiskFull("disk full")
    return StoreError(f"cannot write: {error}")
