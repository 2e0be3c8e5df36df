"""Records in a run of bytes, found by their headers, and pieces of a log that become part of another."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from metaq.broker.stamps import batch_of
from metaq.errors import BadRequest, SegmentMismatch
from metaq.protocol.parts import Stamped
from metaq.record import HEADER, HEADER_SIZE, crc32
from metaq.store.log import PartitionLog
from metaq.store.replicating import Run
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


def pieces(run: Run, most: int) -> Iterator[bytes]:
    """Yield whole records and batches, together at most `most` bytes, or one that is larger."""
    data = run.data
    if len(data) <= most:
        yield data
        return
    batches = deque(run.batches)
    begin = end = 0
    for place in places(data):
        at = run.offset + place.end
        while batches and batches[0].offset + batches[0].length <= at:
            batches.popleft()
        if batches and batches[0].offset < at:
            continue  # within a batch: it is stored with its stamp, or not at all
        if place.end - begin > most and end > begin:
            yield data[begin:end]
            begin = end
        end = place.end
    yield data[begin:]


def unbroken(data: bytes, offset: int, stamps: Sequence[Stamped]) -> int:
    """Return how many bytes of what stands from `offset` on are whole records, and no part of a batch that is cut."""
    size = whole(data)
    if stamps and stamps[-1].offset + stamps[-1].length > offset + size:
        size = min(size, max(0, stamps[-1].offset - offset))
    return size


def check_stamps(stamps: Sequence[Stamped], records: bytes, offset: int) -> None:
    """Raise BadRequest unless each of the batches ends with a record of a piece that begins at `offset`.

    One that begins in it, too, does so with a record that has its first id, and has as many as its stamp says.
    """
    if not stamps:
        return
    ids = {offset + place.start: (number, place.id) for number, place in enumerate(places(records))}
    ids[offset + len(records)] = (len(ids), 0)
    for stamp in stamps:
        end = ids.get(stamp.offset + stamp.length)
        if end is None or not end[0]:
            raise BadRequest(f"{stamp} ends with no record of the piece at {offset}")
        if stamp.offset < offset:
            continue  # its first records are here already
        first = ids.get(stamp.offset)
        if first is None or (stamp.record_count and (end[0] - first[0], first[1]) != stamp[5:]):
            raise BadRequest(f"{stamp} is not what stands there in the piece at {offset}")


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


class Piece(NamedTuple):
    """A piece of a log, from the segment that begins at `base`; `stamps` of batches that end in it."""

    records: bytes
    base: int
    what: Contents
    stamps: Sequence[Stamped] = ()


def append_piece(store: MessageStore, log: PartitionLog, piece: Piece) -> None:
    """Append a piece in its segment, or in one of its own where that is not the last one here; with its stamps.

    That is where the two logs were cut into segments by brokers with other sizes; offsets are the same in any case.
    """
    records, base, what, stamps = piece
    try:
        store.append_copied(log, records, base, what.messages, what.highest_id)
    except SegmentMismatch:
        store.append_copied(log, records, log.end, what.messages, what.highest_id)
    for stamp in stamps:
        store.stamp_copied(log, batch_of(log.id, stamp))
