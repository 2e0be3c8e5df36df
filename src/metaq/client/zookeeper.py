"""A directory kept by ZooKeeper, together with the session it is read through."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from itertools import chain
from typing import Protocol, TypeAlias, TypeVar

from metaq.client.directory import Changes
from metaq.client.links import Links
from metaq.client.url import ZooKeeperUrl
from metaq.cluster.directory import Directory
from metaq.cluster.ports import Registry
from metaq.errors import RegistryError
from metaq.model import BrokerAddress, BrokerPartition

T = TypeVar("T")


class Session(Registry, Protocol):
    """A registry that is connected to by who uses it, and closed again."""

    async def connect(self, timeout: float = ...) -> None: ...
    async def close(self) -> None: ...


SessionFactory: TypeAlias = Callable[[str], Session]  # takes hosts as ZooKeeper clients do


class ZooKeeperDirectory:
    """What brokers, of any kind, registered under a root. Topics and brokers are watched once they were asked for.

    While ZooKeeper is away the latest answers stand. A question it was never asked raises RegistryError then.
    """

    def __init__(self, url: ZooKeeperUrl, session: Session, links: Links, changes: Changes, timeout: float) -> None:
        self._url = url
        self._session = session
        self._directory = Directory(self._session, url.root, changes.bump)
        self._links = links
        self._timeout = timeout  # seconds one question may take
        self._addresses: set[BrokerAddress] = set()
        self._known: dict[str, dict[int, list[BrokerPartition]]] = {}  # of each topic, what each broker had last

    async def open(self, timeout: float) -> None:
        """Connect and read who is there. Raises RegistryError if ZooKeeper does not answer in time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        await self._session.connect(timeout)
        await self._directory.open(max(deadline - loop.time(), 0.1))

    async def close(self) -> None:
        """End the watches and the session."""
        try:
            await self._directory.close()
        finally:
            await self._session.close()

    async def brokers(self) -> Mapping[int, BrokerAddress]:
        """Return the masters by broker id, and close the links to those that have gone."""
        replicas = await self._ask(self._directory.replicas())
        found = {broker_id: each.master for broker_id, each in replicas.items() if each.master is not None}
        addresses = set(found.values()).union(*(each.slaves.values() for each in replicas.values()))
        if addresses != self._addresses:
            self._addresses = addresses
            await self._links.retain(addresses)
        return found

    async def ids(self) -> Collection[int]:
        """Return the ids of which there is a master or a slave."""
        return (await self._ask(self._directory.replicas())).keys()

    async def slaves(self, broker_id: int) -> Mapping[int, BrokerAddress]:
        """Return the slaves of a broker id, by their numbers."""
        replicas = (await self._ask(self._directory.replicas())).get(broker_id)
        return {} if replicas is None else replicas.slaves

    async def writable(self, topic: str) -> Sequence[BrokerPartition]:
        """Return the partitions of the masters that accept messages of the topic, sorted."""
        return await self._ask(self._directory.writable(topic))

    async def all_writable(self, topic: str) -> Sequence[BrokerPartition]:
        """Return the same, and those that brokers which have gone had when this was asked before.

        So a key stays where it is while its broker restarts. Brokers that have gone for good are forgotten when the
        client is connected anew.
        """
        known = self._known.setdefault(topic, {})
        present: dict[int, list[BrokerPartition]] = {}
        for partition in await self.writable(topic):
            present.setdefault(partition.broker_id, []).append(partition)
        known.update(present)
        return sorted(chain.from_iterable(known.values()))

    async def readable(self, topic: str) -> Sequence[BrokerPartition]:
        """Return the partitions that are offered to readers, sorted."""
        return await self._ask(self._directory.readable(topic))

    async def _ask(self, question: Coroutine[object, object, T]) -> T:
        try:
            async with asyncio.timeout(self._timeout):
                return await question
        except TimeoutError as exc:
            raise RegistryError(f"zk://{self._url.hosts}: no answer within {self._timeout:g} s") from exc
