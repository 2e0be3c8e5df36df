"""Handlers, filters, keys and rejections that do what they should not: nothing hangs, nothing is lost."""

import asyncio
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Unpack

import pytest

import metaq
import metaq.aio
from metaq.aio import ConfigError, LinkClosed, Message
from metaq.client.consuming import dispatch
from metaq.client.consuming.options import ConsumerKeywords
from metaq.client.consuming.recovering import Recovery
from metaq.cluster.znodes import Position
from metaq.errors import SpoolError
from metaq.files import OsFiles, OsThreads
from metaq.model import BrokerPartition, ClusterPartition
from metaq.protocol.commands import Get
from tests.client.conftest import QUICK
from tests.client.consuming import FAST, Ledger, consumer_of, fill, take
from tests.client.fake_broker import FakeBroker, held, release, until


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


# handlers


async def test_a_handler_that_waits_for_something_that_was_cancelled_has_failed_like_any_other(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, 3)
    calls: Counter[bytes] = Counter()

    async def handle(message: Message) -> None:
        calls[message.data] += 1
        if calls[message.data] == 1:
            raise asyncio.CancelledError

    consumer = consumer_of(mq, ledger)
    running = asyncio.ensure_future(consumer.run(handle))
    await until(lambda: len(calls) == 3 and all(count == 2 for count in calls.values()))
    await consumer.close()
    await running


