"""Where a group begins in a partition (features.md, part 2: #30, #40, #55, #104, #128)."""

import logging
from datetime import datetime
from typing import NamedTuple

from metaq.client import asking
from metaq.client.consuming.options import ConsumerOptions, Where
from metaq.client.replay import find_offset
from metaq.client.replicas import Replicas
from metaq.client.source import Source
from metaq.cluster.znodes import NO_MESSAGE, Position
from metaq.errors import NoStoredOffset, OffsetLost
from metaq.model import TopicPartition
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

    def __init__(self, replicas: Replicas, group: str, options: ConsumerOptions) -> None:
        self.replicas = replicas
        self._group = group
        self._options = options

    async def begin(self, source: Source, stored: Position | None) -> Position:
        """Return where to begin. Raises NoStoredOffset, OffsetLost, and what asking a broker raises."""
        if stored is None or self._options.ignore_stored:
            if self._options.start == "stored":
                raise NoStoredOffset(f"{source.key}: group {self._group} has no offset stored, and start says 'stored'")
            return await self.place(source, self._options.start)
        bounds = await self.bounds_of_one_with(source, stored.offset)
        if bounds.have(stored.offset):
            return stored
        return await self.lost(source, stored.offset, bounds)

    async def lost(self, source: Source, offset: int, bounds: Bounds | None = None) -> Position:
        """Return where to go on when an offset is not in the log. Raises OffsetLost where the options want that."""
        bounds = bounds or await self.bounds(source)
        text = f"{source.key}: offset {offset} of group {self._group} is not in the log, {bounds.first} to {bounds.end}"
        if self._options.out_of_range == "stored":
            raise OffsetLost(f"{text}, and out_of_range says 'stored'")
        position = await self.place(source, self._options.out_of_range, bounds)
        log.warning("%s; going on at %d", text, position.offset)
        return position

    async def bounds(self, source: Source) -> Bounds:
        """Ask where a partition begins and ends; one that does not exist yet does at 0."""
        return await self._ask(source, *await source.way())

    async def bounds_of_one_with(self, source: Source, offset: int) -> Bounds:
        """Return the bounds at a broker that has an offset, and read from there; those of another if nobody has it.

        A slave may have begun later than its master, or deleted sooner.
        """
        bounds = await self.bounds(source)
        asked = {bounds.link}
        while not (bounds.is_master or bounds.have(offset)) and source.avoid(bounds.link):
            link, is_master = await source.way()
            if link in asked:
                break
            asked.add(link)
            bounds = await self._ask(source, link, is_master)
        return bounds

    async def lag(self, source: Source, position: Position | None) -> int:
        """Return how many bytes come after a position; None: in all. The master says where the end is, if there is one.

        Raises what asking a broker raises.
        """
        bounds = await self._ask(source, await source.authority(), is_master=True)
        return max(bounds.end - (bounds.first if position is None else position.offset), 0)

    async def place(self, source: Source, where: Where, bounds: Bounds | None = None) -> Position:
        """Return the position a start option names. Raises NoTimeInIds, and what asking a broker raises."""
        match where:
            case int():
                return Position(NO_MESSAGE, where)
            case datetime():
                bounds = bounds or await self.bounds(source)
                found = await find_offset(bounds.link, _target(source), where, self._options.timeout)
                return Position(NO_MESSAGE, found)
            case _:
                bounds = bounds or await self.bounds(source)
                return Position(NO_MESSAGE, bounds.end if where == "latest" else bounds.first)

    async def _ask(self, source: Source, link: Link, is_master: bool) -> Bounds:
        target, timeout = _target(source), self._options.timeout
        first = await asking.nearest_offset(link, target, self._group, 0, timeout)
        end = await asking.nearest_offset(link, target, self._group, asking.LATEST, timeout)
        return Bounds(link, is_master, first or 0, end or 0)


def _target(source: Source) -> TopicPartition:
    return TopicPartition(source.key.topic, source.key.partition.partition)
