"""A follower of ours beside a Java master: the same bytes, in the same segments, soon after they are there."""

import asyncio
from pathlib import Path

import pytest

import metaq.aio
from metaq.model import BrokerAddress, TopicPartition
from metaq.replication.status import State
from tests.embedding import PATIENCE
from tests.interop import jvm
from tests.interop.conftest import PLAIN, Brokers
from tests.interop.jvm import JavaBroker
from tests.unit.replication.conftest import Copying, Pair, segments, until

KEYS = [TopicPartition("test", n) for n in range(2)]
TOPICS = "[topic=test]\nnumPartitions=2\n"


@pytest.fixture
def pair(folder: Path) -> Pair:
    return Pair(folder)


def ends(java: JavaBroker) -> list[int]:
    return [sum(map(len, java_segments(java, key).values())) for key in KEYS]


def java_segments(java: JavaBroker, key: TopicPartition) -> dict[str, bytes]:
    folder = java.ini.parent.parent / "data" / str(key)
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.meta"))}


async def is_like(slave: Copying, java: JavaBroker) -> None:
    def equal() -> bool:
        logs = [slave.store.get(key) for key in KEYS]
        return [0 if log is None else log.visible for log in logs] == ends(java)

    await until(equal, lambda: (ends(java), slave.follower.status()))


async def publish(java: JavaBroker, bodies: list[bytes]) -> None:
    async with metaq.aio.connect(f"metaq://{java.address}") as mq:
        await mq.producer("test").send_many(bodies)


async def publish_when_it_takes_them(java: JavaBroker, bodies: list[bytes]) -> None:
    """Send messages to a broker that refuses them until its topic is registered."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await publish(java, bodies)
                return
            except metaq.aio.Refused:
                await asyncio.sleep(0.05)


async def test_bytes_and_segments_are_those_of_a_java_master(java_broker: Brokers, pair: Pair) -> None:
    """Records of 1,000 bytes fill segments to the byte; the last one begins while the slave waits for more."""
    java = await java_broker(PLAIN, system={"maxSegmentSize": 10_000, "maxTransferSize": 6_000})
    address = BrokerAddress("127.0.0.1", java.port)
    async with pair.slave(topics=TOPICS) as slave:
        slave.follower.follow(address, {"test": 2})
        await publish(java, [b"%03d" % n + b"x" * 977 for n in range(100)])
        await is_like(slave, java)
        for n in range(40):
            await publish(java, [b"y" * n * 25])
            await is_like(slave, java)
        await slave.reaches(KEYS[0], State.CURRENT)
    async with pair.slave(topics=TOPICS) as slave:
        await publish(java, [b"z" * n for n in range(0, 2000, 7)])
        slave.follower.follow(address, {"test": 2})
        await is_like(slave, java)
        assert [slave.of(key).repaired for key in KEYS] == [None, None]
    for key in KEYS:
        theirs, ours = java_segments(java, key), segments(pair.slave_home, key)
        assert len(theirs) > 3
        # a Java broker makes the next file when one is full, we when something is to go into it
        assert ours == {name: data for name, data in theirs.items() if data}


async def test_a_java_master_that_was_away_is_followed_again(java_broker: Brokers, pair: Pair) -> None:
    java = await java_broker(PLAIN)
    address = BrokerAddress("127.0.0.1", java.port)
    async with pair.slave(topics=TOPICS) as slave:
        slave.follower.follow(address, {"test": 2})
        await publish(java, [b"1"] * 20)
        await is_like(slave, java)
        await java.stop()
        await until(lambda: not slave.follower.status().connected)
        assert slave.of(KEYS[0]).state is State.WAITING
        again = await jvm.start_broker(java.ini, java.port)
        try:
            await publish_when_it_takes_them(java, [b"2"] * 20)
            await is_like(slave, java)
            assert [slave.of(key).repaired for key in KEYS] == [None, None]
        finally:
            await again.kill()
