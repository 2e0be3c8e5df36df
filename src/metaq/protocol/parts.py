"""The reply to mget: parts of several partitions, one behind the other (docs/protocol.md §9)."""

from typing import Final, NamedTuple

from metaq.errors import ProtocolError, Status

_LONGEST_LINE: Final = 80  # bytes: four numbers of 64 bits


class Part(NamedTuple):
    """What one of the wanted partitions has, the `nth` of those that were asked for, from 0.

    `base`: of SUCCESS where the segment begins that the data is from, of MOVED the offset to use instead, else 0.
    """

    nth: int
    status: Status | int
    base: int
    data: bytes


def read_parts(data: bytes) -> list[Part]:
    """Return the parts of a reply to mget. Raises ProtocolError if it is none."""
    parts = []
    position = 0
    while position < len(data):
        end = data.find(b"\r\n", position, position + _LONGEST_LINE)
        words = data[position:end].split(b" ") if end >= 0 else []
        if len(words) != 4 or not all(word.isdigit() for word in words):
            raise ProtocolError(f"mget: no part at byte {position} of the reply")
        nth, status, base, length = map(int, words)
        start = end + 2
        position = start + length
        if position > len(data):
            raise ProtocolError(f"mget: the part at byte {start} of the reply is cut")
        parts.append(Part(nth, status, base, data[start:position]))
    return parts
