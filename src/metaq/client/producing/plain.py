"""Producers with a spool for plain code: those of `ordered` and `one_way`, run in the background thread."""

from collections import deque
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final

from metaq.client.background import LoopThread
from metaq.client.partitioner import Place
from metaq.client.producing.items import Item, Spooled
from metaq.client.producing.one_way import OneWayProducer as CoreOneWayProducer
from metaq.client.producing.ordered import OrderedProducer as CoreOrderedProducer
from metaq.model import BrokerPartition, Receipt

_TOGETHER: Final = 1000  # messages of an ordered send_many under way at once
_AHEAD: Final = 4096  # messages taken that the background thread does not know yet


class OrderedProducer:
    """Sends messages that stay in order whatever happens. See metaq.aio.OrderedProducer."""

    def __init__(self, core: CoreOrderedProducer, thread: LoopThread) -> None:
        self.topic = core.topic
        self.partitions = core.partitions
        self._core = core
        self._thread = thread

    @property
    def sent(self) -> int:
        """How many messages brokers have stored, those that were spooled before included."""
        return self._thread.make(lambda: self._core.sent)

    @property
    def spooled(self) -> int:
        """How many messages were put on disk."""
        return self._thread.make(lambda: self._core.spooled)

    @property
    def waiting(self) -> Mapping[str, int]:
        """How many messages are on disk, by partition; partitions without any are left out."""
        return self._thread.make(lambda: self._core.waiting)

    @property
    def troubles(self) -> Mapping[str, str]:
        """Why messages wait on disk, by partition."""
        return self._thread.make(lambda: self._core.troubles)

    def send(self, data: bytes, *, attribute: str | None = None, partition: Place | None = None) -> Receipt | Spooled:
        """Send a message; return its receipt, or a Spooled: it is on disk, and will be sent."""
        return self._thread.call(self._core.send(data, attribute=attribute, partition=partition))

    def send_many(
        self, bodies: Iterable[bytes], *, attribute: str | None = None, partition: Place | None = None
    ) -> list[Receipt | Spooled]:
        """Send messages in order and return what `send` would for each. They are read in this thread, in parts."""
        results: list[Receipt | Spooled] = []
        source = iter(bodies)
        while chunk := list(islice(source, _TOGETHER)):
            results += self._thread.call(self._core.send_many(chunk, attribute=attribute, partition=partition))
        return results

    def flush(self) -> None:
        """Wait until all messages are stored or on disk."""
        self._thread.call(self._core.flush())

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until no message is on disk any more; False if that takes longer than `timeout` seconds."""
        return self._thread.call(self._core.drain(timeout))

    def skip(self, partition: Place) -> Item | None:
        """Drop the first message that is on disk for a partition and return it; None: there is none."""
        return self._thread.call(self._core.skip(partition))

    def close(self) -> None:
        """Stop. What is under way, or waits, is on disk when this returns; a later producer sends it."""
        if not self._thread.is_closed:
            self._thread.call(self._core.close())


class OneWayProducer:
    """Takes messages and answers nothing. See metaq.aio.OneWayProducer."""

    def __init__(self, core: CoreOneWayProducer, thread: LoopThread) -> None:
        self.topic = core.topic
        self.window = core.window
        self._core = core
        self._thread = thread
        self._taken: deque[Item] = deque()  # and not yet known in the background thread
        self._is_posted = False

    @property
    def sent(self) -> int:
        """How many messages brokers have stored, those that were on disk before included."""
        return self._core.sent

    @property
    def spooled(self) -> int:
        """How many messages were put on disk."""
        return self._core.spooled

    @property
    def dropped(self) -> int:
        """How many messages were lost: the disk failed when they had to go there."""
        return self._core.dropped

    @property
    def waiting(self) -> int:
        """How many messages are on disk."""
        return self._core.waiting

    def send(
        self, data: bytes, *, attribute: str | None = None, partition: str | BrokerPartition | None = None
    ) -> None:
        """Take a message. Waits only if the background thread, or the disk, does not keep up.

        Raises SpoolFull, or NoBroker if the producer is closed: it was not taken.
        """
        self._thread.check()
        self._taken.append(self._core.admit(data, attribute, partition, len(self._taken)))
        if not self._is_posted:
            self._is_posted = True
            self._thread.post(self._take)
        if self._core.is_crowded or len(self._taken) > _AHEAD:
            self._thread.call(self._room())

    def flush(self) -> None:
        """Wait until each message taken is stored, or on disk."""
        self._thread.call(self._flush())

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until no message is on disk any more either; False if that takes longer than `timeout` seconds."""
        self._thread.make(self._take)
        return self._thread.call(self._core.drain(timeout))

    def close(self, timeout: float = 0.0) -> None:
        """Wait at most `timeout` seconds for answers, put the rest on disk, and stop."""
        if not self._thread.is_closed:
            self._thread.call(self._close(timeout))

    # in the background thread

    def _take(self) -> None:
        """Hand over what was taken. Whoever adds one after this began has it handed over again."""
        self._is_posted = False
        while self._taken:
            self._core.take(self._taken.popleft())

    async def _room(self) -> None:
        self._take()
        await self._core.room()

    async def _flush(self) -> None:
        self._take()
        await self._core.flush()

    async def _close(self, timeout: float) -> None:
        self._take()
        await self._core.close(timeout)
        self._take()  # what came meanwhile goes to disk
        await self._core.flush()
