"""Where one producer's next message goes: a partition that can take it now, or the wait for one."""

import asyncio
from typing import Final

from metaq.client.directory import ANY_PARTITION
from metaq.client.partitioner import FREE, Selector
from metaq.client.routes import Route, Routes
from metaq.client.sending import Put
from metaq.errors import MetaqError, NoBroker
from metaq.model import BrokerPartition
from metaq.net.link import Link

BATCHES: Final = "mput"


def takes_batches(route: Route) -> bool:
    """Say whether batches can be sent this way."""
    return BATCHES in route.link.extensions and route.partition.partition != ANY_PARTITION


class Picker:
    """Chooses for one topic, from what the directory says and which links are open.

    Selectors that do not care choose among the brokers that are connected. One by key, or of the user's own, chooses
    from all partitions, and like a partition that was named its choice is waited for. The partitions are those of the
    default topic, if there is one, as long as the topic has none.
    """

    def __init__(self, topic: str, routes: Routes, selector: Selector, default_topic: str | None = None) -> None:
        self.is_free = isinstance(selector, FREE)
        self._topic = topic
        self._topics = (topic,) if default_topic is None else (topic, default_topic)
        self._routes = routes
        self._selector = selector
        self._changes = routes.changes
        self._refreshing = asyncio.Lock()
        self._seen = -1  # the generation that what follows was derived from
        self._partitions: list[BrokerPartition] = []
        self._links: dict[int, Link] = {}
        self._ready: dict[BrokerPartition, Route] = {}  # each partition named since, with its link
        self._all_take_batches = False

    @property
    def is_batching(self) -> bool:
        """Whether any partition will do, and a batch can be sent to each at once."""
        return self._all_take_batches and self.is_free and self._seen == self._changes.generation

    @property
    def partition_count(self) -> int:
        """How many partitions there are to choose from."""
        return len(self._partitions)

    def quick(self, put: Put) -> Route | None:
        """Return where to send it at once; None: that takes a wait, or a look into the directory."""
        if self._seen != self._changes.generation or not self._partitions or put.avoid:
            return None
        route = self.to(put.fixed or self._selector(self._topic, self._partitions, put.data, put.attribute))
        if route is None or takes_batches(route) or route.link.has_room():
            return route
        return None

    def any(self) -> Route | None:
        """Return the way to the next partition of those that will do; None as `quick`."""
        if self._seen != self._changes.generation or not self._partitions:
            return None
        return self.to(self._selector(self._topic, self._partitions, b"", None))

    def to(self, partition: BrokerPartition) -> Route | None:
        """Return the way to a partition if it is open and known to be."""
        if self._seen != self._changes.generation:
            return None
        route = self._ready.get(partition)
        if route is None:
            link = self._links.get(partition.broker_id)
            if link is None or not link.is_open:
                return None
            route = self._ready[partition] = Route(partition, link)
        return route

    async def wait(self, put: Put, deadline: float) -> Route:
        """Return where to send it, once that is possible.

        Raises NoBroker if no partition can take it before `deadline` (loop time), RequestTimeout if its broker is
        connected but too slow.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            seen = self._changes.generation
            await self._refresh()
            if put.avoid and put.avoid.issuperset(self._partitions):
                raise NoBroker(f"{self._topic}: all partitions are closed")
            partition = put.fixed or self._choose(put)
            route = None if partition is None else await self._to(partition)
            if route is None or not route.link.is_open:
                if not await self._changes.wait(seen, deadline - loop.time()):
                    raise NoBroker(self._nobody(partition, route, loop.time() - began))
            elif takes_batches(route) or route.link.has_room():
                return route
            else:
                await route.link.room(deadline - loop.time())

    async def _refresh(self) -> None:
        """Learn what there is now. Two that want it at the same time ask once."""
        async with self._refreshing:
            seen = self._changes.generation
            if self._seen == seen and self._partitions:
                return
            partitions, self._links = await self._routes.serving(self._topics, all=not self.is_free)
            self._partitions = await self._numbered(partitions)
            self._ready = {}
            self._seen = seen
            ways = [
                Route(partition, self._links[partition.broker_id]) for partition in self._partitions if self.is_free
            ]
            self._all_take_batches = bool(ways) and all(map(takes_batches, ways))

    async def _numbered(self, partitions: list[BrokerPartition]) -> list[BrokerPartition]:
        """Replace "any" of a broker that takes batches by all it has: a batch goes to a partition that is named."""
        wanted = {
            broker_id
            for broker_id, number in partitions
            if number == ANY_PARTITION and BATCHES in self._links[broker_id].extensions
        }
        if not wanted:
            return partitions
        try:
            found = await self._routes.directory.all_writable(self._topic)
        except MetaqError:
            return partitions
        numbered = [partition for partition in found if partition.broker_id in wanted]
        wanted = {partition.broker_id for partition in numbered}
        return sorted([*numbered, *(partition for partition in partitions if partition.broker_id not in wanted)])

    async def _to(self, partition: BrokerPartition) -> Route | None:
        address = (await self._routes.directory.brokers()).get(partition.broker_id)
        return None if address is None else Route(partition, self._routes.links.to(address))

    def _choose(self, put: Put) -> BrokerPartition | None:
        left = [partition for partition in self._partitions if partition not in put.avoid]
        return self._selector(self._topic, left, put.data, put.attribute) if left else None

    def _nobody(self, partition: BrokerPartition | None, route: Route | None, waited: float) -> str:
        if route is not None:
            where = f"{self._topic} {route.partition} at {route.link.address}"
            return f"{where}: not sent, no connection within {waited:.3g} s: {route.link.reason}"
        what = f"serves partition {partition}" if partition is not None else "takes messages"
        reasons = "".join(f"; {reason}" for reason in self._routes.links.troubles())
        return f"{self._topic}: not sent, nobody {what} within {waited:.3g} s{reasons}"
