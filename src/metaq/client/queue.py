"""The client of one cluster: what `connect` returns, for use with asyncio."""

import asyncio
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Self, TypeAlias, Unpack

from metaq.client import asking
from metaq.client.browser import Browser, Part
from metaq.client.consuming.consumer import Consumer
from metaq.client.consuming.groups import Groups
from metaq.client.consuming.making import Consumers, Machine
from metaq.client.consuming.options import ConsumerKeywords, ConsumerOptions
from metaq.client.options import ProducerKeywords, ProducerOptions
from metaq.client.partitioner import (
    ByKey,
    KeyFunction,
    Layout,
    Place,
    SelectorChoice,
    by_attribute,
    make_selector,
)
from metaq.client.producer import Producer
from metaq.client.producing.making import SpoolingProducers
from metaq.client.producing.one_way import DEFAULT_WINDOW, OneWayProducer
from metaq.client.producing.options import OneWayKeywords, OneWayOptions, OrderedKeywords, OrderedOptions
from metaq.client.producing.ordered import OrderedProducer
from metaq.client.reader import Reader, ReaderKeywords, ReaderOptions, Start
from metaq.client.replay import find_offset
from metaq.client.replicas import Replicas
from metaq.client.routes import Routes
from metaq.client.spool import Path, Spools
from metaq.config.topics import unfit
from metaq.errors import ConfigError
from metaq.model import BrokerAddress, TopicPartition
from metaq.net.link import Link
from metaq.ports import Random


class Cluster(NamedTuple):
    """What a client works with."""

    routes: Routes
    groups: Groups
    machine: Machine


Broker: TypeAlias = int | str | BrokerAddress  # its id, or its address as host:port

_BROWSE = ReaderOptions(give_up_after=30.0, group="pymetaq-browser")
_LOOK_UP = ReaderOptions().group


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOptions:
    """How a client behaves; seconds."""

    connect_timeout: float = 10.0  # until the first broker, or ZooKeeper, answers
    timeout: float = 5.0  # for one answer to a question


