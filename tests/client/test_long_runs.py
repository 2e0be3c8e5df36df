"""Runs of so many messages that they are decoded piece by piece, while they are handed out."""

import asyncio
from contextlib import suppress

import pytest

import metaq.aio
from metaq.aio import Message
from metaq.cluster.znodes import NO_MESSAGE, Position
from metaq.model import BrokerPartition, ClusterPartition, TopicPartition
from tests.client.consuming import Ledger, consumer_of, fill, take_messages
from tests.client.fake_broker import FakeBroker

COUNT = 1200
HURT = 700
ZERO = ClusterPartition("t", BrokerPartition(0, 0))


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def bodies(first: int = 0, *, hurt: bool = False) -> list[bytes]:
    return [b"0/%d" % number for number in range(first, COUNT) if not (hurt and number == HURT)]


def fill_and_hurt(broker: FakeBroker) -> list[int]:
    offsets = fill(broker, COUNT)
    broker.logs[TopicPartition("t", 0)][offsets[HURT] + 21] ^= 0xFF
    return offsets


async def test_a_corrupt_record_far_within_a_run_is_skipped_alone(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    offsets = fill_and_hurt(broker)
    consumer = consumer_of(mq, ledger)
    messages = await take_messages(consumer, COUNT - 1)
    assert [message.data for message in messages] == bodies(hurt=True)
    with suppress(TimeoutError):
        async with asyncio.timeout(0.05):
            await anext(consumer)  # which acknowledges the last one
    await consumer.close()
    assert ledger.offset(0) == offsets[COUNT]


async def test_batches_go_on_behind_a_corrupt_record_within_a_run(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill_and_hurt(broker)
    consumer = consumer_of(mq, ledger)
    got: list[bytes] = []
    while len(got) < COUNT - 1:
        got += [message.data for message in await consumer.batch(333, 0.05)]
    assert got == bodies(hurt=True)


async def test_handlers_get_all_but_the_corrupt_record(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    offsets = fill_and_hurt(broker)
    consumer = consumer_of(mq, ledger)
    got: list[bytes] = []

    async def handle(message: Message) -> None:
        got.append(message.data)
        if len(got) == COUNT - 1:
            await asyncio.sleep(0)
            closing.append(asyncio.create_task(consumer.close()))

    closing: list[asyncio.Task[None]] = []
    async with asyncio.timeout(5.0):
        await consumer.run(handle)
        await closing[0]
    assert got == bodies(hurt=True)
    assert ledger.offset(0) == offsets[COUNT]


@pytest.mark.parametrize("taken", [1, 63, 64, 65, 80, 81, 500, COUNT])
async def test_all_but_the_message_in_hand_is_dealt_with_wherever_it_is_in_a_run(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger, taken: int
) -> None:
    offsets = fill(broker, COUNT)
    consumer = consumer_of(mq, ledger)
    messages = await take_messages(consumer, taken)
    await consumer.commit()
    stored = ledger.stored.get(ZERO)
    assert stored == Position(messages[-2].id if taken > 1 else NO_MESSAGE, offsets[taken - 1])
    await consumer.close()
    assert ledger.stored.get(ZERO) == stored


async def test_a_filter_leaves_positions_right_in_every_piece(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    offsets = fill(broker, COUNT)
    consumer = consumer_of(mq, ledger, filter=lambda message: message.data.endswith(b"99"))
    messages = await take_messages(consumer, 7)
    assert [message.data for message in messages] == [b"0/%d99" % n if n else b"0/99" for n in range(7)]
    await consumer.close()
    assert ledger.offset(0) == offsets[699]  # all that were passed over are dealt with, the one in hand is not


async def test_duplicates_are_known_over_all_pieces(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, COUNT)
    consumer = consumer_of(mq, ledger, skip_duplicates=COUNT)
    await take_messages(consumer, COUNT)
    with suppress(TimeoutError):
        async with asyncio.timeout(0.05):
            await anext(consumer)
    consumer.seek("t", "0-0", 0)
    broker.append(TopicPartition("t", 0), 0, b"new")
    assert [message.data for message in await take_messages(consumer, 1)] == [b"new"]


async def test_a_batch_that_was_cancelled_comes_again_whole_though_it_spans_pieces(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, COUNT)
    consumer = consumer_of(mq, ledger)
    first = await consumer.batch(50)
    with suppress(TimeoutError):
        async with asyncio.timeout(0.1):
            await consumer.batch(COUNT, 10.0)  # waits for more than there is
    await consumer.commit()
    assert ledger.stored.get(ZERO) == Position(first[-1].id, first[-1].next_offset)
    assert [message.data for message in await consumer.batch(COUNT - 50, 20.0)] == bodies(first=50)


async def test_seeking_takes_a_run_back_in_the_middle_of_a_piece(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    offsets = fill(broker, COUNT)
    consumer = consumer_of(mq, ledger)
    await take_messages(consumer, 200)
    consumer.seek("t", "0-0", offsets[5])
    assert [message.data for message in await take_messages(consumer, COUNT - 5)] == bodies(first=5)
