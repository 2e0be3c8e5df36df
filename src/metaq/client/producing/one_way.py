"""Sending messages without waiting for anything, and without losing any (reference: AsyncMetaMessageProducer)."""

import asyncio
import logging
from collections import deque
from typing import Final

from metaq.client.partitioner import parse_partition
from metaq.client.producer import Producer
from metaq.client.producing.items import Item, pack_item
from metaq.client.producing.options import OneWayOptions
from metaq.client.producing.resending import Resending
from metaq.client.sending import checked
from metaq.client.spool import Spool
from metaq.errors import ConfigError, MetaqError, NoBroker, SpoolFull
from metaq.model import BrokerPartition, Receipt

log = logging.getLogger(__name__)

DEFAULT_WINDOW: Final = 20_000  # units; as the original
_UNIT: Final = 4096  # bytes
_LARGEST: Final = (1 << 31) - 1  # number of a broker or partition
_CROWD: Final = 16 << 20  # bytes that may be on their way to the disk; above it sending waits


class _Flight:
    """A message in the window; told what becomes of it."""

    __slots__ = ("item", "owner", "units")

    def __init__(self, owner: "OneWayProducer", item: Item) -> None:
        self.owner = owner
        self.item = item
        self.units = max(1, len(item.data) // _UNIT)

    def stored(self, index: int, receipt: Receipt) -> None:
        self.owner.on_stored(self)

    def failed(self, index: int, error: MetaqError) -> None:
        self.owner.on_failed(self, error)


class OneWayProducer:
    """Takes messages of one topic and answers nothing: each is sent, and if that fails it waits on disk to be sent.

    - What is under way is limited by a window: a message takes one unit per 4 KiB, at least one. When the window is
      full, no broker is there, or one refuses a message or does not answer, the message goes to disk.
    - There is room on disk for all that is under way; a message that could find none is not taken: SpoolFull.
    - Messages that were on disk come behind later ones, and may be stored twice.
    """

    def __init__(
        self, core: Producer, spool: Spool, resending: Resending, options: OneWayOptions, window: int = DEFAULT_WINDOW
    ) -> None:
        self.topic = core.topic
        self.window = window
        self.spooled = 0  # messages that were put on disk
        self.dropped = 0  # messages that were lost: the disk failed when they had to go there
        self._core = core
        self._spool = spool
        self._resending = resending
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._sent = 0
        self._units = 0  # of the window, in use
        self._flights: dict[_Flight, None] = {}
        self._queue: deque[_Flight] = deque()  # those of them that wait for a connection
        self._pump: asyncio.Task[None] | None = None
        self._is_away = False  # nobody took the last message, and none was taken since
        self._is_troubled = False  # and that was told
        self._held = 0  # messages taken that are neither stored nor counted by the spool
        self._held_size = 0
        self._loose = 0  # bytes on their way to the disk
        self._open = 0  # messages taken that are neither stored nor on disk
        self._is_closed = False
        self._waiters: list[asyncio.Future[None]] = []
        resending.begin(self._has_answer)

    # what is asked of it

    @property
    def is_closed(self) -> bool:
        """Whether it takes no messages any more."""
        return self._is_closed

    @property
    def sent(self) -> int:
        """How many messages brokers have stored, those that were on disk before included."""
        return self._sent + self._resending.sent

    @property
    def waiting(self) -> int:
        """How many messages are on disk."""
        return self._resending.waiting

    @property
    def is_crowded(self) -> bool:
        """Whether so much is on its way to the disk that the next one should wait for `room`."""
        return self._loose > _CROWD

    async def send(
        self, data: bytes, *, attribute: str | None = None, partition: str | BrokerPartition | None = None
    ) -> None:
        """Take a message. Waits only if the disk does not keep up.

        Raises SpoolFull, or NoBroker if the producer is closed: it was not taken.
        """
        self.take(self.admit(data, attribute, partition))
        if self.is_crowded:
            await self.room()

    async def room(self) -> None:
        """Wait until the disk has kept up."""
        while self.is_crowded:
            await self._change()

    async def flush(self) -> None:
        """Wait until each message taken is stored, or on disk."""
        while self._open:
            await self._change()

    async def drain(self, timeout: float | None = None) -> bool:
        """Wait until no message is on disk any more either; False if that takes longer than `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self.flush()
                await self._resending.idle()
        except TimeoutError:
            return False
        return not self.waiting

    async def close(self, timeout: float = 0.0) -> None:
        """Wait at most `timeout` seconds for answers, put the rest on disk, and stop."""
        self._is_closed = True
        try:
            async with asyncio.timeout(timeout):
                await self.flush()
        except TimeoutError:
            pass
        await self._resending.close()
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.wait([self._pump])
        self._queue.clear()
        for flight in list(self._flights):
            self._divert(flight)
        await self.flush()
        await self._core.close()

    # taking messages

    def admit(
        self, data: bytes, attribute: str | None, partition: str | BrokerPartition | None, ahead: int = 0
    ) -> Item:
        """Return a message that is to be given to `take`, as so many before it; may be called in any thread.

        Raises SpoolFull, NoBroker if the producer is closed, TypeError, ConfigError.
        """
        checked(data, attribute)
        place = parse_partition(partition) if isinstance(partition, str) else partition
        if place is not None and not all(0 <= number <= _LARGEST for number in place):
            raise ConfigError(f"{place} is no partition")
        if self._is_closed:
            raise NoBroker(f"{self.topic}: the producer is closed")
        item = Item(data, attribute, place)
        if not self._spool.has_room(self._held + ahead + 1, self._held_size + item.size):
            limits = self._options.limits
            raise SpoolFull(
                f"{self.topic}: {self._held + ahead + self._spool.count} messages are under way or on disk,"
                f" the limit is {limits.count} or {limits.size} bytes"
            )
        return item

    def take(self, item: Item) -> None:
        """Send a message that was admitted, or put it on disk."""
        self._held += 1
        self._held_size += item.size
        self._open += 1
        flight = _Flight(self, item)
        if self._is_away or self._is_closed or not self._has_room(flight.units):
            self._keep(item)
            return
        self._units += flight.units
        self._flights[flight] = None
        if self._queue or not self._core.offer(flight, *item, self._options.timeout):
            self._queue.append(flight)
            if self._pump is None:
                self._pump = self._loop.create_task(self._pump_queue(), name=f"one-way messages for {self.topic}")
                self._pump.add_done_callback(self._pumped)

    def _has_room(self, units: int) -> bool:
        """Say whether the window takes so much; when it is empty, anything."""
        return not self._units or self._units + units <= self.window

    async def _pump_queue(self) -> None:
        """Send what waits for a connection; if none comes, put it on disk."""
        while self._queue:
            flight = self._queue[0]
            try:
                async with asyncio.timeout(self._options.patience):
                    await self._core.send_to(flight, *flight.item, self._options.timeout)
                if self._queue:
                    self._queue.popleft()
            except (MetaqError, TimeoutError) as exc:
                self._note(str(exc) or f"no connection within {self._options.patience:g} s")
                self._is_away = True
                while self._queue:
                    self._divert(self._queue.popleft())

    def _pumped(self, pump: asyncio.Task[None]) -> None:
        self._pump = None
        if not pump.cancelled():
            pump.result()

    # what becomes of them

    def on_stored(self, flight: _Flight) -> None:
        """Count a message that a broker has stored (called by the flight)."""
        if flight in self._flights:
            self._leave(flight)
            self._sent += 1
            self._release(flight.item)
            self._close_one()

    def on_failed(self, flight: _Flight, error: MetaqError) -> None:
        """Put a message on disk that may not be stored (called by the flight)."""
        if flight in self._flights:
            self._note(str(error))
            self._divert(flight)

    def _leave(self, flight: _Flight) -> None:
        del self._flights[flight]
        self._units -= flight.units

    def _divert(self, flight: _Flight) -> None:
        """Put a message of the window on disk."""
        self._leave(flight)
        self._keep(flight.item)

    def _keep(self, item: Item) -> None:
        """Append it to the spool, in which there is room."""
        self._release(item)
        self._loose += item.size
        try:
            kept = self._spool.append_nowait(pack_item(item), beyond=True)
        except MetaqError as exc:
            self._kept(item, exc)
        else:
            kept.add_done_callback(lambda kept: self._kept(item, kept.exception()))

    def _kept(self, item: Item, error: BaseException | None) -> None:
        self._loose -= item.size
        if error is None:
            self.spooled += 1
        else:
            self.dropped += 1
            log.error("%s: a message of %d bytes is lost: %s", self.topic, len(item.data), error)
        self._resending.wake()
        self._close_one()

    def _release(self, item: Item) -> None:
        self._held -= 1
        self._held_size -= item.size

    def _close_one(self) -> None:
        self._open -= 1
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def _note(self, trouble: str) -> None:
        """Tell once when messages begin to wait; when that is over, `_has_answer` does."""
        level = logging.DEBUG if self._is_troubled else logging.WARNING
        log.log(level, "%s: messages are kept on this machine: %s", self.topic, trouble)
        self._is_troubled = True

    def _has_answer(self) -> None:
        """A broker answered to what was sent again: send at once from here on."""
        self._is_away = False
        if self._is_troubled and not self.waiting:
            self._is_troubled = False
            log.info("%s: no messages are kept on this machine any more", self.topic)

    async def _change(self) -> None:
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter
