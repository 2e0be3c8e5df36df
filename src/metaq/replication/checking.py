"""Does our log go on where the master's does? If not, what differs is set aside: copying begins where both agree."""

import logging
from collections.abc import Callable
from typing import Final, NamedTuple

from metaq.client.asking import LATEST, fetch, nearest_offset
from metaq.errors import StoreError
from metaq.model import TopicPartition
from metaq.net.link import Link
from metaq.protocol.commands import Want
from metaq.record import HEADER, HEADER_SIZE
from metaq.store.awaiting import told
from metaq.store.log import Gate, PartitionLog
from metaq.store.store import MessageStore

log_ = logging.getLogger(__name__)

_LAST: Final = 4096  # bytes before our end that must be the master's
_PIECE: Final = 1 << 20  # bytes that are compared at a time where they are not


class Meeting(NamedTuple):
    """Copying goes on at `end`. `repaired`: what was found and done, None if nothing had to be."""

    end: int
    repaired: str | None = None


class _Ends(NamedTuple):
    first: int
    end: int


class Checker:
    """Compares logs with those of a master. Nothing of a log may be on its way meanwhile."""

    def __init__(self, store: MessageStore, group: str, timeout: float) -> None:
        self._store = store
        self._group = group
        self._timeout = timeout

    async def meet(self, link: Link, key: TopicPartition, differs: Callable[[], None]) -> Meeting | None:
        """Return where copying goes on; None: we have no log. Repairs our log if need be, saying so once; `differs` is
        called before.

        Raises ClientError if the master does not answer, StoreError or OSError if our log cannot be read or cut.
        """
        log = self._store.get(key)
        if log is None:
            return None
        if log.end != log.visible or log.held:
            raise StoreError(f"{key}: something of it is on its way")
        last = await self._store.read_last(log, _LAST)
        if last and await self._theirs(link, key, log.end - len(last), len(last)) == last:
            return Meeting(log.end)
        differs()
        return await self._repair(link, log, bool(last))

    async def _repair(self, link: Link, log: PartitionLog, has_records: bool) -> Meeting:
        ends = await self._ends(link, log.key)
        end = log.end
        if ends is None or end == ends.first or (not has_records and ends.first <= end <= ends.end):
            if ends is None and has_records:
                raise StoreError(
                    f"the master has no log of it, ours goes from {log.start} to {end}. If the master lost its disk,"
                    " make this slave the master; if the topic was made anew there, its next message has ours set aside"
                )
            return Meeting(end)
        where = f"ours goes from {log.start} to {end}, the master's from {ends.first} to {ends.end}"
        common = None
        if has_records and ends.first <= end and log.start <= ends.end:
            common = await self._common(link, log, ends)
        if common == end:
            return Meeting(end)
        if common is None:
            text = f"the logs have nothing in common, {where}: ours is set aside, copying begins at {ends.first}"
            await _told(lambda gate: self._store.move_aside(log, gate))
            end = ends.first
        else:
            text = f"the logs differ from offset {common} on, {where}: what we have from there on is set aside"
            await _told(lambda gate: self._store.set_aside(log, common, gate))
            end = log.end
        log_.warning("%s: %s", log.key, text)
        return Meeting(end, text)

    async def _ends(self, link: Link, key: TopicPartition) -> _Ends | None:
        end = await nearest_offset(link, key, self._group, LATEST, self._timeout)
        first = await nearest_offset(link, key, self._group, 0, self._timeout)
        return None if end is None or first is None else _Ends(first, end)

    async def _theirs(self, link: Link, key: TopicPartition, offset: int, size: int) -> bytes:
        """Return what the master has there, fewer bytes if its segment or its log ends before."""
        data = b""
        while len(data) < size:
            want = Want(key, offset + len(data), size - len(data))
            more = (await fetch(link, self._group, want, self._timeout)).data
            if more is None:
                break
            data += more
        return data

    async def _ours(self, log: PartitionLog, offset: int, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = await self._store.read(log, offset + len(data), size - len(data))
            if not more:
                break
            data += more
        return data

    # -- where they differ

    async def _common(self, link: Link, log: PartitionLog, ends: _Ends) -> int | None:
        """Return the end of the last record that both have, with all before it; None: there is none."""
        stops = [*log.bases[1:], log.end]
        for base, stop in reversed(list(zip(log.bases, stops, strict=True))):
            low = max(base, ends.first)
            if low >= min(stop, ends.end):
                continue
            size = min(_LAST, stop - low)
            if await self._same(link, log, low, size) >= min(size, await self._first_size(log, low)):
                return await self._boundary(log, base, await self._last_same(link, log, low, min(stop, ends.end)))
        return None

    async def _same(self, link: Link, log: PartitionLog, offset: int, size: int) -> int:
        """Return how many bytes are the same from an offset on, where the master has said that it has some.

        Raises StoreError if it gives none: it is closed there, or on its way out, which says nothing of the bytes.
        """
        ours = await self._ours(log, offset, size)
        theirs = await self._theirs(link, log.key, offset, len(ours))
        if ours and not theirs:
            raise StoreError(
                f"the master does not give what it has at {offset}: the partition is closed or moved there"
            )
        if ours == theirs:
            return len(ours)
        return next(
            (n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
        )

    async def _first_size(self, log: PartitionLog, offset: int) -> int:
        head = await self._ours(log, offset, HEADER_SIZE)
        return HEADER_SIZE + int(HEADER.unpack_from(head)[0])

    async def _last_same(self, link: Link, log: PartitionLog, low: int, stop: int) -> int:
        """Return up to where a segment is the same, whose beginning is; from behind: mostly little differs."""
        above = stop
        while above > low:
            start = max(low, above - _PIECE)
            count = await self._same(link, log, start, above - start)
            if count == above - start or start == low:
                if count == above - start and above < stop:
                    count += await self._same(link, log, above, min(_PIECE, stop - above))
                return start + count
            above = start
        return low

    async def _boundary(self, log: PartitionLog, base: int, limit: int) -> int:
        """Return the last end of a record of ours that is not beyond `limit`."""
        offset = base
        piece, start = b"", base
        while offset < limit:
            if offset + HEADER_SIZE > start + len(piece):
                start, piece = offset, await self._ours(log, offset, min(_PIECE, log.end - offset))
                if len(piece) < HEADER_SIZE:
                    break
            length = int(HEADER.unpack_from(piece, offset - start)[0])
            if length < 0 or offset + HEADER_SIZE + length > limit:
                break
            offset += HEADER_SIZE + length
        return offset


async def _told(begin: Callable[[Gate], None]) -> None:
    """Begin what tells a gate and wait until it has. Raises what the gate is told, StoreError if it cannot begin."""
    try:
        await told(begin)
    except ValueError as exc:
        raise StoreError(str(exc)) from exc
