"""Questions to a master about many partitions, and what its answers mean for each of them.

A broker of ours is asked for many with one `mget` and waits until it has something; a Java broker for each by `get`.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from metaq.errors import ClientError, ProtocolError, Status
from metaq.net.calls import Call
from metaq.net.link import Link
from metaq.protocol.commands import Get, Mget, Reply, Result, Value, Want
from metaq.protocol.encoder import encode
from metaq.protocol.parts import LEAST_ROOM, Stamped, read_parts
from metaq.replication.course import Course
from metaq.replication.partition import Ask


class Line(NamedTuple):
    """One partition of a question."""

    course: Course
    ask: Ask


class Found(NamedTuple):
    """What the master says of one: data from the segment that begins at `base` (None: it does not say that), of batches
    with these `stamps`.

    Or `moved`, the offset to use instead; or `error`; or nothing: `at_end` if that is sure.
    """

    line: Line
    data: bytes | memoryview = b""
    base: int | None = None
    stamps: Sequence[Stamped] = ()
    moved: int | None = None
    error: str | None = None
    at_end: bool = False


class Question(Call):
    """One command on its way; `inbox` gets it back with the reply or the error. `reserved`: bytes it may bring.

    `is_full`, once `found` was gone through: the answer had no room for all.
    """

    __slots__ = ("error", "hot", "inbox", "is_full", "lines", "link", "many", "reply", "reserved")

    def __init__(self, link: Link, lines: list[Line], inbox: Callable[["Question"], None]) -> None:
        self.link = link
        self.lines = lines
        self.inbox = inbox
        self.reply: Reply | None = None
        self.error: ClientError | None = None
        self.reserved = 0
        self.hot = False
        self.is_full = False
        self.many = True

    def answer(self, reply: Reply) -> None:
        self.reply = reply
        self.inbox(self)

    def fail(self, error: ClientError) -> None:
        self.error = error
        self.inbox(self)

    def send(self, group: str, *, size: int, wait: float | None, deadline: float) -> None:
        """Send it as an mget, or, where one line stands alone and `wait` is None, as a get."""
        link = self.link
        opaque = link.next_opaque()
        if wait is None:
            course, ask = self.lines[0]
            frame = encode(Get(course.key, group, ask.offset, ask.size, opaque))
        else:
            wants = tuple(Want(course.key, ask.offset, ask.size) for course, ask in self.lines)
            frame = encode(Mget(group, wants, size, int(wait * 1000), opaque, stamps=True))
        self.deadline, self.size = deadline, len(frame)
        link.send(opaque, self, frame)

    def found(self) -> Iterator[Found]:
        """Yield what the reply says of each line. Raises ProtocolError if it is no reply to such a question."""
        if not self.many:
            yield self._single(self.lines[0])
            return
        if not isinstance(self.reply, Value):
            text = _text(self.reply)
            yield from (Found(line, error=text) for line in self.lines)
            return
        data = self.reply.data
        parts = {part.nth: part for part in read_parts(data)}
        if parts and max(parts) >= len(self.lines):
            raise ProtocolError(f"mget: part {max(parts)} of {len(self.lines)}")
        sure = len(self.lines) if len(data) < LEAST_ROOM else max(parts, default=-1)
        self.is_full = sure < len(self.lines) - 1
        for nth, line in enumerate(self.lines):
            part = parts.get(nth)
            if part is None:
                yield Found(line, at_end=nth < sure)
            elif part.status == Status.SUCCESS:
                yield Found(line, part.data, part.base, part.stamps)
            elif part.status == Status.MOVED:
                yield Found(line, moved=part.base)
            else:
                yield Found(
                    line, error=f"the master answers {int(part.status)}: {bytes(part.data).decode('utf-8', 'replace')}"
                )

    def _single(self, line: Line) -> Found:
        match self.reply:
            case Value(data, _):
                return Found(line, data, at_end=not data)
            case Result(Status.NOT_FOUND, _, _):
                return Found(line, at_end=True)
            case Result(Status.MOVED, body, _) if body.isdigit() and len(body) < 20:
                return Found(line, moved=int(body))
            case _:
                return Found(line, error=_text(self.reply))


def _text(reply: Reply | None) -> str:
    if isinstance(reply, Result):
        return f"the master answers {int(reply.status)}: {reply.body.decode('utf-8', 'replace')}"
    return "the master answers with data where none was due"
