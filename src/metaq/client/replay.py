"""From a time to an offset: a binary search over message ids, which begin with the time they were given.

Brokers of ours give ids by the wall clock, to the millisecond, never one below another (see broker.ids); so the answer
is exact to what their clock said. Ids of 1.4.6.2 count from the start of its machine and say nothing of time: they are
negative. Where the answer may lie among messages with such ids it is refused.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from metaq.client import asking
from metaq.client.message import Message, Run, read_run
from metaq.client.scan import find_record
from metaq.errors import NoTimeInIds, Refused, Status
from metaq.model import TopicPartition
from metaq.net.link import Link
from metaq.protocol.commands import Want
from metaq.record import id_time_ms

_GROUP: Final = "pymetaq-replay"
_LOOK: Final = 64 << 10  # bytes fetched at once; grows where records are larger
_LARGEST: Final = 64 << 20  # bytes; a record that claims more is corrupt
_TRIES: Final = 3  # where retention takes what is being searched
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


async def find_offset(link: Link, target: TopicPartition, since: datetime, timeout: float) -> int:
    """Return the offset of the first message of a partition that was stored at `since` or later; else its end.

    A datetime without a zone is local time. About log2(bytes of the log / 64 KiB) fetches; corrupt records are passed
    over. Raises NoTimeInIds, and what asking a broker raises.
    """
    tries = _TRIES
    while True:
        try:
            return await _Search(link, target, _milliseconds(since), timeout).run()
        except Refused as exc:
            tries -= 1
            if exc.status != Status.MOVED or not tries:
                raise


def _milliseconds(time: datetime) -> int:
    """Return the whole milliseconds since 1970. Local times next to those that a datetime cannot be are as those."""
    try:
        return (time.astimezone(UTC) - _EPOCH) // timedelta(milliseconds=1)
    except (OverflowError, ValueError):
        return (time.replace(tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)


class _Search:
    """One search. All before `_low`, where a record begins, is too old; what begins at `_high` or later is not."""

    def __init__(self, link: Link, target: TopicPartition, wanted_ms: int, timeout: float) -> None:
        self._link = link
        self._target = target
        self._wanted = wanted_ms
        self._timeout = timeout
        self._low = self._high = self._end = 0
        self._found = 0  # the earliest record known not to be too old, or the end
        self._untimed: Message | None = None  # the last message that is too old, if its id tells no time

    async def run(self) -> int:
        self._low = await self._nearest(0)
        self._high = self._found = self._end = await self._nearest(asking.LATEST)
        while self._high - self._low > _LOOK:
            middle = (self._low + self._high) // 2
            message = await self._record_from(middle)
            if message is not None and self._is_old(message):
                self._low = message.next_offset
            else:
                self._high = middle
                if message is not None:
                    self._found = message.offset
        found = await self._walk()
        if self._untimed is not None:
            raise NoTimeInIds(
                f"{self._target} at {self._link.address}: message id {self._untimed.id} at offset"
                f" {self._untimed.offset} is one of a 1.4.6.2 broker, which tells no time"
            )
        return found

    async def _nearest(self, offset: int) -> int:
        return await asking.nearest_offset(self._link, self._target, _GROUP, offset, self._timeout) or 0

    def _is_old(self, message: Message) -> bool:
        """Say whether a message is too old. One whose id tells no time is, if one with a time that is follows it."""
        is_old = id_time_ms(message.id) < self._wanted or message.id < 0
        if is_old:
            self._untimed = message if message.id < 0 else None
        return is_old

    async def _record_from(self, offset: int) -> Message | None:
        """Return the first record that begins at `offset` or later; None: there is none before the upper bound."""
        found = await find_record(self._get, offset, _LOOK, self._high)
        run = read_run(self._target.topic, "", found.offset, found.data, _LARGEST)
        return next(iter(run.messages), None)

    async def _walk(self) -> int:
        """Go through the records from the lower bound on."""
        offset = self._low
        while offset < self._found:
            run = await self._run_at(offset)
            for message in run.messages:
                if not self._is_old(message):
                    return message.offset
            if run.end == offset or run.messages.error is not None:
                offset = (await find_record(self._get, run.end + 1, _LOOK, self._found)).offset
            else:
                offset = run.end
        return max(offset, self._found)

    async def _run_at(self, offset: int) -> Run:
        """Return some messages; none where a corrupt record begins, or one that is cut by the end of the log."""
        data = await self._get(offset, 2 * _LOOK)
        while True:
            run = read_run(self._target.topic, "", offset, data, _LARGEST)
            rest = b"" if run.messages else await self._get(offset + len(data), run.missing)
            if not rest:
                return run
            data += rest

    async def _get(self, offset: int, size: int) -> bytes:
        """Return what is there, nothing at the end. Raises Refused where nothing is although it should be."""
        if size <= 0:
            return b""
        fetched = await asking.fetch(self._link, _GROUP, Want(self._target, offset, size), self._timeout)
        if fetched.data is None and offset < self._end:
            status = Status.NOT_FOUND if fetched.moved is None else Status.MOVED
            raise Refused(status, f"{self._target} at {self._link.address}: nothing at offset {offset} of {self._end}")
        return fetched.data or b""
