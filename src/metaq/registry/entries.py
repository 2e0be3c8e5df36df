"""The format of the registry's log: file header, round, change, seal. Pure; both directions.

The log is a sequence of files, numbered from 1. A file is a header, then rounds one behind the other, then zeros:

    file     0      4         8            16       24      32     40               48      52    56
             | MZL1 | version | generation | number | nonce | size | first sequence | chain | crc | zeros up to 4096

    round    0      4            8          16       20            24
             | MZR1 | header crc | sequence | length | payload crc | changes, `length` bytes |

    change   0        4      12     20        28     32
             | length | zxid | time | session | type | fields of the type, as on the wire; of BEGIN_SESSION as below |

    begin    | time-out in ms, 4 bytes | password: length, 4 bytes, then it |

    seal     0      4     8          16
             | MZE1 | crc | sequence |

All numbers are big-endian; zxid, time (ms since 1970) and session are signed. `generation` rises with every opening,
`size` is that of the file from its first day (it never changes), `first sequence` that of its first round. A change's
`length` counts what stands behind it.

The payload CRC of a round is seeded with that of the round before. `chain` is that of the last round before the file,
and generation, number, nonce and chain seed the first round in it: a file goes on from one other only, and no round of
another file or place is taken for one of this. The CRCs of round header and seal are seeded with the nonce.

A round is on disk before the next one is written. So a round that cannot be read in front of one that can was changed
on disk; one at the end was never acknowledged. The seal behind the last round, which the next one overwrites, says so
of the last: it is written when nothing more came for a while, and synced when the log is closed.

To change the format: raise VERSION, keep reading the old one, say in docs/registry.md what changed.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple
from zlib import crc32

from metaq.errors import ProtocolError
from metaq.registry.changes import Begin, Change, Content, Internal, Nothing
from metaq.registry.jute import Reader, pack_buffer
from metaq.registry.requests import Op, pack_fields, read_fields

VERSION: Final = 1
FILE_HEADER_SIZE: Final = 4096
FILE_MAGIC: Final = b"MZL1"
ROUND_MAGIC: Final = b"MZR1"
SEAL_MAGIC: Final = b"MZE1"

_FILE: Final = struct.Struct(">4sIQQQQQI")
_SEED: Final = struct.Struct(">QQQI")
_CRC: Final = struct.Struct(">I")
_ROUND: Final = struct.Struct(">4sIQII")
_ROUND_TAIL: Final = struct.Struct(">QII")  # what the header CRC covers
_SEAL: Final = struct.Struct(">4sIQ")
_SEQUENCE: Final = struct.Struct(">Q")
_CHANGE: Final = struct.Struct(">Iqqqi")
_BEGIN: Final = struct.Struct(">i")

ROUND_HEADER_SIZE: Final = _ROUND.size
SEAL_SIZE: Final = _SEAL.size

_pack_change: Final = _CHANGE.pack


class Mark(NamedTuple):
    """A place between two rounds: number of the file, position in it, sequence and payload CRC of the round before."""

    number: int
    position: int
    sequence: int
    chain: int


class FileHeader(NamedTuple):
    """What the first block of a log file says."""

    generation: int
    number: int
    nonce: int
    size: int
    first_sequence: int
    chain: int

    def seed(self) -> int:
        """Return the CRC that the first round of the file starts from."""
        return crc32(_SEED.pack(self.generation, self.number, self.nonce, self.chain))


class RoundHeader(NamedTuple):
    """One round as its header tells it; `length` counts the bytes of its changes, `crc` is that of these."""

    sequence: int
    length: int
    crc: int


def pack_file_header(header: FileHeader) -> bytes:
    """Return the first block of a log file, FILE_HEADER_SIZE bytes."""
    head = _FILE.pack(FILE_MAGIC, VERSION, *header)
    return (head + _CRC.pack(crc32(head))).ljust(FILE_HEADER_SIZE, b"\0")


def unpack_file_header(block: bytes) -> FileHeader:
    """Return the header in the first block of a file. Raises ValueError with what is wrong with it."""
    if len(block) < FILE_HEADER_SIZE:
        raise ValueError(f"its header has {len(block)} of {FILE_HEADER_SIZE} bytes")
    head = block[: _FILE.size]
    magic, version, *fields = _FILE.unpack(head)
    if magic != FILE_MAGIC or crc32(head) != _CRC.unpack_from(block, _FILE.size)[0]:
        raise ValueError("its header is damaged")
    if version != VERSION:
        raise ValueError(f"it has version {version}, this release reads {VERSION}")
    return FileHeader(*fields)


def pack_round(nonce: int, sequence: int, payload: bytes, seed: int) -> tuple[bytes, int]:
    """Return a round as it is written, and its payload CRC: the seed of the next one."""
    crc = crc32(payload, seed)
    tail = _ROUND_TAIL.pack(sequence, len(payload), crc)
    return ROUND_MAGIC + _CRC.pack(crc32(tail, nonce & 0xFFFFFFFF)) + tail + payload, crc


def unpack_round_header(nonce: int, data: bytes, position: int) -> RoundHeader | None:
    """Return the round header at `position`, or None if there is none of this file's."""
    if position + _ROUND.size > len(data):
        return None
    magic, crc, *fields = _ROUND.unpack_from(data, position)
    if magic != ROUND_MAGIC or crc32(_ROUND_TAIL.pack(*fields), nonce & 0xFFFFFFFF) != crc:
        return None
    return RoundHeader(*fields)


