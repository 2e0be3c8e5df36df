"""Where a consumer goes on: around corrupt records, after seeking and pausing, when the log is not what it was."""

import asyncio
from datetime import UTC, datetime

import pytest

import metaq.aio
from metaq.aio import CorruptMessage, NoTimeInIds, OffsetLost
from metaq.model import BrokerPartition, ClusterPartition, TopicPartition
from metaq.protocol import encoder
from metaq.protocol.commands import Command, Get
from metaq.record import pack
from tests.client.consuming import Ledger, consumer_of, fill, take, take_messages
from tests.client.fake_broker import FakeBroker, Peer, behave, hang_up, held, release, until

ZERO = ClusterPartition("t", BrokerPartition(0, 0))
T0 = TopicPartition("t", 0)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def corrupt(broker: FakeBroker, at: int) -> None:
    broker.logs[T0][at + 21] ^= 0xFF


# corrupt records


async def test_messages_fetched_before_a_corrupt_record_was_raised_are_handed_out_also_after_skipping_it(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    offsets = fill(broker, 5)
    corrupt(broker, offsets[2])
    consumer = consumer_of(mq, ledger, corrupt="raise", max_size=offsets[2])
    await consumer.join()
    await until(lambda: sum(get.offset == offsets[2] for get in broker.of(Get)) == 2)  # type: ignore[union-attr]
    await asyncio.sleep(0)
    with pytest.raises(CorruptMessage):
        await take(consumer, 1)
    await consumer.skip()
    assert await take(consumer, 4) == [b"0/0", b"0/1", b"0/3", b"0/4"]


async def test_skipping_a_corrupt_record_is_stored_once_all_before_it_is_dealt_with(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    offsets = fill(broker, 3)
    corrupt(broker, offsets[2])
    consumer = consumer_of(mq, ledger, corrupt="raise")
    messages = await take_messages(consumer, 2)
    with pytest.raises(CorruptMessage):
        await take(consumer, 1)
    await consumer.skip()
    await consumer.close()
    assert ledger.offset(0) == offsets[3]
    assert ledger.stored[ZERO].message_id == messages[1].id


async def test_seeking_away_from_a_corrupt_record_goes_on_there(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    offsets = fill(broker, 5)
    corrupt(broker, offsets[1])
    consumer = consumer_of(mq, ledger, corrupt="raise")
    await take(consumer, 1)
    with pytest.raises(CorruptMessage):
        await take(consumer, 1)
    consumer.seek("t", "0-0", offsets[3])
    assert await take(consumer, 2) == [b"0/3", b"0/4"]


async def test_a_broker_lost_while_a_corrupt_record_is_skipped_stops_nothing(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    offsets = fill(broker, 4)
    corrupt(broker, offsets[1])
    broker.next(Get, behave, behave, behave, hang_up)  # the first, two looks at the second, what comes behind it
    assert await take(consumer_of(mq, ledger), 3) == [b"0/0", b"0/2", b"0/3"]


async def test_a_record_that_is_cut_at_the_end_of_the_log_is_waited_for_and_not_skipped(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    fill(broker, 1)
    record = pack(77, 0, b"half of it is here, half is yet to come")
    broker.logs[T0] += record[:30]  # so a slave may have it while its master is away
    consumer = consumer_of(mq, ledger)
    assert await take(consumer, 1) == [b"0/0"]
    waiting = asyncio.ensure_future(take(consumer, 1))
    await until(lambda: len(broker.of(Get)) > 40)  # more than it looks before it calls a record corrupt
    broker.logs[T0] += record[30:]
    assert await waiting == [b"half of it is here, half is yet to come"]
    assert "skipped" not in caplog.text


async def test_an_answer_without_data_is_nothing_there_yet(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    fill(broker, 1)

    def nothing(peer: Peer, command: Command) -> None:
        assert isinstance(command, Get)
        peer.send(b"value 0 %d\r\n" % command.opaque)

    broker.next(Get, *[nothing] * 30)
    assert await take(consumer_of(mq, ledger), 1) == [b"0/0"]
    assert len(broker.of(Get)) > 30
    assert "cut" not in caplog.text


# pausing


async def test_paused_partitions_leave_their_room_to_the_others(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, 20, 0)
    fill(broker, 20, 1)
    consumer = consumer_of(mq, ledger, prefetch=40, max_size=100)
    await consumer.join()
    consumer.pause("t", "0-1")
    await until(lambda: len(broker.of(Get)) >= 1)
    assert await take(consumer, 20) == [b"0/%d" % n for n in range(20)]
    waiting = asyncio.ensure_future(take(consumer, 1))
    consumer.pause("t", "0-0")
    consumer.resume("t", "0-1")
    assert await waiting == [b"1/0"]


async def test_a_partition_that_is_paused_while_it_has_everything_that_may_be_fetched_ahead_stops_no_other(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, 20, 0)
    consumer = consumer_of(mq, ledger, prefetch=30, max_size=100)
    await consumer.join()
    await until(lambda: broker.of(Get))
    await asyncio.sleep(0.02)  # what is fetched fills the room
    consumer.pause("t", "0-0")
    fill(broker, 3, 1)
    assert await take(consumer, 3) == [b"1/0", b"1/1", b"1/2"]
    consumer.resume()
    assert await take(consumer, 20) == [b"0/%d" % n for n in range(20)]


async def test_pausing_during_a_fetch_loses_and_doubles_nothing(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, 10)
    consumer = consumer_of(mq, ledger, max_size=60)
    seen: list[bytes] = []
    for _ in range(5):
        seen += await take(consumer, 2)
        broker.always(Get, held)
        await until(lambda: broker.waiting or len(broker.of(Get)) > 20)
        consumer.pause()
        consumer.resume()
        broker.always(Get, behave)
        release(broker)
    assert seen == [b"0/%d" % n for n in range(10)]


async def test_seeking_during_a_fetch_takes_only_what_is_fetched_from_there(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    offsets = fill(broker, 10)
    consumer = consumer_of(mq, ledger, max_size=60)
    for n in (7, 2, 9, 0, 5):
        broker.always(Get, held)
        await consumer.join()
        consumer.seek("t", 0, 0)
        await until(lambda: broker.waiting)
        consumer.seek("t", 0, offsets[n])
        broker.always(Get, behave)
        release(broker)
        assert await take(consumer, 1) == [b"0/%d" % n]


# logs that are not what they were


async def test_a_broker_whose_filter_passes_over_messages_is_followed(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    """1.4.6.2 answers 301 with the offset behind the messages its filter did not accept."""
    offsets = fill(broker, 6)

    def filtered(peer: Peer, command: Command) -> None:
        assert isinstance(command, Get)
        if command.offset < offsets[3]:
            peer.send(encoder.result(301, str(offsets[3]), command.opaque))
        else:
            behave(peer, command)

    broker.always(Get, filtered)
    for options in ({}, {"out_of_range": "latest"}, {"out_of_range": "stored"}):
        consumer = consumer_of(mq, Ledger(), **options)  # type: ignore[arg-type]
        assert await take(consumer, 3) == [b"0/3", b"0/4", b"0/5"]
        await consumer.close()


async def test_a_broker_that_lost_messages_is_read_from_where_the_rule_says_and_not_waited_for(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    offsets = fill(broker, 10)
    consumer = consumer_of(mq, ledger)
    assert len(await take(consumer, 10)) == 10
    await consumer.commit()
    await broker.stop()
    del broker.logs[T0][offsets[2] :]
    broker.append(T0, 0, b"again")
    await broker.start()
    assert await take(consumer, 3) == [b"0/0", b"0/1", b"again"]
    assert f"offset {offsets[10]} of group g is not in the log, 0 to" in caplog.text
    broker.append(T0, 0, b"last")
    assert await take(consumer, 1) == [b"last"]
    await consumer.close()
    assert ledger.offset(0) == offsets[2] + 25  # it has followed, and stands below what was stored before


async def test_a_broker_that_lost_messages_is_said_where_that_is_wanted(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    offsets = fill(broker, 10)
    consumer = consumer_of(mq, ledger, out_of_range="stored")
    assert len(await take(consumer, 10)) == 10
    await broker.stop()
    del broker.logs[T0][offsets[2] :]
    await broker.start()
    with pytest.raises(OffsetLost, match=f"offset {offsets[10]} of group g is not in the log, 0 to {offsets[2]}"):
        await take(consumer, 1)


async def test_a_time_that_ids_do_not_tell_is_an_error_and_no_silence(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    broker.logs[T0] += pack(-5, 0, b"one of 1.4.6.2")
    with pytest.raises(NoTimeInIds, match=r"message id -5 at offset 0 is one of a 1\.4\.6\.2 broker"):
        await take(consumer_of(mq, ledger, start=datetime.now(UTC)), 1)
