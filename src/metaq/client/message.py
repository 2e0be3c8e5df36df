"""A message as a reader gets it, and how fetched bytes become messages. Pure; on the hot path of every reader."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, repeat
from operator import length_hint
from struct import Struct
from typing import Final, NamedTuple, TypeAlias

from metaq.errors import CorruptMessage
from metaq.record import HAS_ATTRIBUTE, HEADER, HEADER_SIZE, attribute_fits, crc32, decode_body

_SOME: Final = 64  # records decoded one by one at a time
_FEW: Final = 16  # records that are tried together first; doubled as long as that goes well
_MANY: Final = 256  # at most: what is made of them stays in the processor's cache until it is handed out
_LONG: Final = 4096  # bytes of a body from which on there is nothing to gain
_LIKELY: Final = 8  # records of one length in a row, after which more of them are expected
_MANY_LENGTHS: Final = 4096

_unpack_from = HEADER.unpack_from
_unpack_length = Struct(">i").unpack_from
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


Key: TypeAlias = tuple[str, str, int, int]
"""What tells a message from all others: topic, partition, offset and id, which is `message[:4]`.

The id alone does not: those of 1.4.6.2 repeat when its machine was started anew.
"""


class Piece:
    """Some messages in a row, decoded, as columns.

    A message that lives as long as one turn of a loop costs the garbage collector nothing, where a list of them made
    it 1.6 times as slow to consume: a tuple of a class of its own is tracked for as long as it lives.
    """

    __slots__ = ("before", "bodies", "end", "flags", "ids", "many", "offsets", "partition", "topic")

    def __init__(self, topic: str, partition: str, before: int | None) -> None:
        self.topic = topic
        self.partition = partition
        self.before = before  # id of the message before the first one; None: what was fetched begins here
        self.end = 0  # offset behind the last one
        self.many = _FEW  # how many to try together behind it
        self.offsets: list[int] = []
        self.ids: Sequence[int] = []
        self.flags: Sequence[int] = []
        self.bodies: Sequence[bytes] = []

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Message]:
        return Walk(self).messages

    def keys(self) -> Iterator[Key]:
        """Return the key of each message."""
        return zip(repeat(self.topic), repeat(self.partition), self.offsets, self.ids, strict=False)

    def only(self, accepts: Callable[[Message], bool]) -> "Piece":
        """Return those of the messages that are accepted."""
        part = Piece(self.topic, self.partition, self.before)
        part.end = self.end
        indexes = [index for index, message in enumerate(self) if accepts(message)]
        part.offsets = [self.offsets[index] for index in indexes]
        part.ids = [self.ids[index] for index in indexes]
        part.flags = [self.flags[index] for index in indexes]
        part.bodies = [self.bodies[index] for index in indexes]
        return part


class Walk:
    """The messages of a piece, one after the other. `taken` is how many were handed out, in whatever thread.

    Iterating costs no line of Python for a message: use `messages` itself where many are taken.
    """

    __slots__ = ("_ids", "messages", "piece")

    def __init__(self, piece: Piece) -> None:
        self.piece = piece
        self._ids = iter(piece.ids)
        # offsets are asked first: where they are at their end, `_ids` is not asked
        rows = zip(
            repeat(piece.topic), repeat(piece.partition), piece.offsets, self._ids, piece.flags, piece.bodies,
            strict=False,
        )  # fmt: skip
        self.messages: Iterator[Message] = map(_new, repeat(Message), rows)

    @property
    def left(self) -> int:
        """How many messages were not handed out."""
        return length_hint(self._ids)

    @property
    def taken(self) -> int:
        return len(self.piece) - length_hint(self._ids)

    def end(self) -> None:
        """Hand out no more, in whatever thread that is going on; the offsets are gone."""
        self.piece.offsets.clear()


class Block:
    """A fetched run of records that are whole, by their lengths; who goes through them decodes and checks them.

    A record that turns out to be corrupt ends the block: `end` is its offset then, and `error` says what is wrong.
    """

    __slots__ = ("_data", "end", "error", "offset", "partition", "topic")

    def __init__(self, topic: str, partition: str, offset: int, end: int, data: bytes) -> None:
        self.topic = topic
        self.partition = partition
        self.offset = offset  # where `data` begins
        self.end = end  # offset behind the last message
        self.error: CorruptMessage | None = None
        self._data = data

    def __bool__(self) -> bool:
        return self.end > self.offset

    def __iter__(self) -> Iterator[Message]:
        return chain.from_iterable(self._pieces())

    @property
    def size(self) -> int:
        """Bytes that the messages have in the log."""
        return self.end - self.offset

    def decode(self, last: Piece | None) -> Piece | None:
        """Return some more messages, those behind `last` (None: the first ones); None: there are no more."""
        if last is None:
            return self.decode_from(self.offset, None)
        piece = Piece(self.topic, self.partition, last.ids[-1])
        piece.many = last.many
        start = last.end - self.offset
        length = len(last.bodies[-1])
        if length > _LONG or not self._decode_alike(piece, start, length):
            self._decode_each(piece, start)
        return piece if piece.ids else None

    def decode_from(self, offset: int, before: int | None) -> Piece | None:
        """Return some messages from this offset on, which is that of one; `before` is the id of the one before it."""
        piece = Piece(self.topic, self.partition, before)
        self._decode_each(piece, offset - self.offset)
        return piece if piece.ids else None

    def _pieces(self) -> Iterator[Piece]:
        piece = self.decode(None)
        while piece is not None:
            yield piece
            piece = self.decode(piece)

    def _decode_each(self, piece: Piece, position: int) -> None:
        """Decode some records one by one; the first one that is corrupt ends the block."""
        data, size = self._data, self.size
        offsets = piece.offsets
        ids: list[int] = []
        flags: list[int] = []
        bodies: list[bytes] = []
        for _ in repeat(None, _SOME):
            if position >= size:
                break
            length, crc, id, flag = _unpack_from(data, position)
            end = position + HEADER_SIZE + length
            body = data[position + HEADER_SIZE : end]
            if crc32(body) & 0x7FFFFFFF != crc or (flag & HAS_ATTRIBUTE and not attribute_fits(flag, body)):
                self.end = self.offset + position
                self.error = _corrupt(self.topic, self.partition, self.end, _trouble(data, position, len(data)))
                break
            offsets.append(self.offset + position)
            ids.append(id)
            flags.append(flag)
            bodies.append(body)
            position = end
        piece.ids, piece.flags, piece.bodies, piece.end = ids, flags, bodies, self.offset + position

    def _decode_alike(self, piece: Piece, position: int, length: int) -> bool:
        """Decode records with bodies of this length together, which takes about half the time; False: they are not.

        Neither are they if anything is odd about one of them.
        """
        size = HEADER_SIZE + length
        count = min(piece.many, (self.size - position) // size)
        if count < _FEW or not _seem_alike(self._data, position, length):
            piece.many = _FEW
            return False
        end = position + count * size
        records = _records(length).iter_unpack(memoryview(self._data)[position:end])
        lengths, crcs, ids, flags, bodies = zip(*records, strict=True)
        if lengths.count(length) != count or [crc & 0x7FFFFFFF for crc in map(crc32, bodies)] != list(crcs):
            piece.many = _FEW
            return False
        if any(flags) and not all(map(attribute_fits, flags, bodies)):
            return False
        piece.offsets = list(range(self.offset + position, self.offset + end, size))
        piece.ids, piece.flags, piece.bodies, piece.end = ids, flags, bodies, self.offset + end
        piece.many = min(2 * count, _MANY)
        return True


class Run(NamedTuple):
    """What a fetched run of bytes holds: messages, and what ended them.

    `error` is set if the first record is corrupt; there are no messages then. `missing` is how many bytes the record
    cut by the end of the data lacks, 0 if none is cut; where not even its header is there, what the header lacks.
    """

    messages: Block
    missing: int
    error: CorruptMessage | None

    @property
    def end(self) -> int:
        """Offset behind the last message."""
        return self.messages.end


def read_run(topic: str, partition: str, offset: int, data: bytes, largest: int) -> Run:
    """Return the messages in `data`, which begins at `offset` of a partition; never raises.

    A record of more than `largest` bytes counts as corrupt: its length is more likely wrong than true.
    """
    problem = _trouble(data, 0, largest)
    if problem:
        error = _corrupt(topic, partition, offset, problem)
        return Run(Block(topic, partition, offset, offset, b""), 0, error)
    end, missing = _measure(data, largest)
    return Run(Block(topic, partition, offset, offset + end, data), missing, None)


def _measure(data: bytes, largest: int) -> tuple[int, int]:
    """Return the end of the whole records in `data`, and what the one that is cut there lacks.

    They end also before a length that cannot be.
    """
    position, size, last = 0, len(data), len(data) - HEADER_SIZE
    before, alike, many = -1, 0, _FEW
    while position <= last:
        (length,) = _unpack_length(data, position)
        end = position + HEADER_SIZE + length
        if length < 0 or length > largest:
            return position, 0
        if end > size:
            return position, end - size
        position = end
        if length != before:
            before, alike, many = length, 0, _FEW
            continue
        alike += 1
        while alike > _LIKELY:  # then there are probably many of that length, and measured fast
            found = _count_alike(data, position, length, many)
            position += found * (HEADER_SIZE + length)
            if found < many:
                alike = 0
            many = min(2 * many, _MANY_LENGTHS)
    return position, HEADER_SIZE - size + position if position < size else 0


def _count_alike(data: bytes, position: int, length: int, most: int) -> int:
    """Return how many whole records with bodies of this length follow, `most` at most."""
    size = HEADER_SIZE + length
    count = min(most, (len(data) - position) // size)
    for byte in length.to_bytes(4, "big"):
        column = data[position : position + count * size : size]
        count = min(count, len(column) - len(column.lstrip(bytes((byte,)))))
        position += 1
    return count


def _trouble(data: bytes, position: int, largest: int) -> str:
    """Return what is wrong with the record at `position`; "" if nothing is, as far as it is there."""
    if len(data) < position + HEADER_SIZE:
        return ""
    length, crc, _, flag = _unpack_from(data, position)
    start = position + HEADER_SIZE
    if length < 0 or length > largest:
        return f"has a length of {length}"
    if start + length > len(data):
        return ""
    body = data[start : start + length]
    if crc32(body) & 0x7FFFFFFF != crc:
        return f"of {length} bytes fails its checksum"
    if flag & HAS_ATTRIBUTE and not attribute_fits(flag, body):
        return f"of {length} bytes has an attribute that does not fit"
    return ""


def _corrupt(topic: str, partition: str, offset: int, problem: str) -> CorruptMessage:
    return CorruptMessage(f"{topic} {partition}: the record at offset {offset} {problem}")


def _seem_alike(data: bytes, position: int, length: int) -> bool:
    """Say whether the next record, and one behind it, seem to be of this length; else looking closer were a waste."""
    far = position + (_FEW - 1) * (HEADER_SIZE + length)
    head = length.to_bytes(4, "big")
    return data.startswith(head, position) and data.startswith(head, far)


@lru_cache(maxsize=256)
def _records(length: int) -> Struct:
    """Return the layout of a record with a body of so many bytes."""
    return Struct(f"{HEADER.format}{length}s")


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


def unfinished(data: bytes, position: int, most: int) -> int:
    """Return the first position from `position` on at which a record may begin that ends behind `data`.

    One of at most `most` bytes; where not even its header is whole any record may begin.
    """
    last = len(data) - HEADER_SIZE
    for start in range(max(position, last + 1 - most), last + 1):
        (length,) = _unpack_length(data, start)
        if 0 < length <= most - HEADER_SIZE and start + length > last:
            return start
    return max(last + 1, position)
