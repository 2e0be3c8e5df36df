"""Offsets the real Java client stored are read by ours, and the reverse: in ZooKeeper and in a file."""

from pathlib import Path

from metaq.client.offsets import FileOffsets, ZooKeeperOffsets
from metaq.cluster.paths import Paths
from metaq.cluster.zk import ZooKeeperClient
from metaq.cluster.znodes import NO_MESSAGE, Position, TopicBroker, encode_address, encode_topic
from metaq.model import BrokerAddress, BrokerPartition, ClusterPartition
from tests.interop.conftest import Judge

NEGATIVE = -5465310905774374905  # as ids of 1.4.6.2 are


def place(partition: int) -> ClusterPartition:
    return ClusterPartition("test", BrokerPartition(1, partition))


async def offer(client: ZooKeeperClient) -> None:
    """Register a topic of two partitions, as the Java client wants to see it before it asks for offsets."""
    paths = Paths()
    await client.create(paths.broker_address(1), encode_address(BrokerAddress("127.0.0.1", 8123)), ephemeral=True)
    await client.create(f"{paths.publish('test')}/1-m", encode_topic(TopicBroker(2, "1-m")), ephemeral=True)


async def test_offsets_in_zookeeper_pass_between_java_and_python(zk: str, judge: Judge) -> None:
    client = ZooKeeperClient(zk)
    await client.connect()
    await offer(client)
    store = ZooKeeperOffsets(client)
    await store.save("g", {place(0): Position(NEGATIVE, 1048576)})
    said = await judge("Offsets", topic="test", group="g", set="1-1", set_offset=120, set_id=NEGATIVE + 1)
    assert [(e["partition"], e["offset"], e["message_id"]) for e in said.of("offset")] == [
        ("1-0", 1048576, NEGATIVE),
        ("1-1", 120, NEGATIVE + 1),
    ]
    assert await store.stored("g") == {place(0): Position(NEGATIVE, 1048576), place(1): Position(NEGATIVE + 1, 120)}
    await client.close()


async def test_offsets_in_a_file_pass_between_java_and_python(tmp_path: Path, judge: Judge) -> None:
    path = tmp_path / "offsets"
    store = FileOffsets(str(path))
    await judge("LocalOffsets", file=path, group="g", partitions="1-0,1-1", set_offset=120, set_id=NEGATIVE)
    assert await store.stored("g") == {place(n): Position(NEGATIVE, 120) for n in range(2)}
    await store.save("g", {place(0): Position(5, 1 << 62)})
    await store.save("ü", {place(0): Position(NO_MESSAGE, 7)})
    said = await judge("LocalOffsets", file=path, group="g", partitions="1-0,1-1,1-2")
    assert [e["offset"] for e in said.of("offset")] == [1 << 62, 120, None]
    await store.close()
