"""Consuming without ZooKeeper: a scripted broker, one member that has everything."""

import asyncio
from collections.abc import AsyncIterator

import pytest

import metaq.aio
from metaq.aio import ConfigError, Consumer, CorruptMessage, Message
from metaq.errors import NoStoredOffset, OffsetLost, OffsetStoreError
from metaq.model import BrokerPartition, ClusterPartition, TopicPartition
from metaq.protocol.commands import Command, Get
from tests.client.consuming import Ledger, consumer_of, fill, take, take_messages
from tests.client.fake_broker import Act, FakeBroker, Peer, behave, garbage, hang_up, silence, status, until

ZERO = ClusterPartition("t", BrokerPartition(0, 0))


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


# iterating


async def test_every_message_comes_once_and_those_of_a_partition_in_order(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    for partition in (0, 1):
        fill(broker, 500, partition)
    consumer = consumer_of(mq, ledger)
    messages = await take_messages(consumer, 1000)
    for partition in (0, 1):
        found = [m.data for m in messages if m.partition == f"0-{partition}"]
        assert found == [b"%d/%d" % (partition, n) for n in range(500)]


async def test_asking_for_the_next_message_acknowledges_the_one_before(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    offsets = fill(broker, 5)
    consumer = consumer_of(mq, ledger)
    await take(consumer, 3)
    await consumer.commit()
    assert ledger.offset(0) == offsets[2]
    await take(consumer, 2)
    await consumer.close()
    assert ledger.offset(0) == offsets[4]
    assert not ledger.is_closed  # it stays its owner's
    again = consumer_of(mq, ledger)
    assert await take(again, 1) == [b"0/4"]
    again.ack((await take_messages(consumer_of(mq, Ledger(), "t", "h"), 5))[4])
    await again.close()
    assert ledger.offset(0) == offsets[5]


async def test_a_loop_that_was_left_goes_on_with_the_next_message(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, 4)
    consumer = consumer_of(mq, ledger)
    async for message in consumer:
        if message.data == b"0/1":
            break
    assert [message.data async for message in until_last(consumer, b"0/3")] == [b"0/2", b"0/3"]


async def until_last(consumer: Consumer, last: bytes) -> AsyncIterator[Message]:
    async for message in consumer:
        yield message
        if message.data == last:
            return


async def test_iterating_waits_for_messages_to_come_and_ends_when_the_consumer_is_closed(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, 1)
    consumer = consumer_of(mq, ledger)
    assert await take(consumer, 1) == [b"0/0"]
    waiting = asyncio.ensure_future(take(consumer, 1))
    await until(lambda: len(broker.of(Get)) > 5)
    assert not waiting.done()
    broker.append(TopicPartition("t", 0), 0, b"late")
    assert await waiting == [b"late"]
    rest = asyncio.ensure_future(consumer.batch())
    await asyncio.sleep(0)
    await consumer.close()
    assert await rest == []
    assert [message async for message in consumer] == []


async def test_partitions_that_come_into_being_are_consumed(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, 1)
    consumer = consumer_of(mq, ledger)
    assert await take(consumer, 1) == [b"0/0"]
    fill(broker, 1, 1)
    assert await take(consumer, 1) == [b"1/0"]
    assert consumer.partitions == [ZERO, ClusterPartition("t", BrokerPartition(0, 1))]


async def test_several_topics_are_consumed_and_may_be_exchanged(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    for topic in ("a", "b", "c"):
        fill(broker, 2, topic=topic)
    consumer = consumer_of(mq, ledger, ["a", "b"])
    assert {m.topic for m in await take_messages(consumer, 4)} == {"a", "b"}
    await consumer.subscribe(["b", "c"])
    assert [m.topic for m in await take_messages(consumer, 2)] == ["c", "c"]
    assert {each.topic for each in consumer.partitions} == {"b", "c"}
    assert ledger.offset(0, "a") is not None


# batches


async def test_a_batch_is_acknowledged_by_asking_for_the_next(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    offsets = fill(broker, 10)
    consumer = consumer_of(mq, ledger)
    assert [m.data for m in await consumer.batch(4)] == [b"0/%d" % n for n in range(4)]
    await consumer.commit()
    assert ledger.offset(0) == offsets[0]
    assert [m.data for m in await consumer.batch(4)] == [b"0/%d" % n for n in range(4, 8)]
    await consumer.commit()
    assert ledger.offset(0) == offsets[4]
    assert [m.data for m in await consumer.batch(4, wait=0.01)] == [b"0/8", b"0/9"]
    await consumer.close()
    assert ledger.offset(0) == offsets[8]


async def test_a_batch_that_was_interrupted_is_handed_out_again(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, 3)
    consumer = consumer_of(mq, ledger)
    waiting = asyncio.ensure_future(consumer.batch(10, wait=60.0))
    await until(lambda: len(broker.of(Get)) > 3)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert [m.data for m in await consumer.batch(3)] == [b"0/0", b"0/1", b"0/2"]


# acknowledging by hand


async def test_with_manual_acknowledgement_only_what_is_acknowledged_is_stored(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    offsets = fill(broker, 5)
    consumer = consumer_of(mq, ledger, ack="manual")
    messages = await take_messages(consumer, 5)
    await consumer.commit()
    assert ledger.offset(0) == offsets[0]
    assert consumer.ack(messages[3])
    assert consumer.ack(messages[1])  # before it: says nothing new
    await consumer.close()
    assert ledger.offset(0) == offsets[4]
    assert ledger.stored[ZERO].message_id == messages[3].id
    assert not consumer.ack(messages[4])


async def test_offsets_that_could_not_be_stored_are_stored_the_next_time(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    offsets = fill(broker, 5)
    consumer = consumer_of(mq, ledger, commit_every=0.01)
    await take(consumer, 5)
    ledger.failures = 3
    with pytest.raises(OffsetStoreError):
        await consumer.commit()
    await until(lambda: ledger.offset(0) == offsets[4])
    saves = ledger.saves
    await asyncio.sleep(0.05)
    assert ledger.saves == saves  # nothing has moved, nothing is written


async def test_a_store_that_is_away_when_the_group_is_joined_is_waited_for(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, 1)
    ledger.failures = 1
    assert await take(consumer_of(mq, ledger), 1) == [b"0/0"]


# filters


async def test_a_filter_lets_pass_what_it_accepts_and_the_rest_counts_as_dealt_with(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    offsets = fill(broker, 10)

    def accepts(message: metaq.aio.Message) -> bool:
        number = int(message.data.split(b"/")[1])
        if number == 3:
            raise ValueError("a filter that fails accepts nothing")
        return number in (1, 4)

    consumer = consumer_of(mq, ledger, filter=accepts)
    assert await take(consumer, 2) == [b"0/1", b"0/4"]
    await consumer.commit()
    assert ledger.offset(0) == offsets[4]
    rest = asyncio.ensure_future(take(consumer, 1))
    end = fill(broker, 1)[-1]
    broker.append(TopicPartition("t", 0), 0, b"0/1")
    assert await rest == [b"0/1"]
    await consumer.commit()
    assert ledger.offset(0) == end


async def test_messages_dealt_with_are_passed_over_when_they_come_again(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, 3)
    consumer = consumer_of(mq, ledger, skip_duplicates=100)
    await take(consumer, 3)
    waiting = asyncio.ensure_future(take(consumer, 1))
    await until(lambda: len(broker.of(Get)) > 2)
    consumer.seek("t", "0-0", 0)
    await until(lambda: len(broker.of(Get)) > 6)
    assert not waiting.done()
    broker.append(TopicPartition("t", 0), 0, b"new")
    assert await waiting == [b"new"]


# steering


async def test_a_paused_partition_is_left_alone_until_it_is_resumed(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    for partition in (0, 1):
        fill(broker, 2, partition)
    consumer = consumer_of(mq, ledger)
    await consumer.join()
    consumer.pause("t", "0-1")
    assert await take(consumer, 2) == [b"0/0", b"0/1"]
    waiting = asyncio.ensure_future(take(consumer, 2))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    consumer.resume()
    assert await waiting == [b"1/0", b"1/1"]


async def test_seeking_goes_back_and_forward_and_refuses_what_is_not_ours(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    offsets = fill(broker, 6)
    consumer = consumer_of(mq, ledger)
    assert await take(consumer, 3) == [b"0/0", b"0/1", b"0/2"]
    consumer.seek("t", "0-0", offsets[1])
    await consumer.commit()
    assert ledger.offset(0) == offsets[1]
    assert await take(consumer, 2) == [b"0/1", b"0/2"]
    consumer.seek("t", 0, offsets[5])
    assert await take(consumer, 1) == [b"0/5"]
    with pytest.raises(ConfigError, match=r"t 7 is not one of ours; there are t 0-0"):
        consumer.seek("t", 7, 0)


async def test_the_lag_of_each_partition_is_one_call(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    offsets = fill(broker, 10)
    fill(broker, 3, 1)
    consumer = consumer_of(mq, ledger)
    consumer.ack((await take_messages(consumer, 13))[-1])
    fill(broker, 4)
    lag = await consumer.lag()
    assert sum(lag.values()) in (4 * 23, 5 * 23)  # the last message of the first partition may not be acknowledged
    assert len(offsets) == 11
    assert set(lag) == {ZERO, ClusterPartition("t", BrokerPartition(0, 1))}


# trouble


@pytest.mark.parametrize("trouble", [hang_up, garbage, silence, status(500, "no"), status(503, "not now")])
async def test_after_trouble_with_a_broker_consuming_goes_on_where_it_was(
    trouble: Act, broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, 3)
    consumer = consumer_of(mq, ledger, timeout=0.1)
    assert await take(consumer, 3) == [b"0/0", b"0/1", b"0/2"]
    broker.next(Get, *[trouble] * 3)
    waiting = asyncio.ensure_future(take(consumer, 1))
    await until(lambda: len(broker.of(Get)) > 5)
    broker.append(TopicPartition("t", 0), 0, b"after")
    assert await waiting == [b"after"]


async def test_a_broker_that_went_away_is_waited_for(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, 2)
    consumer = consumer_of(mq, ledger)
    assert await take(consumer, 2) == [b"0/0", b"0/1"]
    await broker.stop()
    waiting = asyncio.ensure_future(take(consumer, 1))
    await asyncio.sleep(0.05)
    broker.append(TopicPartition("t", 0), 0, b"kept")
    await broker.start()
    assert await waiting == [b"kept"]


def corrupt(broker: FakeBroker, at: int) -> None:
    broker.logs[TopicPartition("t", 0)][at + 21] ^= 0xFF


async def test_a_corrupt_record_is_skipped_and_said(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    offsets = fill(broker, 5)
    corrupt(broker, offsets[2])
    consumer = consumer_of(mq, ledger)
    assert await take(consumer, 4) == [b"0/0", b"0/1", b"0/3", b"0/4"]
    assert f"the record at offset {offsets[2]} of 3 bytes fails its checksum; skipped" in caplog.text


async def test_a_corrupt_record_is_raised_where_that_is_wanted_and_may_be_skipped(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    offsets = fill(broker, 5)
    corrupt(broker, offsets[2])
    consumer = consumer_of(mq, ledger, corrupt="raise")
    assert await take(consumer, 2) == [b"0/0", b"0/1"]
    with pytest.raises(CorruptMessage, match=f"offset {offsets[2]} of 3 bytes"):
        await take(consumer, 1)
    await consumer.skip()
    assert await take(consumer, 2) == [b"0/3", b"0/4"]


async def test_a_record_that_was_only_garbled_on_its_way_is_not_skipped(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    offsets = fill(broker, 2)

    def garble(peer: Peer, command: Command) -> None:
        corrupt(broker, offsets[0])
        behave(peer, command)
        corrupt(broker, offsets[0])

    broker.next(Get, garble)
    assert await take(consumer_of(mq, ledger), 2) == [b"0/0", b"0/1"]
    assert "skipped" not in caplog.text


async def test_closing_does_not_wait_for_a_message_that_nobody_acknowledges(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, 3)
    consumer = consumer_of(mq, ledger, release_timeout=60.0)
    await take(consumer, 1)
    async with asyncio.timeout(8.0):
        await consumer.close()
    await consumer.close()
    with pytest.raises(ConfigError, match="the consumer is closed"):
        await consumer.join()


async def test_closing_while_the_broker_is_silent_does_not_hang(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, 3)
    broker.always(Get, silence)
    consumer = consumer_of(mq, ledger, timeout=60.0)
    waiting = asyncio.ensure_future(take(consumer, 1))
    await until(lambda: broker.of(Get))
    async with asyncio.timeout(8.0):
        await consumer.close()
    assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], StopAsyncIteration | RuntimeError)


# where to begin


async def test_without_a_stored_offset_it_begins_where_start_says(
    broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    offsets = fill(broker, 5)
    assert await take(consumer_of(mq, Ledger(), "t", "a"), 1) == [b"0/0"]
    assert await take(consumer_of(mq, Ledger(), "t", "b", start=offsets[3]), 1) == [b"0/3"]
    latest = consumer_of(mq, Ledger(), "t", "c", start="latest")
    waiting = asyncio.ensure_future(take(latest, 1))
    await until(lambda: broker.of(Get) and any(get.group == "c" for get in broker.of(Get)))  # type: ignore[union-attr]
    broker.append(TopicPartition("t", 0), 0, b"new")
    assert await waiting == [b"new"]
    stored = consumer_of(mq, Ledger(), "t", "d", start="stored")
    with pytest.raises(NoStoredOffset, match="t 0-0: group d has no offset stored"):
        await take(stored, 1)


async def test_a_stored_offset_goes_before_start_unless_it_is_to_be_ignored(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, 5)
    first = consumer_of(mq, ledger)
    await take(first, 3)
    await first.close()
    assert await take(consumer_of(mq, ledger, start=0), 1) == [b"0/2"]
    again = consumer_of(mq, ledger, start="earliest", ignore_stored=True)
    assert await take(again, 1) == [b"0/0"]


@pytest.mark.parametrize(("rule", "first"), [("earliest", b"0/5"), ("latest", b"new"), ("offset", b"0/7")])
async def test_an_offset_that_retention_took_is_replaced_as_out_of_range_says(
    rule: str, first: bytes, broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    offsets = fill(broker, 10)
    one = consumer_of(mq, ledger)
    await take(one, 3)
    await one.close()
    retire(broker, offsets[5])
    where = offsets[7] if rule == "offset" else rule
    broker.received.clear()
    two = consumer_of(mq, ledger, start="stored", out_of_range=where)  # type: ignore[arg-type]
    waiting = asyncio.ensure_future(take(two, 1))
    await until(lambda: any(get.offset >= offsets[5] for get in broker.of(Get)))  # type: ignore[union-attr]
    broker.append(TopicPartition("t", 0), 0, b"new")
    assert await waiting == [first]


async def test_an_offset_that_retention_took_is_raised_where_that_is_wanted(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    offsets = fill(broker, 10)
    one = consumer_of(mq, ledger)
    await take(one, 3)
    await one.close()
    retire(broker, offsets[5])
    two = consumer_of(mq, ledger, out_of_range="stored")
    with pytest.raises(OffsetLost, match=rf"offset {offsets[2]} of group g is not in the log, {offsets[5]} to"):
        await take(two, 1)


async def test_retention_that_overtakes_a_slow_consumer_moves_it_as_the_rule_says(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    offsets = fill(broker, 10)
    consumer = consumer_of(mq, ledger, max_size=30)
    assert await take(consumer, 1) == [b"0/0"]
    retire(broker, offsets[8])
    seen = [b""]
    while seen[-1] != b"0/9":
        seen += await take(consumer, 1)
    assert seen[-2:] == [b"0/8", b"0/9"]
    assert f"is not in the log, {offsets[8]} to {offsets[10]}; going on at {offsets[8]}" in caplog.text


def retire(broker: FakeBroker, offset: int) -> None:
    """Remove what is before an offset."""
    target = TopicPartition("t", 0)
    del broker.logs[target][: offset - broker.bases[target]]
    broker.bases[target] = offset


async def test_options_that_cannot_be_are_refused(mq: metaq.aio.MessageQueue) -> None:
    for options in ({"start": "newest"}, {"ack": "never"}, {"start": -1}, {"retries": -1}, {"max_size": 0}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            consumer_of(mq, Ledger(), **options)
    for group in ("", "a b", "a/b", "a.b"):
        with pytest.raises(ConfigError, match="group"):
            consumer_of(mq, Ledger(), "t", group)
