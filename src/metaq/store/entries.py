"""The journal's format: file header, round, entries. Pure; both directions.

A journal is a sequence of files of one generation each; a file is a header and then rounds, one behind the other:

    file     0       4         8            16      24      32            48               56     60
             | MQJ1  | version | generation | number | nonce | boot id, 16 | first sequence | crc | zeros up to 4096

    round    0       4            8          16        24       28            32
             | MQR1  | header crc | sequence | durable | length | payload crc | entries, `length` bytes

    entry    | kind, 1 byte | log id, 4 bytes | the fields of the kind | for runs: the records |

All numbers are big-endian. `generation` rises with every opening, `number` counts the files of a generation from 0.
`first sequence` is the one that the file's first round has: in the first file of a generation it also says where the
generation before it ended. `durable` is the highest sequence known to be on disk when the round was written,
`highest id` the highest message id given out by then: ids go on above it also when the clock went back.

Both CRCs of a round are seeded: the header's with the file's nonce, the payload's with the payload CRC of the round
before (the first one of a file with the CRC of nonce and number). So neither an old round in a reused file nor one
behind a torn round is taken for a live one. One CRC for a round, not one for each entry: a round is written and
acknowledged as a whole, and a CRC for each entry cost 0.1 µs a message.

A producer's stamp is an entry of its own, in the round that has the run or the extent with the batch's records: as a
round counts whole or not at all, no batch is there without its stamp. The stamped runs and extents of the first
releases are read, and not written any more: a large run with many batches would be as many extents, and the run of all
other records would be cut at each batch.

To change the format: raise VERSION, keep reading the old one, say in docs/storage.md what changed.
"""

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple

from metaq.record import crc32

VERSION: Final = 1
FILE_HEADER_SIZE: Final = 4096
_FILE_MAGIC: Final = b"MQJ1"
_FILE: Final = struct.Struct(">4sIQQQ16sQ")
_CRC: Final = struct.Struct(">I")

_pack_crc: Final = _CRC.pack

ROUND_MAGIC: Final = b"MQR1"
ROUND_HEADER: Final = struct.Struct(">4sIQQqII")
_ROUND_TAIL: Final = struct.Struct(">QQqII")  # what the header CRC covers
_pack_tail: Final = _ROUND_TAIL.pack


class FileHeader(NamedTuple):
    """What the first block of a journal file says. `boot_id` tells whether the machine was restarted since."""

    generation: int
    number: int
    nonce: int
    boot_id: bytes
    first_sequence: int

    def seed(self) -> int:
        """Return the CRC that the first round of the file starts from."""
        return crc32(struct.pack(">QQ", self.nonce, self.number))


def pack_file_header(header: FileHeader) -> bytes:
    """Return the header block of a journal file, FILE_HEADER_SIZE bytes."""
    head = _FILE.pack(_FILE_MAGIC, VERSION, *header)
    return (head + _CRC.pack(crc32(head))).ljust(FILE_HEADER_SIZE, b"\0")


def unpack_file_header(block: bytes) -> FileHeader | None:
    """Return the header, or None if the block is none: a new file, or one torn while its header was written."""
    if len(block) < _FILE.size + 4:
        return None
    head = block[: _FILE.size]
    magic, version, *fields = _FILE.unpack(head)
    if magic != _FILE_MAGIC or version != VERSION or crc32(head) != _CRC.unpack_from(block, _FILE.size)[0]:
        return None
    return FileHeader(*fields)


class RoundHeader(NamedTuple):
    """One round as its header tells it; `length` counts the bytes of its entries."""

    sequence: int
    durable: int
    highest_id: int
    length: int
    crc: int


def pack_round_header(nonce: int, fields: tuple[int, int, int, int, int]) -> bytes:
    """Return the 40 bytes in front of a round's entries; `fields` are those of a RoundHeader."""
    tail = _pack_tail(*fields)
    return ROUND_MAGIC + _pack_crc(crc32(tail, nonce & 0xFFFFFFFF)) + tail


def unpack_round_header(nonce: int, data: bytes | memoryview, position: int) -> RoundHeader | None:
    """Return the round header at `position`, or None if there is none of this file's."""
    if position + ROUND_HEADER.size > len(data):
        return None
    magic, crc, *fields = ROUND_HEADER.unpack_from(data, position)
    if magic != ROUND_MAGIC or crc32(_ROUND_TAIL.pack(*fields), nonce & 0xFFFFFFFF) != crc:
        return None
    return RoundHeader(*fields)


