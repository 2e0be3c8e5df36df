"""Topics and brokers as an operator sees them, with ZooKeeper and without."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import datetime

import pytest

from metaq.admin.topics import (
    AnsweredTopics,
    Broker,
    RegisteredTopics,
    Topic,
    TopicError,
    answering_brokers,
    registered_brokers,
)
from metaq.cluster.directory import Directory
from metaq.cluster.memory import MemoryRegistry, MemoryTree
from metaq.cluster.paths import Paths
from metaq.cluster.znodes import TopicBroker, encode_address, encode_topic
from metaq.errors import RequestTimeout
from metaq.model import BrokerAddress, BrokerPartition

PATHS = Paths()
ANSWERS = {
    (0, ""): "STATS\r\nbroker_id 0\r\nuptime 7\r\nEND\r\n",
    (0, "offsets"): "STATS\r\nt part 0 min_offset 100 max_offset 1000\r\nd part 3 min_offset 0 max_offset 5\r\nEND\r\n",
    (0, "topics"): (
        "STATS\r\nt partitions 1 message_count 0 message_bytes 0 accept_publish true accept_subscribe true\r\n"
        "d partitions 1 message_count 9 message_bytes 5 accept_publish false accept_subscribe true\r\n"
        "empty *Empty*\r\nEND\r\n"
    ),
}


class FakeLog:
    """Broker 0 answers as ANSWERS say, broker 1 does not."""

    async def brokers(self) -> Mapping[int, str]:
        return {1: "meta://10.0.0.1:8123", 0: "meta://10.0.0.0:8123"}

    async def partitions(self, topic: str) -> list[str]:
        raise AssertionError("not asked for topics")

    async def stats_text(self, broker: int, item: str = "") -> bytes:
        if (broker, item) not in ANSWERS:
            raise RequestTimeout("no answer")
        return ANSWERS[broker, item].encode()

    async def offset_at(self, topic: str, partition: BrokerPartition, since: datetime) -> int:
        raise AssertionError("not asked for topics")


@pytest.fixture
async def registry() -> AsyncIterator[MemoryRegistry]:
    made = MemoryRegistry(MemoryTree())
    await made.connect()
    yield made
    await made.close()


@pytest.fixture
async def directory(registry: MemoryRegistry) -> AsyncIterator[Directory]:
    """Broker 0 with a slave, broker 1; topic t in both, d closed for publishing, old without a broker."""
    made = Directory(registry)
    for broker_id, slave_id in ((0, None), (0, 2), (1, None)):
        address = encode_address(BrokerAddress(f"10.0.0.{broker_id + 10 * (slave_id or 0)}", 8123))
        await registry.create(PATHS.broker_address(broker_id, slave_id), address)
    for topic, kind, name, count in (
        ("t", "pub", "0-m", 2),
        ("t", "sub", "0-m", 2),
        ("t", "sub", "0-s2", 2),
        ("t", "pub", "1-m", 1),
        ("t", "sub", "1-m", 1),
        ("d", "sub", "0-m", 1),
    ):
        path = f"{PATHS.publish(topic) if kind == 'pub' else PATHS.subscribe(topic)}/{name}"
        await registry.create(path, encode_topic(TopicBroker(count, name)))
    await registry.ensure(PATHS.publish("old"))
    yield made
    await made.close()


async def test_registered_topics_have_their_partitions_and_what_brokers_say_of_them(
    registry: MemoryRegistry, directory: Directory
) -> None:
    topics = RegisteredTopics(registry, "/meta", directory, FakeLog())
    d, t = await topics.all()
    assert d == Topic("d", {BrokerPartition(0, 0): (0, 0)}, False, True)  # type: ignore[dict-item]
    assert t.partitions == {
        BrokerPartition(0, 0): (100, 1000),
        BrokerPartition(0, 1): (0, 0),
        BrokerPartition(1, 0): None,
    }
    assert (t.brokers, t.bytes, t.accepts_publish, t.accepts_subscribe) == ([0, 1], 900, True, True)
    assert await topics.topic("t") == t
    for name in ("old", "none"):
        with pytest.raises(TopicError, match=f"no broker has topic {name}"):
            await topics.topic(name)


async def test_without_zookeeper_topics_are_what_brokers_say_they_have() -> None:
    topics = AnsweredTopics(FakeLog())
    assert await topics.all() == [
        Topic("d", {BrokerPartition(0, 3): (0, 5)}, False, True),  # type: ignore[dict-item]
        Topic("empty", {}, True, True),
        Topic("t", {BrokerPartition(0, 0): (100, 1000)}, True, True),  # type: ignore[dict-item]
    ]
    assert (await topics.topic("t")).bytes == 900
    with pytest.raises(TopicError, match="no broker has topic none"):
        await topics.topic("none")


async def test_masters_and_slaves_are_listed_with_what_they_say(directory: Directory) -> None:
    zero = Broker(0, None, "meta://10.0.0.0:8123", {"broker_id": "0", "uptime": "7"})
    one = Broker(1, None, "meta://10.0.0.1:8123", None, "no answer")
    two = Broker(0, 2, "meta://10.0.0.20:8123", {"slave": "true"})

    async def ask(address: BrokerAddress) -> bytes:
        assert address == BrokerAddress("10.0.0.20", 8123)
        return b"STATS\r\nslave true\r\nEND\r\n"

    async def fail(_: BrokerAddress) -> bytes:
        raise RequestTimeout("it sleeps")

    assert await registered_brokers(directory, FakeLog(), ask) == [zero, two, one]
    away = replace(two, stats=None, reason="it sleeps")
    assert await registered_brokers(directory, FakeLog(), fail) == [zero, away, one]
    assert await answering_brokers(FakeLog()) == [zero, one]
