"""Where the batches of one partition begin, so that a replica's reads find those of a stretch without a walk."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class Places:
    """(offset, producer) of batches, in the order of their offsets; some may be forgotten elsewhere meanwhile."""

    def __init__(self, places: Iterable[tuple[int, int]]) -> None:
        ordered = sorted(places)
        self._offsets = array("q", [offset for offset, _ in ordered])
        self._producers = array("q", [producer for _, producer in ordered])

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, offset: int, producer: int) -> None:
        """Add one, now the last: those that begin behind it were cut off."""
        offsets, producers = self._offsets, self._producers
        while offsets and offsets[-1] >= offset:
            offsets.pop()
            producers.pop()
        offsets.append(offset)
        producers.append(producer)

    def between(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield those that begin below `end`, from the last one on that begins at or below `start`."""
        offsets = self._offsets
        first = max(0, bisect_right(offsets, start) - 1)
        for at in range(first, bisect_left(offsets, end, first)):
            yield offsets[at], self._producers[at]
