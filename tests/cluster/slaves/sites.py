"""A master and its asynchronous slaves, brokers of ours on one ZooKeeper, each in a folder of its own."""

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, Self

from metaq.config.broker import load
from metaq.config.slave import SlaveConfig, Sync
from metaq.replication.role import Role
from metaq.replication.slave import Slave
from tests.cluster.conftest import until
from tests.embedding import Dial, Peer, Serving, settings

TOPICS: Final = "[topic=test]\n[topic=oct29]\n"
NOTHING: Final[Mapping[str, object]] = {}


class Site:
    """One broker's folder: the broker is started, ended, and started again there."""

    def __init__(self, folder: Path, config: str, role: Callable[[], Role | None]) -> None:
        folder.mkdir()
        self.folder = folder
        self.ini = folder / "server.ini"
        self.ini.write_text(config)
        self.role = role
        self.broker: Serving
        self._started = False
        self._dial: Dial | None = None

    async def start(self) -> Self:
        """Return when it is registered."""
        self.broker = await Serving(load(str(self.ini)), role=self.role()).start()
        self._started = True
        return self

    async def end(self) -> None:
        """Stop in order, if it runs."""
        if self._dial is not None:
            await self._dial.end()
            self._dial = None
        if self._started:
            self._started = False
            await self.broker.end()

    async def peer(self) -> Peer:
        """Return a connection to the broker."""
        if self._dial is None:
            self._dial = Dial(self.broker.port)
        return await self._dial()

    async def put(self, topic: str, partition: int, *bodies: bytes) -> None:
        """Store messages."""
        peer = await self.peer()
        for body in bodies:
            await peer.sends(b"put %b %d %d 0 1\r\n%b" % (topic.encode(), partition, len(body), body))
            await peer.gets(rb"result 200 .*")

    @property
    def slave(self) -> Slave:
        """The role it plays."""
        replica = self.broker.running.broker.replica
        assert isinstance(replica, Slave)
        return replica

    def bounds(self) -> dict[str, tuple[int, int]]:
        """Return where each partition that holds something begins and ends."""
        logs = self.broker.running.broker.store.all()
        return {str(log.key): (log.start, log.readable) for log in logs if log.readable}

    def files(self) -> dict[str, bytes]:
        """Return the segments of a broker that has ended: their bytes by partition and name."""
        found = ((f"{path.parent.name}/{path.name}", path.read_bytes()) for path in self.folder.glob("data/*/*.meta"))
        return {name: data for name, data in found if data}


class Sites:
    """A master and slaves of broker 1 below /meta at `hosts`; all end with the block."""

    def __init__(self, folder: Path, hosts: str) -> None:
        self._folder = folder
        self._hosts = hosts
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def site(
        self, name: str, role: Callable[[], Role | None] = lambda: None, topics: str = TOPICS, **system: object
    ) -> Site:
        """Make a folder for a broker."""
        folder = self._folder / name
        links = {"zk.zkEnable": "true", "zk.zkConnect": self._hosts, "zk.zkSyncTimeMs": 100}
        text = settings(folder, {"brokerId": 1, "numPartitions": 2, **system}, zookeeper=links, topics=topics)
        site = Site(folder, text, role)
        self._stack.push_async_callback(site.end)
        return site

    def slave(self, number: int, sync: Sync | None = Sync.TOPICS, topics: str = TOPICS, **system: object) -> Site:
        """Make a folder for a slave."""
        config = SlaveConfig(slave_id=number, slave_group=f"slaves-{number}", sync=sync)
        return self.site(f"slave{number}", lambda: Slave(config), topics, **system)


async def same(master: Site, *slaves: Site) -> None:
    """Wait until the slaves have all that the master has."""
    assert master.bounds()
    await until(lambda: all(slave.bounds() == master.bounds() for slave in slaves))
