"""The 20-byte record: how a message is stored and fetched (protocol.md §3; reference: MessageUtils, CheckSum).

A partition is records one behind the other, nothing between them. The offset of the next one is 20 + length further.
"""

from collections.abc import Callable, Iterator
from struct import Struct
from typing import Final, NamedTuple

from metaq.errors import CorruptMessage

try:  # the extra `fast`: the same sum, of 1,000 bytes in a quarter of the time
    from zlib_ng.zlib_ng import crc32 as _crc32
except ImportError:
    from zlib import crc32 as _crc32

crc32: Final[Callable[..., int]] = _crc32  # (bytes, start = 0)

# One record, on disk and inside a `value` reply (big-endian); `crc` covers the body only and keeps 31 bits:
#   0        4        8            16     20
#   | length | crc    | message id | flag | body, `length` bytes |
HEADER: Final = Struct(">iiqi")
HEADER_SIZE: Final = 20

# A body whose flag has bit 0 set begins with an attribute, UTF-8, possibly empty:
#   0        4
#   | length | attribute, `length` bytes | data |
# Another layout would need another flag bit: readers in the field ignore bits they do not know.
HAS_ATTRIBUTE: Final = 1
ATTRIBUTE: Final = Struct(">i")

# The id of a message, as brokers of ours and of 1.4.6.2 make it: milliseconds since ID_EPOCH_MS, above 22 other bits.
# Those of 1.4.6.2 come from a clock that starts with the machine: they are negative and tell no time.
ID_EPOCH_MS: Final = 1303895660503  # 2011-04-27T09:14:20.503Z
ID_TIME_SHIFT: Final = 22

_BLANK: Final = bytes(HEADER_SIZE)
_new = tuple.__new__  # half the price of calling the class, once for every message
_pack = HEADER.pack
_unpack_from = HEADER.unpack_from


class Record(NamedTuple):
    """One record found in a run of bytes; `position` is that of its header, in these bytes."""

    position: int
    id: int
    flag: int
    body: bytes


def id_time_ms(id: int) -> int:
    """Return when an id was given, in ms since 1970 on its broker's clock."""
    return (id >> ID_TIME_SHIFT) + ID_EPOCH_MS


def checksum(body: bytes | memoryview) -> int:
    """Return the CRC-32 of a body without its top bit, so that -1 stays free for "none"."""
    return crc32(body) & 0x7FFFFFFF


def pack(id: int, flag: int, body: bytes) -> bytes:
    """Return header and body of one record; struct.error if a number does not fit its field."""
    return _pack(len(body), crc32(body) & 0x7FFFFFFF, id, flag) + body


def encode_body(data: bytes, attribute: str | None = None) -> tuple[int, bytes]:
    """Return (flag, body). None: no attribute, which is not the same as an empty one."""
    if attribute is None:
        return 0, data
    text = attribute.encode()
    return HAS_ATTRIBUTE, ATTRIBUTE.pack(len(text)) + text + data


def decode_body(flag: int, body: bytes) -> tuple[bytes, str | None]:
    """Return (data, attribute), the attribute None if the flag announces none; broken UTF-8 becomes U+FFFD.

    Raises CorruptMessage if the attribute does not fit into the body.
    """
    if not flag & HAS_ATTRIBUTE:
        return body, None
    if not attribute_fits(flag, body):
        raise CorruptMessage(f"body of {len(body)} bytes does not begin with the attribute its flag announces")
    end = ATTRIBUTE.size + ATTRIBUTE.unpack_from(body)[0]
    return body[end:], body[ATTRIBUTE.size : end].decode("utf-8", "replace")


def attribute_fits(flag: int, body: bytes | memoryview) -> bool:
    """Say whether consumers can decode this body: no attribute is announced, or it lies within.

    A broker refuses the others: they would stop every Java consumer for good.
    """
    if not flag & HAS_ATTRIBUTE:
        return True
    room = len(body) - ATTRIBUTE.size
    return room >= 0 and 0 <= int(ATTRIBUTE.unpack_from(body)[0]) <= room


def walk(data: bytes) -> Iterator[Record]:
    """Yield the whole records in `data`, which begins at one; a cut last one is left out.

    The next read starts at the last record's position + 20 + len(body). Raises CorruptMessage at the first record
    with a wrong checksum, a negative length or an attribute that does not fit, after those before it were yielded.
    """
    position, size = 0, len(data)
    while position + HEADER_SIZE <= size:
        length, crc, id, flag = _unpack_from(data, position)
        if length < 0:
            raise CorruptMessage(f"record at {position} has a length of {length}")
        start = position + HEADER_SIZE
        end = start + length
        if end > size:
            return
        body = data[start:end]
        if crc32(body) & 0x7FFFFFFF != crc:
            raise CorruptMessage(f"record at {position} of {length} bytes fails its checksum")
        if flag & HAS_ATTRIBUTE and not attribute_fits(flag, body):
            raise CorruptMessage(f"record at {position} of {length} bytes has an attribute that does not fit")
        yield _new(Record, (position, id, flag, body))
        position = end


def scan(data: bytes | memoryview) -> int:
    """Return the end of the last whole valid record of a run that begins at `data[0]`; copies nothing.

    For recovery. Twenty zero bytes are the end: CRC-32 of nothing is 0, so zeros left by a crash would pass for empty
    records. Attributes are not judged: the original stored what it got, and those records have offsets after them.
    A record cut by the end of `data` ends it too; the caller reads on from the returned position.
    """
    view = memoryview(data)
    end, size = 0, len(view)
    while end + HEADER_SIZE <= size:
        length, crc, _, _ = _unpack_from(view, end)
        start = end + HEADER_SIZE
        if length < 0 or start + length > size:
            break
        if length == 0 and view[end:start] == _BLANK:
            break
        if crc32(view[start : start + length]) & 0x7FFFFFFF != crc:
            break
        end = start + length
    return end


def validate(data: bytes) -> int:
    """Return how many records `data` holds, which must be whole, valid records from end to end.

    Raises CorruptMessage otherwise, also for a blank header: recovery would take it for the end of the log.
    """
    count = end = 0
    for record in walk(data):
        start = end
        end = record.position + HEADER_SIZE + len(record.body)
        if not record.body and data[start:end] == _BLANK:
            raise CorruptMessage(f"record at {start} is blank")
        count += 1
    if end != len(data):
        raise CorruptMessage(f"{len(data) - end} bytes after the last whole record at {end}")
    return count
