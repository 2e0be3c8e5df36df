"""Where one producer's next message goes: a partition that can take it now, or the wait for one."""

import asyncio

from metaq.client.partitioner import FREE, Selector
from metaq.client.routes import Route, Routes
from metaq.client.sending import Put
from metaq.errors import NoBroker
from metaq.model import BrokerPartition
from metaq.net.link import Link


class Picker:
    """Chooses for one topic, from what the directory says and which links are open.

    Selectors that do not care choose among the brokers that are connected. One by key, or of the user's own, chooses
    from all partitions, and like a partition that was named its choice is waited for. The partitions are those of the
    default topic, if there is one, as long as the topic has none.
    """

    def __init__(self, topic: str, routes: Routes, selector: Selector, default_topic: str | None = None) -> None:
        self._topic = topic
        self._topics = (topic,) if default_topic is None else (topic, default_topic)
        self._routes = routes
        self._selector = selector
        self.is_free = isinstance(selector, FREE)
        self._changes = routes.changes
        self._seen = -1  # the generation that what follows was derived from
        self._partitions: list[BrokerPartition] = []
        self._links: dict[int, Link] = {}
        self._ready: dict[BrokerPartition, Route] = {}  # each partition named since, with its link

    def quick(self, put: Put) -> Route | None:
        """Return where to send it at once; None: that takes a wait, or a look into the directory."""
        if self._seen != self._changes.generation or not self._partitions or put.avoid:
            return None
        partition = put.fixed or self._selector(self._topic, self._partitions, put.data, put.attribute)
        route = self._ready.get(partition)
        if route is None:
            link = self._links.get(partition.broker_id)
            if link is None:
                return None
            route = self._ready[partition] = Route(partition, link)
        return route if route.link.has_room() else None

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
            elif route.link.has_room():
                return route
            else:
                await route.link.room(deadline - loop.time())

    async def _refresh(self) -> None:
        seen = self._changes.generation
        self._partitions, self._links = await self._routes.serving(self._topics, all=not self.is_free)
        self._ready = {}
        self._seen = seen

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
