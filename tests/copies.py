"""A master and an asynchronous slave of broker 1 on one ZooKeeper, brokers of ours, in a test. What copies is the test.

So a test says when the slave has what its master has; the slave is registered, and answers, as one that copies itself.
"""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, Self

from metaq.cluster.reading import readable_as_master
from metaq.cluster.registry import BrokerRegistration
from metaq.cluster.zk import ZooKeeperClient
from metaq.model import BrokerAddress
from metaq.store.log import PartitionLog
from tests.embedding import HERE, Dial, Serving, configured, settings

SLAVE: Final = 2
_ONCE: Final = 1 << 20  # bytes copied in one go, more than a test puts


class Pair:
    """`hosts` as in zk.zkConnect. Topic test has one partition."""

    def __init__(self, folder: Path, hosts: str) -> None:
        self.hosts = hosts
        self.master: Serving
        self.slave: Serving
        self._folder = folder
        self._stack = AsyncExitStack()

    @property
    def url(self) -> str:
        return f"zk://{self.hosts}/meta"

    async def start(self) -> Self:
        """Start both, empty."""
        links = {"zk.zkEnable": "true", "zk.zkConnect": self.hosts, "zk.zkSyncTimeMs": 100}
        self.master = await self._serve("master", links)
        self.slave = await self._serve("slave", {})
        broker = self.slave.running.broker
        broker.gets.is_slave = True
        client = ZooKeeperClient(self.hosts)
        await client.connect()
        self._stack.push_async_callback(client.close)
        address = BrokerAddress(HERE, self.slave.port)
        main = BrokerRegistration(client, self.slave.config, address, slave_id=SLAVE)
        registration = readable_as_master(main, client, self.slave.config, address, SLAVE)
        self._stack.push_async_callback(registration.withdraw)
        await registration.register(["test"])
        return self

    async def _serve(self, name: str, zookeeper: Mapping[str, object]) -> Serving:
        folder = self._folder / name
        folder.mkdir()
        system = {"brokerId": 1, "numPartitions": 1, "updateConsumerOffsets": "true"}
        config = configured(folder, settings(folder, system, zookeeper=zookeeper, topics="[topic=test]\n"))
        broker = await Serving(config).start()
        self._stack.push_async_callback(broker.end)
        return broker

    async def end(self) -> None:
        """Stop both; fine for one that has ended."""
        await self._stack.aclose()

    async def copy(self) -> None:
        """Have the slave store what its master has."""
        dial = Dial(self.master.port)
        peer = await dial()
        store = self.slave.running.broker.store
        for theirs in list(self.master.running.broker.store.all()):
            ours: PartitionLog = store.get(theirs.key) or store.create(theirs.key, theirs.start)
            if ours.end < theirs.visible:
                reply = await peer.asks(
                    b"get %s g %d %d %d 1\r\n" % (theirs.key[0].encode(), theirs.key[1], ours.end, _ONCE)
                )
                data = reply.partition(b"\r\n")[2]
                assert ours.end + len(data) == theirs.visible
                safe: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                store.append_copied(ours, data, ours.base)

                def stored(error: Exception | None, safe: asyncio.Future[None] = safe) -> None:
                    assert error is None
                    safe.set_result(None)

                store.commit(stored, len(data))
                await safe
        await dial.end()

    def gets(self, broker: Serving) -> int:
        """Return how many gets of topic test a broker was sent."""
        return broker.running.broker.statistics.tally("test").gets
