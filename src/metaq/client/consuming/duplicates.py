"""The filter of messages that were dealt with already (reference: client.md §7.6). Pure."""

from collections.abc import Iterable


class Duplicates:
    """The ids of the latest `size` messages of one consumer that were dealt with."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._ids: dict[int, None] = {}  # in the order they came

    def __contains__(self, id: int) -> bool:
        return id in self._ids

    def add(self, ids: Iterable[int]) -> None:
        """Remember ids, and forget the oldest ones beyond the size."""
        self._ids.update(dict.fromkeys(ids))
        for id in list(self._ids)[: max(len(self._ids) - self._size, 0)]:
            del self._ids[id]
