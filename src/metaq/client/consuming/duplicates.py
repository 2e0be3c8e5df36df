"""The filter of messages that were dealt with already (reference: client.md §7.6). Pure."""

from collections.abc import Iterable
from itertools import islice

from metaq.client.message import Key


class Duplicates:
    """The keys of the latest `size` messages of one consumer that were dealt with.

    A message that comes again has the key it had; the original looks at its id alone, which another may have too.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._keys: dict[Key, None] = {}  # in the order they came

    def __contains__(self, key: Key) -> bool:
        return key in self._keys

    def add(self, keys: Iterable[Key]) -> None:
        """Remember keys, and forget the oldest ones beyond the size."""
        self._keys.update(dict.fromkeys(keys))
        for key in list(islice(self._keys, max(len(self._keys) - self._size, 0))):
            del self._keys[key]
