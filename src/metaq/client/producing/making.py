"""Putting the parts of producers with a spool together."""

import asyncio

from metaq.client.options import ProducerOptions
from metaq.client.partitioner import ByKey, KeyFunction, Layout, make_selector, parse_layout
from metaq.client.producer import Producer
from metaq.client.producing.one_way import OneWayProducer
from metaq.client.producing.options import OneWayOptions, OrderedOptions
from metaq.client.producing.ordered import OrderedProducer
from metaq.client.producing.resending import Resending
from metaq.client.routes import Routes
from metaq.client.spool import Path, Spools
from metaq.errors import ConfigError
from metaq.ports import Random


class SpoolingProducers:
    """Makes the producers of one client that have a spool, one of a kind for a topic and a folder, and closes them."""

    def __init__(self, routes: Routes, spools: Spools, random: Random) -> None:
        self._routes = routes
        self._spools = spools
        self._random = random
        self._ordered: dict[tuple[str, str], tuple[object, OrderedProducer]] = {}
        self._one_way: dict[tuple[str, str], tuple[object, OneWayProducer]] = {}
        self._turn = asyncio.Lock()

    async def ordered(
        self, topic: str, layout: Layout, spool: Path, key: KeyFunction, options: OrderedOptions
    ) -> OrderedProducer:
        """Return the producer, which has begun to send what was left. Raises ConfigError, SpoolError."""
        partitions = parse_layout(layout, topic)
        wanted = (partitions, key, options)
        async with self._turn:
            folder = await self._spools.ordered(spool)
            known, producer = self._ordered.get((topic, folder.path), (None, None))
            if producer is None or producer.is_closed:
                selector = make_selector(ByKey(key), self._random)
                producer = OrderedProducer(topic, partitions, selector, folder, self._routes, options)
                await producer.open()
                self._ordered[topic, folder.path] = wanted, producer
            elif known != wanted:
                raise ConfigError(f"{topic}: there is an ordered producer with another layout, key or options already")
            return producer

    async def one_way(self, topic: str, spool: Path, window: int, options: OneWayOptions) -> OneWayProducer:
        """Return the producer, which has begun to send what was left. Raises ConfigError, SpoolError."""
        if window < 1:
            raise ConfigError(f"window is at least 1, not {window}")
        wanted = (window, options)
        async with self._turn:
            folder = await self._spools.one_way(spool, topic)
            known, producer = self._one_way.get((topic, folder.path), (None, None))
            if producer is None or producer.is_closed:
                own = await folder.spool(topic, options.limits)
                core = Producer(
                    topic,
                    self._routes,
                    make_selector("round_robin", self._random),
                    ProducerOptions(timeout=options.timeout, in_flight=2 * window + 1000),
                    self._random,
                )
                resending = Resending(core, [own, *folder.inherited], self._routes.changes, options)
                producer = OneWayProducer(core, own, resending, options, window)
                self._one_way[topic, folder.path] = wanted, producer
            elif known != wanted:
                raise ConfigError(f"{topic}: there is a one-way producer with another window or options already")
            return producer

    async def flush(self) -> None:
        """Wait until all that was sent is stored, or on disk."""
        for _, ordered in list(self._ordered.values()):
            await ordered.flush()
        for _, one_way in list(self._one_way.values()):
            await one_way.flush()

    async def close(self) -> None:
        """Stop all producers; what has no answer is put on disk. The spools are closed then."""
        try:
            for _, ordered in list(self._ordered.values()):
                await ordered.close()
            for _, one_way in list(self._one_way.values()):
                await one_way.close()
        finally:
            await self._spools.close()