class Kind(IntEnum):
    """What an entry is. The numbers are on disk: never reuse one."""

    RUN = 1  # records of one partition
    STAMPED_RUN = 2  # the same with its producer's stamp
    EXTENT = 3  # a large run: its bytes are in the partition file already
    STAMPED_EXTENT = 4
    CREATE = 5  # a partition begins
    ROLL = 6  # its next segment begins
    CUT = 7  # its end goes back
    DROP = 8  # it is gone
    INTENT = 9  # a large run is about to be written into the partition file
    EPOCH = 10  # records from here on belong to a master's term
    STAMP = 11  # which records of this round are a producer's batch


class Stamp(NamedTuple):
    """Which producer's which batch a run is: the same one sent again is answered with the first result."""

    producer: int
    epoch: int
    sequence: int


class Run(NamedTuple):
    """Records of one partition at `offset`, in the segment that begins at `base`."""

    log_id: int
    base: int
    offset: int
    data: bytes | memoryview
    stamp: Stamp | None = None


class Extent(NamedTuple):
    """`length` bytes at `offset` that stand in the partition file, synced; `crc` is theirs."""

    log_id: int
    base: int
    offset: int
    length: int
    crc: int
    stamp: Stamp | None = None


class Create(NamedTuple):
    """Partition `topic`-`partition` begins at `base`; its folder is in `root` ("": the dataPath of [system])."""

    log_id: int
    base: int
    topic: str
    partition: int
    root: str


class Roll(NamedTuple):
    """The segment that begins at `base` is the active one from here on."""

    log_id: int
    base: int


class Cut(NamedTuple):
    """The partition ends at `to`; what stood beyond it is void."""

    log_id: int
    to: int


class Drop(NamedTuple):
    """The partition and its files are gone."""

    log_id: int


class Intent(NamedTuple):
    """Up to `end` the partition file may hold bytes of a large run that no extent names yet."""

    log_id: int
    end: int


class Epoch(NamedTuple):
    """Records from `start` on were accepted by the master of term `epoch`."""

    log_id: int
    epoch: int
    start: int


class Batch(NamedTuple):
    """`length` bytes at `offset`, which a run or an extent of this round holds, are one producer's batch.

    It has `record_count` messages, with ids from `first_id` on; 0: not known, it was a stamped run.
    """

    log_id: int
    offset: int
    length: int
    record_count: int
    first_id: int
    stamp: Stamp


Entry = Run | Extent | Create | Roll | Cut | Drop | Intent | Epoch | Batch

_RUN: Final = struct.Struct(">BIqqI")
_STAMP: Final = struct.Struct(">qiq")
_EXTENT: Final = struct.Struct(">BIqqII")
_CREATE: Final = struct.Struct(">BIqiHH")
_ID_OFFSET: Final = struct.Struct(">BIq")
_ID: Final = struct.Struct(">BI")
_EPOCH: Final = struct.Struct(">BIiq")
_BATCH: Final = struct.Struct(">BIqIIqqiq")

_RUN_KIND: Final = int(Kind.RUN)
_STAMP_KIND: Final = int(Kind.STAMP)
_RUN_SIZE: Final = _RUN.size
_unpack_run: Final = _RUN.unpack_from
_new: Final = tuple.__new__  # half the price of calling the class, once for every run of a journal

pack_run_head: Final = _RUN.pack  # (Kind.RUN, log id, base, offset, length): the records follow; on the hot path


