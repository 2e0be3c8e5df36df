"""Finding brokers through ZooKeeper: on a registry in memory, and once on a real one."""

import asyncio
from collections.abc import AsyncIterator

import pytest

import metaq.aio
from metaq.aio import ConfigError, NoBroker, RegistryError
from metaq.client.connect import Outside
from metaq.cluster.memory import MemoryRegistry, MemoryTree
from metaq.cluster.paths import Paths, member
from metaq.cluster.ports import Registry
from metaq.cluster.zk import ZooKeeperClient
from metaq.cluster.znodes import TopicBroker, encode_address, encode_topic
from metaq.protocol.commands import Put
from tests.client.conftest import QUICK
from tests.client.fake_broker import FakeBroker, until
from tests.conftest import COORDINATORS

PATHS = Paths("/meta")


async def register(registry: Registry, broker: FakeBroker, topic: str = "t") -> None:
    """Do what a broker does, as far as clients look."""
    node = member(broker.broker_id, None)
    await registry.create(PATHS.broker_address(broker.broker_id), encode_address(broker.address), ephemeral=True)
    data = encode_topic(TopicBroker(broker.partitions, node))
    for parent in (PATHS.publish(topic), PATHS.subscribe(topic)):
        await registry.create(f"{parent}/{node}", data, ephemeral=True)


async def withdraw(registry: Registry, broker: FakeBroker, topic: str = "t") -> None:
    """Undo `register`."""
    for parent in (PATHS.publish(topic), PATHS.subscribe(topic)):
        await registry.delete(f"{parent}/{member(broker.broker_id, None)}")
    await registry.delete(PATHS.broker_address(broker.broker_id))


@pytest.fixture
async def tree() -> MemoryTree:
    return MemoryTree()


@pytest.fixture
async def registry(tree: MemoryTree) -> AsyncIterator[MemoryRegistry]:
    """The brokers' session."""
    session = MemoryRegistry(tree)
    await session.connect()
    yield session
    await session.close()


def connect(tree: MemoryTree) -> metaq.aio.MessageQueue:
    outside = Outside(session=lambda _: MemoryRegistry(tree))
    return metaq.aio.connect("zk://anywhere/meta", link=QUICK, timeout=0.2, outside=outside)


async def test_messages_go_to_all_partitions_of_all_masters_in_turn(tree: MemoryTree, registry: MemoryRegistry) -> None:
    async with FakeBroker(0) as one, FakeBroker(3, partitions=1) as other, connect(tree) as mq:
        await register(registry, one)
        await register(registry, other)
        producer = mq.producer("t")
        await producer.send(b"first")
        await until(lambda: len(one.peers) == len(other.peers) == 1)
        while (await producer.send(b"more")).partition != "3-0":
            pass
        receipts = await producer.send_many([b"x"] * 30)
        assert {receipt.partition for receipt in receipts} == {"0-0", "0-1", "3-0"}
        assert sum(receipt.partition == "3-0" for receipt in receipts) == 10
        assert await mq.partitions("t") == ["0-0", "0-1", "3-0"]
        assert len([message async for message in mq.browse("t")]) == len(one.of(Put)) + len(other.of(Put))
        assert await mq.brokers() == {0: str(one.address), 3: str(other.address)}


async def test_a_topic_nobody_serves_yet_is_waited_for(tree: MemoryTree, registry: MemoryRegistry) -> None:
    async with FakeBroker() as broker, connect(tree) as mq:
        assert await mq.partitions("t") == []
        assert [message async for message in mq.browse("t")] == []
        with pytest.raises(NoBroker, match="t: not sent, nobody takes messages"):
            await mq.producer("t").send(b"x", timeout=0.05)
        waiting = asyncio.ensure_future(mq.producer("t").send(b"x"))
        await asyncio.sleep(0)
        await register(registry, broker)
        assert (await waiting).partition in ("0-0", "0-1")


