"""What one broker has in the tree, and how it gets there and away (reference: BrokerZooKeeper)."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import Final, NamedTuple, TypeVar

from metaq.cluster.operations import (
    BrokerConflict,
    Check,
    Create,
    Delete,
    NodeExists,
    NoNode,
    NotEmpty,
    Operation,
    SessionLost,
)
from metaq.cluster.paths import Paths, member
from metaq.cluster.ports import Changed, Registry
from metaq.cluster.znodes import TopicBroker, encode_address, encode_count, encode_topic
from metaq.config.model import TopicConfig
from metaq.model import BrokerAddress

log = logging.getLogger(__name__)

WATCHED_TOPICS: Final = 64  # topics whose loss is noticed at once; of the others, at the next audit
AT_ONCE: Final = 300  # topics looked at or written in one go; each has three nodes, made and checked in some 3 ms

T = TypeVar("T")


class Identity(NamedTuple):
    """Who registers. `slave_id` None: the master of its broker id."""

    broker_id: int
    slave_id: int | None
    address: BrokerAddress

    def __str__(self) -> str:
        return f"{self.broker_id}" if self.slave_id is None else f"{self.broker_id} slave {self.slave_id}"


class Visible(NamedTuple):
    """What of a topic's configuration others can see in the tree."""

    num_parts: int
    publish: bool
    subscribe: bool

    @classmethod
    def of(cls, topic: TopicConfig) -> "Visible":
        return cls(topic.num_partitions, topic.accept_publish, topic.accept_subscribe)


