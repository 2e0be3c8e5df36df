"""Where a group begins in a partition (features.md, part 2: #30, #40, #55, #104, #128)."""

import logging
from datetime import datetime
from typing import NamedTuple

from metaq.client import asking
from metaq.client.consuming.options import ConsumerOptions, Where
from metaq.client.replay import find_offset
from metaq.client.routes import Routes
from metaq.cluster.znodes import NO_MESSAGE, Position
from metaq.errors import NoStoredOffset, OffsetLost
from metaq.model import ClusterPartition, TopicPartition
from metaq.net.link import Link

log = logging.getLogger(__name__)


class Bounds(NamedTuple):
    """Where a partition begins and ends, as the broker on this link has it."""

    link: Link
    is_master: bool
    first: int
    end: int

    def have(self, offset: int) -> bool:
        """Say whether an offset is in the log, or will be: a slave may lag behind the master that it was read from."""
        return self.first <= offset <= self.end or (offset > self.end and not self.is_master)


class Starting:
    """Turns what is stored, and the options `start` and `out_of_range`, into the position to go on from."""

    def __init__(self, routes: Routes, group: str, options: ConsumerOptions) -> None:
        self.routes = routes
        self._group = group
        self._options = options

    async def begin(self, key: ClusterPartition, stored: Position | None) -> Position:
        """Return where to begin. Raises NoStoredOffset, OffsetLost, and what asking a broker raises."""
        if stored is None or self._options.ignore_stored:
            if self._options.start == "stored":
                raise NoStoredOffset(f"{key}: group {self._group} has no offset stored, and start says 'stored'")
            return await self.place(key, self._options.start)
        bounds = await self.bounds(key)
        if bounds.have(stored.offset):
            return stored
        return await self.lost(key, stored.offset, bounds)

    async def lost(self, key: ClusterPartition, offset: int, bounds: Bounds | None = None) -> Position:
        """Return where to go on when an offset is not in the log. Raises OffsetLost where the options want that."""
        bounds = bounds or await self.bounds(key)
        text = f"{key}: offset {offset} of group {self._group} is not in the log, {bounds.first} to {bounds.end}"
        if self._options.out_of_range == "stored":
            raise OffsetLost(f"{text}, and out_of_range says 'stored'")
        position = await self.place(key, self._options.out_of_range, bounds)
        log.warning("%s; going on at %d", text, position.offset)
        return position

    async def bounds(self, key: ClusterPartition) -> Bounds:
        """Ask where a partition begins and ends; one that does not exist yet does at 0."""
        timeout = self._options.timeout
        link, is_master = await self.routes.to_replica(key.partition.broker_id, timeout)
        target = TopicPartition(key.topic, key.partition.partition)
        first = await asking.nearest_offset(link, target, self._group, 0, timeout)
        end = await asking.nearest_offset(link, target, self._group, asking.LATEST, timeout)
        return Bounds(link, is_master, first or 0, end or 0)

    async def place(self, key: ClusterPartition, where: Where, bounds: Bounds | None = None) -> Position:
        """Return the position a start option names. Raises NoTimeInIds, and what asking a broker raises."""
        match where:
            case int():
                return Position(NO_MESSAGE, where)
            case datetime():
                bounds = bounds or await self.bounds(key)
                target = TopicPartition(key.topic, key.partition.partition)
                found = await find_offset(bounds.link, target, where, self._options.timeout)
                return Position(NO_MESSAGE, found)
            case _:
                bounds = bounds or await self.bounds(key)
                return Position(NO_MESSAGE, bounds.end if where == "latest" else bounds.first)
