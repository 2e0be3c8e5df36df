"""What one who iterates or takes batches has in hand, when he is interrupted, mixes the two, or loses partitions."""

import asyncio
import threading
from typing import TypeVar

import pytest

import metaq
import metaq.aio
from metaq.aio import ConfigError, Consumer, Message
from metaq.client.consuming.options import ConsumerKeywords
from metaq.model import BrokerPartition, ClusterPartition, TopicPartition
from metaq.protocol.commands import Get
from tests.client.conftest import QUICK
from tests.client.consuming import FAST, Ledger, consumer_of, fill, take, take_messages
from tests.client.fake_broker import FakeBroker, until

T = TypeVar("T")

ZERO, ONE = (ClusterPartition("t", BrokerPartition(0, n)) for n in (0, 1))


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def bodies(*counts: int) -> list[bytes]:
    return sorted(b"%d/%d" % (partition, n) for partition, count in enumerate(counts) for n in range(count))


async def interrupted(consumer: Consumer, in_hand: int) -> None:
    """Ask for a batch, and be cancelled when it has some messages."""
    asked = consumer.asked
    waiting = asyncio.ensure_future(consumer.batch(1000, wait=3600.0))
    await until(lambda: consumer.asked > asked and sum(bool(run._mark) for run in consumer._hand._runs) == in_hand)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()