class MessageQueue:
    """Producers, readers and questions over one set of connections.

    Use it in one event loop, as `async with connect(…) as mq` or `mq = await connect(…)` and `await mq.close()`.
    """

    def __init__(self, assemble: Callable[[], Cluster], random: Random, options: QueueOptions) -> None:
        self._assemble = assemble
        self._random = random
        self._options = options
        self._routes_or_none: Routes | None = None
        self._replicas: Replicas | None = None
        self._maker: Consumers | None = None
        self._spooling: SpoolingProducers | None = None
        self._consumers: list[Consumer] = []
        self._producers: dict[tuple[str, str | ByKey | int, ProducerOptions], Producer] = {}
        self._readers: list[Reader] = []
        self._is_closed = False

    # opening and closing

    async def open(self) -> Self:
        """Connect. Raises NoBroker or RegistryError if nobody answers in time; nothing is left behind then."""
        if self._routes_or_none is not None or self._is_closed:
            raise ConfigError("a client is opened once; call connect again")
        cluster = self._assemble()
        routes = self._routes_or_none = cluster.routes
        replicas = self._replicas = Replicas(routes)
        self._maker = Consumers(replicas, cluster.groups, cluster.machine, producer=self.producer)
        spools = Spools(cluster.machine.files, cluster.machine.threads)
        self._spooling = SpoolingProducers(routes, spools, self._random)
        try:
            await routes.directory.open(self._options.connect_timeout)
        except BaseException:
            await self.close()
            raise
        return self

    async def flush(self) -> None:
        """Wait until all producers have an answer to all they sent; raise the first error nobody has asked for."""
        for producer in list(self._producers.values()):
            await producer.flush()
        if self._spooling is not None:
            await self._spooling.flush()

    async def close(self) -> None:
        """Stop readers, producers and connections; what waits for an answer fails. May be called again."""
        self._is_closed = True
        routes, self._routes_or_none = self._routes_or_none, None
        if routes is None:
            return
        left = await asyncio.gather(*(consumer.close() for consumer in self._consumers), return_exceptions=True)
        for reader in self._readers:
            await reader.close()
        if self._replicas is not None:
            await self._replicas.close()
        for producer in self._producers.values():
            await producer.close()
        try:
            if self._spooling is not None:
                await self._spooling.close()
        finally:
            routes.changes.close()
            try:
                await routes.links.close()
            finally:
                await routes.directory.close()
        for outcome in left:
            if isinstance(outcome, BaseException):
                raise outcome

    def __await__(self) -> Generator[object, None, Self]:
        return self.open().__await__()

    async def __aenter__(self) -> Self:
        return self if self._routes_or_none is not None else await self.open()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close; after a block that went well, wait for the producers' answers first and raise what went wrong."""
        try:
            if kind is None:
                await self.flush()
        finally:
            await self.close()

    # sending and reading

    def producer(
        self, topic: str, *, selector: SelectorChoice = "round_robin", **options: Unpack[ProducerKeywords]
    ) -> Producer:
        """Return a producer for a topic, the same for the same arguments.

        `selector`: "round_robin", "brokers" (each in turn), "random", "key" (by the attribute), `ByKey(function)` or a
        function that chooses, see Selector. `timeout` (20.0): seconds until the outcome of a message must be known.
        `in_flight` (50,000): messages without an answer, above which sending waits. `linger` (0.0): seconds a message
        may wait for others to go with. `retries` (0) is for brokers 1.4.6.2: how often a message may be sent again when
        it may have been stored already, with `timeout` for each attempt; then never less than once, but perhaps twice.
        While no broker has the topic, the partitions of `default_topic` are used; the message keeps its own topic.
        """
        chosen = ProducerOptions(**options)
        if chosen.default_topic is not None:
            _topic(chosen.default_topic)
        key = (topic, selector if isinstance(selector, str | ByKey) else id(selector), chosen)
        producer = self._producers.get(key)
        if producer is None or producer.is_closed:
            select = make_selector(selector, self._random)
            producer = self._producers[key] = Producer(_topic(topic), self._routes, select, chosen, self._random)
        return producer

    async def ordered_producer(
        self,
        topic: str,
        *,
        layout: Layout,
        spool: Path,
        key: KeyFunction = by_attribute,
        **options: Unpack[OrderedKeywords],
    ) -> OrderedProducer:
        """Return a producer that keeps the order of each partition whatever happens, the same for the same arguments.

        `layout` is the fixed set of partitions, `<brokerId>:<number>` pairs as "0:4;1:4", or that by topic; `spool` the
        folder on this machine where messages wait, for this process alone; `key` a function of data and attribute, see
        ByKey. For the keywords see OrderedOptions. Raises ConfigError, SpoolLocked, SpoolError.
        """
        return await self._with_spool.ordered(_topic(topic), layout, spool, key, OrderedOptions(**options))

    async def one_way_producer(
        self, topic: str, *, spool: Path, window: int = DEFAULT_WINDOW, **options: Unpack[OneWayKeywords]
    ) -> OneWayProducer:
        """Return a producer that takes messages without answering, the same for the same arguments.

        `spool` is the folder on this machine where messages wait that could not be sent; several processes may name the
        same. `window` is what may be under way: a message takes a unit per 4 KiB, at least one. For the keywords see
        OneWayOptions. Raises ConfigError, SpoolError.
        """
        return await self._with_spool.one_way(_topic(topic), spool, window, OneWayOptions(**options))

    def consumer(self, topics: str | Iterable[str], *, group: str, **options: Unpack[ConsumerKeywords]) -> Consumer:
        """Return a new member of a group, for one topic or several; see ConsumerOptions for the keywords.

        It joins when it is first asked for messages. Raises ConfigError.
        """
        if self._maker is None or self._is_closed:
            raise ConfigError("the client is closed" if self._is_closed else "the client is not open yet")
        names = (topics,) if isinstance(topics, str) else tuple(topics)
        consumer = self._maker.make(tuple(map(_topic, names)), group, ConsumerOptions(**options))
        self._consumers = [each for each in self._consumers if not each.has_left]
        self._consumers.append(consumer)
        return consumer

    def reader(
        self, topic: str, partition: Place, offset: Start = "earliest", **options: Unpack[ReaderKeywords]
    ) -> Reader:
        """Return a reader of one partition; see Reader, and ReaderOptions for the keywords. Raises ConfigError."""
        chosen = ReaderOptions(**options)
        if self._maker is not None:
            self._maker.check(chosen.preference)
        return self._reader(topic, partition, offset, chosen)

    def browse(self, topic: str, *, max_size: int = 1 << 20) -> Browser:
        """Return the messages of all partitions up to where they end now; see Browser."""
        options = ReaderOptions(max_size=max_size, give_up_after=_BROWSE.give_up_after, group=_BROWSE.group)

        async def parts() -> list[Part]:
            found = await self._routes.directory.readable(_topic(topic))
            bounds = await asyncio.gather(*(self.offsets(topic, partition) for partition in found))
            return [Part(p, first, end) for p, (first, end) in zip(found, bounds, strict=True) if first < end]

        return Browser(parts, lambda partition, first: self._reader(topic, partition, first, options))

    # asking

    async def partitions(self, topic: str) -> list[str]:
        """Return the partitions that can be read, as `<brokerId>-<partition>`, sorted by number; [] if there is none.

        Without ZooKeeper: those that exist, which is those something was sent to.
        """
        return [str(partition) for partition in await self._routes.directory.readable(_topic(topic))]

    async def offsets(self, topic: str, partition: Place) -> tuple[int, int]:
        """Return where a partition begins and where the next message will be; (0, 0) if it does not exist yet."""
        place = await self._routes.resolve(partition, self._options.timeout)
        link, _ = await self._routes.to_replica(place.broker_id, self._options.timeout)
        target = TopicPartition(_topic(topic), place.partition)
        first = await asking.nearest_offset(link, target, _LOOK_UP, 0, self._options.timeout)
        end = await asking.nearest_offset(link, target, _LOOK_UP, asking.LATEST, self._options.timeout)
        return first or 0, end or 0

    async def offset_at(self, topic: str, partition: Place, since: datetime) -> int:
        """Return the offset of the first message stored at `since` or later, or the end (see replay)."""
        place = await self._routes.resolve(partition, self._options.timeout)
        link, _ = await self._routes.to_replica(place.broker_id, self._options.timeout)
        return await find_offset(link, TopicPartition(_topic(topic), place.partition), since, self._options.timeout)

    async def brokers(self) -> Mapping[int, str]:
        """Return the address of each master, by its id. Without ZooKeeper: of those that have ever answered."""
        return {number: str(address) for number, address in (await self._routes.directory.brokers()).items()}

    async def stats(self, broker: Broker | None = None, item: str = "") -> dict[str, str]:
        """Return what a broker counts, name → value; None: the only broker. Items: protocol.md §4, or a topic.

        `stats_text` keeps lines whose names repeat, and the file that the item `config` is.
        """
        return asking.parse_stats((await self.stats_text(broker, item)).decode("utf-8", "replace"))

    async def stats_text(self, broker: Broker | None = None, item: str = "") -> bytes:
        """Return the answer to `stats` as the broker gave it."""
        return await asking.stats(await self._ask(broker), item, self._options.timeout)

    async def version(self, broker: Broker | None = None) -> str:
        """Return what a broker calls its version: 1.4.6.2 for all that are compatible."""
        return await asking.version(await self._ask(broker), self._options.timeout)

    # inside

    @property
    def _with_spool(self) -> SpoolingProducers:
        if self._spooling is None or self._is_closed:
            raise ConfigError("the client is closed" if self._is_closed else "the client is not open yet")
        return self._spooling

    @property
    def _routes(self) -> Routes:
        if self._routes_or_none is None:
            raise ConfigError("the client is closed" if self._is_closed else "the client is not open yet")
        return self._routes_or_none

    async def _ask(self, broker: Broker | None) -> Link:
        return await self._routes.any_broker(broker, self._options.timeout)

    def _reader(self, topic: str, partition: Place, start: Start, options: ReaderOptions) -> Reader:
        self._readers = [reader for reader in self._readers if not reader.is_closed]
        if self._replicas is None or self._is_closed:
            raise ConfigError("the client is closed" if self._is_closed else "the client is not open yet")
        reader = Reader(_topic(topic), partition, start, self._replicas, options)
        self._readers.append(reader)
        return reader


def _topic(name: str) -> str:
    """Return the name if it can be one."""
    if why := unfit(name):
        raise ConfigError(f"{name[:80]!r}: {why}")
    return name
