"""A slave that appears as a master below a root of its own, for clients that only ever read from masters.

A Java consumer whose zk.zkConnect ends in /read-slave2 finds below it one broker: slave 2. So it reads from there, and
keeps its offsets and its group there too; nothing of it is changed but that line.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

from metaq.cluster.operations import BrokerConflict
from metaq.cluster.ports import Registry
from metaq.cluster.registry import BrokerRegistration
from metaq.config.model import BrokerConfig
from metaq.errors import ConfigError, RegistryError
from metaq.model import BrokerAddress


class Registration(Protocol):
    """What is told of a broker and its topics; BrokerRegistration is one."""

    @property
    def registry(self) -> Registry: ...
    async def register(self, topics: Iterable[str]) -> None: ...
    def topic_appeared(self, topic: str) -> None: ...
    async def add_topic(self, topic: str) -> None: ...
    async def update(self, config: BrokerConfig, topics: Iterable[str]) -> None: ...
    async def forget(self, topic: str) -> None: ...
    async def withdraw(self) -> None: ...


def read_root(config: BrokerConfig, slave_id: int) -> str:
    """Return the root below which a slave appears as a master; "": nowhere.

    Raises ConfigError if that is the root of the cluster, where the master is.
    """
    if config.slave_read_root is None:
        return f"/read-slave{slave_id}{config.zookeeper.root}"
    if config.slave_read_root == config.zookeeper.root:
        raise ConfigError(
            f"{config.path}: slaveReadRoot={config.slave_read_root}: that is zk.zkRoot, where the master is; write"
            f" /read-slave{slave_id}{config.zookeeper.root}, or none"
        )
    return config.slave_read_root


def readable_as_master(
    registration: Registration, registry: Registry, config: BrokerConfig, address: BrokerAddress, slave_id: int
) -> Registration:
    """Return what registers a slave as `registration` does and as a master below its own root, if it has one.

    Raises ConfigError.
    """
    root = read_root(config, slave_id)
    if not root:
        return registration
    elsewhere = replace(config, zookeeper=replace(config.zookeeper, root=root))
    return InTwoPlaces(registration, BrokerRegistration(registry, elsewhere, address), root)


class InTwoPlaces:
    """Registers below two roots; the second is left first and entered last."""

    def __init__(self, first: Registration, second: Registration, root: str) -> None:
        self._first = first
        self._second = second
        self._root = root

    @property
    def registry(self) -> Registry:
        """Where it is registered."""
        return self._first.registry

    async def register(self, topics: Iterable[str]) -> None:
        """Register in both. Raises BrokerConflict, or another RegistryError for the second."""
        names = list(topics)
        await self._first.register(names)
        try:
            await self._second.register(names)
        except BrokerConflict as exc:
            raise RegistryError(f"below {self._root}: {exc.what}; give each slave a slaveReadRoot of its own") from exc

    def topic_appeared(self, topic: str) -> None:
        """Have a topic registered soon."""
        self._first.topic_appeared(topic)
        self._second.topic_appeared(topic)

    async def add_topic(self, topic: str) -> None:
        """Register a topic in both."""
        await asyncio.gather(self._first.add_topic(topic), self._second.add_topic(topic))

    async def update(self, config: BrokerConfig, topics: Iterable[str]) -> None:
        """Take over a new configuration in both. Where they are registered does not change."""
        names = list(topics)
        await asyncio.gather(self._first.update(config, names), self._second.update(config, names))

    async def forget(self, topic: str) -> None:
        """Take the nodes of a topic away in both."""
        await asyncio.gather(self._first.forget(topic), self._second.forget(topic))

    async def withdraw(self) -> None:
        """Leave both."""
        try:
            await self._second.withdraw()
        finally:
            await self._first.withdraw()
