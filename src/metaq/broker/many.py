"""Reading many partitions with one command: `mget` (docs/protocol.md §9)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from metaq.broker.gets import Gets
from metaq.broker.ports import Buffer, Peer
from metaq.broker.stamps import stamped
from metaq.broker.stats import Statistics
from metaq.broker.waiting import Polls
from metaq.errors import BadRequest, NothingAtOffset, OffsetMoved, RequestError, Status
from metaq.protocol.commands import Mget, Want
from metaq.protocol.encoder import part_head, result, value_head
from metaq.protocol.parts import LEAST_ROOM, Stamped, pack_stamps
from metaq.store.log import PartitionLog
from metaq.store.reader import Cold, Parts
from metaq.store.store import MessageStore


class _Part:
    """What is sent of one partition: `size` bytes. `data` is Cold until the disk has brought it.

    `stamps` of what is in `log` there are once the data is here, if a replica asked for them.
    """

    __slots__ = ("base", "data", "log", "nth", "size", "stamps", "status", "want")

    def __init__(self, nth: int, want: Want) -> None:
        self.nth = nth
        self.want = want
        self.status: int = Status.SUCCESS
        self.stamps: Sequence[Stamped] = ()
        self.base = 0
        self.log: PartitionLog
        self.data: Parts | Cold
        self.size: int

    def take(self, data: Parts | Cold) -> None:
        """Send this."""
        self.data = data
        if isinstance(data, Cold):
            self.size = data.size + sum(map(len, data.rest))
        else:
            self.size = sum(map(len, data))

    def refuse(self, exc: RequestError) -> None:
        """Say why there is nothing."""
        self.status = exc.status
        self.stamps = ()
        if isinstance(exc, OffsetMoved):
            self.base = exc.offset
            self.take([])
        else:
            self.base = 0
            self.take([str(exc).encode()])


@dataclass(slots=True)
class _Reply:
    """The reply to one command, on its way."""

    peer: Peer
    opaque: int
    with_stamps: bool
    parts: list[_Part] = field(default_factory=list)
    missing: int = 0  # parts that the disk has not brought yet
    owed: int = 0  # bytes of those

    def pieces(self) -> list[Buffer]:
        """Return it as it is sent, when nothing is missing."""
        pieces: list[Buffer] = []
        total = 0
        for part in self.parts:
            size = part.size
            if size or part.status != Status.SUCCESS:  # else the log was cut while the disk was asked
                stamps = part.stamps
                head = part_head(part.nth, part.status, part.base, size, len(stamps))
                total += len(head) + size
                pieces += [head, *part.data]
                if stamps:
                    pieces.append(pack_stamps(stamps))
                    total += len(pieces[-1])
        return [value_head(total, self.opaque), *pieces]


class Many:
    """Answers consumers of many partitions: each line as `gets` would.

    A part counts as a get of its topic, and a reply without any as one get and one miss of that of the first line.
    """

    def __init__(self, gets: Gets, store: MessageStore, statistics: Statistics, polls: Polls) -> None:
        self._gets = gets
        self._store = store
        self._statistics = statistics
        self._polls = polls

    def read(self, peer: Peer, command: Mget) -> list[Buffer]:
        """Return the reply, as pieces; none if it is sent later: the disk must be asked, or there is nothing yet."""
        if command.stamps:
            peer.copies()
        reply = self.look(peer, command)
        if reply is None:
            return self._polls.park(peer, command, command.wait, [want.target for want in command.wants], self)
        return reply

    def look(self, peer: Peer, command: Mget) -> list[Buffer] | None:
        """Return the reply as `read` does; None: there is nothing yet, and the command may wait."""
        if command.max_size <= 0:
            exc = BadRequest(f"Bad request,invalid max size:{command.max_size}")
            return [result(exc.status, str(exc), command.opaque)]
        reply = _Reply(peer, command.opaque, command.stamps)
        share = max(LEAST_ROOM, peer.share())
        room = min(command.max_size, self._gets.max_size, share)
        for nth, want in self._gets.beyond(command.wants):
            part = self._part(reply, nth, want, share)
            if part is not None:
                reply.parts.append(part)
                room -= part.size
                if room <= 0:
                    break
        if not reply.parts:
            return None if command.wait and command.wants else [self.nothing(command)]
        return [] if self._bring(reply) else reply.pieces()

    def nothing(self, command: Mget) -> bytes:
        """Return the reply that nothing came while the command waited."""
        if command.wants:
            want = command.wants[0]
            self._statistics.tally(want.target.topic).gets += 1
            self._gets.count(want.target, NothingAtOffset(want.offset))
        return value_head(0, command.opaque)

    def _part(self, reply: _Reply, nth: int, want: Want, share: int) -> _Part | None:
        target, offset, max_size = want
        part = _Part(nth, want)
        try:
            log, data = self._gets.find(target, offset, max_size, share)
            part.base = log.base if offset >= log.base else log.segment_of(offset)[0]
            part.take(data)
            part.log = log
            if reply.with_stamps and not isinstance(data, Cold):
                self._add_stamps(part)
        except RequestError as exc:
            if exc.status is Status.NOT_FOUND:
                return None
            part.refuse(exc)
            self._gets.count(target, exc)
        self._statistics.tally(target.topic).gets += 1
        return part

    def _bring(self, reply: _Reply) -> bool:
        """Ask the disk for what is cold; return whether there is any."""
        cold = [(part, part.data) for part in reply.parts if isinstance(part.data, Cold)]
        reply.missing = len(cold)
        if not cold:
            return False
        reply.owed = sum(data.takes for _, data in cold)
        reply.peer.owe(reply.owed)
        for part, want in cold:
            self._store.read_cold(want, partial(self._brought, reply, part))
        return True

    def _add_stamps(self, part: _Part) -> None:
        """Add the stamps of the batches that the data of a part is of."""
        start = part.want.offset
        batches = self._store.producers.between(part.log.id, start, start + part.size)
        part.stamps = [stamped(batch) for batch in batches]

    def _brought(self, reply: _Reply, part: _Part, data: Parts | None, error: BaseException | None) -> None:
        target = part.want.target
        if data is not None:
            part.take(data)
            if reply.with_stamps:
                self._add_stamps(part)
        else:
            exc = self._gets.failure(target, error)
            part.refuse(exc)
            self._gets.count(target, exc)
        reply.missing -= 1
        if not reply.missing:
            reply.peer.send_parts(reply.pieces())
            reply.peer.owe(-reply.owed)
