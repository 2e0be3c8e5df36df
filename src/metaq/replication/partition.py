"""The copying of one partition: what to ask the master next, and what to make of the answer. Pure.

Bytes are asked for as a stream from our end on, several stretches ahead while there is much; the last record of an
answer, if it is cut, is kept until the rest is there; so is a producer's batch that the master has a stamp of. Whole
records are checked (length, checksum) and handed on. Those before one that is broken are too, without a stamp then.

Where the segments of the master begin: a broker of ours says it with each answer. Of a Java broker we know that no
answer crosses the end of a segment. So behind the last record of an answer it is asked from one byte before:

    PROBE    from the last byte we have. More than one byte: the same segment goes on. One: nothing new, or its end
    BEYOND   from our end. Nothing: nothing new. Data: a new segment, or it came between the two questions
    CONFIRM  two bytes from the last byte we have: two, the same segment; one, a new segment begins at our end
"""

from collections.abc import Sequence
from enum import Enum, auto
from typing import Final, NamedTuple

from metaq.errors import CorruptMessage
from metaq.protocol.parts import Stamped, cut_out
from metaq.record import HEADER, HEADER_SIZE, crc32

LARGEST: Final = 256 << 20  # bytes of a record; what claims to be larger is none
_AHEAD: Final = 4  # stretches of one partition that are asked for at a time
_unpack_from = HEADER.unpack_from


class Kind(Enum):
    """What is asked for, as above; DATA: the next bytes."""

    DATA = auto()
    PROBE = auto()
    BEYOND = auto()
    CONFIRM = auto()


class Ask(NamedTuple):
    """One question: `size` bytes from `offset` on. Answers to those of an older `turn` are of no use any more."""

    kind: Kind
    offset: int
    size: int
    turn: int


class Records(NamedTuple):
    """Whole records to append in the segment that begins at `base`; None: the one that is written already.

    `batches` end with one of them. Much `data` is a view, into at most twice as much.
    """

    data: bytes | memoryview
    base: int | None
    messages: int
    highest_id: int
    batches: tuple[Stamped, ...] = ()


def survey(data: bytes | memoryview) -> tuple[int, int, int]:
    """Return (end of the last whole record, how many, their highest id) of a run that begins at a record.

    Raises CorruptMessage at a wrong checksum, an impossible length, or a blank header, which ends a log in recovery;
    its `args[1]` is that tuple for the records before it.
    """
    view = memoryview(data)
    end = messages = highest = 0
    size = len(data)
    while (start := end + HEADER_SIZE) <= size:
        length, crc, id, _ = _unpack_from(data, end)
        stop = start + length
        if not 0 < length <= LARGEST and (length or not any(view[end:start])):
            raise CorruptMessage(f"a record has a length of {length}", (end, messages, highest))
        if stop > size:
            break
        if crc32(view[start:stop]) & 0x7FFFFFFF != crc:
            raise CorruptMessage(f"a record of {length} bytes fails its checksum", (end, messages, highest))
        if id > highest:  # noqa: PLR1730 - for each record; max() takes a tenth of all the time
            highest = id
        end = stop
        messages += 1
    return end, messages, highest


class _Stretch(NamedTuple):
    """What was received of what was asked for, `asked` bytes."""

    asked: int
    data: bytes | memoryview
    base: int | None
    stamps: Sequence[Stamped]


