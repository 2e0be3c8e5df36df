"""The place of a consumer in its group, whoever divides the partitions: ZooKeeper, or nobody."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from metaq.client.routes import Routes
from metaq.errors import MetaqError
from metaq.model import ClusterPartition

log = logging.getLogger(__name__)

_LOOK: Final = 1.0  # seconds between two looks for partitions that are new


class Holder(Protocol):
    """Who consumes (see cluster.membership.Holder)."""

    async def take(self, partitions: Sequence[ClusterPartition]) -> None: ...
    async def give(self, partitions: Sequence[ClusterPartition]) -> None: ...
    def lose(self, partitions: Sequence[ClusterPartition]) -> None: ...


class Member(Protocol):
    """One member of a group; cluster.membership.Membership is one."""

    @property
    def name(self) -> str: ...
    @property
    def owned(self) -> frozenset[ClusterPartition]: ...
    async def join(self) -> None: ...
    async def leave(self) -> None: ...
    async def update_topics(self, topics: Iterable[str]) -> None: ...


class SoleMember:
    """The only member there is: without ZooKeeper nobody divides, so all partitions that exist are its share."""

    def __init__(self, routes: Routes, holder: Holder, name: str, topics: Iterable[str]) -> None:
        self.name = name
        self._routes = routes
        self._holder = holder
        self._topics = tuple(topics)
        self._owned: set[ClusterPartition] = set()
        self._turn = asyncio.Lock()  # one look or change at a time, or a partition would be taken twice
        self._task: asyncio.Task[None] | None = None  # None: not a member

    @property
    def owned(self) -> frozenset[ClusterPartition]:
        """Return what was taken."""
        return frozenset(self._owned)

    async def join(self) -> None:
        """Take what there is, and what comes later."""
        async with self._turn:
            if self._task is None:
                await self._take_new()
                self._task = asyncio.create_task(self._watch(), name=f"partitions of {self.name}")

    async def leave(self) -> None:
        """Give everything back."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        async with self._turn:
            await self._give(self._owned)

    async def update_topics(self, topics: Iterable[str]) -> None:
        """Consume these topics and no others."""
        async with self._turn:
            self._topics = tuple(topics)
            await self._give({each for each in self._owned if each.topic not in self._topics})
            if self._task is not None:
                await self._take_new()

    async def _watch(self) -> None:
        while True:
            await self._routes.changes.wait(self._routes.changes.generation, _LOOK)
            async with self._turn:
                await self._take_new()

    async def _take_new(self) -> None:
        for topic in self._topics:
            try:
                found = {ClusterPartition(topic, each) for each in await self._routes.directory.readable(topic)}
                new = sorted(found - self._owned)
                if new:
                    await self._holder.take(new)
                    self._owned.update(new)
            except MetaqError as exc:
                log.debug("%s: partitions of %s not looked up, trying again: %s", self.name, topic, exc)

    async def _give(self, partitions: Iterable[ClusterPartition]) -> None:
        going = sorted(partitions)
        self._owned.difference_update(going)
        if going:
            await self._holder.give(going)
