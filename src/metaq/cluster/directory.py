"""The client's side: which broker serves which partition, kept up to date by watches (reference: MetaZookeeper)."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from metaq.cluster.operations import Node, Unreachable
from metaq.cluster.paths import Paths
from metaq.cluster.ports import Changed, Registry
from metaq.cluster.watching import Watch
from metaq.cluster.znodes import (
    Member,
    decode_address,
    decode_broker_child,
    decode_broker_id,
    decode_member,
    decode_topic,
)
from metaq.model import BrokerAddress, BrokerPartition

log = logging.getLogger(__name__)

T = TypeVar("T")

Members = Mapping[Member, int]  # number of partitions by broker, master or slave


@dataclass(frozen=True, slots=True)
class Replicas:
    """The live brokers of one id: the master, if there is one, and its slaves by number."""

    master: BrokerAddress | None
    slaves: Mapping[int, BrokerAddress] = field(default_factory=dict)


class Directory:
    """What the tree says of brokers and topics. The first question about a topic is read, later ones answered at once.

    `changed` is called on the loop whenever an answer may be another than before. Nothing is written to the tree. What
    makes no sense there (a broker id that is no number, JSON that is none, a URL without a host) is left out with one
    warning, where the original fails. While ZooKeeper is away the latest answers stand; the first one waits for it.
    """

    def __init__(self, registry: Registry, root: str = "/meta", changed: Callable[[], None] | None = None) -> None:
        self._registry = registry
        self._paths = Paths(root)
        self._changed = changed
        self._brokers: Watch[Mapping[int, Replicas]] | None = None
        self._topics: dict[str, Watch[Members]] = {}  # by path
        self._warned: set[str] = set()

    async def open(self, timeout: float) -> None:
        """Read the brokers. Raises Unreachable if that takes longer than `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self.replicas()
        except TimeoutError as exc:
            raise Unreachable(self._paths.ids, timeout) from exc

    async def close(self) -> None:
        """End all watches. The registry stays open: it belongs to another."""
        brokers, self._brokers = self._brokers, None
        topics, self._topics = self._topics, {}
        if brokers is not None:
            await brokers.close()
        await asyncio.gather(*(watch.close() for watch in topics.values()))

    async def replicas(self) -> Mapping[int, Replicas]:
        """Return the live brokers by id; an id without any is left out."""
        if self._brokers is None:
            self._brokers = Watch(self._paths.ids, self._read_brokers, self._tell)
        return await self._brokers.value()

    async def brokers(self) -> Mapping[int, BrokerAddress]:
        """Return the live masters by id."""
        replicas = await self.replicas()
        return {broker_id: each.master for broker_id, each in replicas.items() if each.master is not None}

    async def masters(self, topic: str) -> Mapping[int, BrokerAddress]:
        """Return the live masters that accept messages of a topic, by id."""
        live = await self.brokers()
        publishing = await self._members(self._paths.publish(topic))
        return {
            each.broker_id: live[each.broker_id] for each in sorted(publishing, key=_order) if each.broker_id in live
        }

    async def writable(self, topic: str) -> list[BrokerPartition]:
        """Return the partitions of the masters of a topic, sorted by number, each once: what a producer sends to."""
        live = await self.brokers()
        publishing = await self._members(self._paths.publish(topic))
        return _partitions({each: count for each, count in publishing.items() if each.broker_id in live})

    async def all_writable(self, topic: str) -> list[BrokerPartition]:
        """Return the same as `writable`."""
        return await self.writable(topic)

    async def readable(self, topic: str) -> list[BrokerPartition]:
        """Return the partitions that some broker, master or slave, offers to consumers; sorted by number, each once.

        Groups divide them by the order of their texts: `sorted(map(str, …))`.
        """
        return _partitions(await self.readers(topic))

    async def readers(self, topic: str) -> Members:
        """Return which masters and slaves offer a topic to consumers, each with its number of partitions."""
        return await self._members(self._paths.subscribe(topic))

    async def _members(self, path: str) -> Members:
        watch = self._topics.get(path)
        if watch is None:
            masters_only = path.startswith(f"{self._paths.topics_pub}/")
            watch = Watch(path, partial(self._read_topic, path, masters_only), self._tell)
            self._topics[path] = watch
        return await watch.value()

    async def _read_brokers(self, changed: Changed) -> Mapping[int, Replicas]:
        found: dict[int, Replicas] = {}
        for name in await self._registry.children(self._paths.ids, changed) or ():
            broker_id = decode_broker_id(name)
            if broker_id is None:
                self._warn(
                    f"{self._paths.ids}/{name}", "is no broker id; 1.4.6.2 consumers fail as long as it is there"
                )
                continue
            replicas = await self._read_replicas(f"{self._paths.ids}/{name}", changed)
            if replicas.master is not None or replicas.slaves:
                found[broker_id] = replicas
        return dict(sorted(found.items()))

    async def _read_replicas(self, path: str, changed: Changed) -> Replicas:
        master: BrokerAddress | None = None
        slaves: dict[int, BrokerAddress] = {}
        for name in await self._registry.children(path, changed) or ():
            child = decode_broker_child(name)
            if child is None:
                continue
            address = self._decode(
                f"{path}/{name}", await self._registry.get(f"{path}/{name}", changed), decode_address
            )
            if address is None:
                continue
            if child.slave_id is None:
                master = address
            else:
                slaves[child.slave_id] = address
        return Replicas(master, dict(sorted(slaves.items())))

    async def _read_topic(self, path: str, masters_only: bool, changed: Changed) -> Members:
        found: dict[Member, int] = {}
        for name in await self._registry.children(path, changed) or ():
            each = decode_member(name)
            if each is None or (masters_only and each.slave_id is not None):
                continue
            topic = self._decode(f"{path}/{name}", await self._registry.get(f"{path}/{name}", changed), decode_topic)
            if topic is not None:
                found[each] = topic.num_parts
        return found

    def _decode(self, path: str, node: Node | None, decode: Callable[[bytes | None], T]) -> T | None:
        """Return what a node says; None if it is gone by now or says nothing of sense."""
        if node is None:
            return None
        try:
            return decode(node.data)
        except ValueError as exc:
            self._warn(path, f"left out: {exc}")
            return None

    def _warn(self, path: str, text: str) -> None:
        if path not in self._warned:
            self._warned.add(path)
            log.warning("%s %s", path, text)

    def _tell(self, _: object) -> None:
        if self._changed is not None:
            self._changed()


def _order(each: Member) -> tuple[int, int]:
    return each.broker_id, -1 if each.slave_id is None else each.slave_id


def _partitions(members: Members) -> list[BrokerPartition]:
    counts: dict[int, int] = {}  # by broker: a master and its slaves need not agree
    for each, count in members.items():
        counts[each.broker_id] = max(count, counts.get(each.broker_id, 0))
    # in order from the start: to sort 50,000 takes longer than all the rest
    return [BrokerPartition(broker_id, n) for broker_id in sorted(counts) for n in range(counts[broker_id])]
