"""Groups of consumers as an operator sees them: who is in them, how far they are, and putting them somewhere else."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from metaq.admin.ends import Bounds, Ends, Log, read_ends
from metaq.client.offsets import StoredOffsets, ZooKeeperOffsets
from metaq.client.partitioner import parse_partition
from metaq.cluster.member_options import check_group
from metaq.cluster.paths import Paths
from metaq.cluster.ports import Registry
from metaq.cluster.znodes import (
    NO_MESSAGE,
    Position,
    decode_owner,
    decode_partition,
    decode_position,
    decode_topics,
)
from metaq.config.topics import unfit
from metaq.errors import MetaqError
from metaq.model import BrokerPartition, ClusterPartition

To: TypeAlias = Literal["earliest", "latest"] | int | datetime


class GroupError(MetaqError):
    """A group cannot be shown or moved as it was asked; the text says why, and what would do."""


@dataclass(frozen=True, slots=True)
class Part:
    """How far a group is in one partition. `stored`: a text is one that means nothing; None: nothing."""

    place: ClusterPartition
    owner: str | None
    stored: Position | str | None
    bounds: Bounds | None  # None: its broker does not say
    reason: str = ""  # why not

    @property
    def lag(self) -> int | None:
        """Bytes to go: from the stored offset, or where the log begins by now, to the end. None: it cannot be told."""
        if self.bounds is None or not isinstance(self.stored, Position):
            return None
        return max(0, self.bounds.end - max(self.stored.offset, self.bounds.first))

    @property
    def note(self) -> str:
        """What an operator should know; "": nothing."""
        if isinstance(self.stored, str):
            return f"stored text means nothing: {self.stored!r}"
        if self.bounds is None:
            return self.reason
        if self.stored is None:
            return "nothing stored"
        if self.stored.offset < self.bounds.first:
            return f"{self.bounds.first - self.stored.offset} bytes were deleted before they were read"
        if self.stored.offset > self.bounds.end:
            return "stored offset is behind the end of the log"
        return ""


@dataclass(frozen=True, slots=True)
class Group:
    """A group; members by the names of their nodes, with their topics."""

    name: str
    members: Mapping[str, Sequence[str]]
    parts: Sequence[Part]

    @property
    def topics(self) -> list[str]:
        """All topics it subscribes or has something of, sorted."""
        subscribed = {topic for topics in self.members.values() for topic in topics}
        return sorted(subscribed | {part.place.topic for part in self.parts})

    @property
    def lag(self) -> int | None:
        """The sum of what is known; None: nothing is."""
        known = [part.lag for part in self.parts if part.lag is not None]
        return sum(known) if known else None


@dataclass(frozen=True, slots=True)
class Move:
    """Where a group shall go on in a partition."""

    place: ClusterPartition
    stored: Position | str | None
    to: int


class Groups:
    """All groups of a cluster. `registry` None: nobody knows members, only what the store has."""

    def __init__(self, registry: Registry | None, root: str, store: StoredOffsets, log: Log) -> None:
        self._registry = registry
        self._paths = Paths(root)
        self._store = store
        self._log = log

    async def names(self) -> list[str]:
        """Return the groups that have, or had, members or offsets, sorted."""
        known = [] if self._registry is None else await self._registry.children(self._paths.consumers) or []
        return sorted({*known, *await self._store.groups()})

    async def all(self) -> list[Group]:
        """Return all groups, each with its members and how far it is."""
        names, ends = await asyncio.gather(self.names(), read_ends(self._log))
        return [await self._read(name, ends) for name in names]  # each asks for all its partitions at once

    async def group(self, name: str, topic: str | None = None) -> Group:
        """Return one group, of one topic where it is named. Raises GroupError if there is none of this name."""
        await self._must_exist(name)
        found = await self._read(name, await read_ends(self._log))
        if topic is None:
            return found
        if topic not in found.topics:
            raise GroupError(f"group {name} has nothing of topic {topic}; it has {', '.join(found.topics) or 'none'}")
        return Group(name, found.members, [part for part in found.parts if part.place.topic == topic])

    async def plan(self, name: str, topic: str, partition: str | None, to: To, *, force: bool = False) -> list[Move]:
        """Return what moving a group means; nothing is changed. None as partition: all of the topic.

        Raises GroupError if members own any of these partitions, or the group is not known, unless `force`; if the
        partition is not known, the offset is outside the log, or a broker that must be asked is away.
        """
        if why := unfit(topic):
            raise GroupError(f"{topic[:80]!r}: {why}")
        if force:
            check_group(name)
        else:
            await self._must_exist(name)
        ends = await read_ends(self._log)
        parts = await self._parts(name, topic, ends)
        if partition is not None:
            parts = [_find(parts, ClusterPartition(topic, _partition(partition, ends)))]
        elif not parts:
            raise GroupError(f"topic {topic} has no partitions")
        owned = [part for part in parts if part.owner is not None]
        if owned and not force:
            raise GroupError(
                f"{owned[0].place} is owned by {owned[0].owner}, {len(owned)} of {len(parts)} are owned: end the"
                f" members of group {name} first, or they put their own offsets back (--force does it all the same)"
            )
        targets = await asyncio.gather(*(self._target(part, to) for part in parts))
        return [Move(part.place, part.stored, target) for part, target in zip(parts, targets, strict=True)]

    async def apply(self, name: str, moves: Iterable[Move]) -> None:
        """Store the new offsets."""
        await self._store.save(name, {move.place: Position(NO_MESSAGE, move.to) for move in moves})

    async def _must_exist(self, name: str) -> None:
        names = await self.names()
        if name not in names:
            raise GroupError(f"there is no group {name}; there are {', '.join(names) or 'none'}")

    async def _read(self, name: str, ends: Ends) -> Group:
        members, owners, stored = await asyncio.gather(self._members(name), self._owners(name), self._stored(name))
        topics = {topic for subscribed in members.values() for topic in subscribed}
        topics |= {place.topic for place in (*owners, *stored)}
        places = {*owners, *stored, *await self._offered(topics)}
        return Group(name, members, [_part(place, owners, stored, ends) for place in sorted(places)])

    async def _parts(self, name: str, topic: str, ends: Ends) -> list[Part]:
        """Return all partitions of a topic: those it has, and those the group has something of."""
        owners, stored = await asyncio.gather(self._owners(name), self._stored(name))
        places = {place for place in (*owners, *stored, *await self._offered([topic])) if place.topic == topic}
        return [_part(place, owners, stored, ends) for place in sorted(places)]

    async def _offered(self, topics: Iterable[str]) -> list[ClusterPartition]:
        """Return the partitions these topics have now; names that no topic can have are passed over."""
        wanted = sorted(topic for topic in topics if not unfit(topic))
        lists = await asyncio.gather(*map(self._log.partitions, wanted))
        pairs = zip(wanted, lists, strict=True)
        return [ClusterPartition(topic, parse_partition(text)) for topic, texts in pairs for text in texts]

    async def _target(self, part: Part, to: To) -> int:
        if part.bounds is None:
            raise GroupError(f"{part.place}: {part.reason}; nothing was changed")
        match to:
            case "earliest":
                return part.bounds.first
            case "latest":
                return part.bounds.end
            case int():
                if not part.bounds.first <= to <= part.bounds.end:
                    raise GroupError(f"{part.place}: {to} is outside of the log, {part.bounds.first}-{part.bounds.end}")
                return to
            case since:
                return await self._log.offset_at(part.place.topic, part.place.partition, since)

    async def _members(self, name: str) -> dict[str, list[str]]:
        if self._registry is None:
            return {}
        path = self._paths.group_ids(name)
        names = await self._registry.children(path) or []
        nodes = await asyncio.gather(*(self._registry.get(f"{path}/{each}") for each in names))
        return {each: decode_topics(node.data) for each, node in zip(names, nodes, strict=True) if node is not None}

    async def _owners(self, name: str) -> dict[ClusterPartition, str]:
        return {} if self._registry is None else await read_owners(self._registry, self._paths, name)

    async def _stored(self, name: str) -> Mapping[ClusterPartition, Position | str]:
        """Return what is stored; of ZooKeeper also texts that mean nothing."""
        if not isinstance(self._store, ZooKeeperOffsets):
            return await self._store.stored(name)
        return {place: _decode(data) for place, data in (await self._store.texts(name)).items()}


async def read_owners(registry: Registry, paths: Paths, name: str) -> dict[ClusterPartition, str]:
    """Return the owners by partition. A node that names nobody counts as none, as for the original's dashboard."""
    topics = await registry.children(f"{paths.group(name)}/owners") or []
    lists = await asyncio.gather(*(registry.children(paths.owners(name, topic)) for topic in topics))
    places = [
        ClusterPartition(topic, partition)
        for topic, names in zip(topics, lists, strict=True)
        for partition in map(decode_partition, names or ())
        if partition is not None
    ]
    nodes = await asyncio.gather(*(registry.get(paths.owner(name, *place)) for place in places))
    owners = {place: decode_owner(node.data) for place, node in zip(places, nodes, strict=True) if node is not None}
    return {place: owner for place, owner in owners.items() if owner is not None}


