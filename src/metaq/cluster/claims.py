"""The owner nodes of one member of a group: claimed, looked at, given up (reference: ConsumerZooKeeper)."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from metaq.cluster.operations import Create, Delete, Node, NodeExists, NoNode, Operation, SessionLost
from metaq.cluster.paths import Paths, parent
from metaq.cluster.ports import Changed, Registry
from metaq.cluster.znodes import decode_owner, encode_owner
from metaq.model import ClusterPartition

log = logging.getLogger(__name__)

_TRIES: Final = 3  # to claim what is free, or vanishes while we look


class Claims:
    """Claims partitions for one member in one session. Ours is what names us and lives with that session.

    Once the session is over, or before the first, whatever is asked raises SessionLost.
    `changed` is called with a partition when its node may be another than it was when we looked.
    """

    def __init__(
        self, registry: Registry, paths: Paths, group: str, name: str, changed: Callable[[ClusterPartition], None]
    ) -> None:
        self._registry = registry
        self._paths = paths
        self._group = group
        self._name = name
        self._changed = changed
        self._session = 0
        self._watches: dict[ClusterPartition, Changed] = {}  # the same each time, so that they count once
        self._homes: set[str] = set()  # topics that have a directory of owners
        self._warned: set[tuple[ClusterPartition, Node]] = set()

    def begin(self, session: int) -> None:
        """Go over to a new session, in which nothing is ours yet."""
        self._session = session
        self._homes.clear()

    async def claim(
        self, partitions: Sequence[ClusterPartition], members: Collection[str]
    ) -> frozenset[ClusterPartition]:
        """Claim partitions nobody owns; return those that are ours then. `members`: the names of the living.

        A node that ends with no session, left by somebody's tool, is taken away first if it names nobody who lives.
        """
        for topic in sorted({each.topic for each in partitions} - self._homes):
            await self._registry.ensure(self._paths.owners(self._group, topic))
            self._homes.add(topic)
        data = encode_owner(self._name)
        nodes: dict[ClusterPartition, Node | None] = dict.fromkeys(partitions)
        for _ in range(_TRIES):
            missing = [each for each, node in nodes.items() if node is None]
            if not missing:
                break
            await self._apply([Create(self._path(each), data, ephemeral=True) for each in missing])
            nodes |= await self._read(missing)
            for each in missing:
                nodes[each] = await self._inspect(each, nodes[each], members)
        return frozenset(each for each, node in nodes.items() if self._is_ours(node))

    async def still(self, partitions: Iterable[ClusterPartition]) -> frozenset[ClusterPartition]:
        """Return which of these are ours."""
        nodes = await self._read(sorted(partitions))
        return frozenset(each for each, node in nodes.items() if self._is_ours(node))

    async def release(self, partitions: Iterable[ClusterPartition]) -> None:
        """Give claims up. What is not ours, or no longer, is left alone."""
        await self._apply([Delete(self._path(each)) for each in sorted(await self.still(partitions))])

    def _path(self, each: ClusterPartition) -> str:
        return self._paths.owner(self._group, each.topic, each.partition)

    def _is_ours(self, node: Node | None) -> bool:
        return node is not None and node.owner == self._session and decode_owner(node.data) == self._name

    async def _read(self, partitions: Sequence[ClusterPartition]) -> Mapping[ClusterPartition, Node | None]:
        nodes = await asyncio.gather(*(self._registry.get(self._path(each), self._watch(each)) for each in partitions))
        if self._registry.session != self._session:
            raise SessionLost()
        return dict(zip(partitions, nodes, strict=True))

    def _watch(self, each: ClusterPartition) -> Changed:
        return self._watches.setdefault(each, partial(self._changed, each))

    async def _apply(self, operations: Sequence[Operation]) -> None:
        """Carry out what can be: a node may be there already, or be gone."""
        for error in await self._registry.apply(operations, session=self._session):
            if isinstance(error, NoNode):
                self._homes.clear()  # perhaps somebody removed one
            elif error is not None and not isinstance(error, NodeExists):
                raise error

    async def _inspect(self, each: ClusterPartition, node: Node | None, members: Collection[str]) -> Node | None:
        """Say, once, what is odd about a node that is not ours; return what is left of it."""
        if node is None or self._is_ours(node):
            return node
        owner = decode_owner(node.data)
        if node.owner == 0 and (owner == self._name or owner not in members):
            log.warning(
                "group %s: the node of %s names %r and ends with no session; removing it", self._group, each, owner
            )
            return await self._remove(each, node)
        if (each, node) in self._warned or not (owner == self._name or node.owner == 0):
            return node
        self._warned.add((each, node))
        if owner == self._name:
            log.warning(
                "group %s: %s is owned by session %#x under our own name %s; ours is %#x",
                self._group, each, node.owner, owner, self._session,
            )  # fmt: skip
        else:
            log.warning("group %s: the node of %s, which names %s, ends with no session", self._group, each, owner)
        return node

    async def _remove(self, each: ClusterPartition, node: Node) -> Node | None:
        """Delete a node if it is still the same, and no other member is about to do so; return what is there then.

        Who deletes it a second time would delete the claim of who was there first.
        """
        lock = self._paths.leftovers(self._group)
        ours = Node(encode_owner(self._name), self._session)
        await self._registry.ensure(parent(lock))
        await self._apply([Create(lock, ours.data, ephemeral=True)])
        if await self._registry.get(lock) != ours:
            return node
        # when an error, or our end, comes between, the lock stays with us until the session ends, or the next time
        if await self._registry.get(self._path(each)) == node:
            await self._apply([Delete(self._path(each))])
        left = await self._registry.get(self._path(each), self._watch(each))
        await self._apply([Delete(lock)])
        return left
