"""The registration of a slave that may become the master of its broker id, without a restart."""

from collections.abc import Awaitable, Callable, Iterable

from metaq.cluster.ports import Registry
from metaq.cluster.reading import Registration
from metaq.cluster.registry import BrokerRegistration
from metaq.config.model import BrokerConfig


class Succession:
    """Registers as `slave` does until `succeed`, and as `master` from then on."""

    def __init__(self, slave: Registration, master: BrokerRegistration) -> None:
        self._slave = slave
        self._master = master
        self._now: Registration = slave

    @property
    def registry(self) -> Registry:
        """Where it is registered."""
        return self._now.registry

    async def register(self, topics: Iterable[str]) -> None:
        """Register as what it is. Raises RegistryError."""
        await self._now.register(topics)

    def topic_appeared(self, topic: str) -> None:
        """Have a topic registered soon."""
        self._now.topic_appeared(topic)

    async def add_topic(self, topic: str) -> None:
        """Register a topic; return when it is done."""
        await self._now.add_topic(topic)

    async def update(self, config: BrokerConfig, topics: Iterable[str]) -> None:
        """Take over a new configuration."""
        names = list(topics)
        await self._now.update(config, names)
        if self._now is not self._master:
            await self._master.update(config, names)  # only noted

    async def forget(self, topic: str) -> None:
        """Take the nodes of a topic away."""
        await self._now.forget(topic)
        if self._now is not self._master:
            await self._master.forget(topic)

    async def withdraw(self) -> None:
        """Leave."""
        await self._now.withdraw()

    async def succeed(self, topics: Iterable[str], claimed: Callable[[], Awaitable[None]]) -> None:
        """Become the master in the tree, and the slave no more; return when clients can see it.

        `claimed` is awaited between the broker's node, which only one can have, and those of its topics, which bring
        producers. Raises BrokerConflict, another RegistryError, or what `claimed` raises; it is the slave as before
        then. Who reads from the slave finds it in one place or the other all along.
        """
        try:
            await self._master.register(())
            await claimed()
        except BaseException:
            await self._master.withdraw()
            raise
        before, self._now = self._now, self._master
        await self._master.register(topics)
        await before.withdraw()
