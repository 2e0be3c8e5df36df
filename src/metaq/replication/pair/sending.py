"""Runs on their way to the slave, and who is told when they are written here and there."""

from collections import deque
from collections.abc import Callable
from typing import Final

from metaq.broker.stamps import stamped
from metaq.errors import ClientError, Refused, Status
from metaq.net.calls import Call
from metaq.net.link import Link
from metaq.protocol.commands import Msync, Reply, Result
from metaq.protocol.encoder import encode_msync, sync_head
from metaq.protocol.parts import pack_stamps
from metaq.record import HEADER_SIZE
from metaq.replication.pair.records import pieces, places
from metaq.store.log import Gate
from metaq.store.replicating import Run

Done = Callable[[ClientError | None], None]

EXTENSION: Final = "msync"
LARGEST_PIECE: Final = 1 << 20  # bytes of one msync, if no record or stamped batch is larger


class Both:
    """Tells a gate when all parts of a round are done, or at once with the first error."""

    __slots__ = ("_gate", "_left")

    def __init__(self, gate: Gate, parts: int) -> None:
        self._gate: Gate | None = gate
        self._left = parts

    def part(self, error: Exception | None) -> None:
        """One part is done, or failed."""
        gate = self._gate
        self._left -= 1
        if gate is not None and (error is not None or not self._left):
            self._gate = None
            gate(error)


class Copying(Call):
    """One run at the slave: several requests, each with the answer that is right for it."""

    __slots__ = ("_done", "_expected", "_slave")

    def __init__(self, deadline: float, slave: str, done: Done) -> None:
        self.deadline = deadline
        self.size = 0
        self._slave = slave
        self._done: Done | None = done
        self._expected: dict[int, int] = {}  # opaque → offset that the answer to it must name

    def expect(self, opaque: int, offset: int) -> None:
        """Have another answer waited for."""
        self._expected[opaque] = offset

    def answer(self, reply: Reply) -> None:
        wanted = self._expected.pop(reply.opaque)
        fault = self._fault(reply, wanted)
        if fault is not None or not self._expected:
            self._end(fault)

    def fail(self, error: ClientError) -> None:
        self._end(error)

    def _fault(self, reply: Reply, wanted: int) -> ClientError | None:
        if not isinstance(reply, Result):
            return Refused(Status.ERROR, f"{self._slave} answered with data")
        text = reply.body.decode("utf-8", "replace")
        if reply.status != Status.SUCCESS:
            return Refused(reply.status, text)
        if text.split(" ")[-1] != str(wanted):
            return Refused(Status.CONFLICT, f"{self._slave} has the message at {text.split(' ')[-1]}, not at {wanted}")
        return None

    def _end(self, error: ClientError | None) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(error)


def send(link: Link, run: Run, copying: Copying) -> None:
    """Send the records of a run, in order: with `msync` if the slave knows it, else one `sync` for each."""
    if EXTENSION in link.extensions:
        _send_pieces(link, run, copying)
    else:
        _send_each(link, run, copying)


def _send_pieces(link: Link, run: Run, copying: Copying) -> None:
    frames = []
    offset = run.offset
    batches = deque(run.batches)
    for piece in pieces(run, LARGEST_PIECE):
        opaque = link.next_opaque()
        end = offset + len(piece)
        ended = []
        while batches and batches[0].offset + batches[0].length <= end:
            ended.append(stamped(batches.popleft()))
        frames.append((opaque, encode_msync(Msync(run.log.key, piece, run.base, offset, opaque, pack_stamps(ended)))))
        offset = end
        copying.expect(opaque, offset)
    _go(link, frames, copying)


def _send_each(link: Link, run: Run, copying: Copying) -> None:
    frames = []
    data, key = run.data, run.log.key
    for start, end, crc, id, flag in places(data):
        opaque = link.next_opaque()
        body = data[start + HEADER_SIZE : end]
        frames.append((opaque, sync_head(key, len(body), flag, id, crc, opaque) + body))
        copying.expect(opaque, run.offset + start)
    _go(link, frames, copying)


def _go(link: Link, frames: list[tuple[int, bytes]], copying: Copying) -> None:
    """Send what one call waits for; all of it is expected by then, so that no early answer passes for the last."""
    for opaque, frame in frames:
        link.send(opaque, copying, frame)
