"""Fixtures for tests beside the original: the real Java broker and the real Java client 1.4.6.2."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from metaq.cluster.zk import ZooKeeperClient
from tests.cluster.conftest import until_async
from tests.conftest import require
from tests.interop import jvm
from tests.interop.jvm import Command, Finished, JavaBroker

PLAIN: Final = """[system]
brokerId=1
numPartitions=2
unflushThreshold=0
unflushInterval=10000
maxSegmentSize=1073741824
maxTransferSize=1048576
deletePolicy=delete,168
deleteWhen=0 0 6,18 * * ?
[zookeeper]
[topic=test]
"""
SHORT_PAUSE_MS: Final = 100  # zk.zkSyncTimeMs: a stopping broker waits that long, 5,000 as shipped


class Brokers:
    """Starts Java brokers, each in a folder of its own below `folder`, all in one corner of ZooKeeper."""

    def __init__(self, folder: Path, zk: str) -> None:
        self._folder = folder
        self._zk = zk
        self._started: list[JavaBroker] = []

    async def __call__(
        self,
        ini: Path | str = PLAIN,
        *,
        port: int | None = None,
        system: Mapping[str, object] | None = None,
        zookeeper: Mapping[str, object] | None = None,
    ) -> JavaBroker:
        """Start a broker on this server.ini (a path, or its text) and return when it answers.

        Changed are serverPort (`port`, else a free one), hostName, dataPath and dataLogPath (in a folder that is new),
        zk.zkConnect and zk.zkSyncTimeMs; then the keys of `system` and `zookeeper` are put over these. All else
        reaches Java as it is. Raises RuntimeError with the end of its log if it does not serve.
        """
        port = port or jvm.free_port()
        path = self._write(ini, {"serverPort": port, **(system or {})}, zookeeper or {})
        broker = await jvm.start_broker(path, port)
        self._started.append(broker)
        if ini is PLAIN:
            await self._registered()
        return broker

    async def _registered(self) -> None:
        """Wait until the topic of PLAIN is registered: a put that comes meanwhile is refused (NodeExists)."""
        client = ZooKeeperClient(self._zk)
        await client.connect()

        async def is_there() -> bool:
            return "1-m" in (await client.children("/meta/brokers/topics/test") or ())

        try:
            await until_async(is_there)
        finally:
            await client.close()

    def _write(self, ini: Path | str, system: Mapping[str, object], zookeeper: Mapping[str, object]) -> Path:
        """Write the server.ini of the next broker into a new home and return its path."""
        home = self._folder / f"java-broker-{len(list(self._folder.glob('java-broker-*')))}"
        path = home / "conf" / "server.ini"
        path.parent.mkdir(parents=True)
        text = ini if isinstance(ini, str) else ini.read_bytes().decode("utf-8", "surrogateescape")
        places = {"hostName": "127.0.0.1", "dataPath": home / "data", "dataLogPath": home / "data"}
        text = jvm.with_settings(text, "system", places | dict(system))
        links = {"zk.zkConnect": self._zk, "zk.zkSyncTimeMs": SHORT_PAUSE_MS}
        text = jvm.with_settings(text, "zookeeper", links | dict(zookeeper))
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        return path

    async def end(self) -> None:
        for broker in self._started:
            await broker.kill()


class Judge:
    """Runs commands of the Java client, in the same corner of ZooKeeper unless told otherwise."""

    def __init__(self, folder: Path, zk: str) -> None:
        self._folder = folder
        self._zk = zk
        self._started: list[Command] = []

    async def __call__(self, name: str, *, expect: int | None = 0, **options: object) -> Finished:
        """Run one command to its end: `await judge("Produce", topic="test", count=10)`.

        Raises AssertionError with its last words if the exit status is not `expect` (None: any is fine).
        """
        return await (await self.start(name, **options)).finish(expect)

    async def start(self, name: str, **options: object) -> Command:
        """Start one command and leave it running; `until` and `finish` wait for what it says."""
        log = self._folder / f"judge-{len(self._started)}-{name}.log"
        chosen = options if options.keys() & {"zk", "server"} else {"zk": self._zk, **options}
        command = await Command.start(name, log, chosen)
        self._started.append(command)
        return command

    async def end(self) -> None:
        for command in self._started:
            await command.java.kill()
            async for _ in command:  # what it still said goes, and with it the pipe
                pass


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fetch and compile the Java parts before the clock of the first test that uses them runs."""
    items = [] if session.config.option.collectonly else session.items
    if any("java" in getattr(item, "fixturenames", ()) for item in items) and not jvm.missing():
        with contextlib.suppress(RuntimeError):  # the fixture tells
            jvm.class_path()


@pytest.fixture(scope="session")
def java() -> str:
    """The class path of the Java client, broker and judge."""
    require("Java (a JDK and Maven)", not jvm.missing())
    try:
        return jvm.class_path()
    except RuntimeError as exc:
        require(str(exc), present=False)
        raise


@pytest.fixture
async def java_broker(java: str, tmp_path: Path, zk: str) -> AsyncIterator[Brokers]:
    """Start a Java broker: `broker = await java_broker(ini)`; see Brokers."""
    brokers = Brokers(tmp_path, zk)
    yield brokers
    await brokers.end()


@pytest.fixture
async def judge(java: str, tmp_path: Path, zk: str) -> AsyncIterator[Judge]:
    """Run the Java client: `await judge("Consume", topic="test", count=10)`; see Judge."""
    judge = Judge(tmp_path, zk)
    yield judge
    await judge.end()
