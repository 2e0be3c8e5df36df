"""A message as a reader gets it, and how fetched bytes become messages. Pure; on the hot path of every reader."""

from collections.abc import Iterator
from itertools import repeat
from typing import NamedTuple
from zlib import crc32

from metaq.errors import CorruptMessage
from metaq.record import HAS_ATTRIBUTE, HEADER, HEADER_SIZE, attribute_fits, decode_body

_unpack_from = HEADER.unpack_from
_new = tuple.__new__  # half the price of calling the class, once for every message


class Message(NamedTuple):
    """One message of a partition.

    `id` is what its broker gave it (any 64-bit number), `flag` as stored, `body` the stored bytes. `offset` is where
    its record begins in the partition; `next_offset` is what to go on from once this message is dealt with.
    """

    topic: str
    partition: str  # <brokerId>-<partition>
    offset: int
    id: int
    flag: int
    body: bytes

    @property
    def data(self) -> bytes:
        """What was sent."""
        return self.body if not self.flag & HAS_ATTRIBUTE else decode_body(self.flag, self.body)[0]

    @property
    def attribute(self) -> str | None:
        """The attribute it was sent with; None: without one, which is not the same as an empty one."""
        return None if not self.flag & HAS_ATTRIBUTE else decode_body(self.flag, self.body)[1]

    @property
    def next_offset(self) -> int:
        """The offset of the record after this one."""
        return self.offset + HEADER_SIZE + len(self.body)


class Block:
    """The messages of one fetched run, as columns; iterating makes them one by one.

    A message that lives as long as one turn of a loop costs the garbage collector nothing, where a list of them made
    it 1.6 times as slow to consume: a tuple of a class of its own is tracked for as long as it lives. `clear` ends
    all iterations, in whatever thread they are.
    """

    __slots__ = ("bodies", "end", "flags", "ids", "offsets", "partition", "topic")

    def __init__(self, topic: str, partition: str, end: int) -> None:
        self.topic = topic
        self.partition = partition
        self.end = end  # offset behind the last message
        self.offsets: list[int] = []
        self.ids: list[int] = []
        self.flags: list[int] = []
        self.bodies: list[bytes] = []

    def __len__(self) -> int:
        return len(self.offsets)

    def __iter__(self) -> Iterator[Message]:
        rows = zip(
            repeat(self.topic), repeat(self.partition), self.offsets, self.ids, self.flags, self.bodies, strict=False
        )
        return map(_new, repeat(Message), rows)

    @property
    def size(self) -> int:
        """Bytes that the messages have in the log."""
        return self.end - self.offsets[0] if self.offsets else 0

    def clear(self) -> None:
        """Let the messages go."""
        for column in (self.offsets, self.ids, self.flags, self.bodies):
            column.clear()


class Run(NamedTuple):
    """What a fetched run of bytes holds: whole messages, and what ended them.

    `error` is set if the record at `end` is corrupt. `missing` is how many bytes the record cut by the end of the data
    lacks, 0 if none is cut; where not even its header is there, what the header lacks.
    """

    messages: Block
    end: int  # offset behind the last message
    missing: int
    error: CorruptMessage | None


def read_run(topic: str, partition: str, offset: int, data: bytes, largest: int) -> Run:
    """Return the messages in `data`, which begins at `offset` of a partition; never raises.

    A record of more than `largest` bytes counts as corrupt: its length is more likely wrong than true.
    """
    block = Block(topic, partition, offset)
    offsets, ids, flags, bodies = block.offsets.append, block.ids.append, block.flags.append, block.bodies.append
    position, size, last = 0, len(data), len(data) - HEADER_SIZE
    problem = ""
    missing = 0
    while position <= last:
        length, crc, id, flag = _unpack_from(data, position)
        start = position + HEADER_SIZE
        end = start + length
        if length < 0 or length > largest:
            problem = f"has a length of {length}"
            break
        if end > size:
            missing = end - size
            break
        body = data[start:end]
        if crc32(body) & 0x7FFFFFFF != crc:
            problem = f"of {length} bytes fails its checksum"
            break
        if flag & HAS_ATTRIBUTE and not attribute_fits(flag, body):
            problem = f"of {length} bytes has an attribute that does not fit"
            break
        offsets(offset + position)
        ids(id)
        flags(flag)
        bodies(body)
        position = end
    block.end = end = offset + position
    if problem:
        return Run(block, end, 0, CorruptMessage(f"{topic} {partition}: the record at offset {end} {problem}"))
    if not missing and position < size:
        missing = HEADER_SIZE - size + position
    return Run(block, end, missing, None)


def next_record(data: bytes, position: int) -> int | None:
    """Return the first position from `position` on at which a record with a body seems to begin; None: none is whole.

    For getting past a corrupt record whose length cannot be trusted. Only a checksum that fits counts.
    """
    for start in range(position, len(data) - HEADER_SIZE):
        length, crc, _, _ = _unpack_from(data, start)
        end = start + HEADER_SIZE + length
        if length > 0 and end <= len(data) and crc32(data[start + HEADER_SIZE : end]) & 0x7FFFFFFF == crc:
            return start
    return None
