"""What commands that look at a whole cluster have: a client of it, and its tree where it has one."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from metaq.aio import MessageQueue, connect
from metaq.cli.commands import CONNECT_TIMEOUT
from metaq.client.url import ZooKeeperUrl, parse_url
from metaq.cluster.directory import Directory
from metaq.cluster.ports import Registry
from metaq.cluster.zk import ZooKeeperClient


@dataclass(frozen=True, slots=True)
class Tree:
    """ZooKeeper, below a root."""

    registry: Registry
    root: str
    directory: Directory


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster; `tree` None: it was named by its brokers."""

    mq: MessageQueue
    tree: Tree | None


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[Cluster]:
    """Connect to a cluster while the block runs. Raises MetaqError if nobody answers in time."""
    target = parse_url(url)
    async with connect(url, connect_timeout=CONNECT_TIMEOUT) as mq:
        if not isinstance(target, ZooKeeperUrl):
            yield Cluster(mq, None)
            return
        registry = ZooKeeperClient(target.hosts, patience=CONNECT_TIMEOUT)
        await registry.connect(CONNECT_TIMEOUT)
        directory = Directory(registry, target.root)
        try:
            yield Cluster(mq, Tree(registry, target.root, directory))
        finally:
            await directory.close()
            await registry.close()
