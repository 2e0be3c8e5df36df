"""One data folder under a Java broker and ours in turn: every message stays, with its id and offset."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from random import Random

from metaq.model import TopicPartition
from tests.embedding import HERE, Dial, configured, serving, settings
from tests.faults.checker import Ledger, read_log
from tests.faults.processes import Process
from tests.interop.conftest import PLAIN, Brokers
from tests.interop.jvm import MAIN, PATIENCE, JavaProcess, answers, free_port, with_settings

TARGETS = [TopicPartition("test", 0), TopicPartition("test", 1)]
OURS = {"maxSegmentSize": 3000, "numPartitions": 2, "brokerId": 1}


async def traffic(port: int, ledger: Ledger) -> None:
    """Put messages into each partition, then read all of it. The put loads it: 1.4.6.2 may not have done so."""
    dial = Dial(port)
    peer = await dial()
    for target in TARGETS:
        for n in range(25):
            body = ledger.body(target, n * 10)
            put = b"put test %d %d 0 -1 1\r\n%b" % (target.partition, len(body), body)
            reply = await peer.asks(put)
            while b"NodeExists" in reply:  # a Java broker that still registers its topics refuses puts into them
                reply = await peer.asks(put)
            assert reply.startswith(b"result 200 "), reply
            id, _, offset = map(int, reply.partition(b"\r\n")[2].split(b" "))
            ledger.acknowledge(target, offset, id, body)
        ledger.check(target, await read_log(peer, target))
    await dial.end()


async def test_a_folder_goes_from_java_to_python_and_back_and_again(java_broker: Brokers, tmp_path: Path) -> None:
    ledger = Ledger(Random(6))
    data = tmp_path / "data"
    for _ in range(2):
        java = await java_broker(system={"dataPath": data, "dataLogPath": data, "maxSegmentSize": 3000})
        await traffic(java.port, ledger)
        await java.stop()
        async with serving(configured(tmp_path, settings(tmp_path, OURS))) as broker:
            await traffic(broker.port, ledger)
    assert ledger.count == 4 * 2 * 25
    assert len(list((data / "test-0").iterdir())) > 2


async def test_java_refuses_a_folder_that_we_left_uncleanly_and_we_take_it(
    zk: str, java_broker: Brokers, tmp_path: Path
) -> None:
    ledger = Ledger(Random(7))
    place = {"dataPath": tmp_path / "data", "dataLogPath": tmp_path / "data"}
    ini = tmp_path / "server.ini"
    configured(tmp_path, settings(tmp_path, OURS))
    process = await Process.start(ini)
    await traffic(process.port, ledger)
    await process.kill()
    before = content(tmp_path / "data")
    await refuses_to_start(ini.with_name("java.ini"), place, zk)
    assert content(tmp_path / "data") == before
    async with serving(configured(tmp_path, settings(tmp_path, OURS))) as broker:
        await traffic(broker.port, ledger)
    broker_of_java = await java_broker(system=place)
    await traffic(broker_of_java.port, ledger)


async def refuses_to_start(ini: Path, place: Mapping[str, object], zk: str) -> None:
    """See a Java broker say why it does not start; its process stays, for ZooKeeper threads keep it alive."""
    port = free_port()
    text = with_settings(PLAIN, "system", {"serverPort": port, "hostName": HERE, **place})
    ini.write_text(with_settings(text, "zookeeper", {"zk.zkConnect": zk}))
    java = await JavaProcess.start([MAIN, "-f", str(ini)], ini.with_name("java.log"))
    try:
        async with asyncio.timeout(PATIENCE):
            while 'For input string: "in-use--see-metaq-doctor"' not in java.words():
                assert java.running, java.words()
                await asyncio.sleep(0.02)
        assert not await answers(port)
    finally:
        await java.kill()


def content(folder: Path) -> dict[str, bytes]:
    """Return what stands in the files of partitions."""
    return {str(path): path.read_bytes() for path in sorted(folder.glob("test-*/*"))}
