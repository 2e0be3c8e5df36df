"""From broker ids and partitions to open links: what producers, readers and questions share."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from metaq.client.directory import Changes, Directory
from metaq.client.links import Links
from metaq.client.partitioner import Place, parse_partition
from metaq.errors import ConfigError, NoBroker
from metaq.model import BrokerAddress, BrokerPartition
from metaq.net.link import Link


class Route(NamedTuple):
    """A partition and the link to its broker."""

    partition: BrokerPartition
    link: Link


@dataclass(frozen=True, slots=True)
class Routes:
    """The directory and the links of one client."""

    directory: Directory
    links: Links
    changes: Changes

    async def to_broker(self, broker_id: int, timeout: float) -> Link:
        """Return the link to a broker, open or not, waiting until it is known where it is.

        Raises NoBroker if nobody has this id within `timeout` seconds.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        while True:
            seen = self.changes.generation
            address = (await self.directory.brokers()).get(broker_id)
            if address is not None:
                return self.links.to(address)
            if not await self.changes.wait(seen, deadline - asyncio.get_running_loop().time()):
                raise NoBroker(f"no broker with id {broker_id} within {timeout:g} s")

    async def to_replica(self, broker_id: int, timeout: float) -> tuple[Link, bool]:
        """Return the link to whom partitions of a broker are read from, and whether that is its master.

        While there is no master a slave serves, one that is connected if there is any (reference: Cluster). Raises
        NoBroker if there is nobody within `timeout` seconds.
        """
        if broker_id not in await self.directory.brokers():
            slaves = [self.links.to(address) for address in (await self.directory.slaves(broker_id)).values()]
            if slaves:
                return next((link for link in slaves if link.is_open), slaves[0]), False
        return await self.to_broker(broker_id, timeout), True

    async def any_broker(self, broker: int | str | BrokerAddress | None, timeout: float) -> Link:
        """Return the link to the broker named by id or address; None: the only one there is.

        Raises NoBroker, or ConfigError if the name does not name one.
        """
        match broker:
            case int():
                return await self.to_broker(broker, timeout)
            case None:
                return await self.to_broker(await self._only_broker(timeout), timeout)
        wanted = str(broker).removeprefix("metaq://").removeprefix("meta://")
        known = (await self.directory.brokers()).values()
        for address in known:
            if str(address) == f"meta://{wanted}":
                return self.links.to(address)
        raise ConfigError(f"no broker at {wanted}; there are {', '.join(map(str, known)) or 'none'}")

    async def resolve(self, place: Place, timeout: float) -> BrokerPartition:
        """Return the partition that is meant; a bare number is one of the only broker. Raises ConfigError, NoBroker."""
        match place:
            case BrokerPartition():
                return place
            case int():
                if place < 0:
                    raise ConfigError(f"{place} is no partition")
                return BrokerPartition(await self._only_broker(timeout), place)
            case str():
                return parse_partition(place)

    async def serving(self, topics: Iterable[str], *, all: bool) -> tuple[list[BrokerPartition], dict[int, Link]]:
        """Return the partitions of the first of these topics that has any, and the links to their brokers.

        `all`: those of brokers that are away too, by their numbers; otherwise only those of brokers that are connected
        now, and the others are dialled.
        """
        found: Sequence[BrokerPartition] = ()
        for topic in topics:
            found = await (self.directory.all_writable if all else self.directory.writable)(topic)
            if found:
                break
        brokers = await self.directory.brokers()
        links = {p.broker_id: self.links.to(brokers[p.broker_id]) for p in found if p.broker_id in brokers}
        if all:
            return list(found), links
        return [p for p in found if p.broker_id in links and links[p.broker_id].is_open], links

    async def _only_broker(self, timeout: float) -> int:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while True:
            seen = self.changes.generation
            ids = sorted(await self.directory.ids())
            if len(ids) == 1:
                return ids[0]
            if ids:
                raise ConfigError(f"there are several brokers ({', '.join(map(str, ids))}); say which one is meant")
            if not await self.changes.wait(seen, deadline - loop.time()):
                raise NoBroker(f"no broker within {timeout:g} s")
