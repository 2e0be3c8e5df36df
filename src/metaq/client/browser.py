"""Reading a topic once, from its beginning to where its partitions end now (reference: MetaTopicBrowser)."""

from collections.abc import Callable, Coroutine, Sequence
from typing import NamedTuple, Self

from metaq.client.message import Message
from metaq.client.reader import Reader
from metaq.model import BrokerPartition


class Part(NamedTuple):
    """One partition to go through: from `first` to `end`, the end not included."""

    partition: BrokerPartition
    first: int
    end: int


class Browser:
    """The messages of all partitions of a topic, one partition after the other; ends by itself.

    Where the partitions end is looked up when the iteration begins. A corrupt message is raised as CorruptMessage;
    `await browser.skip()` moves past it, and the iteration may go on.
    """

    def __init__(
        self,
        parts: Callable[[], Coroutine[object, object, Sequence[Part]]],
        reader: Callable[[BrokerPartition, int], Reader],
    ) -> None:
        self._find_parts = parts
        self._make_reader = reader
        self._parts: list[Part] | None = None  # those still to come, the next one last
        self._end = 0
        self._reader: Reader | None = None
        self._ready: list[Message] = []

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        """Return the next message. Raises as Reader.fetch."""
        if self._ready:
            return self._ready.pop()
        messages = await self.fetch()
        if not messages:
            raise StopAsyncIteration
        messages.reverse()
        self._ready = messages
        return messages.pop()

    async def fetch(self) -> list[Message]:
        """Return the next messages, at most what one answer holds; an empty list: that was all."""
        if self._ready:
            messages, self._ready = self._ready, []
            messages.reverse()
            return messages
        while await self._next_part():
            assert self._reader is not None
            found = await self._reader.fetch(wait=0)
            messages = [message for message in found if message.offset < self._end]
            if len(messages) < len(found) or not found:
                await self.close()
            if messages:
                return messages
        return []

    async def skip(self) -> None:
        """Move past the record that is corrupt."""
        if self._reader is not None:
            await self._reader.skip()

    async def close(self) -> None:
        """Be done with the present partition."""
        if self._reader is not None:
            await self._reader.close()
            self._reader = None

    async def _next_part(self) -> bool:
        """Have a reader that is not at its end; False: there is nothing left."""
        if self._parts is None:
            self._parts = list(reversed(await self._find_parts()))
        while self._reader is None or (self._reader.offset or 0) >= self._end:
            await self.close()
            if not self._parts:
                return False
            part = self._parts.pop()
            self._end = part.end
            self._reader = self._make_reader(part.partition, part.first)
        return True
