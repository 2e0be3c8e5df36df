"""The reply to mget: parts of several partitions, one behind the other, and the stamps in it (docs/protocol.md §9)."""

from collections.abc import Iterable
from struct import Struct
from typing import Final, NamedTuple

from metaq.errors import ProtocolError, Status
from metaq.record import HEADER_SIZE

_LARGE: Final = 64 << 10  # bytes of a part that are worth not to be copied, if they pin no more than as much again
LEAST_ROOM: Final = 64 << 10  # bytes: a reply below that had room for all, unless less was asked for
_LONGEST_LINE: Final = 80  # bytes: five numbers, most of them small

# Behind the data, for a replica, one for each batch of it (big-endian):
#   0          8       12         20       28       32      36         44
#   | producer | epoch | sequence | offset | length | count | first id |
STAMP_SIZE: Final = 44  # bytes
_STAMP: Final = Struct(">qiqqiiq")


class Stamped(NamedTuple):
    """Which batch of which producer stands where: `length` bytes at `offset`, with ids from `first_id` on.

    `record_count` 0: how many records they are is not known.
    """

    producer: int
    epoch: int
    sequence: int
    offset: int
    length: int
    record_count: int
    first_id: int


class Part(NamedTuple):
    """What one of the wanted partitions has, the `nth` of those that were asked for, from 0.

    `base`: of SUCCESS where the segment begins that the data is from, of MOVED the offset to use instead, else 0.
    `data` of some length is a view into the reply if it is half of that or more.
    `stamps`, in the order of their offsets, if they were asked for: of batches that some of the data is of.
    """

    nth: int
    status: Status | int
    base: int
    data: bytes | memoryview
    stamps: tuple[Stamped, ...] = ()


def read_parts(data: bytes) -> list[Part]:
    """Return the parts of a reply to mget. Raises ProtocolError if it is none."""
    parts = []
    position = 0
    while position < len(data):
        end = data.find(b"\r\n", position, position + _LONGEST_LINE)
        words = data[position:end].split(b" ") if end >= 0 else []
        if len(words) not in (4, 5) or not all(word.isdigit() for word in words):
            raise ProtocolError(f"mget: no part at byte {position} of the reply")
        nth, status, base, length, *more = map(int, words)
        start = end + 2
        stop = start + length
        position = stop + STAMP_SIZE * more[0] if more else stop
        if position > len(data):
            raise ProtocolError(f"mget: the part at byte {start} of the reply is cut")
        stamps = read_stamps(data[stop:position]) if more else ()
        parts.append(Part(nth, status, base, cut_out(data, start, stop), stamps))
    return parts


def cut_out(data: bytes | memoryview, start: int, stop: int) -> bytes | memoryview:
    """Return a part of data: a view if it is long, and half or more of what the view keeps in memory; else bytes."""
    size = stop - start
    if size >= _LARGE and 2 * size >= len(data):
        return memoryview(data)[start:stop]
    return bytes(data[start:stop])


def pack_stamps(batches: Iterable[Stamped]) -> bytes:
    """Return what stands behind the data of a part, or of an msync."""
    return b"".join(_STAMP.pack(*batch) for batch in batches)


def read_stamps(data: bytes) -> tuple[Stamped, ...]:
    """Return stamps. Raises ProtocolError if they are none, or do not follow one on the other."""
    found = tuple(map(Stamped._make, _STAMP.iter_unpack(data)))
    end = 0
    for stamp in found:
        producer, epoch, sequence, offset, length, count, _ = stamp
        if producer <= 0 or min(epoch, sequence, count) < 0 or offset < end or length < HEADER_SIZE:
            raise ProtocolError(f"{stamp} is no stamp behind the end of a batch at {end}")
        end = offset + length
    return found
