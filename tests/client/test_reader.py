"""Reading one partition, and browsing a topic."""

import asyncio
from collections.abc import AsyncIterator

import pytest

import metaq.aio
from metaq.aio import ConfigError, CorruptMessage, LinkClosed, NoBroker, Refused
from metaq.model import TopicPartition
from metaq.protocol.commands import Command, Get, Offset
from metaq.record import HEADER_SIZE
from tests.client.conftest import QUICK
from tests.client.fake_broker import Act, FakeBroker, Peer, behave, garbage, half_frame, hang_up, silence, status, until

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)


def fill(broker: FakeBroker, count: int, target: TopicPartition = T0, size: int = 10) -> list[bytes]:
    bodies = [(b"%d-%d " % (target.partition, n)).ljust(size, b".") for n in range(count)]
    for body in bodies:
        broker.append(target, 0, body)
    return bodies


async def take(messages: AsyncIterator[metaq.aio.Message], count: int) -> list[metaq.aio.Message]:
    """Return the next messages, with a deadline."""
    async with asyncio.timeout(5):
        return [await anext(messages) for _ in range(count)]


async def test_all_messages_come_in_order_with_their_place(broker: FakeBroker, mq: metaq.aio.MessageQueue) -> None:
    bodies = fill(broker, 300)
    messages = await take(mq.reader("t", "0-0", max_size=1000), 300)
    assert [m.data for m in messages] == bodies
    assert {(m.topic, m.partition) for m in messages} == {("t", "0-0")}
    assert [m.offset for m in messages] == [30 * n for n in range(300)]
    assert [m.id for m in messages] == list(range(1, 301))


async def test_it_waits_at_the_end_for_what_is_still_to_come(broker: FakeBroker, mq: metaq.aio.MessageQueue) -> None:
    reader = mq.reader("t", 0)  # nobody ever sent anything there
    waiting = asyncio.ensure_future(anext(reader))
    await until(lambda: len(broker.of(Get)) > 2)
    fill(broker, 2)
    assert (await waiting).data.startswith(b"0-0")
    assert reader.offset == 30
    assert (await take(reader, 1))[0].data.startswith(b"0-1")
    assert await reader.fetch(wait=0) == []
    assert await reader.fetch(wait=0.02) == []


async def test_polling_at_the_end_slows_down(broker: FakeBroker, mq: metaq.aio.MessageQueue) -> None:
    fill(broker, 1)
    reader = mq.reader("t", 0, "latest")
    assert await reader.fetch(wait=0.2) == []
    assert len(broker.of(Get)) <= 8  # 5, 10, 20, 40, 80 ms


async def test_where_to_begin_is_one_option(broker: FakeBroker, mq: metaq.aio.MessageQueue) -> None:
    broker.bases[T0] = 1000
    fill(broker, 3)
    assert (await take(mq.reader("t", 0), 1))[0].offset == 1000
    assert (await take(mq.reader("t", 0, "earliest"), 1))[0].offset == 1000
    assert (await take(mq.reader("t", 0, 1030), 1))[0].offset == 1030
    latest = mq.reader("t", 0, "latest")
    assert await latest.fetch(wait=0) == []
    assert latest.offset == 1090
    fill(broker, 1)
    assert (await take(latest, 1))[0].offset == 1090
    with pytest.raises(ConfigError, match="'earliest', 'latest' or an offset"):
        mq.reader("t", 0, "newest")  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        mq.reader("t", 0, max_size=0)


async def test_latest_of_a_partition_to_come_misses_nothing(broker: FakeBroker, mq: metaq.aio.MessageQueue) -> None:
    reader = mq.reader("t", 1, "latest")
    assert await reader.fetch(wait=0) == []
    fill(broker, 2, T1)
    got = await take(reader, 1)
    assert got[0].offset == 0
    assert len(broker.of(Offset)) == 1


async def test_moved_is_followed_when_old_messages_are_gone(broker: FakeBroker, mq: metaq.aio.MessageQueue) -> None:
    broker.bases[T0] = 5000
    bodies = fill(broker, 2)
    assert [m.data for m in await take(mq.reader("t", 0, 30), 2)] == bodies


async def test_moved_to_the_same_place_for_ever_is_no_busy_loop(broker: FakeBroker, mq: metaq.aio.MessageQueue) -> None:
    broker.always(Get, status(301, "0"))
    assert await mq.reader("t", 0, 0).fetch(wait=0.1) == []
    assert len(broker.of(Get)) < 10