class Announcement:
    """The nodes of one broker. Remembers what was written in which session; whoever calls brings order and patience.

    Order of writing: broker node, legacy node, checksum, topics; of removal: broker node, checksum, legacy node,
    topics. So a client that reacts to a topic's node finds the broker's in its final state.
    """

    def __init__(self, registry: Registry, paths: Paths, identity: Identity) -> None:
        self._registry = registry
        self._paths = paths
        self._identity = identity
        self._member = member(identity.broker_id, identity.slave_id)
        self._is_master = identity.slave_id is None
        self._parents: set[str] = set()
        self._forget(0)

    def _forget(self, session: int) -> None:
        self._session = session
        self._announced = False
        self._leftovers = False  # an earlier session of ours may still have its nodes
        self._checksum = (-1, -1)  # value and generation last written
        self._written: dict[str, Visible] = {}

    @property
    def announced(self) -> bool:
        """Return whether the broker's node was written in the latest session."""
        return self._announced

    def has(self, topic: str) -> bool:
        """Return whether the topic's nodes were written in this session."""
        return self._session == self._registry.session and topic in self._written

    async def begin(self) -> bool:
        """Wait for a session; return whether it is a new one, in which nothing is written yet."""
        await self._registry.ensure(self._paths.ids)
        session = self._registry.session
        if session == 0:
            raise SessionLost()
        if session == self._session:
            return False
        self._forget(session)
        return True

    async def announce(self, checksum: int, generation: int) -> None:
        """Write broker node, legacy node and checksum; the checksum again whenever the generation is another.

        Raises BrokerConflict if the node is another broker's. One that carries our own URL was left by an earlier
        session of ours, since nobody else can listen there, and is replaced.
        """
        broker_id, slave_id, address = self._identity
        if not self._announced:
            await self._claim(self._paths.broker_address(broker_id, slave_id), encode_address(address), exclusive=True)
            if self._is_master:
                await self._write_legacy(encode_address(address))
            self._announced = True
        if self._is_master and self._checksum != (checksum, generation):
            path, data = self._paths.checksum(broker_id), encode_count(checksum)
            if self._checksum[1] < 0:
                await self._claim(path, data, exclusive=False)
            else:
                try:
                    await self._registry.set(path, data)
                except NoNode:
                    await self._claim(path, data, exclusive=False)
            self._checksum = (checksum, generation)

    async def publish(self, wanted: Mapping[str, Visible]) -> int:
        """Write the nodes of those topics that are new or look different now; return how many topics that were.

        A node whose content changes is deleted and made anew, because nobody watches data. Not for more than AT_ONCE.
        """
        changed = {topic: visible for topic, visible in wanted.items() if self._written.get(topic) != visible}
        if not changed:
            return 0
        await self._make_parents(changed)
        operations = [each for topic, visible in changed.items() for each in self._operations(topic, visible)]
        for operation, error in zip(operations, await self._registry.apply(operations), strict=True):
            if error is None or (isinstance(operation, Delete) and isinstance(error, NoNode)):
                continue
            if isinstance(error, NodeExists) and isinstance(operation, Create):
                await self._claim(operation.path, operation.data, exclusive=False)
                continue
            self._parents.clear()  # perhaps somebody removed one
            raise error
        self._written.update(changed)
        return len(changed)

    async def retract(self, topics: Iterable[str]) -> None:
        """Take the nodes of these topics away, those written in this session. Not for more than AT_ONCE."""
        written = {topic: self._written[topic] for topic in topics if topic in self._written}
        nodes = [path for topic, visible in written.items() for path, _ in self._nodes(topic, visible)]
        for error in await self._registry.apply([Delete(path) for path in nodes], session=self._session):
            if error is not None and not isinstance(error, NoNode):
                raise error
        for topic in written:
            del self._written[topic]

    async def verify(self, changed: Changed) -> bool:
        """Return whether all that was written is still there and ours; what is not will be written again.

        A synchronous slave of 1.4.6.2 deletes the topic nodes of its master and overwrites its checksum. `changed` is
        called when the broker node, the checksum or one of the first topics changes. Raises SessionLost.
        """
        broker_id, slave_id, _ = self._identity
        node = await self._registry.get(self._paths.broker_address(broker_id, slave_id), changed)
        self._announced = node is not None and node.owner == self._session
        complete = self._announced
        if self._is_master:
            node = await self._registry.get(self._paths.checksum(broker_id), changed)
            if node is None or node.owner != self._session or node.data != encode_count(self._checksum[0]):
                self._checksum = (-1, -1)
                complete = False
        watched = list(self._written)[:WATCHED_TOPICS]
        await asyncio.gather(
            *(self._registry.exists(f"{self._paths.topic(t)}/{self._member}", changed) for t in watched)
        )
        missing = [topic async for topic in self._missing()]
        if self._registry.session != self._session:
            raise SessionLost()  # all of it is gone, and that is why
        for topic in missing:
            del self._written[topic]
        return complete and not missing

    async def _missing(self) -> AsyncIterator[str]:
        """Yield the topics of which a node is gone."""
        for topics in _pieces(list(self._written.items())):
            nodes = [(path, topic) for topic, visible in topics for path, _ in self._nodes(topic, visible)]
            results = await self._registry.apply([Check(path) for path, _ in nodes])
            gone = (topic for (_, topic), error in zip(nodes, results, strict=True) if error is not None)
            for topic in dict.fromkeys(gone):
                yield topic

    async def remove(self) -> None:
        """Take away everything of ours; nothing, if the broker node is another's by now."""
        broker_id, slave_id, _ = self._identity
        path = self._paths.broker_address(broker_id, slave_id)
        node = await self._registry.get(path)
        written = self._written if self._session == self._registry.session else {}
        self._forget(0)
        if node is not None:
            if node.owner != self._registry.session:
                return
            await self._registry.delete(path)
        if self._is_master:
            await self._registry.delete(self._paths.checksum(broker_id))
            await self._remove_legacy()
        for topics in _pieces(list(written.items())):
            nodes = [path for topic, visible in topics for path, _ in self._nodes(topic, visible)]
            for error in await self._registry.apply([Delete(path) for path in nodes]):
                if error is not None and not isinstance(error, NoNode):
                    raise error

    def _nodes(self, topic: str, visible: Visible) -> Iterator[tuple[str, bytes]]:
        """Yield path and data of a topic's nodes, in the order in which they are written."""
        described = encode_topic(TopicBroker(visible.num_parts, self._member))
        yield f"{self._paths.topic(topic)}/{self._member}", encode_count(visible.num_parts)
        if visible.publish:
            yield f"{self._paths.publish(topic)}/{self._member}", described
        if visible.subscribe:
            yield f"{self._paths.subscribe(topic)}/{self._member}", described

    def _operations(self, topic: str, visible: Visible) -> Iterator[Operation]:
        before = self._written.get(topic)
        if before is None and self._leftovers:
            before = Visible(0, publish=True, subscribe=True)
        old = {} if before is None else dict(self._nodes(topic, before))
        new = dict(self._nodes(topic, visible))
        for path, data in old.items():
            if new.get(path) == data:
                del new[path]
            else:
                yield Delete(path)
        for path, data in new.items():
            yield Create(path, data, ephemeral=True)

    async def _make_parents(self, topics: Mapping[str, Visible]) -> None:
        """Create the directories of topics that are missing: as 1.4.6.2, one for each node written below it."""
        wanted = {
            path.rpartition("/")[0] for topic, visible in topics.items() for path, _ in self._nodes(topic, visible)
        }
        if wanted <= self._parents:
            return
        if not self._parents:
            for section in (self._paths.topics, self._paths.topics_pub, self._paths.topics_sub):
                await self._registry.ensure(section)
                self._parents.update(f"{section}/{name}" for name in await self._registry.children(section) or ())
        missing = sorted(wanted - self._parents)
        for error in await self._registry.apply([Create(path) for path in missing]):
            if error is not None and not isinstance(error, NodeExists):
                raise error
        self._parents.update(missing)

    async def _claim(self, path: str, data: bytes | None, *, exclusive: bool) -> None:
        """Create an ephemeral node, in place of one that an earlier session of ours left.

        `exclusive`: a node with other data is another broker's, which raises BrokerConflict.
        """
        while True:
            try:
                await self._registry.create(path, data, ephemeral=True)
                return
            except NodeExists:
                node = await self._registry.get(path)
            if node is None:
                continue
            if node.owner == self._session:
                if node.data == data:
                    return
            elif exclusive:
                if node.data != data:
                    theirs = (node.data or b"").decode("utf-8", "replace")
                    ours = str(self._identity.address)
                    raise BrokerConflict(str(self._identity), theirs, ours, is_slave=not self._is_master)
                log.info("broker %s: replacing the node %s of an earlier session", self._identity, path)
                self._leftovers = True
            await self._registry.delete(path)

    async def _write_legacy(self, data: bytes) -> None:
        path = self._paths.broker(self._identity.broker_id)
        while True:
            try:
                await self._registry.set(path, data)
                return
            except NoNode:
                with suppress(NodeExists):
                    await self._registry.create(path, data)
                    return

    async def _remove_legacy(self) -> None:
        """Delete the node of clients that know no slaves; empty it while slaves are registered below it."""
        path = self._paths.broker(self._identity.broker_id)
        try:
            await self._registry.delete(path)
        except NotEmpty:
            with suppress(NoNode):
                await self._registry.set(path, b"")


def _pieces(items: Iterable[T]) -> Iterator[list[T]]:
    """Yield the items, AT_ONCE in a piece: tens of thousands of operations at once would hold up the loop."""
    rest = iter(items)
    while piece := list(islice(rest, AT_ONCE)):
        yield piece