async def test_a_broker_that_moves_is_found_again(tree: MemoryTree, registry: MemoryRegistry) -> None:
    async with FakeBroker() as old, FakeBroker() as new, connect(tree) as mq:
        await register(registry, old)
        producer, reader = mq.producer("t", retries=3), mq.reader("t", "0-1")
        await producer.send(b"to the old one", partition="0-1")
        assert (await anext(reader)).data == b"to the old one"
        new.logs.update(old.logs)  # as its replacement
        await withdraw(registry, old)
        await old.stop()
        waiting = asyncio.ensure_future(producer.send(b"to the new one", partition="0-1"))
        reading = asyncio.ensure_future(anext(reader))
        await register(registry, new)
        assert (await waiting).partition == "0-1"
        assert (await asyncio.wait_for(reading, 20)).data == b"to the new one"
        assert await mq.brokers() == {0: str(new.address)}


async def test_a_broker_that_has_left_is_not_dialled_any_more(tree: MemoryTree, registry: MemoryRegistry) -> None:
    async with FakeBroker(0) as one, FakeBroker(1) as other, connect(tree) as mq:
        await register(registry, one)
        await register(registry, other)
        await mq.producer("t").send(b"x")
        await until(lambda: one.peers and other.peers)
        await withdraw(registry, one)
        await one.stop()
        while list(await mq.brokers()) != [1]:
            await asyncio.sleep(0.001)
        assert (await mq.producer("t").send(b"x")).partition[0] == "1"
        await one.start()
        before = one.accepted
        await mq.producer("t").send_many([b"x"] * 50)
        assert one.accepted == before


async def test_a_new_broker_is_used_while_the_connection_to_the_old_one_is_still_open(
    tree: MemoryTree, registry: MemoryRegistry
) -> None:
    async with FakeBroker(0) as old, FakeBroker(1) as new, connect(tree) as mq:
        await register(registry, old)
        assert (await mq.producer("t").send(b"x")).partition[0] == "0"
        await register(registry, new)
        await withdraw(registry, old)
        while list(await mq.brokers()) != [1]:
            await asyncio.sleep(0.001)
        assert (await mq.producer("t").send(b"x")).partition[0] == "1"
        assert len(old.peers) == 1
        assert old.accepted == new.accepted == 1


async def test_the_latest_answers_stand_while_zookeeper_is_away(tree: MemoryTree, registry: MemoryRegistry) -> None:
    session = MemoryRegistry(tree)
    outside = Outside(session=lambda _: session)
    async with (
        FakeBroker() as broker,
        metaq.aio.connect("zk://anywhere/meta", link=QUICK, timeout=0.05, outside=outside) as mq,
    ):
        await register(registry, broker)
        producer = mq.producer("t")
        await producer.send(b"x")
        session.suspend()
        await producer.send(b"x")
        with pytest.raises(RegistryError, match=r"zk://anywhere.*: no answer within 0\.05 s"):
            await mq.producer("unheard").send(b"x")
        session.resume()
        with pytest.raises(NoBroker):
            await mq.producer("unheard").send(b"x", timeout=0.05)


async def test_a_producer_whose_first_look_failed_heals_by_itself(tree: MemoryTree, registry: MemoryRegistry) -> None:
    session = MemoryRegistry(tree)
    outside = Outside(session=lambda _: session)
    async with (
        FakeBroker() as broker,
        metaq.aio.connect("zk://anywhere/meta", link=QUICK, timeout=0.05, outside=outside) as mq,
    ):
        await register(registry, broker)
        producers = [mq.producer("t", selector=choice) for choice in ("round_robin", "key")]
        session.suspend()
        for producer in producers:
            with pytest.raises(RegistryError):
                await producer.send(b"x", attribute="k")
        session.resume()
        await broker.stop()
        for producer in producers:
            with pytest.raises(NoBroker):
                await producer.send(b"x", attribute="k", timeout=0.05)
        await broker.start()
        for producer in producers:
            assert (await producer.send(b"x", attribute="k")).offset >= 0


