"""Positions in ZooKeeper, shared with Java members of a group (reference: ZkOffsetStorage; zookeeper.md §4.11)."""

import asyncio
import logging
from collections.abc import Awaitable, Coroutine, Iterable, Mapping, Sequence
from typing import TypeVar

from metaq.cluster.operations import Create, NodeExists, NoNode, Operation, Set
from metaq.cluster.paths import Paths, parent
from metaq.cluster.ports import Registry
from metaq.cluster.znodes import Position, decode_partition, decode_position, encode_position
from metaq.errors import RegistryError
from metaq.model import ClusterPartition

log = logging.getLogger(__name__)

T = TypeVar("T")


class ZooKeeperOffsets:
    """An OffsetStore at `<root>/consumers/<group>/offsets`, as text `<message id>-<offset>`.

    The registry belongs to another and stays open. `timeout`: seconds a call may take, then RegistryError. Text that
    means nothing counts as nothing stored, with one warning; Java members fail as long as it is there.
    """

    def __init__(self, registry: Registry, root: str = "/meta", *, timeout: float = 10.0) -> None:
        self._registry = registry
        self._paths = Paths(root)
        self._timeout = timeout
        self._warned: set[str] = set()  # paths

    async def load(self, group: str, partitions: Sequence[ClusterPartition]) -> dict[ClusterPartition, Position]:
        """Return what is stored for these partitions; read all at once."""
        return await self._in_time(group, self._load(group, partitions))

    async def save(self, group: str, positions: Mapping[ClusterPartition, Position]) -> None:
        """Store all, with the missing nodes above. Whatever is there is replaced: there is no order of writers."""
        await self._in_time(group, self._save(group, positions))

    async def groups(self) -> list[str]:
        """Return the groups that have something stored, sorted."""
        return await self._in_time("", self._groups())

    async def stored(self, group: str) -> dict[ClusterPartition, Position]:
        """Return all that a group has stored."""
        return await self._in_time(group, self._stored(group))

    async def texts(self, group: str) -> dict[ClusterPartition, bytes]:
        """Return all that is there as it is, also what means nothing; nodes without data are left out."""
        return await self._in_time(group, self._texts(group))

    async def close(self) -> None:
        """Nothing to do: the registry belongs to another."""

    async def _load(self, group: str, partitions: Iterable[ClusterPartition]) -> dict[ClusterPartition, Position]:
        wanted = list(dict.fromkeys(partitions))
        found = await _all(self._read(self._paths.offset(group, each.topic, each.partition)) for each in wanted)
        return {each: position for each, position in zip(wanted, found, strict=True) if position is not None}

    async def _save(self, group: str, positions: Mapping[ClusterPartition, Position]) -> None:
        left = {
            self._paths.offset(group, each.topic, each.partition): encode_position(position)
            for each, position in positions.items()
        }
        self._warned.difference_update(left)
        while left:
            left = await self._apply(left, Set, NoNode)
            await _all(self._registry.ensure(path) for path in sorted({parent(path) for path in left}))
            left = await self._apply(left, Create, NodeExists)  # left over: what others created meanwhile

    async def _apply(
        self, texts: Mapping[str, bytes], make: type[Set] | type[Create], expected: type[RegistryError]
    ) -> dict[str, bytes]:
        """Write all; return those that met the expected error. Raises the first of any other."""
        operations: list[Operation] = [make(path, data) for path, data in texts.items()]
        outcomes = zip(texts, await self._registry.apply(operations), strict=True)
        failed = {path: error for path, error in outcomes if error is not None}
        for error in failed.values():
            if not isinstance(error, expected):
                raise error
        return {path: texts[path] for path in failed}

    async def _groups(self) -> list[str]:
        names = await self._registry.children(self._paths.consumers) or []
        topics = await _all(self._registry.children(f"{self._paths.group(name)}/offsets") for name in names)
        return [name for name, found in zip(names, topics, strict=True) if found]

    async def _stored(self, group: str) -> dict[ClusterPartition, Position]:
        return await self._load(group, await self._places(group))

    async def _texts(self, group: str) -> dict[ClusterPartition, bytes]:
        places = await self._places(group)
        nodes = await _all(self._registry.get(self._paths.offset(group, *place)) for place in places)
        texts = zip(places, (node.data if node is not None else None for node in nodes), strict=True)
        return {place: text for place, text in texts if text is not None}

    async def _places(self, group: str) -> list[ClusterPartition]:
        topics = await self._registry.children(f"{self._paths.group(group)}/offsets") or []
        names = await _all(self._registry.children(self._paths.offsets(group, topic)) for topic in topics)
        return [
            ClusterPartition(topic, partition)
            for topic, found in zip(topics, names, strict=True)
            for partition in map(decode_partition, found or ())
            if partition is not None
        ]

    async def _read(self, path: str) -> Position | None:
        node = await self._registry.get(path)
        if node is None:
            return None
        try:
            return decode_position(node.data)
        except ValueError as exc:
            if path not in self._warned:
                self._warned.add(path)
                log.warning("%s: taken for no offset: %s; 1.4.6.2 consumers fail as long as it is there", path, exc)
            return None

    async def _in_time(self, group: str, work: Coroutine[object, object, T]) -> T:
        try:
            async with asyncio.timeout(self._timeout):
                return await work
        except TimeoutError as exc:
            raise RegistryError(
                f"{self._paths.group(group)}: ZooKeeper does not answer within {self._timeout:g} s"
            ) from exc


async def _all(questions: Iterable[Awaitable[T]]) -> list[T]:
    """Ask all at once; when all have ended, return the answers or raise the first error."""
    answers = await asyncio.gather(*questions, return_exceptions=True)
    found: list[T] = []
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
        found.append(answer)
    return found