def pack_seal(nonce: int, sequence: int) -> bytes:
    """Return what says that the round of this sequence was on disk."""
    return _SEAL.pack(SEAL_MAGIC, crc32(_SEQUENCE.pack(sequence), nonce & 0xFFFFFFFF), sequence)


def unpack_seal(nonce: int, data: bytes, position: int) -> int | None:
    """Return the sequence in the seal at `position`, or None if there is none of this file's."""
    if position + _SEAL.size > len(data):
        return None
    magic, crc, sequence = _SEAL.unpack_from(data, position)
    if magic != SEAL_MAGIC or crc32(_SEQUENCE.pack(sequence), nonce & 0xFFFFFFFF) != crc:
        return None
    return int(sequence)


def pack_change(change: Change) -> bytes:
    """Return a change as it stands in a round."""
    zxid, time, session, op, request = change
    match request:
        case Begin(timeout, password):
            fields = _BEGIN.pack(timeout) + pack_buffer(password)
        case Nothing():
            fields = b""
        case _:
            assert isinstance(op, Op), op
            fields = pack_fields(op, request)
    return _pack_change(28 + len(fields), zxid, time, session, op) + fields


def unpack_changes(payload: bytes) -> Iterator[tuple[int, Change]]:
    """Yield position and value of each change of a round. Raises ValueError if it holds something else."""
    position, end = 0, len(payload)
    while position < end:
        if end - position < _CHANGE.size:
            raise ValueError(f"{end - position} bytes are left at {position}")
        length, zxid, time, session, number = _CHANGE.unpack_from(payload, position)
        start = position + _CHANGE.size
        following = position + 4 + length
        if following < start or following > end:
            raise ValueError(f"the change at {position} has a length of {length}, its round ends at {end}")
        try:
            op, request = _read_content(number, payload[start:following])
        except ProtocolError as exc:
            raise ValueError(f"the change at {position} cannot be read: {exc}") from exc
        yield position, Change(zxid, time, session, op, request)
        position = following


_INTERNAL: Final = {int(each): each for each in Internal}
_OPS: Final = {int(each): each for each in (Op.CREATE, Op.CREATE2, Op.CREATE_CONTAINER, Op.CREATE_TTL, Op.DELETE)} | {
    int(each): each for each in (Op.SET_DATA, Op.SET_ACL, Op.MULTI)
}


def _read_content(number: int, fields: bytes) -> tuple[Op | Internal, Content]:
    reader = Reader(fields)
    op: Op | Internal
    content: Content
    if (found := _OPS.get(number)) is not None:
        op, content = found, read_fields(found, reader)
    elif (internal := _INTERNAL.get(number)) is None:
        raise ProtocolError(f"its type is {number}")
    elif internal is Internal.BEGIN_SESSION:
        op, content = internal, Begin(reader.read_int(), reader.read_buffer() or b"")
    else:
        op, content = internal, Nothing()
    if reader.left:
        raise ProtocolError(f"{reader.left} bytes are left behind its fields")
    return op, content