async def test_a_key_stays_where_it_is_while_its_broker_is_not_even_registered(
    tree: MemoryTree, registry: MemoryRegistry
) -> None:
    async with FakeBroker(0) as one, FakeBroker(1) as other, connect(tree) as mq:
        await register(registry, one)
        await register(registry, other)
        producer = mq.producer("t", selector="key")
        places = {key: (await producer.send(b"x", attribute=key)).partition for key in "abcd"}
        assert sorted(places.values()) == ["0-0", "0-1", "1-0", "1-1"]
        await withdraw(registry, other)
        await other.stop()
        links = mq._routes.links._links
        await until(lambda: other.address not in links or not links[other.address].is_open)  # the end has arrived here
        while 1 in await mq.brokers():
            await asyncio.sleep(0.001)
        waiting = []
        for key, place in places.items():
            if place[0] == "0":
                assert (await producer.send(b"y", attribute=key)).partition == place
            else:
                with pytest.raises(NoBroker, match=f"nobody serves partition {place}"):
                    await producer.send(b"y", attribute=key, timeout=0.02)
                waiting.append((place, asyncio.ensure_future(producer.send(b"y", attribute=key))))
        await other.start()
        await register(registry, other)
        assert [(await sending).partition for _, sending in waiting] == [place for place, _ in waiting]
        many = FakeBroker(1, partitions=4, port=other.port)
        await withdraw(registry, other)
        await other.stop()
        async with many:  # the same broker with more partitions: what it has now counts
            await register(registry, many)
            while (await producer.send(b"z")).partition not in ("1-2", "1-3"):
                pass


@pytest.mark.parametrize("selector", ["round_robin", "random", "key"])
async def test_a_topic_nobody_has_uses_the_partitions_of_the_default_topic(
    tree: MemoryTree, registry: MemoryRegistry, selector: str
) -> None:
    async with FakeBroker(0) as one, FakeBroker(1, partitions=1) as other, connect(tree) as mq:
        await register(registry, one, "d")
        producer = mq.producer("t", default_topic="d", selector=selector)
        assert (await producer.send(b"1", attribute="k")).partition in ("0-0", "0-1")
        assert [put.target.topic for put in one.of(Put) if isinstance(put, Put)] == ["t"]
        await register(registry, other, "t")  # from now on it has brokers of its own
        while (await producer.send(b"2")).partition != "1-0":
            pass
        assert (await producer.send(b"3", attribute="k")).partition == "1-0"
        if selector != "key":  # a key stays where it is
            await withdraw(registry, other, "t")
            while (await producer.send(b"4")).partition[0] != "0":
                pass
        with pytest.raises(NoBroker):
            await mq.producer("v", default_topic="unheard").send(b"x", timeout=0.02)
        with pytest.raises(ConfigError):
            mq.producer("t", default_topic="a b")


async def test_nobody_answering_is_one_error_and_leaves_nothing_behind() -> None:
    with pytest.raises(RegistryError, match="no answer from ZooKeeper at 127.0.0.1:1 within 0.1 s".replace(".", r"\.")):
        await metaq.aio.connect("zk://127.0.0.1:1/meta", connect_timeout=0.1)
    with pytest.raises(NoBroker, match=r"no broker answers within 0\.1 s: meta://127\.0\.0\.1:1: .*111"):
        await metaq.aio.connect("metaq://127.0.0.1:1", connect_timeout=0.1)


@pytest.mark.parametrize("coordinator", COORDINATORS, indirect=True)
async def test_it_works_with_a_real_zookeeper(zk: str) -> None:
    host, _, chroot = zk.partition("/")
    session = ZooKeeperClient(zk)
    await session.connect(10.0)
    try:
        async with FakeBroker(2) as broker, metaq.aio.connect(f"zk://{host}/{chroot}/meta", link=QUICK) as mq:
            waiting = asyncio.ensure_future(mq.producer("t").send(b"hello"))
            await register(session, broker)
            receipt = await waiting
            assert receipt.partition.startswith("2-")
            assert [m.data async for m in mq.browse("t")] == [b"hello"]
    finally:
        await session.close()
