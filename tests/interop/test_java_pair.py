"""A synchronous pair of a broker of ours and one of 1.4.6.2, in both arrangements.

The plug-ins that make a Java broker one of a pair are on no registry: stand-ins do what they do on the wire, with the
original's encoder, decoder and store.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest

from metaq.record import walk
from tests.cluster.pair import Master, master, slave, until
from tests.interop import jvm
from tests.interop.conftest import Judge

INI: Final = """[system]
brokerId=0
numPartitions=2
serverPort={port}
hostName=127.0.0.1
dataPath={folder}/data
dataLogPath={folder}/data
unflushThreshold=0
unflushInterval=10000
maxSegmentSize=1000
maxTransferSize=1048576
deletePolicy=delete,168
deleteWhen=0 0 6,18 * * ?
[zookeeper]
zk.zkConnect={zk}
zk.zkSyncTimeMs=100
[topic=test]
"""
Start = Callable[[Path, int], Awaitable[jvm.JavaProcess]]


@pytest.fixture
async def gregor(java: str, zk: str) -> AsyncIterator[Start]:
    """Start a Java slave in a folder, on a port."""
    started: list[jvm.JavaProcess] = []

    async def start(folder: Path, port: int) -> jvm.JavaProcess:
        folder.mkdir(exist_ok=True)
        ini = folder / "server.ini"
        ini.write_text(INI.format(port=port, folder=folder, zk=zk))
        process = await jvm.JavaProcess.start(["judge.Gregor", "--ini", str(ini)], folder / "gregor.log")
        started.append(process)
        while not await jvm.answers(port):
            assert process.running, process.words()
        return process

    yield start
    for each in started:
        await each.kill()


def records_of(folder: Path, partition: int) -> bytes:
    """Return the bytes of a partition, whatever its segments."""
    return b"".join(path.read_bytes() for path in sorted((folder / "data" / f"test-{partition}").glob("*.meta")))


async def put_all(first: Master, count: int, prefix: str) -> None:
    for number in range(count):
        status, text = await first.put(f"{prefix} {number}".encode(), number % 2)
        assert status == 200, text


async def test_a_java_slave_has_what_our_master_acknowledges_also_what_it_missed(gregor: Start, tmp_path: Path) -> None:
    port, home = jvm.free_port(), tmp_path / "java"
    process = await gregor(home, port)
    async with master(tmp_path / "ours", port, {"maxSegmentSize": 1000}) as first:
        await first.up()
        await put_all(first, 60, "both are there")
        await process.kill()
        await first.down()
        assert await first.put(b"alone") == (500, "Slave is disconnected ")
        process = await gregor(home, port)
        await first.up()
        await put_all(first, 20, "it came back")
        await process.kill()
        await first.down()
        process = await gregor(tmp_path / "empty", port)
        await first.up()
        await put_all(first, 20, "an empty one came")
        await process.kill()
        await first.down()
    for partition in range(2):
        whole = records_of(tmp_path / "ours", partition)
        assert len(list(walk(whole))) == 50
        assert whole.startswith(records_of(home, partition))
        assert records_of(tmp_path / "empty", partition) == whole


async def test_our_slave_stores_what_a_java_master_sends(judge: Judge, tmp_path: Path) -> None:
    async with slave(tmp_path) as second:
        said = await judge("Sync", server=f"meta://127.0.0.1:{second.port}", topic="test", count=40, size=100)
        answers = [str(event["text"]).split(" ") for event in said.of("answer")]
        assert answers == [[str(number - 5000), str(number % 2), str(number // 2 * 120)] for number in range(40)]
        await until(lambda: len(list(second.running.broker.store.all())) == 2)
    for partition in range(2):
        records = list(walk(records_of(tmp_path, partition)))
        assert [record.id for record in records] == list(range(partition - 5000, -4960, 2))
