"""Topics and brokers of a cluster as an operator sees them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from metaq.admin.ends import Bounds, Ends, Log, read_ends
from metaq.client.asking import parse_stats
from metaq.cluster.directory import Directory
from metaq.cluster.paths import Paths
from metaq.cluster.ports import Registry
from metaq.cluster.znodes import Member
from metaq.errors import MetaqError
from metaq.model import BrokerAddress, BrokerPartition, ClusterPartition

Ask = Callable[[BrokerAddress], Awaitable[bytes]]


class TopicError(MetaqError):
    """There is no such topic."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic and its partitions, with their bounds where the broker says them."""

    name: str
    partitions: Mapping[BrokerPartition, Bounds | None]
    accepts_publish: bool
    accepts_subscribe: bool

    @property
    def brokers(self) -> list[int]:
        """The ids of the brokers that have partitions of it, sorted."""
        return sorted({partition.broker_id for partition in self.partitions})

    @property
    def bytes(self) -> int:
        """How much its logs hold, as far as it is known."""
        return sum(bounds.end - bounds.first for bounds in self.partitions.values() if bounds is not None)


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker. `slave_id` None: a master. `stats` None: it does not answer."""

    broker_id: int
    slave_id: int | None
    address: str
    stats: Mapping[str, str] | None
    reason: str = ""  # why it does not answer


class Topics(Protocol):
    """Where topics are listed: in ZooKeeper, or by each broker."""

    async def all(self) -> list[Topic]: ...
    async def topic(self, name: str) -> Topic: ...


class RegisteredTopics:
    """The topics that brokers registered in ZooKeeper. Nodes that nobody stands behind any more are left out."""

    def __init__(self, registry: Registry, root: str, directory: Directory, log: Log) -> None:
        """`directory`: of the same registry and root; it stays the caller's."""
        self._registry = registry
        self._paths = Paths(root)
        self._directory = directory
        self._log = log

    async def all(self) -> list[Topic]:
        """Return all topics, sorted by name."""
        lists = await asyncio.gather(
            self._registry.children(self._paths.topics_pub), self._registry.children(self._paths.topics_sub)
        )
        names = sorted({name for names in lists for name in names or ()})
        ends = await read_ends(self._log)
        found = await asyncio.gather(*(self._read(name, ends) for name in names))
        return [topic for topic in found if topic.partitions]

    async def topic(self, name: str) -> Topic:
        """Return one topic. Raises TopicError if no broker has it."""
        found = await self._read(name, await read_ends(self._log))
        if not found.partitions:
            raise TopicError(f"no broker has topic {name}")
        return found

    async def _read(self, name: str, ends: Ends) -> Topic:
        readable, writable = await asyncio.gather(self._directory.readers(name), self._directory.writable(name))
        partitions = sorted({*writable, *_partitions(readable)})
        bounds = {partition: ends.of(ClusterPartition(name, partition)) for partition in partitions}
        return Topic(name, bounds, bool(writable), bool(readable))


class AnsweredTopics:
    """The topics that brokers say they have, where there is no ZooKeeper: partitions are those with messages."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def all(self) -> list[Topic]:
        """Return all topics, sorted by name."""
        ids = sorted(await self._log.brokers())
        ends, answers = await asyncio.gather(read_ends(self._log), asyncio.gather(*map(self._ask, ids)))
        partitions: dict[str, dict[BrokerPartition, Bounds | None]] = {}
        for place, bounds in sorted(ends.known.items()):
            partitions.setdefault(place.topic, {})[place.partition] = bounds
        lines = [(topic, line) for answer in answers for topic, line in answer.items()]
        return [
            Topic(name, partitions.get(name, {}), *(_accepts(word, name, lines) for word in ("publish", "subscribe")))
            for name in sorted(partitions.keys() | {topic for topic, _ in lines})
        ]

    async def topic(self, name: str) -> Topic:
        """Return one topic. Raises TopicError if no broker has it."""
        for topic in await self.all():
            if topic.name == name:
                return topic
        raise TopicError(f"no broker has topic {name}")

    async def _ask(self, broker_id: int) -> dict[str, str]:
        """Return what a broker says of each topic; one that does not answer says nothing."""
        try:
            return parse_stats((await self._log.stats_text(broker_id, "topics")).decode("utf-8", "replace"))
        except MetaqError:
            return {}


async def registered_brokers(directory: Directory, log: Log, ask: Ask) -> list[Broker]:
    """Return the brokers registered in ZooKeeper, masters and slaves, with what they say of themselves.

    `ask` returns what the slave at an address answers to `stats`; raises MetaqError.
    """
    replicas = await directory.replicas()
    masters = {broker_id: str(each.master) for broker_id, each in replicas.items() if each.master is not None}

    async def ask_slave(broker_id: int, slave_id: int, address: BrokerAddress) -> Broker:
        return await _told(Broker(broker_id, slave_id, str(address), None), ask(address))

    slaves = [
        ask_slave(broker_id, slave_id, address)
        for broker_id, each in replicas.items()
        for slave_id, address in each.slaves.items()
    ]
    answers = await asyncio.gather(_ask_all(log, masters), asyncio.gather(*slaves))
    return sorted([*answers[0], *answers[1]], key=lambda b: (b.broker_id, -1 if b.slave_id is None else b.slave_id))


async def answering_brokers(log: Log) -> list[Broker]:
    """Return the brokers that are no slaves and have answered, where there is no ZooKeeper."""
    return await _ask_all(log, await log.brokers())


async def _ask_all(log: Log, masters: Mapping[int, str]) -> list[Broker]:
    asked = (_told(Broker(number, None, masters[number], None), log.stats_text(number)) for number in sorted(masters))
    return list(await asyncio.gather(*asked))


async def _told(broker: Broker, answer: Awaitable[bytes]) -> Broker:
    """Return the broker with what it answers, or with why it does not."""
    try:
        return replace(broker, stats=parse_stats((await answer).decode("utf-8", "replace")))
    except MetaqError as exc:
        return replace(broker, reason=str(exc))


def _partitions(members: Mapping[Member, int]) -> list[BrokerPartition]:
    return [BrokerPartition(each.broker_id, n) for each, count in members.items() for n in range(count)]


def _accepts(word: str, topic: str, lines: Iterable[tuple[str, str]]) -> bool:
    """Tell whether any broker takes such requests for a topic; one without messages does not say that it refuses."""
    return any(f"accept_{word} false" not in line for name, line in lines if name == topic)
