"""Where the batches of one partition begin, so that a replica's reads find those of a stretch without a walk.

What the table has forgotten is swept out a little at a time, with what is added: the places before the mark were looked
at, and those still known of them stand in lists of their own.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import Final

_STEP: Final = 256  # places that are added between two sweeps, each of twice as many


class Places:
    """(offset, producer) of batches, in the order of their offsets. `knows` says whether one is remembered yet."""

    __slots__ = ("_added", "_knows", "_mark", "_offsets", "_producers", "_swept_offsets", "_swept_producers")

    def __init__(self, places: Iterable[tuple[int, int]], knows: Callable[[int, int], bool]) -> None:
        ordered = sorted(places)
        self._knows = knows
        self._offsets = array("q", [offset for offset, _ in ordered])
        self._producers = array("q", [producer for _, producer in ordered])
        self._swept_offsets = array("q")  # all below those from the mark on
        self._swept_producers = array("q")
        self._mark = 0
        self._added = 0

    def __len__(self) -> int:
        return len(self._offsets) - self._mark + len(self._swept_offsets)

    def add(self, offset: int, producer: int) -> None:
        """Add one, now the last: those that begin behind it were cut off."""
        offsets, producers = self._offsets, self._producers
        while len(offsets) > self._mark and offsets[-1] >= offset:
            offsets.pop()
            producers.pop()
        if len(offsets) == self._mark:
            while self._swept_offsets and self._swept_offsets[-1] >= offset:
                self._swept_offsets.pop()
                self._swept_producers.pop()
        offsets.append(offset)
        producers.append(producer)
        self._added += 1
        if self._added == _STEP:
            self._added = 0
            self._sweep()

    def _sweep(self) -> None:
        """Look at the next places; after the last one the swept are all there are."""
        knows, mark = self._knows, self._mark
        end = min(mark + 2 * _STEP, len(self._offsets))
        for offset, producer in zip(self._offsets[mark:end], self._producers[mark:end], strict=True):
            if knows(offset, producer):
                self._swept_offsets.append(offset)
                self._swept_producers.append(producer)
        self._mark = end
        if end == len(self._offsets):
            self._offsets, self._producers = self._swept_offsets, self._swept_producers
            self._swept_offsets, self._swept_producers = array("q"), array("q")
            self._mark = 0

    def between(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield those that begin below `end`, from the last one on that begins at or below `start`."""
        offsets, swept, mark = self._offsets, self._swept_offsets, self._mark
        first = bisect_right(offsets, start, mark) - 1
        if first < mark:
            first = mark
            begin = max(0, bisect_right(swept, start) - 1)
            for at in range(begin, bisect_left(swept, end, begin)):
                yield swept[at], self._swept_producers[at]
        for at in range(first, bisect_left(offsets, end, first)):
            yield offsets[at], self._producers[at]
