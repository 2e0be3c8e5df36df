"""A directory without ZooKeeper: the brokers are named in the URL, and asked themselves what they have."""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from metaq.client import asking
from metaq.client.directory import ANY_PARTITION, Changes
from metaq.client.links import Links
from metaq.config.broker import parse
from metaq.config.model import BrokerConfig
from metaq.errors import ClientError, ConfigError, NoBroker
from metaq.model import BrokerAddress, BrokerPartition
from metaq.net.link import Link

log = logging.getLogger(__name__)


class Identity(NamedTuple):
    """Who answers at an address. `is_slave`: it copies another broker and takes no messages."""

    broker_id: int
    is_slave: bool


class DirectDirectory:
    """Brokers at known addresses. Each is asked for its id on every new connection: brokers may change places.

    One that is away is taken for what it was.
    """

    def __init__(self, links: Links, addresses: Sequence[BrokerAddress], changes: Changes, timeout: float) -> None:
        self._links = links
        self._addresses = addresses
        self._changes = changes
        self._timeout = timeout  # seconds one question may take
        self._known: dict[BrokerAddress, Identity] = {}
        self._sure: set[BrokerAddress] = set()  # those asked on the present connection
        self._configs: dict[BrokerAddress, BrokerConfig] = {}

    def forget(self, link: Link) -> None:
        """Ask again who it is: the link was lost or opened anew."""
        self._sure.discard(link.address)

    async def open(self, timeout: float) -> None:
        """Begin to dial all brokers; return when one answers. Raises NoBroker with the reason for each if none does."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        links = [self._links.to(address) for address in self._addresses]
        while True:
            seen = self._changes.generation
            if await self.brokers() or self._known:
                return
            if not await self._changes.wait(seen, deadline - loop.time()):
                reasons = "; ".join(f"{link.address}: {link.reason}" for link in links)
                raise NoBroker(f"no broker answers within {timeout:g} s: {reasons}")

    async def close(self) -> None:
        """Nothing to do: the links belong to another."""

    async def brokers(self) -> Mapping[int, BrokerAddress]:
        """Return those that have answered and are no slaves; of two with one id, the first."""
        links = [self._links.to(address) for address in self._addresses]
        strangers = [link for link in links if link.is_open and link.address not in self._sure]
        if strangers:
            await asyncio.gather(*map(self._identify, strangers))
        found: dict[int, BrokerAddress] = {}
        for address in self._addresses:
            who = self._known.get(address)
            if who is not None and not who.is_slave:
                found.setdefault(who.broker_id, address)
        return found

    async def ids(self) -> Collection[int]:
        """Return the ids of those that have answered."""
        await self.brokers()  # asks those that are new who they are
        return {who.broker_id for who in self._known.values()}

    async def slaves(self, broker_id: int) -> Mapping[int, BrokerAddress]:
        """Return those of the brokers named in the URL that have answered as slaves of this id, as -1, -2, …"""
        await self.brokers()  # asks those that are new who they are
        wanted = Identity(broker_id, is_slave=True)
        found = [address for address in self._addresses if self._known.get(address) == wanted]
        return {-number: address for number, address in enumerate(found, 1)}

    async def writable(self, topic: str) -> Sequence[BrokerPartition]:
        """Return one entry per broker: it spreads the messages over its partitions by itself."""
        return [BrokerPartition(broker_id, ANY_PARTITION) for broker_id in sorted(await self.brokers())]

    async def all_writable(self, topic: str) -> Sequence[BrokerPartition]:
        """Return the partitions the brokers are configured to have, as each one's server.ini says."""
        found = []
        for broker_id, address in (await self.brokers()).items():
            count = (await self._config(self._links.to(address))).topic(topic).num_partitions
            found += [BrokerPartition(broker_id, number) for number in range(count)]
        return sorted(found)

    async def readable(self, topic: str) -> Sequence[BrokerPartition]:
        """Return the partitions that exist, which in a broker is those that something was sent to.

        Where only slaves of a broker are named in the URL, what the first of them has.
        """
        found = []
        masters = await self.brokers()
        slaves = {who.broker_id: address for address, who in reversed(self._known.items())}
        for broker_id, address in {**slaves, **masters}.items():
            body = await asking.stats(self._links.to(address), "offsets", self._timeout)
            positions = asking.parse_offsets(body.decode("utf-8", "replace"))
            found += [BrokerPartition(broker_id, p.partition) for p in positions if p.topic == topic]
        return sorted(found)

    async def _config(self, link: Link) -> BrokerConfig:
        """Return a broker's configuration, the last one known while it is away."""
        if not link.is_open and link.address in self._configs:
            return self._configs[link.address]
        text = await asking.stats(link, "config", self._timeout)
        try:
            config = parse(text, "its server.ini", env={"HOME": "/"}, is_dir=lambda _: True)
        except ConfigError as exc:
            raise NoBroker(f"{link.address}: cannot tell how many partitions it has: {exc}") from exc
        self._configs[link.address] = config
        return config

    async def _identify(self, link: Link) -> None:
        try:
            values = asking.parse_stats((await asking.stats(link, "", self._timeout)).decode("utf-8", "replace"))
        except ClientError as exc:
            log.warning("%s: does not say who it is: %s", link.address, exc)
            return
        number = values.get("broker_id", "")
        if not (number.isascii() and number.isdigit()):
            log.warning("%s: says its broker id is %r", link.address, number[:40])
            return
        self._sure.add(link.address)
        self._known[link.address] = Identity(int(number), values.get("slave") == "true")