def _decode(data: bytes) -> Position | str:
    try:
        position = decode_position(data)
    except ValueError:
        position = None
    return data.decode("utf-8", "backslashreplace") if position is None else position


def _part(
    place: ClusterPartition,
    owners: Mapping[ClusterPartition, str],
    stored: Mapping[ClusterPartition, Position | str],
    ends: Ends,
) -> Part:
    bounds = ends.of(place)
    return Part(place, owners.get(place), stored.get(place), bounds, "" if bounds else ends.reason(place))


def _partition(text: str, ends: Ends) -> BrokerPartition:
    """Return the partition that is meant: `<brokerId>-<number>`, or a number where there is one broker."""
    if not (text.isascii() and text.isdigit()):
        return parse_partition(text)
    ids = sorted(ends.present | ends.away.keys())
    if len(ids) != 1:
        raise GroupError(f"{text} is a partition of which broker? There are {', '.join(map(str, ids)) or 'none'}")
    return BrokerPartition(ids[0], int(text))


def _find(parts: Iterable[Part], place: ClusterPartition) -> Part:
    known = {part.place: part for part in parts}
    if place not in known:
        there = ", ".join(str(each.partition) for each in sorted(known))
        raise GroupError(f"there is no partition {place.partition} of topic {place.topic}; there are {there or 'none'}")
    return known[place]
