"""Bringing one partition to where master and slave have the same, after an outage or at the start.

Both ends are compared, then the bytes below the lower one, then what only one of them has is copied to the other: to a
slave that lacks something, and from one that has more, which is what the master lost since it was acknowledged. Where
they differ below, a slave of ours sets its tail aside; one of 1.4.6.2 must be emptied by hand.
"""

import asyncio
import logging
from collections import deque
from contextlib import suppress
from typing import Final

from metaq.broker.puts import Puts
from metaq.errors import NotCopied
from metaq.protocol.parts import Stamped
from metaq.record import HEADER_SIZE
from metaq.replication.pair.comparing import Act, Ends, decide
from metaq.replication.pair.lines import Line
from metaq.replication.pair.local import CHUNK, Fault, read_batches, read_records
from metaq.replication.pair.records import Piece, append_piece, check_stamps, contents, first_size, places, unbroken
from metaq.replication.pair.remote import Slave
from metaq.store.awaiting import told
from metaq.store.log import PartitionLog
from metaq.store.replicating import Run
from metaq.store.store import MessageStore

log_ = logging.getLogger(__name__)

_WINDOW: Final = 64 << 10  # bytes below the lower end that are compared
_AHEAD: Final = 4  # pieces that are sent before the first of them is answered: the way may be long
_NOTHING: Final = Ends(0, 0)


