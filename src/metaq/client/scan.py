"""Finding records in a log of which one does not know where they begin: in a corrupt part, or anywhere in the middle.

Bodies that have whole records in them are taken for those records.
"""

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, TypeAlias

from metaq.client.message import next_record, unfinished

Fetch: TypeAlias = Callable[[int, int], Awaitable[bytes | None]]  # of offset and most bytes; None: nothing is there

LARGEST: Final = 4 << 20  # bytes that are looked through at once; larger records are not found


class Found(NamedTuple):
    """Where a record begins, and what was fetched from there on; no data: there is none, `offset` is the end then."""

    offset: int
    data: bytes


async def find_record(fetch: Fetch, at: int, size: int, limit: int) -> Found:
    """Return the first record that begins at `at` or later and is whole, with a body and a checksum that fits.

    `size` bytes are fetched at first, more where no record is found in them. Gives up at the offset `limit`.
    """
    last = -1
    while at < limit:
        data = await fetch(at, size)
        if not data:
            break
        found = next_record(data, 0)
        if found is not None:
            return Found(at + found, data[found:])
        if len(data) == size < LARGEST:
            size = min(4 * size, LARGEST)
            continue
        end = at + len(data)
        # an answer that ends where the one before did ends with a segment, and there a record begins
        at, last = end if end == last else at + unfinished(data, 1, len(data)), end
    return Found(at, b"")
