"""What a broker is beyond serving, as `app.run` asks it; and the role of one that stands alone."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from metaq.broker.broker import Broker
from metaq.cluster.ports import Registry
from metaq.config.model import BrokerConfig
from metaq.model import BrokerAddress
from metaq.ports import World
from metaq.replication.syncing import Reloading


class Serving(Reloading, Protocol):
    """The broker as it serves. `address` is the one registered."""

    @property
    def address(self) -> BrokerAddress: ...
    async def announce(self) -> None:
        """Register it again. Raises RegistryError."""

    async def forget(self, topic: str) -> None:
        """Have ZooKeeper forget a topic; return when it has."""

    async def withdraw(self) -> None:
        """Have it leave ZooKeeper, and serve on."""

    async def succeed(self, claimed: Callable[[], Awaitable[None]]) -> None:
        """Have a slave become the master in ZooKeeper; `claimed` is awaited when nobody else can any more.

        Raises RegistryError, or what `claimed` raises; nothing has changed then.
        """


class Role(Protocol):
    """One role of one broker. Called in this order, each once."""

    @property
    def slave_id(self) -> int | None:
        """Return the number to be registered under; None: as the master of its broker id."""

    @property
    def registers(self) -> bool:
        """Return whether it is registered at all, where ZooKeeper is enabled."""

    def configure(self, config: BrokerConfig) -> BrokerConfig:
        """Return the configuration to start with. Raises ConfigError if the role cannot be played with it."""

    def join(self, broker: Broker, world: World) -> None:
        """Take one's place in a broker whose port is not open yet."""

    async def accompany(self) -> None:
        """Do what must go on from before the port opens until it is closed; until cancelled, or done.

        What it raises ends the broker.
        """

    async def prepare(self, broker: Broker, registry: Registry | None) -> None:
        """Return when the broker may be registered: its port is open."""

    async def work(self, serving: Serving, registry: Registry | None) -> None:
        """Do what the role is about, while the broker serves and is registered; until cancelled, or done.

        What it raises ends the broker. `registry` None: zk.zkEnable=false.
        """


class Master:
    """Takes messages, copies nobody's."""

    slave_id = None
    registers = True

    def configure(self, config: BrokerConfig) -> BrokerConfig:
        """Return it as it is."""
        return config

    def join(self, broker: Broker, world: World) -> None:
        """Do nothing."""

    async def accompany(self) -> None:
        """Do nothing."""

    async def prepare(self, broker: Broker, registry: Registry | None) -> None:
        """Do nothing."""

    async def work(self, serving: Serving, registry: Registry | None) -> None:
        """Do nothing."""
