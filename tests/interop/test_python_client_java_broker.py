"""Our client and the original broker 1.4.6.2: what we send the Java client reads, and the other way round."""

import asyncio
from collections.abc import Sequence

import pytest

import metaq.aio
from metaq.aio import BrokerPartition, LinkClosed, NoBroker, Producer, Receipt, Refused
from tests.interop.conftest import Brokers, Judge

BODIES = [b"%d:" % n + bytes(range(256)) * (n % 3) for n in range(300)]


async def test_a_python_reader_gets_from_a_java_broker_what_a_python_producer_sent(
    java_broker: Brokers, judge: Judge, zk: str
) -> None:
    java = await java_broker()
    async with metaq.aio.connect(f"zk://{zk}/meta") as mq:
        producer = mq.producer("test")
        receipts = list(await producer.send_many(BODIES))
        receipts += [await producer.send(b"x", attribute=text) for text in ("", "é", "k" * 300)]
        assert {receipt.partition for receipt in receipts} == {"1-0", "1-1"}
        assert await mq.partitions("test") == ["1-0", "1-1"]
        found = [message async for message in mq.browse("test")]
        assert {(m.id, m.partition, m.offset) for m in found} == {(r.id, r.partition, r.offset) for r in receipts}
        assert sorted(m.data for m in found) == sorted([*BODIES, b"x", b"x", b"x"])
        assert {m.attribute for m in found} == {None, "", "é", "k" * 300}
        for partition in ("1-0", "1-1"):
            first, end = await mq.offsets("test", partition)
            there = [m for m in found if m.partition == partition]
            assert (first, end) == (0, there[-1].next_offset)
            reader = mq.reader("test", partition, there[3].offset)
            assert await take(reader, 5) == there[3:8]
            assert await mq.reader("test", partition, "latest").fetch(wait=0) == []
        assert await mq.version() == "1.4.6.2"
        assert (await mq.stats())["broker_id"] == "1"
        assert await mq.brokers() == {1: f"meta://{java.address}"}
    consumed = await judge("Consume", topic="test", group="g", count=len(receipts), max_delay_ms=10)
    assert {event["id"] for event in consumed.of("message")} == {receipt.id for receipt in receipts}


async def take(reader: metaq.aio.Reader, count: int) -> list[metaq.aio.Message]:
    """Return the next messages."""
    return [await anext(reader) for _ in range(count)]


async def test_a_python_reader_gets_what_a_java_producer_sent(java_broker: Brokers, judge: Judge, zk: str) -> None:
    await java_broker()
    produced = await judge("Produce", topic="test", count=20, size=100, attribute="a")
    async with metaq.aio.connect(f"zk://{zk}/meta") as mq:
        found = [message async for message in mq.browse("test")]
    assert {m.id: m.data.partition(b"|")[0].decode() for m in found} == {
        e["id"]: f"m-{e['n']}" for e in produced.of("sent")
    }
    assert {m.attribute for m in found} == {"a"}


async def test_it_works_without_zookeeper_too(java_broker: Brokers) -> None:
    java = await java_broker()
    seen: list[list[BrokerPartition]] = []

    def by_length(
        topic: str, partitions: Sequence[BrokerPartition], data: bytes, attribute: str | None, /
    ) -> BrokerPartition:
        seen.append(list(partitions))
        return partitions[len(data) % len(partitions)]

    async with metaq.aio.connect(f"metaq://{java.address}") as mq:
        assert (await mq.producer("test", selector=by_length).send(b"1")).partition == "1-1"
        assert (await mq.producer("test", selector=by_length).send(b"22")).partition == "1-0"
        assert seen == [[BrokerPartition(1, 0), BrokerPartition(1, 1)]] * 2  # as its server.ini says
        receipts = await mq.producer("test").send_many([b"333"] * 50)
        assert {receipt.partition for receipt in receipts} == {"1-0", "1-1"}
        assert len([message async for message in mq.browse("test")]) == 52
        with pytest.raises(Refused, match="wrong partition 2"):
            await mq.producer("test").send(b"x", partition=2)
        with pytest.raises(Refused, match="The server do not accept topic nothing"):
            await mq.producer("nothing").send(b"x")


async def test_a_message_no_java_consumer_could_fetch_is_read_in_pieces(java_broker: Brokers) -> None:
    java = await java_broker(system={"maxTransferSize": 10_000})
    large = b"0123456789" * 5_000
    async with metaq.aio.connect(f"metaq://{java.address}") as mq:
        await mq.producer("test").send(b"before", partition=0)
        await mq.producer("test").send(large, partition=0)
        await mq.producer("test").send(b"after", partition=0)
        async with asyncio.timeout(5):
            messages = await take(mq.reader("test", 0), 3)
        assert [m.data for m in messages] == [b"before", large, b"after"]


async def sent(producer: Producer, data: bytes, partition: int) -> Receipt:
    """Send until it is taken: 1.4.6.2 serves before it is registered, and refuses what comes meanwhile."""
    while True:
        try:
            return await producer.send(data, partition=partition)
        except Refused as exc:
            if "NodeExists" not in str(exc):
                raise


async def test_a_reader_and_a_producer_ride_out_a_killed_broker(java_broker: Brokers) -> None:
    java = await java_broker()
    async with metaq.aio.connect(f"metaq://{java.address}") as mq:
        producer, reader = mq.producer("test", retries=100), mq.reader("test", 0)
        await producer.send(b"1", partition=0)
        assert (await anext(reader)).data == b"1"
        await java.kill()
        with pytest.raises((LinkClosed, NoBroker)):
            await mq.producer("test").send(b"lost", partition=0, timeout=0.1)
        sending = asyncio.ensure_future(sent(producer, b"2", partition=0))
        reading = asyncio.ensure_future(anext(reader))
        text = java.ini.read_text()
        await java_broker(text, port=java.port, system={"dataPath": java.ini.parent.parent / "data"})
        async with asyncio.timeout(10):
            assert (await sending).partition == "1-0"
            assert (await reading).data == b"2"