class CatchUp:
    """Brings partitions up, each by itself. While one is being brought up nothing may be put into it."""

    def __init__(self, store: MessageStore, puts: Puts, slave: Slave) -> None:
        self._store = store
        self._puts = puts
        self._slave = slave

    async def bring_up(self, line: Line) -> None:
        """Return when the slave has all of a partition; nothing else has happened in this turn of the loop then.

        Raises Fault, ClientError, RequestError, StoreError or OSError.
        """
        log = self._store.get(line.key)
        if log is not None:
            await self._quiet(log)
        ours = None if log is None else Ends(log.start, log.end)
        theirs = await self._slave.ends(line.key)
        if theirs is None and ours is not None and not self._slave.ours:
            await self._slave.load(line.key)
            theirs = await self._slave.ends(line.key)
        if line.anew and ours is not None and theirs is not None and self._slave.ours:
            await self._slave.end_at(line.key, ours.start)
            theirs = await self._slave.ends(line.key)
        act, at = decide(ours, theirs, ours_too=self._slave.ours)
        if act is Act.REFUSE:
            raise Fault(_apart(line, ours, theirs))
        if act is Act.RESET:
            await self._slave.end_at(line.key, at)
        elif log is not None and theirs is not None:
            at = await self._meet(log, theirs, at)
        line.sent = at
        if log is None and theirs is not None:
            log = self._puts.place(line.key, theirs.start)
        if log is None:
            return
        line.anew = False
        self._confirm(log, at)
        if theirs is not None and theirs.end > log.end:
            await self._pull(line, log, theirs.end)
        await self._push(line, log)

    async def _meet(self, log: PartitionLog, theirs: Ends, at: int) -> int:
        """Compare what stands before `at` on both; return up to where they are the same. Raises Fault.

        Where they are not, one of them was written to without the other. A slave of ours keeps its part aside, if they
        have anything in common: else it may be the wrong slave.
        """
        first = max(log.start, theirs.start)
        if await self._same(log, first, at) and await self._begins(log, at):
            return at
        common = await self._common(log, first, at) if self._slave.ours else first
        if common == first:
            raise Fault(
                f"{log.key} differs from the slave's before {at}: one of them was written to without the other."
                f" Stop the slave, move its folder {log.key} away, and start it: it gets all of it again"
            )
        log_.warning("%s differs from the slave's from %d on, which sets its part aside", log.key, common)
        await self._slave.end_at(log.key, common)
        return common

    async def _same(self, log: PartitionLog, first: int, at: int) -> bool:
        """Say whether both have the same right before `at`."""
        begin = max(first, at - _WINDOW)
        while begin < at:
            data = await self._slave.read(log.key, begin, at - begin)
            if not data or data != await self._store.read(log, begin, len(data)):
                return False
            begin += len(data)
        return True

    async def _begins(self, log: PartitionLog, at: int) -> bool:
        """Say whether a record of ours begins there, or the log ends."""
        if at >= log.end:
            return True
        size = first_size(await self._store.read(log, at, HEADER_SIZE))
        return bool(size) and at + size <= log.end

    async def _common(self, log: PartitionLog, first: int, at: int) -> int:
        """Return the end of the last record that both have. In order: by segments, then byte by byte within one."""
        bases = [base for base in log.bases if first < base <= at]
        low, high = 0, len(bases)
        while low < high:
            middle = (low + high) // 2
            if await self._same(log, first, bases[middle]):
                low = middle + 1
            else:
                high = middle
        position = common = bases[low - 1] if low else first
        while position < at:
            data = await read_records(self._store, log, position)
            theirs = await self._slave.read(log.key, position, len(data))
            for place in places(data):
                if data[place.start : place.end] != theirs[place.start : place.end]:
                    return common
                common = position + place.end
            position = common
        return common

    # -- to the slave

    async def _push(self, line: Line, log: PartitionLog) -> None:
        """Send what the slave lacks until there is nothing more."""
        begun = log.end - line.sent
        if begun:
            log_.info("%s: the slave lacks %d bytes from %d on", log.key, begun, line.sent)
        flying: deque[tuple[int, asyncio.Future[None]]] = deque()  # where each piece ends, and its answer
        try:
            while True:
                if not flying:
                    await self._quiet(log)
                    if line.sent == log.end:
                        return
                if line.sent < log.visible and len(flying) < _AHEAD:
                    data, batches = await read_batches(self._store, log, line.sent)
                    run = Run(log, log.base_of(line.sent), line.sent, data, batches)
                    line.sent += len(data)
                    flying.append((line.sent, self._slave.append(run)))
                else:
                    end, answered = flying.popleft()
                    await answered
                    self._confirm(log, end)
        finally:
            for _, answered in flying:
                if not answered.cancel():
                    answered.exception()  # heard: the first error is the one that is told

    # -- from the slave

    async def _pull(self, line: Line, log: PartitionLog, end: int) -> None:
        """Append what only the slave has: it was acknowledged, or may have been."""
        log_.warning("%s: the slave has %d bytes more, taken from it", log.key, end - log.end)
        line.pulling = True
        try:
            while log.end < end:
                base = await self._slave.base(log.key, log.end)
                data, stamps = await self._their_records(log, end)
                check_stamps(stamps, data, log.end)
                append_piece(self._store, log, Piece(data, min(base, log.end), contents(data), stamps))
                await self._committed(len(data))
                line.sent = log.end
                self._confirm(log, log.end)
        finally:
            line.pulling = False

    async def _their_records(self, log: PartitionLog, end: int) -> tuple[bytes, list[Stamped]]:
        """Return whole records and batches of the slave's log from our end on, and the stamps of those batches."""
        start = log.end
        data, stamps = b"", list[Stamped]()
        while not (size := unbroken(data, start, stamps)):
            at = start + len(data)
            most = min(CHUNK, end - at) if data else CHUNK
            more, others = await self._slave.read_stamped(log.key, at, most) if most else (b"", ())
            if not more or not first_size(data + more):
                raise Fault(f"{log.key}: no record at {start} of the slave's log, nothing behind it can be copied")
            data += more
            stamps += others[1:] if stamps and others and others[0] == stamps[-1] else others
        return data[:size], [stamp for stamp in stamps if stamp.offset + stamp.length <= start + size]

    # -- here

    async def _quiet(self, log: PartitionLog) -> None:
        """Return when nothing of a log is on its way: all that was put is visible here."""
        while log.held or log.end != log.visible:
            await self._committed(0)

    async def _committed(self, size: int) -> None:
        """Return when all that was appended is safe here. Raises what keeps it from being so."""
        with suppress(NotCopied):  # that is for those who put
            await told(lambda gate: self._store.commit(gate, size))

    def _confirm(self, log: PartitionLog, to: int) -> None:
        log.confirmed = to
        log.wake()


def _apart(line: Line, ours: Ends | None, theirs: Ends | None) -> str:
    """Return what to say of logs that do not meet."""
    here, there = ours or _NOTHING, theirs or _NOTHING
    if theirs is None or there.end < here.start:
        return (
            f"{line.key} begins at {here.start}, the slave's ends at {there.end}, and a broker of 1.4.6.2 cannot begin"
            f" elsewhere by itself: stop it, leave an empty file {here.start:020d}.meta alone in its folder {line.key},"
            " and start it"
        )
    return (
        f"{line.key} ends at {here.end}, the slave's begins at {there.start}: what lies between is on neither."
        f" Stop the broker whose log is not wanted, move its folder {line.key} away, and start it"
    )