async def test_a_batch_of_several_partitions_that_was_interrupted_is_handed_out_again_whole(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    ends = [fill(broker, 3, partition)[-1] for partition in (0, 1)]
    consumer = consumer_of(mq, ledger)
    for _ in range(2):
        await interrupted(consumer, 2)
        await consumer.commit()
        assert {ledger.offset(0), ledger.offset(1)} <= {0, None}
    assert sorted(m.data for m in await consumer.batch(1000, wait=0.05)) == bodies(3, 3)
    assert ledger.offset(0) in (0, None)
    waiting = asyncio.ensure_future(consumer.batch())
    await asyncio.sleep(0)
    await consumer.commit()
    assert [ledger.offset(0), ledger.offset(1)] == ends
    waiting.cancel()


@pytest.mark.parametrize("trouble", ["paused", "sought", "lost"])
async def test_a_batch_that_was_interrupted_and_then_taken_back_is_handed_out_again(
    trouble: str, broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    offsets = fill(broker, 5)
    consumer = consumer_of(mq, ledger)
    assert [m.data for m in await consumer.batch(2)] == [b"0/0", b"0/1"]
    await interrupted(consumer, 1)
    if trouble == "paused":
        consumer.pause()
        consumer.resume()
    elif trouble == "sought":
        consumer.seek("t", 0, offsets[2])
    else:
        await consumer.commit()
        consumer._share.lose([ZERO])
        await consumer._share.take([ZERO])
    assert [m.data for m in await consumer.batch(3)] == [b"0/2", b"0/3", b"0/4"]
    await consumer.close()
    assert ledger.offset(0) == offsets[2]


async def test_pausing_while_a_batch_is_waited_for_and_interrupting_that_loses_nothing(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, 5)
    consumer = consumer_of(mq, ledger, max_size=60)
    waiting = asyncio.ensure_future(consumer.batch(1000, wait=3600.0))
    await until(lambda: consumer._hand._runs and consumer._hand._runs[0]._mark)
    consumer.pause()
    waiting.cancel()
    await asyncio.wait([waiting])
    consumer.resume()
    assert [m.data for m in await consumer.batch(5)] == [b"0/%d" % n for n in range(5)]


async def test_batches_and_single_messages_may_be_mixed(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    ends = [fill(broker, 40, partition)[-1] for partition in (0, 1)]
    consumer = consumer_of(mq, ledger, max_size=100)
    seen: list[bytes] = []
    while len(seen) < 80:
        seen += [m.data for m in await consumer.batch(min(7, 80 - len(seen)), wait=0.02)]
        if len(seen) < 80:
            seen += await take(consumer, min(3, 80 - len(seen)))
    assert sorted(seen) == bodies(40, 40)
    for partition in (0, 1):
        assert [d for d in seen if d.startswith(b"%d/" % partition)] == [b"%d/%d" % (partition, n) for n in range(40)]
    waiting = asyncio.ensure_future(take(consumer, 1))
    await asyncio.sleep(0.01)
    await consumer.close()
    assert [ledger.offset(0), ledger.offset(1)] == ends
    await asyncio.wait([waiting])
    assert isinstance(waiting.exception(), StopAsyncIteration | RuntimeError)


async def test_a_batch_of_one_partition_is_filled_from_several_fetches_without_waiting(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    offsets = fill(broker, 200)
    consumer = consumer_of(mq, ledger, max_size=250)  # ten messages
    async with asyncio.timeout(5.0):
        first = await consumer.batch(100, wait=3600.0)
        assert [m.data for m in first] == [b"0/%d" % n for n in range(100)]
        await consumer.commit()
        assert ledger.offset(0) in (0, None)  # not one of them is acknowledged
        assert [m.data for m in await consumer.batch(95, wait=3600.0)] == [b"0/%d" % n for n in range(100, 195)]
    await consumer.commit()
    assert ledger.offset(0) == offsets[100]
    await consumer.close()
    assert ledger.offset(0) == offsets[100]


async def test_a_batch_in_hand_is_acknowledged_whole_though_its_partition_is_given_away_meanwhile(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    offsets = fill(broker, 10)
    consumer = consumer_of(mq, ledger, release_timeout=30.0)
    assert len(await consumer.batch(7)) == 7
    giving = asyncio.ensure_future(consumer._share.give([ZERO]))
    await asyncio.sleep(0.01)
    assert not giving.done()
    waiting = asyncio.ensure_future(consumer.batch())
    await giving
    assert ledger.offset(0) == offsets[7]
    waiting.cancel()


async def test_what_is_lost_while_a_batch_is_waited_for_does_not_come_with_it(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    for partition in (0, 1):
        fill(broker, 3, partition)
    consumer = consumer_of(mq, ledger)
    waiting = asyncio.ensure_future(consumer.batch(7, wait=3600.0))
    await until(lambda: len(consumer._hand._runs) == 2)
    await asyncio.sleep(0)
    consumer._share.lose([ZERO])
    for n in range(4):
        broker.append(TopicPartition("t", 1), 0, b"1/%d" % (n + 3))
    async with asyncio.timeout(5.0):
        assert [m.data for m in await waiting] == bodies(0, 4)
    waiting = asyncio.ensure_future(consumer.batch(2, wait=0.01))
    await until(lambda: consumer._hand._runs and consumer._hand._runs[-1]._mark)
    consumer._share.lose([ONE])  # all that it has: it waits on, for an empty one would say that it is closed
    await asyncio.sleep(0.05)
    assert not waiting.done()
    waiting.cancel()


async def test_a_batch_that_is_waited_for_when_the_consumer_is_closed_comes_again_and_is_empty_here(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, 3)
    consumer = consumer_of(mq, ledger)
    waiting = asyncio.ensure_future(consumer.batch(1000, wait=3600.0))
    await until(lambda: consumer._hand._runs and consumer._hand._runs[0]._mark)
    await consumer.close()
    assert await waiting == []
    assert [m.data for m in await consumer_of(mq, ledger).batch(3)] == bodies(3)


async def test_a_batch_of_nothing_is_refused(mq: metaq.aio.MessageQueue) -> None:
    with pytest.raises(ConfigError, match="a batch has at least 1 message, not 0"):
        await consumer_of(mq, Ledger()).batch(0)


async def test_messages_passed_over_while_a_batch_waits_for_more_are_not_kept(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    end = fill(broker, 500)[-1]
    consumer = consumer_of(mq, ledger, max_size=500, filter=lambda m: m.data == b"0/3")
    waiting = asyncio.ensure_future(consumer.batch(2, wait=0.3))
    await until(lambda: any(get.offset == end for get in broker.of(Get)))  # type: ignore[union-attr]
    assert sum(run._chosen is not None for run in consumer._hand._runs) == 1
    assert sum(len(run._block._data) for run in consumer._hand._runs) < 1000
    assert [m.data for m in await waiting] == [b"0/3"]
    waiting = asyncio.ensure_future(consumer.batch(2))
    await asyncio.sleep(0)
    await consumer.close()
    assert ledger.offset(0) == end


# pausing


async def test_pausing_fetches_again_what_an_interrupted_batch_had_and_the_next_did_not_get(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, 30)
    consumer = consumer_of(mq, ledger, max_size=250)  # ten messages
    waiting = asyncio.ensure_future(consumer.batch(1000, wait=3600.0))
    await until(lambda: len(consumer._hand._runs) == 3)
    waiting.cancel()
    await asyncio.wait([waiting])
    seen = await consumer.batch(4)
    consumer.pause()
    consumer.resume()
    while len(seen) < 30:
        seen += await consumer.batch(5)
    assert [m.data for m in seen] == [b"0/%d" % n for n in range(30)]


async def test_pausing_fetches_nothing_again_that_is_in_hand(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, 30)
    consumer = consumer_of(mq, ledger, max_size=250)
    seen = await consumer.batch(25)  # of three fetches
    consumer.pause()
    consumer.resume()
    seen += await consumer.batch(5)
    assert [m.data for m in seen] == [b"0/%d" % n for n in range(30)]


async def test_resuming_a_partition_that_is_not_ours_at_present_resumes_it_for_when_it_is_again(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, 1)
    consumer = consumer_of(mq, ledger)
    await consumer.join()
    consumer.pause("t", "0-0")
    consumer._share.lose([ZERO])
    consumer.resume("t")
    await consumer._share.take([ZERO])
    assert await take(consumer, 1) == [b"0/0"]


async def test_pausing_stops_a_loop_behind_the_message_at_hand_and_resuming_goes_on_there(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    offsets = fill(broker, 10)
    for at in (3, 7):
        consumer = consumer_of(mq, ledger, "t", f"g{at}")
        assert await take(consumer, at) == [b"0/%d" % n for n in range(at)]
        consumer.pause()
        waiting = asyncio.ensure_future(take(consumer, 1))
        await asyncio.sleep(0.03)
        assert not waiting.done()
        await consumer.commit()
        assert ledger.offset(0) == offsets[at]
        consumer.resume()
        assert [*await waiting, *await take(consumer, 9 - at)] == [b"0/%d" % n for n in range(at, 10)]
        ledger.stored.clear()


async def test_pausing_within_a_run_that_has_a_corrupt_record_loses_nothing_before_it(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    offsets = fill(broker, 10)
    broker.logs[TopicPartition("t", 0)][offsets[6] + 21] ^= 0xFF
    consumer = consumer_of(mq, ledger)
    assert await take(consumer, 2) == [b"0/0", b"0/1"]
    consumer.pause()
    consumer.resume()
    assert await take(consumer, 7) == [b"0/%d" % n for n in (2, 3, 4, 5, 7, 8, 9)]


# duplicates and filters


async def test_what_handlers_are_not_given_because_of_a_filter_is_dealt_with_at_the_end_of_a_fetch_too(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    end = fill(broker, 500)[-1]
    consumer = consumer_of(mq, ledger, filter=lambda m: m.data == b"0/3", commit_every=0.01)

    async def handle(message: Message) -> None:
        assert message.data == b"0/3"

    running = asyncio.ensure_future(consumer.run(handle))
    await until(lambda: ledger.offset(0) == end)
    await consumer.close()
    await running


async def test_messages_of_two_brokers_with_one_id_are_no_duplicates(broker: FakeBroker) -> None:
    async with FakeBroker(1) as other:
        for each in (broker, other):
            each.append(TopicPartition("t", 0), 0, b"of %d" % each.broker_id)
        async with metaq.aio.connect(f"{broker.url},127.0.0.1:{other.port}", link=QUICK) as mq:
            await until(lambda: broker.peers and other.peers)
            messages = await take_messages(consumer_of(mq, Ledger(), skip_duplicates=10), 2)
    assert {m.data for m in messages} == {b"of 0", b"of 1"}
    assert len({m.id for m in messages}) == 1


async def test_with_manual_acknowledgement_only_what_is_acknowledged_is_a_duplicate(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, 4)
    consumer = consumer_of(mq, ledger, ack="manual", skip_duplicates=10)
    messages = await take_messages(consumer, 4)
    consumer.ack(messages[0])
    consumer.seek("t", 0, 0)
    assert await take(consumer, 3) == [b"0/1", b"0/2", b"0/3"]


async def test_what_a_filter_fails_at_is_passed_over_and_said(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    fill(broker, 2)

    def accepts(message: Message) -> bool:
        if message.data == b"0/0":
            raise ZeroDivisionError("what a filter")
        return True

    assert await take(consumer_of(mq, ledger, filter=accepts), 1) == [b"0/1"]
    assert "t 0-0: message 1 at 0 passed over, the filter failed: ZeroDivisionError('what a filter')" in caplog.text


# plain code


def plain(mq: metaq.MessageQueue, ledger: Ledger) -> metaq.Consumer:
    settings: ConsumerKeywords = {**FAST, "offsets": ledger}
    return mq.consumer("t", group="g", **settings)


def test_ctrl_c_between_the_arrival_of_a_batch_and_its_being_handed_over_loses_nothing(
    fake: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(fake, 10)
    with metaq.connect(fake.url, link=QUICK) as mq:
        consumer = plain(mq, Ledger())
        wait = consumer._thread.wait
        for data in ([b"0/0", b"0/1", b"0/2"], [b"0/3", b"0/4", b"0/5"]):
            with monkeypatch.context() as patch:

                def interrupted(future: object) -> object:
                    wait(future)  # type: ignore[arg-type]
                    raise KeyboardInterrupt

                patch.setattr(consumer._thread, "wait", interrupted)
                with pytest.raises(KeyboardInterrupt):
                    consumer.batch(3)
            assert [m.data for m in consumer.batch(3)] == data


def test_after_ctrl_c_nothing_of_a_run_is_left(fake: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its handlers would meet threads that take nothing any more, and have their messages rejected for that."""
    fill(fake, 1000)
    entered, leave = threading.Event(), threading.Event()

    def handle(message: Message) -> None:
        entered.set()
        leave.wait()

    with metaq.connect(fake.url, link=QUICK) as mq:
        consumer = plain(mq, Ledger())
        wait = consumer._thread.wait
        calls: list[object] = []

        def interrupted(future: object) -> object:
            calls.append(future)
            if len(calls) != 2:  # the first begins the run, the second waits for its end
                return wait(future)  # type: ignore[arg-type]
            entered.wait()
            leave.set()
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(consumer._thread, "wait", interrupted)
            with pytest.raises(KeyboardInterrupt):
                consumer.run(handle, concurrency=4)
        assert not consumer._core._dispatchers
