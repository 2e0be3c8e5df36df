"""From a time to an offset: a binary search over message ids, which begin with the time they were given.

Brokers of ours give ids by the wall clock, to the millisecond, never one below another (see broker.ids); so the answer
is exact to what their clock said. Ids of 1.4.6.2 count from the start of its machine and say nothing of time: they are
negative, and a partition whose messages have such ids is refused.
"""

from datetime import datetime
from typing import Final

from metaq.client import asking
from metaq.client.message import Message, next_record, read_run
from metaq.errors import CorruptMessage, NoTimeInIds
from metaq.model import TopicPartition
from metaq.net.link import Link
from metaq.record import id_time_ms

_GROUP: Final = "pymetaq-replay"
_LOOK: Final = 64 << 10  # bytes fetched at once; grows where records are larger
_MOST: Final = 64 << 20  # bytes; larger records are not looked for


async def find_offset(link: Link, target: TopicPartition, since: datetime, timeout: float) -> int:
    """Return the offset of the first message of a partition that was stored at `since` or later; else its end.

    A datetime without a zone is local time. About log2(bytes of the log / 64 KiB) fetches. Raises NoTimeInIds, and
    what asking a broker raises.
    """
    return await _Search(link, target, int(since.timestamp() * 1000), timeout).run()


class _Search:
    """One search. All before `_low`, where a record begins, is too old; what begins at `_high` or later is not."""

    def __init__(self, link: Link, target: TopicPartition, wanted_ms: int, timeout: float) -> None:
        self._link = link
        self._target = target
        self._wanted = wanted_ms
        self._timeout = timeout
        self._low = self._high = 0
        self._found = 0  # the earliest record known not to be too old, or the end

    async def run(self) -> int:
        self._low = await self._nearest(0)
        self._high = self._found = await self._nearest(asking.LATEST)
        while self._high - self._low > _LOOK:
            middle = (self._low + self._high) // 2
            message = await self._record_from(middle)
            if message is not None and self._is_old(message):
                self._low = message.next_offset
            else:
                self._high = middle
                if message is not None:
                    self._found = message.offset
        return await self._walk()

    async def _nearest(self, offset: int) -> int:
        return await asking.nearest_offset(self._link, self._target, _GROUP, offset, self._timeout) or 0

    def _is_old(self, message: Message) -> bool:
        if message.id < 0:
            raise NoTimeInIds(
                f"{self._target} at {self._link.address}: message id {message.id} at offset {message.offset} is one of"
                " a 1.4.6.2 broker, which tells no time"
            )
        return id_time_ms(message.id) < self._wanted

    async def _record_from(self, offset: int) -> Message | None:
        """Return the first record that begins at `offset` or later; None: there is none before the upper bound."""
        size = _LOOK
        while offset < self._high:
            data = await self._get(offset, size)
            if not data:
                return None
            start = next_record(data, 0)
            if start is not None:
                return next(iter(read_run(self._target.topic, "", offset + start, data[start:], _MOST).messages))
            if len(data) < size:
                offset += len(data)  # a segment ends here, so a record begins
            elif size < _MOST:
                size *= 4
            else:
                return None
        return None

    async def _walk(self) -> int:
        """Go through the records from the lower bound on."""
        offset, size = self._low, 2 * _LOOK
        while offset < self._found:
            data = await self._get(offset, size)
            if not data:
                break
            run = read_run(self._target.topic, "", offset, data, _MOST)
            for message in run.messages:
                if not self._is_old(message):
                    return message.offset
            error = run.error or run.messages.error
            if error is not None:
                raise CorruptMessage(str(error))
            if not run.messages:
                size += run.missing
            offset = run.end
        return self._found

    async def _get(self, offset: int, size: int) -> bytes:
        fetched = await asking.fetch(self._link, self._target, _GROUP, offset, size, self._timeout)
        return fetched.data or b""