class Copy:
    """Where the copying of one partition stands. `end` is where whole records end that were handed on."""

    __slots__ = (
        "_ahead",
        "_asked",
        "_base",
        "_batches",
        "_early",
        "_edge",
        "_have",
        "_needs",
        "_new",
        "_parts",
        "bulk",
        "end",
        "open",
        "turn",
    )

    def __init__(self) -> None:
        self.turn = 0
        self.start_at(0, is_edge=False)

    def start_at(self, end: int, *, is_edge: bool) -> None:
        """Begin anew at `end`: what was asked for and is not here yet is of no use. `is_edge`: records stand before."""
        self.end = self._asked = end
        self.turn += 1
        self.open = 0  # questions without an answer
        self.bulk = False  # the last answer was as much as was asked for
        self._parts: list[bytes | memoryview] = []  # of a record that is cut, the last one of what was received
        self._have = self._needs = 0  # bytes of it
        self._batches: list[Stamped] = []  # those that end behind `end`, as far as we have heard of them
        self._early: dict[int, _Stretch] = {}  # by offset
        self._ahead = _AHEAD
        self._base: int | None = None  # where the segment begins that `_parts` are from
        self._edge = Kind.PROBE if is_edge else Kind.DATA
        self._new = not is_edge  # a segment begins at `end`

    @property
    def position(self) -> int:
        """Where what we received ends."""
        return self.end + self._have

    def may_ask(self) -> bool:
        """Say whether `ask` has a question."""
        return self.open == 0 or (self.bulk and self.open < self._ahead)

    def ask(self, step: int, *, tells_base: bool) -> Ask:
        """Return the next question, for about `step` bytes. `tells_base`: the master says where segments begin."""
        self.open += 1
        if self.open == 1:
            self._asked = self.position
        offset = self._asked
        if not tells_base and self.open == 1 and not self._have:
            if self._edge is Kind.PROBE:
                self._asked = offset + step
                return Ask(Kind.PROBE, offset - 1, step + 1, self.turn)
            if self._edge is Kind.CONFIRM:
                return Ask(Kind.CONFIRM, offset - 1, 2, self.turn)
            if self._edge is Kind.BEYOND:
                return Ask(Kind.BEYOND, offset, HEADER_SIZE, self.turn)
        self._asked = offset + step
        return Ask(Kind.DATA, offset, step, self.turn)

    def nothing(self, ask: Ask) -> None:
        """Take the answer that nothing is there."""
        if ask.turn != self.turn:
            return
        self._restart()
        if ask.kind in (Kind.BEYOND, Kind.CONFIRM):
            self._edge = Kind.PROBE

    def take(
        self, ask: Ask, data: bytes | memoryview, base: int | None, stamps: Sequence[Stamped] = ()
    ) -> list[Records]:
        """Take data and return the records that are whole now. Raises CorruptMessage, with those before the place.

        `args[1]` of the error is that list; nothing may be asked until `start_at`.
        """
        if ask.turn != self.turn or not data:
            return []
        self.open -= 1
        if ask.kind in (Kind.CONFIRM, Kind.BEYOND):
            self._take_edge(ask.kind, len(data))
            return []
        if ask.kind is Kind.PROBE:
            if len(data) == 1:
                self._restart()
                self._edge = Kind.BEYOND
                return []
            self._edge = Kind.DATA
            self._early[ask.offset + 1] = _Stretch(ask.size - 1, data[1:], base, stamps)
        else:
            self._early[ask.offset] = _Stretch(ask.size, data, base, stamps)
        found: list[Records] = []
        while (stretch := self._early.pop(self.position, None)) is not None:
            self._join(stretch, found)
        return found

    def _take_edge(self, kind: Kind, size: int) -> None:
        self._restart()
        if kind is Kind.BEYOND:
            self._edge = Kind.CONFIRM
        else:
            self._edge = Kind.DATA
            self._new = size == 1

    def _join(self, stretch: _Stretch, found: list[Records]) -> None:
        """Add a stretch behind what is kept; find the whole records."""
        asked, data, base, stamps = stretch
        if self._have and base != self._base:
            raise CorruptMessage(f"a record at {self.end} goes on in the segment that begins at {base}", found)
        self._base = base
        self._parts.append(data)
        self._have += len(data)
        if stamps:  # one that goes on from the stretch before was told with that, too
            self._batches += stamps[1:] if self._batches and self._batches[-1] == stamps[0] else stamps
        if self._have >= self._needs:
            self._find(found)
        self.bulk = len(data) >= asked
        on_edge = base is None and not self._have
        if on_edge:
            self._edge = Kind.PROBE
        if not self.bulk or (on_edge and self.open):
            self._restart()

    def _find(self, found: list[Records]) -> None:
        """Find the whole records of what was received; keep the cut one."""
        run = memoryview(self._parts[0] if len(self._parts) == 1 else b"".join(self._parts))
        error: CorruptMessage | None = None
        try:
            end, messages, highest = self._survey(run)
        except CorruptMessage as exc:
            error = exc
            end, messages, highest = exc.args[1]
        if end:
            base = (self.end if self._new else None) if self._base is None else self._base
            self.end += end
            self._new = False
            found.append(Records(cut_out(run, 0, end), base, messages, highest, self._ended()))
        if error is not None:
            raise CorruptMessage(f"at {self.end}: {error.args[0]}", found) from error
        rest = bytes(run[end:]) if end else run  # a view of the end would keep all of it in memory
        self._parts, self._have = ([rest] if rest else []), len(rest)
        self._needs = HEADER_SIZE
        if self._batches:
            self._needs = self._batches[0].offset + self._batches[0].length - self.end
        elif len(rest) >= HEADER_SIZE:
            self._needs += int(_unpack_from(rest)[0])

    def _survey(self, run: memoryview) -> tuple[int, int, int]:
        """Do as `survey`, leaving out a batch that is cut. CorruptMessage also if one ends within a record."""
        if not self._batches:
            return survey(run)
        last = self._batches[-1]
        is_cut = last.offset + last.length > self.end + len(run)
        found = survey(run[: max(0, last.offset - self.end)] if is_cut else run)
        for batch in self._batches[: -1 if is_cut else None]:
            if batch.offset + batch.length > self.end + found[0]:
                raise CorruptMessage(f"the batch at {batch.offset} ends within a record", found)
        return found

    def _ended(self) -> tuple[Stamped, ...]:
        """Take out the batches that end at or before `end`."""
        ended = tuple(batch for batch in self._batches if batch.offset + batch.length <= self.end)
        del self._batches[: len(ended)]
        return ended

    def _restart(self) -> None:
        """Ask again from where we are: what was asked for beyond does not follow on it."""
        self.turn += 1
        self.open = 0
        self._early.clear()
        self.bulk = False
