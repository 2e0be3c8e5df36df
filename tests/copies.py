"""A master and an asynchronous slave of broker 1 on one ZooKeeper, brokers of ours, in a test."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, Self

from metaq.cluster.ports import Registry
from metaq.config.slave import SlaveConfig
from metaq.replication import role
from metaq.replication.slave import Slave
from metaq.store.log import PartitionLog
from tests.cluster.conftest import until
from tests.embedding import Dial, Serving, configured, settings

SLAVE: Final = 2
_ONCE: Final = 1 << 20  # bytes copied in one go, more than a test puts


class Still(Slave):
    """A slave that copies nothing by itself: the test says when it has what its master has."""

    async def work(self, serving: role.Serving, registry: Registry | None) -> None:
        await asyncio.Event().wait()


class Pair:
    """`hosts` as in zk.zkConnect; `slave`: what the second one is; `partitions`: those of topic test."""

    def __init__(self, folder: Path, hosts: str, slave: type[Slave] = Slave, partitions: int = 1) -> None:
        self.hosts = hosts
        self.master: Serving
        self.slave: Serving
        self._folder = folder
        self._partitions = partitions
        self._settings = SlaveConfig(slave_id=SLAVE, slave_group="meta-slave-group", max_delay=0.05)
        self._role = slave(self._settings)
        self._stack = AsyncExitStack()

    @property
    def url(self) -> str:
        return f"zk://{self.hosts}/meta"

    async def start(self) -> Self:
        """Start both, empty."""
        self.master = await self._serve("master", None)
        self.slave = await self._serve("slave", self._role)
        return self

    async def start_slave(self) -> Self:
        """Start the slave alone: its master is another's."""
        self.slave = await self._serve("slave", self._role)
        return self

    async def restart_slave(self) -> None:
        """Start it again, after its end, on the same folder; its port may be another."""
        self.slave = await self._serve("slave", Slave(self._settings))

    async def _serve(self, name: str, what: role.Role | None) -> Serving:
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        links = {"zk.zkEnable": "true", "zk.zkConnect": self.hosts, "zk.zkSyncTimeMs": 100}
        system = {"brokerId": 1, "numPartitions": self._partitions, "updateConsumerOffsets": "true"}
        config = configured(folder, settings(folder, system, zookeeper=links, topics="[topic=test]\n"))
        broker = await Serving(config, role=what).start()
        self._stack.push_async_callback(broker.end)
        return broker

    async def end(self) -> None:
        """Stop both; fine for one that has ended."""
        await self._stack.aclose()

    async def copied(self) -> None:
        """Wait until the slave, which copies by itself, has what its master has."""
        ours, theirs = (broker.running.broker.store for broker in (self.slave, self.master))

        def has_all() -> bool:
            return {log.key: log.visible for log in ours.all()} == {log.key: log.visible for log in theirs.all()}

        await until(has_all)

    async def copy(self) -> None:
        """Have a slave that is still store what its master has."""
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
