"""Sending messages that stay in order whatever happens (reference: OrderedMessageProducer)."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from metaq.client.partitioner import Place, Selector, parse_partition
from metaq.client.producing.attempt import Target
from metaq.client.producing.items import Item, Spooled
from metaq.client.producing.lane import Lane
from metaq.client.producing.options import OrderedOptions
from metaq.client.routes import Routes
from metaq.client.sending import checked
from metaq.client.spool import Spool, SpoolFolder
from metaq.errors import ConfigError, NoBroker
from metaq.model import BrokerPartition, Receipt

_TOGETHER: Final = 1000  # messages of one send_many under way at once
_LONG: Final = 3600.0  # seconds; any would do


class OrderedProducer:
    """Sends the messages of one topic to a fixed set of partitions; the partition of a key never moves.

    The messages of one partition are stored in the order of the calls: one is put when the one before it is stored.
    While a partition cannot be written (its broker is away, it is closed, an answer did not come) its messages wait on
    the disk of this machine, and are sent in their order as soon as it can. A message may be stored twice, if an answer
    was lost; none is lost, and none is stored for the first time after one that was sent later.
    """

    def __init__(
        self,
        topic: str,
        partitions: Sequence[BrokerPartition],
        selector: Selector,
        folder: SpoolFolder,
        routes: Routes,
        options: OrderedOptions,
    ) -> None:
        self.topic = topic
        self.partitions = tuple(map(str, partitions))
        self._partitions = partitions
        self._selector = selector
        self._folder = folder
        self._routes = routes
        self._options = options
        self._lanes: dict[BrokerPartition, Lane] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._is_closed = False

    async def open(self) -> None:
        """Begin to send what earlier processes left. Raises SpoolError; then nothing is left behind."""
        prefix = f"{self.topic}@"
        try:
            for key in self._folder.keys:
                if key.startswith(prefix):
                    await self._lane(parse_partition(key.removeprefix(prefix))).resume()
        except BaseException:
            await self.close()
            raise
        self._watcher = asyncio.get_running_loop().create_task(self._watch(), name=f"watcher of {self.topic}")

    @property
    def is_closed(self) -> bool:
        """Whether it takes no messages any more."""
        return self._is_closed

    @property
    def sent(self) -> int:
        """How many messages brokers have stored, those that were spooled before included."""
        return sum(lane.sent for lane in self._lanes.values())

    @property
    def spooled(self) -> int:
        """How many messages were put on disk."""
        return sum(lane.spooled for lane in self._lanes.values())

    @property
    def waiting(self) -> Mapping[str, int]:
        """How many messages are on disk, by partition; partitions without any are left out."""
        return {str(partition): lane.waiting for partition, lane in sorted(self._lanes.items()) if lane.waiting}

    @property
    def troubles(self) -> Mapping[str, str]:
        """Why messages wait on disk, by partition."""
        return {str(partition): str(lane.trouble) for partition, lane in sorted(self._lanes.items()) if lane.waiting}

    async def send(
        self, data: bytes, *, attribute: str | None = None, partition: Place | None = None
    ) -> Receipt | Spooled:
        """Send a message; return its receipt, or a Spooled: it is on disk, and will be sent.

        Raises SpoolFull or SpoolError (it was not taken), Refused with `keep_refused=False` (it was not stored). An
        interrupt ends the wait, not the sending.
        """
        return await self._send(data, attribute, partition)

    async def send_many(
        self, bodies: Iterable[bytes], *, attribute: str | None = None, partition: Place | None = None
    ) -> list[Receipt | Spooled]:
        """Send messages in order and return what `send` would for each.

        Raises, once the outcomes of those under way are known, the error of the first that failed.
        """
        results: list[Receipt | Spooled] = []
        outcomes: list[asyncio.Future[Receipt | Spooled]] = []
        try:
            for data in bodies:
                outcomes.append(self._send(data, attribute, partition))
                if len(outcomes) >= _TOGETHER:
                    results += await _results(outcomes)
                    outcomes = []
        except BaseException:
            if outcomes:
                await asyncio.gather(*outcomes, return_exceptions=True)
            raise
        return results + await _results(outcomes)

    async def flush(self) -> None:
        """Wait until all messages are stored or on disk."""
        for lane in list(self._lanes.values()):
            await lane.flush()

    async def drain(self, timeout: float | None = None) -> bool:
        """Wait until no message is on disk any more; False if that takes longer than `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                for lane in list(self._lanes.values()):
                    await lane.idle()
        except TimeoutError:
            return False
        return not self.waiting

    async def skip(self, partition: Place) -> Item | None:
        """Drop the first message that is on disk for a partition and return it; None: there is none.

        For one that the broker will never take; those behind it wait for it.
        """
        lane = self._lanes.get(self._parse(partition))
        return None if lane is None else await lane.skip()

    async def close(self) -> None:
        """Stop. What is under way, or waits, is on disk when this returns; a later producer sends it."""
        self._is_closed = True
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
        await asyncio.gather(*(lane.close() for lane in self._lanes.values()))

    def _send(self, data: bytes, attribute: str | None, partition: Place | None) -> asyncio.Future[Receipt | Spooled]:
        if self._is_closed:
            raise NoBroker(f"{self.topic}: the producer is closed")
        checked(data, attribute)
        if attribute:
            attribute.encode()  # what cannot be must not come to a lane
        if partition is None:
            chosen = self._selector(self.topic, self._partitions, data, attribute)
        else:
            chosen = self._parse(partition)
        if chosen not in self._partitions:
            raise ConfigError(f"{self.topic}: {chosen} is not in the layout, which has {', '.join(self.partitions)}")
        return self._lane(chosen).send(Item(data, attribute, chosen))

    def _parse(self, place: Place) -> BrokerPartition:
        if isinstance(place, int):
            brokers = {partition.broker_id for partition in self._partitions}
            if len(brokers) > 1:
                raise ConfigError(f"there are several brokers ({', '.join(map(str, sorted(brokers)))}); say which one")
            return BrokerPartition(brokers.pop(), place)
        return parse_partition(place) if isinstance(place, str) else place

    def _lane(self, partition: BrokerPartition) -> Lane:
        lane = self._lanes.get(partition)
        if lane is None:

            async def spool() -> Spool:
                return await self._folder.spool(f"{self.topic}@{partition}", self._options.limits)

            target = Target(self.topic, partition, self._routes)
            lane = self._lanes[partition] = Lane(f"{self.topic} {partition}", target, spool, self._options)
        return lane

    async def _watch(self) -> None:
        """Let the lanes try again whenever something changed with brokers, partitions or connections."""
        changes = self._routes.changes
        is_open = True
        while is_open:
            seen = changes.generation
            for lane in self._lanes.values():
                lane.try_again()
            is_open = await changes.wait(seen, _LONG) or changes.generation == seen


async def _results(outcomes: list[asyncio.Future[Receipt | Spooled]]) -> list[Receipt | Spooled]:
    """Wait for all; raise the first error, if there is one."""
    found = await asyncio.gather(*outcomes, return_exceptions=True)
    results: list[Receipt | Spooled] = []
    for each in found:
        if isinstance(each, BaseException):
            raise each
        results.append(each)
    return results
