"""Fixtures: each kind of store, on what it really uses."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from metaq.client.offsets import FileOffsets, MemoryOffsets, SqlOffsets, StoredOffsets, ZooKeeperOffsets
from metaq.cluster.znodes import Position
from metaq.model import BrokerPartition, ClusterPartition
from tests.client.offsets.mariadb import MariaDB
from tests.cluster.conftest import Ensemble, MemoryEnsemble, RealEnsemble
from tests.conftest import require

KINDS: Final = ("memory", "file", "zookeeper", "zookeeper in memory", "sqlite", "sqlite, asynchronous", "mariadb")

Opener = Callable[[], Awaitable[StoredOffsets]]


def place(topic: str, broker_id: int, partition: int) -> ClusterPartition:
    return ClusterPartition(topic, BrokerPartition(broker_id, partition))


def many(count: int, *, round: int = 0) -> dict[ClusterPartition, Position]:
    """Return positions of so many partitions of two topics on several brokers, others for each round."""
    return {
        place(f"t{n % 2}", n % 5, n): Position(-5465310905774374905 + n - round, 1_048_576 * n + round)
        for n in range(count)
    }


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    """A real MariaDB, one for all tests of this process."""
    require("MariaDB (Debian package mariadb-server)", MariaDB.available())
    server = MariaDB(tmp_path_factory.mktemp("mariadb"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def database(mariadb: MariaDB, chroots: Iterator[int]) -> str:
    """The URL of an empty database this test has for itself."""
    return mariadb.create(f"test{next(chroots)}")


@pytest.fixture
async def opener(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opener]:
    """Open stores of one kind, all over the same data; they are closed at the end."""
    kind: object = request.param
    opened: list[StoredOffsets] = []
    ensemble: Ensemble | None = None
    if kind == "zookeeper":
        ensemble = RealEnsemble(request.getfixturevalue("zookeeper"), request.getfixturevalue("zk"))
    elif kind == "zookeeper in memory":
        ensemble = MemoryEnsemble()
    url = request.getfixturevalue("database") if kind == "mariadb" else f"sqlite:///{tmp_path}/offsets.db"
    memory = MemoryOffsets()

    async def open_one() -> StoredOffsets:
        store: StoredOffsets
        if ensemble is not None:
            store = ZooKeeperOffsets(await ensemble.connect())
        elif kind == "memory":
            store = memory
        elif kind == "file":
            store = FileOffsets(str(tmp_path / "folder" / "offsets"))
        elif kind == "sqlite, asynchronous":
            store = SqlOffsets(url.replace("sqlite:", "sqlite+aiosqlite:"))
        else:
            store = SqlOffsets(url)
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        await store.close()
    if isinstance(ensemble, RealEnsemble | MemoryEnsemble):
        await ensemble.end()


@pytest.fixture
async def store(opener: Opener) -> StoredOffsets:
    """One store of the kind."""
    return await opener()
