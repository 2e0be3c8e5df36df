"""Consumers of our own broker, over loopback: what they promise holds also while the broker is started again."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

import metaq.aio
from metaq.aio import Message, Receipt
from metaq.errors import LinkClosed, NoBroker, RequestTimeout
from metaq.record import id_time_ms
from tests.client.conftest import QUICK
from tests.client.consuming import Ledger, consumer_of, take
from tests.client.fake_broker import until
from tests.embedding import Serving, configured, serving, settings

SMALL = {"maxSegmentSize": 20_000}


class Restarting:
    """A broker that is ended and started anew on one port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.broker: Serving

    async def start(self, port: int = 0) -> None:
        config = configured(self._folder, settings(self._folder, {**SMALL, "serverPort": port}))
        self.broker = await Serving(config).start()

    async def restart(self) -> None:
        port = self.broker.port
        await self.broker.end()
        await self.start(port)


@asynccontextmanager
async def restarting(folder: Path) -> AsyncIterator[Restarting]:
    running = Restarting(folder)
    await running.start()
    try:
        yield running
    finally:
        await running.broker.end()


def connect(broker: Serving) -> metaq.aio.MessageQueue:
    return metaq.aio.connect(f"metaq://127.0.0.1:{broker.port}", link=QUICK)


async def send(mq: metaq.aio.MessageQueue, count: int, partitions: int = 2) -> None:
    """Send `<partition>/<number>`, in order, also while the broker is away."""
    producer = mq.producer("test", retries=1000)
    for n in range(count):
        for partition in range(partitions):
            while True:
                try:
                    await producer.send(b"%d/%d" % (partition, n), partition=partition)
                except (NoBroker, LinkClosed, RequestTimeout):
                    continue
                break


def in_order(seen: list[bytes], partitions: int = 2) -> dict[int, list[int]]:
    """Return the numbers of each partition as they came first, whatever came again."""
    found: dict[int, list[int]] = defaultdict(list)
    for data in dict.fromkeys(seen):
        partition, number = data.split(b"/")
        found[int(partition)].append(int(number))
    return found


@pytest.mark.parametrize("way", ["one by one", "batches", "handlers", "keys"])
async def test_restarts_of_the_broker_lose_nothing_and_keep_the_order(way: str, tmp_path: Path) -> None:
    count = 150
    seen: list[bytes] = []
    async with restarting(tmp_path) as running, connect(running.broker) as mq:
        ledger = Ledger()
        consumer = consumer_of(mq, ledger, "test", commit_every=0.05, max_size=2000)
        chance = Random(way)
        failed: Counter[bytes] = Counter()

        async def handle(message: Message) -> None:
            await asyncio.sleep(0)
            if chance.random() < 0.1 and failed[message.data] < 3:
                failed[message.data] += 1
                raise ValueError("not this time")
            seen.append(message.data)

        async def consume() -> None:
            if way == "one by one":
                async for message in consumer:
                    seen.extend([message.data])
            elif way == "batches":
                async for batch in consumer.batches(17, wait=0.01):
                    seen.extend(message.data for message in batch)
            else:
                key = (lambda m: m.data[-1:]) if way == "keys" else None
                await consumer.run(handle, concurrency=3, key=key)

        consuming = asyncio.ensure_future(consume())
        sending = asyncio.ensure_future(send(mq, count))
        for turn in (1, 2, 3):
            await until(lambda turn=turn: len(set(seen)) > 60 * turn, 20.0)  # type: ignore[misc]
            await running.restart()
        await sending
        await until(lambda: len(set(seen)) == 2 * count, 20.0)
        await until(lambda: failed.total() == 0 or all(data in seen for data in failed))
        await consumer.close()
        await consuming
        if way == "keys":
            for digit in b"0123456789":
                own = in_order([data for data in seen if data[-1] == digit])
                assert all(numbers == sorted(numbers) for numbers in own.values())
        else:
            assert in_order(seen) == {0: list(range(count)), 1: list(range(count))}
        for partition in (0, 1):
            _, end = await mq.offsets("test", partition)
            stored = ledger.offset(partition, "test")
            assert stored is not None
            last_one = 20 + len(b"0/%d" % (count - 1))  # who iterates did not come back for another
            assert stored in (end, end - last_one) or way == "batches"


