"""One link per broker, shared by everything a client does."""

from collections.abc import Callable, Iterable

from metaq.model import BrokerAddress
from metaq.net.link import Link, LinkOptions
from metaq.ports import Network, Random


class Links:
    """Links by address, each begun when first asked for; `on_change` is told when one opened or was lost."""

    def __init__(
        self, network: Network, random: Random, options: LinkOptions, on_change: Callable[[Link], None]
    ) -> None:
        self._network = network
        self._random = random
        self._options = options
        self._on_change = on_change
        self._links: dict[BrokerAddress, Link] = {}

    def to(self, address: BrokerAddress) -> Link:
        """Return the link to a broker, dialling if it is new. It may not be open (yet)."""
        link = self._links.get(address)
        if link is None:
            link = Link(self._network, address, random=self._random, options=self._options, on_change=self._on_change)
            self._links[address] = link
            link.start()
        return link

    def troubles(self) -> list[str]:
        """Return, for each broker that is not connected, its address and why."""
        return [f"{address}: {link.reason}" for address, link in self._links.items() if not link.is_open]

    async def retain(self, addresses: Iterable[BrokerAddress]) -> None:
        """Close the links to other addresses that are not open; an open one may still bring answers."""
        wanted = set(addresses)
        for address in [a for a, link in self._links.items() if a not in wanted and not link.is_open]:
            await self._links.pop(address).close()

    async def close(self) -> None:
        """Close all; requests that wait fail with LinkClosed."""
        links, self._links = self._links, {}
        for link in links.values():
            await link.close()
