"""A batch on its way: messages of one partition, packed, under a stamp (protocol.md §9)."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple, Protocol

from metaq.client.parcel import MOST_BYTES, Parcel
from metaq.client.sending import checked
from metaq.errors import ClientError
from metaq.model import BrokerAddress
from metaq.net.calls import Call
from metaq.protocol.commands import Reply
from metaq.record import HEADER, HEADER_SIZE, checksum, crc32, encode_body

_GUESS: Final = 256  # messages looked at, at least, for how many a parcel takes
_SMALL: Final = 4096  # bytes; larger bodies are not copied to stand behind their headers

_pack = HEADER.pack


class Stamp(NamedTuple):
    """The number of a batch among those its producer sends to a partition, counted from 0 in each epoch."""

    producer: int
    epoch: int
    sequence: int


class Owner(Protocol):
    """Told of each attempt's outcome, it decides whether it is final."""

    def on_answer(self, batch: "Batch", reply: Reply) -> None: ...
    def on_failed(self, batch: "Batch", error: ClientError) -> None: ...


class Batch(Call):
    """Some parcels, packed, with what is needed to send them again."""

    __slots__ = (
        "address",
        "count",
        "expires",
        "is_out",
        "order",
        "owner",
        "parcels",
        "patience",
        "records",
        "stamp",
        "uncertain",
    )

    def __init__(self, owner: Owner, parcels: Sequence[Parcel], order: tuple[int, ...]) -> None:
        self.owner = owner
        self.order = order  # among those of one outbox; (5, 0) and (5, 1) are the halves of (5,)
        self.parcels = parcels
        first = parcels[0]
        self.count = first.count
        self.expires = first.expires  # loop time
        self.patience = first.timeout  # seconds
        for parcel in parcels[1:]:
            self.count += parcel.count
            self.expires = min(self.expires, parcel.expires)
            self.patience = max(self.patience, parcel.timeout)
        self.records = pack_records(parcels)
        self.size = len(self.records)
        self.stamp: Stamp
        self.is_out = False  # sent, and neither answered nor failed
        self.uncertain: ClientError | None = None  # what came of an attempt that may have stored it
        self.address: BrokerAddress | None = None  # where it was sent last

    @property
    def smallest(self) -> int:
        """Bytes of the smallest body."""
        return min(len(body) for parcel in self.parcels for body in parcel.bodies)

    def answer(self, reply: Reply) -> None:
        self.is_out = False
        self.owner.on_answer(self, reply)

    def fail(self, error: ClientError) -> None:
        self.is_out = False
        self.owner.on_failed(self, error)


def halves(batch: Batch) -> list[Batch]:
    """Return two batches in place of one of at least two messages, in order."""
    middle = batch.count // 2
    found: list[Batch] = []
    for number, (first, end) in enumerate(((0, middle), (middle, batch.count))):
        parcels = []
        begin = 0
        for parcel in batch.parcels:
            start, stop = max(first - begin, 0), min(end - begin, parcel.count)
            begin += parcel.count
            if start < stop:
                parcels.append(parcel if stop - start == parcel.count else parcel.part(start, stop))
        found.append(Batch(batch.owner, parcels, (*batch.order, number)))
    return found


def pack_records(parcels: Sequence[Parcel]) -> bytes:
    """Return the records of all messages, one behind the other, their ids 0."""
    parts: list[bytes] = []
    for parcel in parcels:
        bodies, flags = parcel.bodies, parcel.flags
        if flags is not None:
            flag_of = flags.get
            for index, body in enumerate(bodies):
                parts.append(_pack(len(body), checksum(body), 0, flag_of(index, 0)))
                parts.append(body)
        elif parcel.size > _SMALL * len(bodies):
            for body in bodies:
                parts.append(_pack(len(body), checksum(body), 0, 0))
                parts.append(body)
        else:  # spelled out: this runs for every message
            parts += [_pack(len(body), crc32(body) & 0x7FFFFFFF, 0, 0) + body for body in bodies]
    return b"".join(parts)


def pieces(bodies: Iterable[bytes], attribute: str | None, most: int) -> Iterator[list[bytes]]:
    """Yield the bodies of messages, as many together as one parcel takes. Raises TypeError at what is no message."""
    checked(b"", attribute)
    prefix = b"" if attribute is None else encode_body(b"", attribute)[1]
    source = None if isinstance(bodies, list) else iter(bodies)
    held: list[bytes] = bodies if isinstance(bodies, list) else []
    start, guess = 0, most
    while True:
        if source is not None and start == len(held):
            held, start = list(islice(source, most)), 0
        piece = held[start : start + guess]
        if not piece:
            return
        if set(map(type, piece)) != {bytes}:
            for data in piece:
                checked(data, None)
        piece = _fitting(piece)
        start += len(piece)
        guess = min(most, max(2 * len(piece), _GUESS))
        yield [prefix + data for data in piece] if attribute is not None else piece


def _fitting(piece: list[bytes]) -> list[bytes]:
    """Return as many of the first as one parcel takes, at least one."""
    while len(piece) > 1 and (size := sum(map(len, piece)) + HEADER_SIZE * len(piece)) > MOST_BYTES:
        piece = piece[: max(1, min(len(piece) - 1, len(piece) * MOST_BYTES // size))]
    return piece


def next_batch(text: str) -> tuple[int, int]:
    """Return epoch and sequence that a broker says would be next; 0 0 if it does not say."""
    words = text.split(" ", 2)[:2]
    if len(words) == 2 and all(word.isascii() and word.isdigit() and len(word) < 20 for word in words):
        return int(words[0]), int(words[1])
    return 0, 0
