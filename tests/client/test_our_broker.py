"""The client and our own broker, in one loop and over loopback."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import metaq.aio
from metaq.aio import BrokerPartition, Refused
from tests.client.conftest import QUICK
from tests.embedding import Serving, configured, serving, settings


@pytest.fixture
async def ours(tmp_path: Path) -> AsyncIterator[Serving]:
    async with serving(configured(tmp_path, settings(tmp_path))) as running:
        yield running


def connect(broker: Serving) -> metaq.aio.MessageQueue:
    return metaq.aio.connect(f"metaq://127.0.0.1:{broker.port}", link=QUICK)


async def test_what_is_sent_is_read_in_order_and_as_it_was(ours: Serving) -> None:
    async with connect(ours) as mq:
        producer = mq.producer("test")
        bodies = [b"%d " % n + bytes(n % 700) for n in range(3000)]
        receipts = await producer.send_many(bodies, partition=1, attribute="é")
        assert [receipt.offset for receipt in receipts] == sorted(receipt.offset for receipt in receipts)
        assert [(m.data, m.attribute) async for m in mq.browse("test", max_size=10_000)] == [(b, "é") for b in bodies]
        assert await mq.offsets("test", "0-1") == (0, sum(len(body) + 20 + 4 + 2 for body in bodies))
        reader = mq.reader("test", 1, receipts[-1].offset)
        assert (await anext(reader)).data == bodies[-1]
        waiting = asyncio.ensure_future(anext(reader))
        await producer.send(b"new", partition=BrokerPartition(0, 1))
        assert (await waiting).data == b"new"


async def test_puts_of_one_connection_keep_their_order_though_nobody_waits(ours: Serving) -> None:
    async with connect(ours) as mq:
        producer = mq.producer("quick")
        for n in range(500):
            await producer.send_nowait(b"%d" % n, partition=n % 4)
        await producer.flush()
        for partition in range(4):
            messages = await mq.reader("quick", partition).fetch()
            assert [int(m.data) for m in messages] == list(range(partition, 500, 4))


async def test_questions_are_answered(ours: Serving) -> None:
    async with connect(ours) as mq:
        await mq.producer("test").send_many([b"x"] * 40)
        assert await mq.version() == "1.4.6.2"
        assert (await mq.stats())["cmd_put"] == "40"
        assert await mq.stats(item="nothing") != {}
        assert set(await mq.partitions("test")) <= {"0-0", "0-1", "0-2", "0-3"}
        with pytest.raises(Refused, match="wrong partition 4"):
            await mq.producer("test").send(b"x", partition=4)
        with pytest.raises(Refused, match=r"do not accept topic other \(put to other 0-\d at meta://"):
            await mq.producer("other").send(b"x")


async def test_a_restart_is_ridden_out_and_nothing_acknowledged_is_missing(tmp_path: Path) -> None:
    config = configured(tmp_path, settings(tmp_path))
    broker = await Serving(config).start()
    config = configured(tmp_path, settings(tmp_path, {"serverPort": broker.port}))
    async with connect(broker) as mq:
        producer = mq.producer("test", retries=1000)
        acknowledged: list[bytes] = []

        async def send() -> None:
            for n in range(400):
                body = b"%d" % n
                await producer.send(body, partition=0)
                acknowledged.append(body)

        sending = asyncio.ensure_future(send())
        reading = asyncio.ensure_future(read_until(mq.reader("test", 0), b"399"))
        for turn in (1, 2):
            while len(acknowledged) < 100 * turn:
                await asyncio.sleep(0.001)
            await broker.end()
            broker = await Serving(config).start()
        async with asyncio.timeout(20):
            await sending
            read = await reading
        assert list(dict.fromkeys(read)) == acknowledged  # resends may repeat one
    await broker.end()


async def test_producers_with_a_spool_ride_out_restarts(tmp_path: Path) -> None:
    config = configured(tmp_path, settings(tmp_path))
    broker = await Serving(config).start()
    config = configured(tmp_path, settings(tmp_path, {"serverPort": broker.port}))
    async with connect(broker) as mq:
        ordered = await mq.ordered_producer("test", layout="0:2", spool=tmp_path / "spool", patience=0.02, retry=0.05)
        one_way = await mq.one_way_producer("quick", spool=tmp_path / "spool", patience=0.02, retry=0.05)
        bodies = [b"%d" % n for n in range(600)]

        async def send() -> None:
            for body in bodies:
                await ordered.send(body, attribute="alice")
                await one_way.send(body)
                await asyncio.sleep(0)

        sending = asyncio.ensure_future(send())
        for turn in (1, 2):
            while ordered.sent + ordered.spooled < 150 * turn:
                await asyncio.sleep(0.001)
            await broker.end()
            while ordered.spooled + one_way.spooled < 50 * turn and not sending.done():
                await asyncio.sleep(0.001)
            broker = await Serving(config).start()
        async with asyncio.timeout(20):
            await sending
            assert await ordered.drain()
            assert await one_way.drain()
        assert ordered.spooled
        assert one_way.spooled
        assert list(dict.fromkeys([m.data async for m in mq.browse("test")])) == bodies
        assert {m.data async for m in mq.browse("quick")} == set(bodies)
        with pytest.raises(Refused, match="do not accept topic other"):
            other = await mq.ordered_producer("other", layout="0:2", spool=tmp_path / "spool", keep_refused=False)
            await other.send(b"x")
    await broker.end()


async def read_until(reader: metaq.aio.Reader, last: bytes) -> list[bytes]:
    """Return what is read up to a certain message."""
    read: list[bytes] = []
    while last not in read[-1:]:
        read.append((await anext(reader)).data)
    return read