@pytest.mark.parametrize("limit", [25, 100, 1 << 20])
async def test_a_message_larger_than_what_is_asked_for_comes_in_pieces(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, limit: int
) -> None:
    broker.max_transfer = limit  # less than the message: a reader of the original would never get past it
    broker.append(T0, 0, b"small")
    broker.append(T0, 0, b"x" * 1500)
    broker.append(T0, 0, b"small")
    messages = await take(mq.reader("t", 0, max_size=10), 3)
    assert [len(m.data) for m in messages] == [5, 1500, 5]


async def test_a_cut_message_at_the_end_is_waited_for_then_called_corrupt(
    broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    fill(broker, 2)
    whole = bytes(broker.logs[T0])
    del broker.logs[T0][45:]
    reader = mq.reader("t", 0)
    await take(reader, 1)
    with pytest.raises(CorruptMessage, match=r"t 0-0: the record at offset 30 is cut: 15 bytes of it are there"):
        await anext(reader)
    assert reader.offset == 30
    broker.logs[T0][:] = whole
    assert (await take(reader, 1))[0].offset == 30


async def test_a_corrupt_message_is_raised_with_its_place_and_can_be_skipped(
    broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    bodies = fill(broker, 5)
    broker.logs[T0][60 + 25] ^= 1
    reader = mq.reader("t", 0)
    assert [m.data for m in await take(reader, 2)] == bodies[:2]
    for _ in range(2):  # it stays there until somebody decides
        with pytest.raises(CorruptMessage, match="t 0-0: the record at offset 60 of 10 bytes fails its checksum"):
            await anext(reader)
        assert reader.offset == 60
    assert await reader.skip() == 90
    assert [m.data for m in await take(reader, 2)] == bodies[3:]


async def test_skipping_finds_the_next_record_behind_any_damage(broker: FakeBroker, mq: metaq.aio.MessageQueue) -> None:
    bodies = fill(broker, 400)
    broker.logs[T0][30 : 30 + 5000] = bytes([0xFF]) * 5000
    reader = mq.reader("t", 0, max_size=500)
    await take(reader, 1)
    with pytest.raises(CorruptMessage, match="length of -1"):
        await anext(reader)
    assert await reader.skip() == 5040
    assert (await take(reader, 1))[0].data == bodies[168]
    del broker.logs[T0][6000:]
    broker.logs[T0] += b"\xff" * 300
    reader.seek(6000)
    with pytest.raises(CorruptMessage):
        await anext(reader)
    assert await reader.skip() == 6300  # nothing whole follows: the end


@pytest.mark.parametrize("broken", [0, HEADER_SIZE])  # bytes in the header, among them its length, or in the body
async def test_skipping_passes_over_no_record_however_large_it_is(
    broken: int, broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    broker.append(T0, 0, bytes(400_000))
    _, offset = broker.append(T0, 0, b"\x01" * 700_000)  # ends behind what one answer holds
    broker.append(T0, 0, b"last")
    broker.logs[T0][broken : broken + 8] = b"\x01" * 8
    reader = mq.reader("t", 0)
    with pytest.raises(CorruptMessage):
        await anext(reader)
    assert await reader.skip() == offset
    assert [len(m.data) for m in await take(reader, 2)] == [700_000, 4]


async def test_skipping_does_not_believe_a_length_though_a_record_begins_where_it_says(
    broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    bodies = fill(broker, 4, size=44)
    broker.logs[T0][3] ^= 64  # the record seems to be twice as long as it is
    reader = mq.reader("t", 0)
    with pytest.raises(CorruptMessage):
        await anext(reader)
    assert await reader.skip() == 64
    assert [m.data for m in await take(reader, 3)] == bodies[1:]


@pytest.mark.parametrize("act", [garbage, hang_up, half_frame, silence])
async def test_trouble_with_the_network_ends_in_recovery(broker: FakeBroker, act: Act) -> None:
    async with metaq.aio.connect(broker.url, link=QUICK) as mq:
        bodies = fill(broker, 60)
        turns = iter(range(1_000_000))
        limit = 3 if act is silence else 1_000_000

        def every_other(peer: Peer, command: Command) -> None:
            turn = next(turns)
            (act if turn % 2 and turn < limit else behave)(peer, command)

        broker.always(Get, every_other)
        reader = mq.reader("t", 0, timeout=0.05, max_size=100)
        assert [m.data for m in await take(reader, 60)] == bodies


async def test_a_restart_of_the_broker_is_ridden_out(broker: FakeBroker, mq: metaq.aio.MessageQueue) -> None:
    bodies = fill(broker, 4)
    reader = mq.reader("t", 0)
    await take(reader, 4)
    await broker.stop()
    waiting = asyncio.ensure_future(anext(reader))
    bodies += fill(broker, 1)
    await broker.start()
    assert (await waiting).data == bodies[-1]


async def test_trouble_can_be_given_an_end(broker: FakeBroker, mq: metaq.aio.MessageQueue) -> None:
    fill(broker, 1)
    reader = mq.reader("t", 0, timeout=0.05, give_up_after=0.05)
    await take(reader, 1)
    await broker.stop()
    with pytest.raises((NoBroker, LinkClosed), match="t 0-0"):
        await anext(reader)


async def test_a_refusal_is_raised_with_its_place(broker: FakeBroker, mq: metaq.aio.MessageQueue) -> None:
    fill(broker, 1)
    broker.next(Get, status(500, "disk is broken"))
    reader = mq.reader("t", 0)
    with pytest.raises(Refused, match=r"500: disk is broken \(get from t 0-0 at meta://127.0.0.1:\d+, offset 0\)"):
        await anext(reader)
    assert len(await take(reader, 1)) == 1


async def test_a_closed_partition_is_waited_for(broker: FakeBroker, mq: metaq.aio.MessageQueue) -> None:
    fill(broker, 1)
    broker.next(Get, status(403, "closed"), status(403, "closed"))
    assert len(await take(mq.reader("t", 0), 1)) == 1


async def test_closing_ends_the_iteration(broker: FakeBroker, mq: metaq.aio.MessageQueue) -> None:
    reader = mq.reader("t", 0)

    async def read() -> list[bytes]:
        return [message.data async for message in reader]

    reading = asyncio.ensure_future(read())
    await until(lambda: len(broker.of(Get)) > 1)
    fill(broker, 3)
    await until(lambda: reader.offset == 90)
    await reader.close()
    assert len(await asyncio.wait_for(reading, 20)) == 3
    others = [asyncio.ensure_future(anext(mq.reader("t", n), None)) for n in (0, 1)]
    await until(others[0].done)
    await mq.close()
    assert await asyncio.wait_for(others[1], 20) is None


async def test_closing_the_client_ends_a_reader_whose_broker_is_away(broker: FakeBroker) -> None:
    mq = await metaq.aio.connect(broker.url, link=QUICK)
    reading = asyncio.ensure_future(anext(mq.reader("t", "7-0"), None))
    await asyncio.sleep(0)
    await mq.close()
    assert await asyncio.wait_for(reading, 20) is None


# browsing


async def test_browsing_goes_once_through_all_partitions_to_their_ends(
    broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    bodies = fill(broker, 50) + fill(broker, 50, T1)
    fill(broker, 5, TopicPartition("other", 0))
    seen = []
    async for message in mq.browse("t", max_size=200):
        seen.append(message.data)
        broker.append(T0, 0, b"too late")  # what is sent meanwhile does not belong to it
        broker.append(T1, 0, b"too late")
    assert seen == bodies
    assert [m async for m in mq.browse("nothing")] == []


async def test_browsing_begins_where_old_messages_are_gone(broker: FakeBroker, mq: metaq.aio.MessageQueue) -> None:
    broker.bases[T0] = 900
    bodies = fill(broker, 3)
    assert [m.data async for m in mq.browse("t")] == bodies


async def test_browsing_can_go_on_behind_a_corrupt_message(broker: FakeBroker, mq: metaq.aio.MessageQueue) -> None:
    bodies = fill(broker, 3) + fill(broker, 1, T1)
    broker.logs[T0][30 + 22] ^= 1
    browser = mq.browse("t")
    assert (await anext(browser)).data == bodies[0]
    with pytest.raises(CorruptMessage):
        await anext(browser)
    await browser.skip()
    assert [message.data async for message in browser] == bodies[2:]


# questions


async def test_partitions_and_offsets_are_told(broker: FakeBroker, mq: metaq.aio.MessageQueue) -> None:
    broker.bases[T1] = 70
    fill(broker, 2, T1)
    fill(broker, 1)
    assert await mq.partitions("t") == ["0-0", "0-1"]
    assert await mq.partitions("other") == []
    assert await mq.offsets("t", "0-1") == (70, 130)
    assert await mq.offsets("t", 0) == (0, 30)
    assert await mq.offsets("t", "0-7") == (0, 0)
    assert (await mq.stats())["broker_id"] == "0"
    assert (await mq.stats(0, "offsets"))["t"].startswith("part")
    assert b"[system]" in await mq.stats_text(f"127.0.0.1:{broker.port}", "config")
    assert await mq.version(broker.url) == "1.4.6.2"
    assert await mq.brokers() == {0: str(broker.address)}
    with pytest.raises(ConfigError, match=r"no broker at 127\.0\.0\.1:1"):
        await mq.version("127.0.0.1:1")
    with pytest.raises(NoBroker, match="no broker with id 3"):
        await mq.version(3)
