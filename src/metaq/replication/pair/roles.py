"""The two roles of a synchronous pair, for `app.run`."""

import logging
from typing import Final

from metaq.broker.broker import Broker
from metaq.cluster.ports import Registry
from metaq.config.model import BrokerConfig
from metaq.config.pair import SamsaConfig, load
from metaq.errors import ConfigError
from metaq.ports import World
from metaq.replication.pair.gregor import serve_as_slave
from metaq.replication.pair.notify import run_command
from metaq.replication.pair.recovering import recover_offsets
from metaq.replication.pair.samsa import Samsa
from metaq.replication.role import Master, Serving

log_ = logging.getLogger(__name__)

_UNTIL_UP: Final = 10.0  # seconds that a master waits for its slave before it is registered without


def samsa_from_file(path: str) -> "SamsaRole":
    """Return the role that a samsa_master.properties describes. Raises ConfigError."""
    return SamsaRole(load(path))


def gregor_from_file(path: str) -> "GregorRole":
    """Return the role of a slave; its file says nothing, but must be there. Raises ConfigError."""
    try:
        with open(path, "rb"):
            return GregorRole()
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read: {exc.strerror}; it may be empty, but must be there") from exc


class SamsaRole(Master):
    """The master of a pair. `until_up`: seconds that it waits for its slave before it is registered without."""

    def __init__(self, config: SamsaConfig, until_up: float = _UNTIL_UP) -> None:
        self._config = config
        self._until_up = until_up
        self.samsa: Samsa

    def configure(self, config: BrokerConfig) -> BrokerConfig:
        """Return the configuration as it is. Raises ConfigError if the slave is this broker."""
        host, port = self._config.slave_host, self._config.slave_port
        if port == config.server_port and host in (config.host_name, config.bind_address, "localhost", "127.0.0.1"):
            raise ConfigError(f"{self._config.path}: slave={host}:{port}: that is this broker; name the other one")
        for warning in self._config.warnings:
            log_.warning("%s", warning)
        return config

    def join(self, broker: Broker, world: World) -> None:
        """Have each round copied from here on."""
        self.samsa = Samsa(broker, world, self._config)
        self.samsa.health.notify = run_command
        self.samsa.attach()
        broker.pair = self.samsa.figures

    async def accompany(self) -> None:
        """Keep the slave up."""
        await self.samsa.run()

    async def prepare(self, broker: Broker, registry: Registry | None) -> None:
        """Wait for the slave, not for long, and put offsets of groups right if that is wanted."""
        if not await self.samsa.settled(self._until_up):
            log_.error("%s: the slave has not all there is yet, puts are refused until then", self.samsa.slave)
            self.samsa.health.connected(self.samsa.link.is_open)
        if self._config.recover_offset and registry is not None:
            await recover_offsets(registry, broker.config.zookeeper.root, broker.config.broker_id, broker.store)

    async def work(self, serving: Serving, registry: Registry | None) -> None:
        """Leave ZooKeeper when the slave is not well, and come back; tell people."""
        health = self.samsa.health
        health.register, health.withdraw = serving.announce, serving.withdraw
        await health.run()


class GregorRole(Master):
    """The slave of a pair: it is in no list, and stores what its master sends."""

    registers = False  # what stands in ZooKeeper under its broker id is the master's

    def join(self, broker: Broker, world: World) -> None:
        """Store what a master sends, from here on."""
        serve_as_slave(broker)