async def test_a_consumer_that_dies_without_a_word_leaves_all_that_was_not_stored_to_the_next(tmp_path: Path) -> None:
    async with restarting(tmp_path) as running, connect(running.broker) as mq:
        await send(mq, 100)
        ledger, seen = Ledger(), []
        for life in range(5):
            consumer = consumer_of(mq, ledger, "test", commit_every=3600.0, max_size=1000)
            for n in range(30):
                seen += await take(consumer, 1)
                if n == 7 * life % 30:
                    await consumer.commit()
            await running.restart()
            consumer._share.lose(list(consumer._share.streams))  # it stores nothing any more
        consumer = consumer_of(mq, ledger, "test")
        while len(set(seen)) < 200:
            seen += await take(consumer, 1)
        for partition in (0, 1):
            assert {d for d in seen if d.startswith(b"%d/" % partition)} == {
                b"%d/%d" % (partition, n) for n in range(100)
            }


async def test_a_time_is_found_in_a_log_of_several_segments(tmp_path: Path) -> None:
    async with serving(configured(tmp_path, settings(tmp_path, SMALL))) as broker, connect(broker) as mq:
        producer = mq.producer("test")
        receipts: list[Receipt] = []
        for n in range(60):
            receipts += await producer.send_many([bytes(100), bytes(10 + 100 * n)] * 5, partition=0)
            await asyncio.sleep(0.002)
        times = [id_time_ms(receipt.id) for receipt in receipts]
        assert receipts[-1].offset > 20 * SMALL["maxSegmentSize"]
        for ms in [times[0] - 1, *times[:: len(times) // 20], times[-1]]:
            since = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
            first = next(r.offset for r, time in zip(receipts, times, strict=True) if time >= ms)
            assert await mq.offset_at("test", 0, since) == first
        later = datetime.now(UTC) + timedelta(hours=1)
        assert await mq.offset_at("test", 0, later) == (await mq.offsets("test", 0))[1]
        ms = times[len(times) // 2]
        since = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
        consumer = consumer_of(mq, Ledger(), "test", start=since)
        async with asyncio.timeout(5.0):
            message = await anext(consumer)
        assert (id_time_ms(message.id) >= ms, message.offset) == (
            True,
            next(r.offset for r, time in zip(receipts, times, strict=True) if time >= ms),
        )


async def test_a_record_that_rots_on_the_disk_of_the_broker_is_skipped_and_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with restarting(tmp_path) as running:
        async with connect(running.broker) as mq:
            bodies = [b"%03d " % n + bytes(700) for n in range(100)]
            send = mq.producer("test").send_many  # one batch is never cut into two segments
            receipts = [each for n in range(0, 100, 5) for each in await send(bodies[n : n + 5], partition=0)]
        port = running.broker.port
        await running.broker.end()
        rotten = [3, 4, 50, 77]
        files = sorted((tmp_path / "data" / "test-0").glob("*.meta"))
        assert len(files) > 3
        for number in rotten:
            at = receipts[number].offset + 20 + 5
            file = next(f for f in reversed(files) if int(f.stem) <= at)
            data = bytearray(file.read_bytes())
            if at - int(file.stem) < len(data):
                data[at - int(file.stem)] ^= 0xFF
                file.write_bytes(data)
        await running.start(port)
        async with connect(running.broker) as mq:
            kept = [body for n, body in enumerate(bodies) if n not in rotten]
            assert await take(consumer_of(mq, Ledger(), "test"), len(kept)) == kept
        assert caplog.text.count("fails its checksum; skipped, going on at") == 3  # two are in a row


def gets(broker: Serving) -> int:
    return broker.running.broker.statistics.tally("test").gets


async def test_an_idle_consumer_leaves_its_questions_with_the_broker_and_hears_at_once(tmp_path: Path) -> None:
    async with restarting(tmp_path) as running, connect(running.broker) as mq:
        producer, seen = mq.producer("test"), list[bytes]()
        for partition in range(2):
            await producer.send(b"first", partition=partition)
        async with consumer_of(mq, Ledger(), "test") as consumer:
            seen += await take(consumer, 2)
            await until(lambda: running.broker.running.broker.polls.lines == 2)
            before = gets(running.broker)
            for n in range(20):
                await producer.send(b"%d" % n, partition=0)
                seen += await take(consumer, 1)
            assert gets(running.broker) <= before + 21  # one for each message, and the poll of now
        assert seen[2:] == [b"%d" % n for n in range(20)]


async def test_a_reader_that_waits_is_closed_or_sent_elsewhere_at_once(tmp_path: Path) -> None:
    async with restarting(tmp_path) as running, connect(running.broker) as mq:
        receipt = await mq.producer("test").send(b"first", partition=0)
        async with mq.reader("test", 0, "latest") as reader, asyncio.timeout(5):
            fetching = asyncio.create_task(reader.fetch())
            await until(lambda: running.broker.running.broker.polls.lines == 1)
            reader.seek(receipt.offset)
            assert [message.data for message in await fetching] == [b"first"]
            fetching = asyncio.create_task(reader.fetch())
            await until(lambda: running.broker.running.broker.polls.lines == 2)
            await reader.close()
            assert await fetching == []
