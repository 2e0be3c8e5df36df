"""Records in a run of bytes, found by their headers, and pieces of a log that become part of another."""

from collections.abc import Iterator
from typing import NamedTuple

from metaq.errors import BadRequest, SegmentMismatch
from metaq.record import HEADER, HEADER_SIZE, crc32
from metaq.store.log import PartitionLog
from metaq.store.store import MessageStore


class Place(NamedTuple):
    """Where a record stands in its run, and what its header says."""

    start: int
    end: int
    crc: int
    id: int
    flag: int


class Contents(NamedTuple):
    """What a piece of a log holds."""

    messages: int
    highest_id: int


def places(data: bytes) -> Iterator[Place]:
    """Yield the whole records of a run that begins at one. A last one that is cut, or has no length, ends it."""
    start, size = 0, len(data)
    while start + HEADER_SIZE <= size:
        length, crc, id, flag = HEADER.unpack_from(data, start)
        end = start + HEADER_SIZE + length
        if length < 0 or end > size:
            return
        yield Place(start, end, crc, id, flag)
        start = end


def whole(data: bytes) -> int:
    """Return how many bytes of a run are whole records."""
    end = 0
    for place in places(data):
        end = place.end
    return end


def first_size(data: bytes) -> int:
    """Return the size of the record that a run begins with, be it cut; 0 if not even its header is whole or valid."""
    if len(data) < HEADER_SIZE:
        return 0
    length = int(HEADER.unpack_from(data, 0)[0])
    return HEADER_SIZE + length if length >= 0 else 0


def pieces(data: bytes, most: int) -> Iterator[bytes]:
    """Yield whole records, together at most `most` bytes, or one that is larger."""
    if len(data) <= most:
        yield data
        return
    begin = end = 0
    for place in places(data):
        if place.end - begin > most and end > begin:
            yield data[begin:end]
            begin = end
        end = place.end
    yield data[begin:]


def contents(records: bytes) -> Contents:
    """Return what a piece of a log holds. Raises BadRequest if it is not whole, valid records from end to end."""
    count = end = highest = 0
    view = memoryview(records)
    for place in places(records):
        if crc32(view[place.start + HEADER_SIZE : place.end]) & 0x7FFFFFFF != place.crc:
            raise BadRequest(f"the record at {place.start} of a piece of a log fails its checksum")
        end = place.end
        highest = max(highest, place.id)
        count += 1
    if end != len(records):
        raise BadRequest(f"{len(records) - end} bytes after the last whole record of a piece of a log")
    return Contents(count, highest)


def append_piece(store: MessageStore, log: PartitionLog, records: bytes, base: int, what: Contents) -> None:
    """Append a piece in the segment that begins at `base`, or in one of its own where that is not the last one here.

    That is where the two logs were cut into segments by brokers with other sizes; offsets are the same in any case.
    """
    try:
        store.append_copied(log, records, base, what.messages, what.highest_id)
    except SegmentMismatch:
        store.append_copied(log, records, log.end, what.messages, what.highest_id)
