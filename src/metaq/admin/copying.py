"""Carrying the offsets of a group from one root of the tree to another: partitions and offsets are the same there."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from metaq.admin.groups import GroupError, read_owners
from metaq.client.offsets import ZooKeeperOffsets
from metaq.cluster.paths import Paths, normalize_root
from metaq.cluster.ports import Registry
from metaq.cluster.znodes import Position
from metaq.model import ClusterPartition


@dataclass(frozen=True, slots=True)
class Copy:
    """What a group gets stored for a partition, and what it had there before."""

    place: ClusterPartition
    before: Position | None
    position: Position


class Copying:
    """Copies groups between two roots of one ZooKeeper."""

    def __init__(self, registry: Registry, from_root: str, to_root: str) -> None:
        self._registry = registry
        self._from = Paths(from_root)
        self._to = Paths(to_root)
        self._source = ZooKeeperOffsets(registry, self._from.root)
        self._target = ZooKeeperOffsets(registry, self._to.root)

    async def plan(self, group: str, topic: str | None = None, *, force: bool = False) -> list[Copy]:
        """Return what there is to copy, sorted; nothing is changed. `topic` None: of all topics.

        Raises GroupError if the roots are one, the group has nothing stored, or, unless `force`, if nobody is
        registered below the root it is copied to or members of the group own partitions there.
        """
        if normalize_root(self._from.root) == normalize_root(self._to.root):
            raise GroupError(f"group {group} is to be copied from {self._from.root or '/'} to itself")
        stored = await self._source.stored(group)
        wanted = {place: position for place, position in stored.items() if topic in (None, place.topic)}
        if not wanted:
            of = "" if topic is None else f" of topic {topic}"
            names = ", ".join(await self._source.groups()) or "none"
            raise GroupError(f"group {group} has nothing{of} stored below {self._from.root or '/'}; there are {names}")
        if not force:
            await self._check_target(group)
        before = await self._target.stored(group)
        return [Copy(place, before.get(place), wanted[place]) for place in sorted(wanted)]

    async def apply(self, group: str, copies: Iterable[Copy]) -> None:
        """Store the offsets."""
        await self._target.save(group, {each.place: each.position for each in copies})

    async def members(self, group: str) -> list[str]:
        """Return the members that the group has where it is copied from: what they read from now on is not copied."""
        return await self._registry.children(self._from.group_ids(group)) or []

    async def _check_target(self, group: str) -> None:
        brokers, owners = await asyncio.gather(
            self._registry.children(self._to.ids), read_owners(self._registry, self._to, group)
        )
        if not brokers:
            raise GroupError(f"no broker is registered below {self._to.root or '/'} (--force copies all the same)")
        for place, owner in sorted(owners.items()):
            raise GroupError(
                f"{place} is owned by {owner} below {self._to.root or '/'}: end the members of group {group} there"
                " first, or they put their own offsets back (--force copies all the same)"
            )
