"""Consumers in a cluster: broadcasting, reading from a slave while the master is away, several in one client."""

import asyncio
from pathlib import Path

import pytest

import metaq.aio
from metaq.client.connect import Outside
from metaq.client.consuming.groups import Host
from metaq.cluster.memory import MemoryRegistry, MemoryTree
from metaq.cluster.paths import Paths
from metaq.cluster.znodes import encode_address
from metaq.model import TopicPartition
from tests.client.conftest import QUICK
from tests.client.consuming import Ledger, consumer_of, fill, take
from tests.client.fake_broker import FakeBroker, until
from tests.client.test_cluster import register, withdraw

PATHS = Paths("/meta")


def connect(tree: MemoryTree, host: str = "10.0.0.7") -> metaq.aio.MessageQueue:
    outside = Outside(session=lambda _: MemoryRegistry(tree), host=Host(address=lambda: host, pid=4711))
    return metaq.aio.connect("zk://anywhere/meta", link=QUICK, timeout=0.5, outside=outside)


async def test_a_broadcast_consumer_gets_everything_on_every_host_and_keeps_its_offsets_there(
    broker: FakeBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    tree = MemoryTree()
    registry = MemoryRegistry(tree)
    await registry.connect()
    fill(broker, 3)
    await register(registry, broker)
    for host in ("10.0.0.7", "10.0.0.8"):
        async with connect(tree, host) as mq:
            consumer = mq.consumer("t", group="g", broadcast=True)
            assert await take(consumer, 3) == [b"0/0", b"0/1", b"0/2"]
            assert consumer.group == f"g-{host.replace('.', '-')}"
            assert consumer.name.startswith(f"{consumer.group}_{host}-4711-")
    offsets = (tmp_path / ".meta_offsets").read_text()
    assert "g-10-0-0-7" in offsets
    assert "g-10-0-0-8" in offsets
    assert tree.children(f"{PATHS.group('g-10-0-0-7')}/offsets") is None
    await registry.close()


async def test_while_its_master_is_away_a_broker_is_read_from_its_slave(broker: FakeBroker) -> None:
    tree = MemoryTree()
    registry = MemoryRegistry(tree)
    await registry.connect()
    async with FakeBroker(0) as slave, connect(tree) as mq:
        for each in (broker, slave):
            fill(each, 3)
        await register(registry, broker)
        await registry.create(PATHS.broker_address(0, 1), encode_address(slave.address), ephemeral=True)
        await registry.create(f"{PATHS.subscribe('t')}/0-s1", b'{"numParts":2,"broker":"0-s1"}', ephemeral=True)
        ledger = Ledger()
        consumer = consumer_of(mq, ledger)
        assert await take(consumer, 3) == [b"0/0", b"0/1", b"0/2"]
        await broker.stop()
        await withdraw(registry, broker)
        slave.append(TopicPartition("t", 0), 0, b"by the slave")
        assert await take(consumer, 1) == [b"by the slave"]
        await broker.start()
        broker.append(TopicPartition("t", 0), 0, b"by the slave")
        broker.append(TopicPartition("t", 0), 0, b"by the master")
        await register(registry, broker)
        assert await take(consumer, 1) == [b"by the master"]
    await registry.close()


async def test_consumers_of_one_client_share_like_those_of_several(broker: FakeBroker) -> None:
    tree = MemoryTree()
    registry = MemoryRegistry(tree)
    await registry.connect()
    await register(registry, broker)
    async with connect(tree) as mq:
        one, two = consumer_of(mq, Ledger()), consumer_of(mq, Ledger())
        await asyncio.gather(one.join(), two.join())
        await until(lambda: len(one.partitions) == len(two.partitions) == 1)
        assert set(one.partitions).isdisjoint(two.partitions)
        await one.close()
        await until(lambda: len(two.partitions) == 2)
    await registry.close()
