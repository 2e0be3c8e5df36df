"""An unmodified Java consumer reads from a slave: only its zk.zkConnect is another (docs/reading-from-a-slave.md)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from metaq import aio
from metaq.admin.copying import Copying
from metaq.cluster.zk import ZooKeeperClient
from tests.cluster.conftest import until
from tests.copies import Pair, Still
from tests.interop.conftest import Brokers, Judge


@pytest.fixture
async def alone(tmp_path: Path, zk: str) -> AsyncIterator[Pair]:
    """A slave without a master yet."""
    made = Pair(tmp_path, zk, partitions=2)
    try:
        yield await made.start_slave()
    finally:
        await made.end()


@pytest.fixture
async def pair(tmp_path: Path, zk: str) -> AsyncIterator[Pair]:
    made = Pair(tmp_path, zk, Still)
    try:
        yield await made.start()
    finally:
        await made.end()


async def test_a_java_consumer_sent_to_the_slaves_root_reads_from_that_slave_alone(pair: Pair, judge: Judge) -> None:
    produced = await judge("Produce", topic="test", count=30, size=50)
    await pair.copy()
    await judge("Produce", topic="test", count=10, size=50)  # the slave does not have these yet
    java = await judge.start("Consume", topic="test", group="g", max_delay_ms=10, zk=f"{pair.hosts}/read-slave2")
    ids = [(await java.until("message"))["id"] for _ in range(30)]
    assert sorted(map(str, ids)) == sorted(str(event["id"]) for event in produced.of("sent"))
    before = pair.gets(pair.slave)
    await until(lambda: pair.gets(pair.slave) > before + 3)  # it waits at the slave's end
    await pair.copy()
    for _ in range(10):
        await java.until("message")
    assert pair.gets(pair.master) == 2  # those of the copying


async def test_a_java_producer_that_is_sent_there_is_refused(pair: Pair, judge: Judge) -> None:
    said = await judge("Produce", topic="test", count=1, size=50, zk=f"{pair.hosts}/read-slave2", expect=None)
    assert not [event for event in said.of("sent") if event["ok"]]
    assert not list(pair.slave.running.broker.store.all())


async def test_a_group_goes_on_where_it_was_when_its_offsets_are_carried_over(pair: Pair, judge: Judge) -> None:
    await judge("Produce", topic="test", count=20, size=50)
    at_master = await judge("Consume", topic="test", group="g", count=20, max_delay_ms=10)
    assert len(at_master.of("message")) == 20
    produced = await judge("Produce", topic="test", count=5, size=50)
    await pair.copy()
    client = ZooKeeperClient(pair.hosts)
    await client.connect()
    copying = Copying(client, "/meta", "/read-slave2/meta")
    await copying.apply("g", await copying.plan("g"))
    await client.close()
    there = await judge("Consume", topic="test", group="g", count=5, max_delay_ms=10, zk=f"{pair.hosts}/read-slave2")
    assert [event["id"] for event in there.of("message")] == [event["id"] for event in produced.of("sent")]


async def test_consumers_of_both_languages_read_a_java_masters_log_from_our_slave_and_go_on_when_it_stops(
    alone: Pair, judge: Judge, java_broker: Brokers
) -> None:
    master = await java_broker()
    produced = await judge("Produce", topic="test", count=40, size=50)
    java = await judge.start("Consume", topic="test", group="g", max_delay_ms=10, zk=f"{alone.hosts}/read-slave2")
    ids = {event["id"] for event in produced.of("sent")}
    assert {(await java.until("message"))["id"] for _ in range(40)} == ids
    async with aio.connect(alone.url) as mq, asyncio.timeout(30):
        consumer = mq.consumer("test", group="python", read_from="slave:2")
        first = [await anext(consumer) for _ in range(20)]
        await master.stop()
        rest = [await anext(consumer) for _ in range(20)]
        assert {message.id for message in first + rest} == ids
