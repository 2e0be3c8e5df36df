"""Fixtures for slaves: a tree of their own, those who live there, and a client that looks at it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from metaq.cluster.zk import ZooKeeperClient
from metaq.testing import Coordinator
from tests.cluster.conftest import DEADLINE
from tests.cluster.slaves.sites import Sites


@pytest.fixture
def hosts(own_registry: Coordinator, chroots: Iterator[int]) -> str:
    return own_registry.chroot(f"slaves-{next(chroots)}")


@pytest.fixture
async def sites(tmp_path: Path, hosts: str) -> AsyncIterator[Sites]:
    async with Sites(tmp_path, hosts) as sites:
        yield sites


@pytest.fixture
async def tree(hosts: str) -> AsyncIterator[ZooKeeperClient]:
    client = ZooKeeperClient(hosts)
    await client.connect(DEADLINE)
    yield client
    await client.close()