def pack(entry: Entry) -> bytes:
    """Return an entry as bytes. Runs without a stamp are packed by `pack_run_head` on the hot path; same bytes."""
    match entry:
        case Run(log_id, base, offset, data, None):
            return _RUN.pack(Kind.RUN, log_id, base, offset, len(data)) + data
        case Run(log_id, base, offset, data, stamp):
            assert stamp is not None
            return _RUN.pack(Kind.STAMPED_RUN, log_id, base, offset, len(data)) + _STAMP.pack(*stamp) + data
        case Extent(log_id, base, offset, length, crc, None):
            return _EXTENT.pack(Kind.EXTENT, log_id, base, offset, length, crc)
        case Extent(log_id, base, offset, length, crc, stamp):
            assert stamp is not None
            return _EXTENT.pack(Kind.STAMPED_EXTENT, log_id, base, offset, length, crc) + _STAMP.pack(*stamp)
        case Create(log_id, base, topic, partition, root):
            name, place = topic.encode(), root.encode()
            return _CREATE.pack(Kind.CREATE, log_id, base, partition, len(name), len(place)) + name + place
        case Roll(log_id, base):
            return _ID_OFFSET.pack(Kind.ROLL, log_id, base)
        case Cut(log_id, to):
            return _ID_OFFSET.pack(Kind.CUT, log_id, to)
        case Intent(log_id, end):
            return _ID_OFFSET.pack(Kind.INTENT, log_id, end)
        case Drop(log_id):
            return _ID.pack(Kind.DROP, log_id)
        case Epoch(log_id, epoch, start):
            return _EPOCH.pack(Kind.EPOCH, log_id, epoch, start)
        case Batch():
            return pack_batch(entry)


def pack_batch(batch: Batch) -> bytes:
    """Return what `pack` does, at half the price."""
    log_id, offset, length, record_count, first_id, (producer, epoch, sequence) = batch
    return _BATCH.pack(_STAMP_KIND, log_id, offset, length, record_count, first_id, producer, epoch, sequence)


def unpack(payload: memoryview) -> Iterator[Entry]:
    """Yield the entries of one round, whose CRC was checked. Raises struct.error or ValueError if it lies."""
    position, end = 0, len(payload)
    while position < end:
        kind = payload[position]
        if kind == _RUN_KIND:
            _, log_id, base, offset, length = _unpack_run(payload, position)
            start = position + _RUN_SIZE
            position = start + length
            yield _new(Run, (log_id, base, offset, payload[start:position], None))
        else:
            entry, position = _unpack_other(kind, payload, position)
            yield entry
    if position != end:
        raise ValueError(f"the last entry ends at {position}, its round at {end}")


def _unpack_other(kind: int, payload: memoryview, position: int) -> tuple[Entry, int]:
    match kind:
        case Kind.STAMPED_RUN:
            _, log_id, base, offset, length = _RUN.unpack_from(payload, position)
            stamp = Stamp(*_STAMP.unpack_from(payload, position + _RUN.size))
            position += _RUN.size + _STAMP.size + length
            return Run(log_id, base, offset, payload[position - length : position], stamp), position
        case Kind.EXTENT:
            return Extent(*_EXTENT.unpack_from(payload, position)[1:]), position + _EXTENT.size
        case Kind.STAMPED_EXTENT:
            _, log_id, base, offset, length, crc = _EXTENT.unpack_from(payload, position)
            position += _EXTENT.size
            stamp = Stamp(*_STAMP.unpack_from(payload, position))
            return Extent(log_id, base, offset, length, crc, stamp), position + _STAMP.size
        case Kind.CREATE:
            _, log_id, base, partition, name, place = _CREATE.unpack_from(payload, position)
            middle = position + _CREATE.size + name
            topic = bytes(payload[middle - name : middle]).decode()
            root = bytes(payload[middle : middle + place]).decode()
            return Create(log_id, base, topic, partition, root), middle + place
        case Kind.ROLL:
            return Roll(*_ID_OFFSET.unpack_from(payload, position)[1:]), position + _ID_OFFSET.size
        case Kind.CUT:
            return Cut(*_ID_OFFSET.unpack_from(payload, position)[1:]), position + _ID_OFFSET.size
        case Kind.INTENT:
            return Intent(*_ID_OFFSET.unpack_from(payload, position)[1:]), position + _ID_OFFSET.size
        case Kind.DROP:
            return Drop(*_ID.unpack_from(payload, position)[1:]), position + _ID.size
        case Kind.EPOCH:
            return Epoch(*_EPOCH.unpack_from(payload, position)[1:]), position + _EPOCH.size
        case Kind.STAMP:
            _, log_id, offset, length, count, first_id, *fields = _BATCH.unpack_from(payload, position)
            return Batch(log_id, offset, length, count, first_id, Stamp(*fields)), position + _BATCH.size
        case _:
            raise ValueError(f"unknown entry kind {kind} at {position}")
