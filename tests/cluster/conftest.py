"""Every test of the tree runs against a real ZooKeeper, against our own registry, and against the tree in memory."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Protocol

import pytest

from metaq.app import settle_process
from metaq.cluster.memory import MemoryRegistry, MemoryTree
from metaq.cluster.ports import Registry
from metaq.cluster.zk import ZooKeeperClient
from metaq.testing import Coordinator
from tests.pauses import Pauses, watched_loop

DEADLINE = 20.0  # seconds for whatever a test waits for


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; TimeoutError after the deadline."""
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.005)


async def until_async(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition that must be asked for; TimeoutError after the deadline."""
    async with asyncio.timeout(DEADLINE):
        while not await condition():
            await asyncio.sleep(0.005)


class Ensemble(Protocol):
    """A ZooKeeper, real or not, with an empty tree for each test."""

    async def connect(self, session_timeout: float = 5.0) -> Registry:
        """Begin a session; it is closed at the end of the test."""

    async def close(self, registry: Registry) -> None: ...
    def expire(self, registry: Registry) -> None:
        """End a session of somebody who does not expect it."""


class RealEnsemble:
    def __init__(self, server: Coordinator, hosts: str) -> None:
        self._server = server
        self._hosts = hosts
        self._clients: list[ZooKeeperClient] = []

    async def connect(self, session_timeout: float = 5.0) -> ZooKeeperClient:
        client = ZooKeeperClient(self._hosts, session_timeout=session_timeout)
        await client.connect(DEADLINE)
        self._clients.append(client)
        return client

    async def close(self, registry: Registry) -> None:
        assert isinstance(registry, ZooKeeperClient)
        await registry.close()

    def expire(self, registry: Registry) -> None:
        assert isinstance(registry, ZooKeeperClient)
        self._server.expire(*registry.credentials)

    async def end(self) -> None:
        for client in self._clients:
            await client.close()


class MemoryEnsemble:
    def __init__(self) -> None:
        self.tree = MemoryTree()
        self._clients: list[MemoryRegistry] = []

    async def connect(self, session_timeout: float = 5.0) -> MemoryRegistry:
        client = MemoryRegistry(self.tree, session_timeout=session_timeout)
        await client.connect()
        self._clients.append(client)
        return client

    async def close(self, registry: Registry) -> None:
        assert isinstance(registry, MemoryRegistry)
        await registry.close()

    def expire(self, registry: Registry) -> None:
        assert isinstance(registry, MemoryRegistry)
        registry.expire()

    async def end(self) -> None:
        for client in self._clients:
            await client.close()


@pytest.fixture(params=["zookeeper", "registry", "memory"])
async def ensemble(request: pytest.FixtureRequest, chroots: Iterator[int]) -> AsyncIterator[Ensemble]:
    made: RealEnsemble | MemoryEnsemble
    if request.param == "memory":
        made = MemoryEnsemble()
    else:
        server = request.getfixturevalue("zookeeper" if request.param == "zookeeper" else "own_registry")
        assert isinstance(server, Coordinator)
        made = RealEnsemble(server, server.chroot(f"test-{next(chroots)}"))
    yield made
    await made.end()


@pytest.fixture
def few_collections() -> Iterator[None]:
    """Have the collector look as seldom as in a process of a broker: see `tune_process`."""
    before = gc.get_threshold()
    gc.set_threshold(20_000, 4, 1000)
    settle_process()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch, few_collections: None) -> Iterator[Pauses]:
    """Return what watches for callbacks that hold up the loop."""
    with watched_loop(monkeypatch) as watched:
        yield watched