async def test_a_run_that_was_cancelled_leaves_its_messages_to_the_next_of_the_same_consumer(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    end = fill(broker, 50)[-1]
    handled: list[bytes] = []
    stuck = asyncio.Event()

    async def handle(message: Message) -> None:
        if len(handled) == 7 and not stuck.is_set():
            stuck.set()
            await asyncio.sleep(3600)
        handled.append(message.data)

    consumer = consumer_of(mq, ledger)
    running = asyncio.ensure_future(consumer.run(handle))
    await stuck.wait()
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    again = asyncio.ensure_future(consumer.run(handle))
    await until(lambda: len(handled) == 50)
    assert handled == [b"0/%d" % n for n in range(50)]
    await consumer.close()
    await again
    assert ledger.offset(0) == end


@pytest.mark.parametrize("trouble", ["raises", "has no hash"])
async def test_a_key_that_cannot_be_told_is_raised_and_its_message_comes_again(
    trouble: str, broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, 10)
    handled: list[bytes] = []

    def key(message: Message) -> object:
        if message.data != b"0/6":
            return message.data
        return 1 // 0 if trouble == "raises" else []

    async def handle(message: Message) -> None:
        handled.append(message.data)

    consumer = consumer_of(mq, ledger)
    with pytest.raises(ZeroDivisionError if trouble == "raises" else TypeError):
        await consumer.run(handle, key=key)
    running = asyncio.ensure_future(consumer.run(handle))
    await until(lambda: {b"0/%d" % n for n in range(10)} <= set(handled))
    await consumer.close()
    await running


async def test_messages_dealt_with_by_a_handler_are_passed_over_when_they_come_again(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    offsets = fill(broker, 5)
    handled: list[bytes] = []

    async def handle(message: Message) -> None:
        handled.append(message.data)

    consumer = consumer_of(mq, ledger, skip_duplicates=100)
    running = asyncio.ensure_future(consumer.run(handle))
    await until(lambda: len(handled) == 5)
    consumer.seek("t", 0, 0)
    await until(lambda: broker.received and sum(get.offset == 0 for get in broker.of(Get)) == 2)  # type: ignore[union-attr]
    fill(broker, 6)
    await until(lambda: len(handled) == 11)
    assert handled == [b"0/%d" % n for n in (0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5)]
    assert len(offsets) == 6
    await consumer.close()
    await running


async def test_no_handler_is_called_for_a_partition_while_it_is_paused(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    for partition in (0, 1):
        fill(broker, 300, partition)
    handled: list[bytes] = []
    consumer = consumer_of(mq, ledger)

    async def handle(message: Message) -> None:
        await asyncio.sleep(0)
        handled.append(message.data)
        if message.data == b"0/7":
            consumer.pause("t", "0-0")

    running = asyncio.ensure_future(consumer.run(handle, concurrency=2))
    await until(lambda: b"1/299" in handled)
    await asyncio.sleep(0.01)
    assert [data for data in handled if data.startswith(b"0")] == [b"0/%d" % n for n in range(8)]
    consumer.resume()
    consumer.pause("t", "0-0")
    consumer.resume()
    await until(lambda: len(handled) == 600)
    for partition in (0, 1):
        own = [data for data in handled if data.startswith(b"%d/" % partition)]
        assert own == [b"%d/%d" % (partition, n) for n in range(300)]
    await consumer.close()
    await running


# memory


async def test_messages_behind_one_that_does_not_end_are_handled_so_far_and_no_further(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "_FAR", 100)
    end = fill(broker, 1000)[-1]
    stuck, handled = asyncio.Event(), 0

    async def handle(message: Message) -> None:
        nonlocal handled
        if message.data == b"0/0":
            await stuck.wait()
        handled += 1

    consumer = consumer_of(mq, ledger, max_size=500)
    running = asyncio.ensure_future(consumer.run(handle, key=lambda m: m.data, concurrency=2))
    await until(lambda: handled >= 99)
    await asyncio.sleep(0.02)
    assert handled < 150
    stuck.set()
    await until(lambda: handled == 1000)
    await consumer.close()
    await running
    assert ledger.offset(0) == end


async def test_no_more_is_taken_into_lanes_than_there_is_somebody_to_handle() -> None:
    async with FakeBroker(partitions=40) as broker, metaq.aio.connect(broker.url, link=QUICK) as mq:
        for partition in range(40):
            fill(broker, 10, partition)
        leave, handled = asyncio.Event(), 0

        async def handle(message: Message) -> None:
            nonlocal handled
            await leave.wait()
            handled += 1

        consumer = consumer_of(mq, Ledger())
        running = asyncio.ensure_future(consumer.run(handle, concurrency=2))
        await until(lambda: consumer._dispatchers and len(next(iter(consumer._dispatchers))._lanes) > 8)
        await until(lambda: len(broker.of(Get)) > 80)
        assert len(next(iter(consumer._dispatchers))._lanes) <= 2 + 4 * 2 + 1
        leave.set()
        await until(lambda: handled == 400)
        await consumer.close()
        await running


# rejections


async def test_a_rejection_under_way_is_waited_for_when_the_consumer_is_closed(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    offsets = fill(broker, 2)
    entered, leave, rejected = asyncio.Event(), asyncio.Event(), []

    async def reject(message: Message, error: BaseException) -> None:
        entered.set()
        await leave.wait()
        rejected.append(message.data)

    async def handle(message: Message) -> None:
        raise ValueError("never")

    consumer = consumer_of(mq, ledger, retries=0, reject=reject)
    running = asyncio.ensure_future(consumer.run(handle))
    await entered.wait()
    closing = asyncio.ensure_future(consumer.close())
    await asyncio.sleep(0.02)
    assert not closing.done()
    leave.set()
    await closing
    await running
    assert rejected == [b"0/0"]
    assert ledger.offset(0) == offsets[1]


async def test_closing_waits_for_a_message_that_is_recovered_and_does_not_double_it(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger, tmp_path: Path
) -> None:
    one = consumer_of(mq, ledger, recover_path=str(tmp_path))
    await one.reject(Message("t", "0-0", 0, 1, 0, b"kept"))
    entered, leave, handled = asyncio.Event(), asyncio.Event(), []

    async def handle(message: Message) -> None:
        entered.set()
        await leave.wait()
        handled.append(message.data)

    running = asyncio.ensure_future(one.run(handle))
    await entered.wait()
    closing = asyncio.ensure_future(one.close())
    await asyncio.sleep(0.02)
    assert not closing.done()
    leave.set()
    await closing
    await running
    assert handled == [b"kept"]
    heir = recovery(tmp_path)
    assert await heir.count() == 0
    await heir.close()


def recovery(path: Path) -> Recovery:
    return Recovery(str(path), "g", OsFiles(), OsThreads(asyncio.get_running_loop()))


async def test_a_kept_message_that_nobody_can_read_holds_up_no_other_and_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = recovery(tmp_path)
    spool = await kept._spool("t")
    await spool.append(b"garbage")
    for number in range(3):
        await kept.reject(Message("t", "0-0", number, number, 0, b"%d" % number), ValueError())
    seen: list[bytes] = []

    async def again(message: Message) -> bool:
        seen.append(message.body)
        return True

    for _ in range(2):
        await kept.recover(again)
    assert seen == [b"0", b"1", b"2"]
    assert await kept.count() == 1
    assert "an item of 7 bytes is no rejected message" in caplog.text
    await kept.close()


async def test_what_was_closed_keeps_and_opens_nothing_any_more(tmp_path: Path) -> None:
    kept = recovery(tmp_path)
    message = Message("t", "0-0", 0, 1, 0, b"x")
    await kept.reject(message, ValueError())
    await kept.close()
    with pytest.raises(SpoolError, match="closed"):
        await kept.reject(message, ValueError())

    async def again(message: Message) -> bool:
        raise AssertionError

    await kept.recover(again)
    await kept.close()
    heir = recovery(tmp_path)  # would find the folder locked
    assert await heir.count() == 1
    await heir.close()


async def test_a_folder_for_rejected_messages_that_cannot_be_read_keeps_no_handler_from_working(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(broker, 3)
    (tmp_path / "g").write_text("this is no folder")
    handled: list[bytes] = []

    async def handle(message: Message) -> None:
        if message.data == b"0/1" and handled.count(b"0/1") == 0:
            handled.append(message.data)
            raise ValueError("it cannot be kept, so it is handled again")
        handled.append(message.data)

    consumer = consumer_of(mq, ledger, retries=0, recover_path=str(tmp_path))
    running = asyncio.ensure_future(consumer.run(handle))
    await until(lambda: len(handled) == 4)
    assert handled == [b"0/0", b"0/1", b"0/1", b"0/2"]
    assert "messages not recovered, trying again later" in caplog.text
    assert "message at 23 not rejected" in caplog.text
    await consumer.close()
    await running


# closing


async def test_closing_while_the_group_is_joined_ends_those_who_wait_and_cancels_nobody(
    broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    class Stuck(Ledger):
        async def load(self, group: str, partitions: object) -> dict[ClusterPartition, Position]:
            await asyncio.sleep(3600)
            return {}

    fill(broker, 1)
    consumer = consumer_of(mq, Stuck())

    async def handle(message: Message) -> None:
        raise AssertionError

    waiting = [
        asyncio.ensure_future(anext(consumer, None)),
        asyncio.ensure_future(consumer.batch()),
        asyncio.ensure_future(consumer.run(handle)),
        asyncio.ensure_future(consumer.join()),
    ]
    await until(lambda: consumer._joining)
    await asyncio.sleep(0.01)
    async with asyncio.timeout(8.0):
        await consumer.close()
        assert await waiting[0] is None
        assert await waiting[1] == []
        assert await waiting[2] is None
        with pytest.raises(ConfigError, match="group g: the consumer was closed meanwhile"):
            await waiting[3]


async def test_one_who_waits_for_a_join_may_be_cancelled_and_the_join_goes_on(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, 1)
    consumer = consumer_of(mq, ledger)
    waiting = asyncio.ensure_future(consumer.join())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert await take(consumer, 1) == [b"0/0"]


async def test_closing_a_client_waits_for_a_consumer_that_is_being_closed_already(
    broker: FakeBroker, ledger: Ledger
) -> None:
    offsets = fill(broker, 1)
    mq = await metaq.aio.connect(broker.url, link=QUICK)
    consumer = consumer_of(mq, ledger)
    await take(consumer, 1)
    consumer.ack((await mq.reader("t", 0).fetch())[0])
    closing = asyncio.ensure_future(consumer.close())
    await asyncio.sleep(0)
    assert consumer.is_closed
    assert not closing.done()
    consumer_of(mq, Ledger())
    await mq.close()
    assert closing.done()
    assert ledger.offset(0) == offsets[1]
    with pytest.raises(ConfigError, match="the client is closed"):
        consumer_of(mq, Ledger())


# plain code


def plain(mq: metaq.MessageQueue, ledger: Ledger, **options: Unpack[ConsumerKeywords]) -> metaq.Consumer:
    settings: ConsumerKeywords = {**FAST, "offsets": ledger, **options}
    return mq.consumer("t", group="g", **settings)


def test_a_handler_that_calls_sys_exit_has_failed_like_any_other(fake: FakeBroker) -> None:
    fill(fake, 2)
    calls: list[bytes] = []

    def handle(message: Message) -> None:
        calls.append(message.data)
        if len(calls) == 1:
            sys.exit("so there")
        if len(calls) == 3:
            threading.Thread(target=consumer.close).start()

    with metaq.connect(fake.url, link=QUICK) as mq:
        consumer = plain(mq, Ledger())
        consumer.run(handle)
    assert calls == [b"0/0", b"0/0", b"0/1"]


def test_a_reject_function_that_calls_sys_exit_has_failed_and_the_message_is_handled_again(fake: FakeBroker) -> None:
    fill(fake, 1)
    calls: list[str] = []

    def handle(message: Message) -> None:
        calls.append("handle")
        raise ValueError("never")

    def reject(message: Message, error: BaseException) -> None:
        calls.append("reject")
        if calls.count("reject") == 1:
            sys.exit(1)
        threading.Thread(target=consumer.close).start()

    with metaq.connect(fake.url, link=QUICK) as mq:
        consumer = plain(mq, Ledger(), retries=0, reject=reject)
        consumer.run(handle)
    assert calls == ["handle", "reject", "handle", "reject"]


def test_a_filter_that_calls_sys_exit_ends_the_client_and_leaves_nobody_waiting(fake: FakeBroker) -> None:
    fill(fake, 1)
    ledger = Ledger()

    def accepts(message: Message) -> bool:
        sys.exit(1)

    mq = metaq.connect(fake.url, link=QUICK)
    consumer = plain(mq, ledger, filter=accepts)
    for _ in range(2):
        with pytest.raises((SystemExit, LinkClosed, ConfigError)):
            next(iter(consumer))
    consumer.close()
    mq.close()
    assert ledger.offset(0) in (None, 0)


async def test_closing_waits_no_longer_than_allowed_though_many_lanes_wait(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, 50)
    broker.next(Get, held)
    entered = asyncio.Event()

    async def handle(message: Message) -> None:
        entered.set()
        await asyncio.sleep(3600)

    consumer = consumer_of(mq, ledger, release_timeout=0.05)
    running = asyncio.ensure_future(consumer.run(handle, key=lambda m: m.data))
    await until(lambda: release(broker) or entered.is_set())
    await entered.wait()
    async with asyncio.timeout(8.0):
        await consumer.close()
        await running
    assert ledger.stored.get(ClusterPartition("t", BrokerPartition(0, 0)), Position(-1, 0)).offset == 0
