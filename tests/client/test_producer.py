"""Sending: order, many in flight, partitions, errors, what is sent again and what is not."""

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress

import pytest

import metaq.aio
from metaq.aio import BrokerPartition, ConfigError, LinkClosed, NoBroker, Refused, RequestTimeout
from metaq.model import TopicPartition
from metaq.protocol.commands import Command, Put
from tests.client.conftest import QUICK
from tests.client.fake_broker import (
    Act,
    FakeBroker,
    Peer,
    garbage,
    half_frame,
    hang_up,
    held,
    release,
    silence,
    status,
    until,
    wrong_opaque,
)

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)


def puts(broker: FakeBroker) -> list[Put]:
    return [command for command in broker.received if isinstance(command, Put)]


def connect_to(one: FakeBroker, other: FakeBroker) -> metaq.aio.MessageQueue:
    return metaq.aio.connect(f"{one.url},127.0.0.1:{other.port}", link=QUICK)


async def test_a_receipt_says_where_the_message_is(broker: FakeBroker, mq: metaq.aio.MessageQueue) -> None:
    producer = mq.producer("t")
    receipt = await producer.send(b"hello", attribute="key", partition="0-1")
    assert (receipt.id, receipt.partition, receipt.offset) == (1, "0-1", 0)
    assert (await producer.send(b"again", partition=1)).offset == 32
    assert (await producer.send(b"again", partition=BrokerPartition(0, 0))).partition == "0-0"
    messages = [message async for message in mq.browse("t")]
    assert [(m.data, m.attribute) for m in messages] == [(b"again", None), (b"hello", "key"), (b"again", None)]


async def test_without_zookeeper_the_broker_chooses_the_partition(
    broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    receipts = [await mq.producer("t").send(b"x") for _ in range(4)]
    assert {receipt.partition for receipt in receipts} == {"0-0", "0-1"}
    assert {put.target.partition for put in puts(broker)} == {-1}


async def test_many_are_in_flight_and_answered_in_order(broker: FakeBroker, mq: metaq.aio.MessageQueue) -> None:
    broker.always(Put, held)
    bodies = [b"%d" % n for n in range(500)]
    waiting = asyncio.ensure_future(mq.producer("t").send_many(bodies, partition=0))
    await until(lambda: len(broker.waiting) == 500)
    release(broker)
    receipts = await waiting
    assert [receipt.offset for receipt in receipts] == sorted(receipt.offset for receipt in receipts)
    assert [m.data async for m in mq.browse("t")] == bodies


async def test_messages_of_one_task_are_sent_in_the_order_of_the_calls(
    broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    producer = mq.producer("t", in_flight=7)
    first = [await producer.send_nowait(b"a%d" % n, partition=0) for n in range(30)]
    many = await producer.send_many((b"b%d" % n for n in range(300)), partition=0)
    await producer.send(b"c", partition=0)
    assert all(sent.done() for sent in first)
    assert len(many) == 300
    wanted = [b"a%d" % n for n in range(30)] + [b"b%d" % n for n in range(300)] + [b"c"]
    assert [put.body for put in puts(broker)] == wanted


async def test_send_nowait_waits_only_when_too_much_is_in_flight(
    broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    broker.always(Put, held)
    producer = mq.producer("t", in_flight=5)
    sent = [await producer.send_nowait(b"x") for _ in range(5)]
    sixth = asyncio.ensure_future(producer.send_nowait(b"x"))
    await until(lambda: len(broker.waiting) == 5)
    assert not sixth.done()
    release(broker)
    broker.always(Put, lambda peer, command: peer.send(peer.broker.put(command)) if isinstance(command, Put) else None)
    await (await sixth)
    await asyncio.gather(*sent)
    with pytest.raises(RequestTimeout, match="not sent"):
        broker.always(Put, silence)
        await asyncio.gather(*(producer.send_nowait(b"x", timeout=0.05) for _ in range(20)))


async def test_flush_waits_for_all_and_raises_what_nobody_asked_for(
    broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    producer = mq.producer("t")
    broker.next(Put, status(500, "disk full"), status(500, "seen"))
    unseen = await producer.send_nowait(b"1")
    seen = await producer.send_nowait(b"2")
    with pytest.raises(Refused, match="seen"):
        await seen
    with pytest.raises(Refused, match="disk full"):
        await producer.flush()
    assert unseen.done()
    await producer.flush()  # told once


async def test_leaving_the_block_flushes_and_raises(broker: FakeBroker) -> None:
    broker.next(Put, status(500, "disk full"))
    with pytest.raises(Refused, match="disk full"):
        async with metaq.aio.connect(broker.url, link=QUICK) as mq:
            await mq.producer("t").send_nowait(b"1")
            await mq.producer("t").send_nowait(b"2")
    assert len(broker.logs) == 1


async def test_a_block_that_fails_is_left_at_once_with_its_own_error(broker: FakeBroker) -> None:
    broker.always(Put, silence)
    with pytest.raises(ZeroDivisionError):
        async with metaq.aio.connect(broker.url, link=QUICK) as mq:
            sent = await mq.producer("t").send_nowait(b"1")
            raise ZeroDivisionError
    assert isinstance(sent.exception(), LinkClosed)


# errors


async def test_no_answer_is_a_timeout_that_names_the_place_and_is_not_sent_again(
    broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    broker.always(Put, silence)
    with pytest.raises(RequestTimeout, match=rf"put to t 0-1 at meta://127.0.0.1:{broker.port}: .*no answer") as caught:
        await mq.producer("t").send(b"x", partition="0-1", timeout=0.05)
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value.__cause__, RequestTimeout)
    assert len(puts(broker)) == 1


@pytest.mark.parametrize("act", [garbage, hang_up, half_frame])
async def test_a_lost_connection_is_an_error_and_nothing_is_sent_again(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, act: Act
) -> None:
    broker.next(Put, act)
    producer = mq.producer("t")
    with pytest.raises(LinkClosed, match=r"put to t 0-1 at meta://127.0.0.1:\d+: "):
        await producer.send(b"lost", partition="0-1")
    await producer.send(b"next")  # works at once: it waits for the new connection
    assert [put.body for put in puts(broker)] == [b"lost", b"next"]


@pytest.mark.parametrize("act", [hang_up, half_frame, garbage])
async def test_retries_send_again_what_may_be_lost(broker: FakeBroker, mq: metaq.aio.MessageQueue, act: Act) -> None:
    broker.next(Put, act, act)
    receipt = await mq.producer("t", retries=2).send(b"x", partition=0)
    assert receipt.offset == 0
    assert len(puts(broker)) == 3


async def test_retries_have_an_end(broker: FakeBroker, mq: metaq.aio.MessageQueue) -> None:
    broker.always(Put, silence)
    with pytest.raises(RequestTimeout):
        await mq.producer("t", retries=2).send(b"x", timeout=0.03)
    assert len(puts(broker)) == 3


async def test_a_refusal_carries_status_words_and_place(broker: FakeBroker, mq: metaq.aio.MessageQueue) -> None:
    with pytest.raises(Refused, match=r"500: wrong partition 9 \(put to t 0-9 at meta://127.0.0.1:\d+\)") as caught:
        await mq.producer("t", retries=5).send(b"x", partition="0-9")
    assert caught.value.status == 500
    assert len(puts(broker)) == 1


async def test_a_nonsense_receipt_is_an_error(broker: FakeBroker, mq: metaq.aio.MessageQueue) -> None:
    for text in ("", "1 2", "a b c", "1 2 3 4"):
        broker.next(Put, status(200, text))
        with pytest.raises(LinkClosed, match="answered put with"):
            await mq.producer("t").send(b"x")


async def test_a_reply_to_somebody_else_does_no_harm(broker: FakeBroker, mq: metaq.aio.MessageQueue) -> None:
    broker.always(Put, wrong_opaque)
    assert len(await mq.producer("t").send_many([b"x"] * 20)) == 20


async def test_send_many_raises_the_first_error_once_all_is_known(
    broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    broker.next(Put, held, status(500, "one"), held, status(500, "two"))
    waiting = asyncio.ensure_future(mq.producer("t").send_many([b"a", b"b", b"c", b"d", b"e"]))
    await until(lambda: len(puts(broker)) == 5)
    assert not waiting.done()
    release(broker)
    with pytest.raises(Refused, match="one") as caught:
        await waiting
    assert caught.value.__notes__ == ["message 1 of 5; 2 were not acknowledged"]


async def test_what_is_no_message_is_refused_before_anything_is_sent(
    broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    producer = mq.producer("t")
    with pytest.raises(TypeError, match="a message is bytes, not str"):
        await producer.send("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="an attribute is text, not bytes"):
        await producer.send(b"x", attribute=b"bytes")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="is no partition"):
        await producer.send(b"x", partition="first")
    with pytest.raises(ConfigError):
        await producer.send(b"x", partition=-1)
    for topic in ("", "a b", "a\r\nquit", "a/b"):
        with pytest.raises(ConfigError):
            mq.producer(topic)
    with pytest.raises(ConfigError, match="no selector 'best'"):
        mq.producer("t", selector="best")
    with pytest.raises(ConfigError):
        mq.producer("t", in_flight=0)
    assert puts(broker) == []


# several brokers


async def test_a_closed_partition_is_passed_over_when_the_choice_is_free(
    broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    async with FakeBroker(1) as other, connect_to(broker, other) as both:
        await until(lambda: broker.peers and other.peers)
        producer = both.producer("t")
        assert {(await producer.send(b"x")).partition[0] for _ in range(10)} == {"0", "1"}
        broker.closed |= {T0, T1, TopicPartition("t", -1)}
        before = len(puts(broker))
        assert {(await producer.send(b"x")).partition[0] for _ in range(10)} == {"1"}
        assert len(puts(broker)) > before
        with pytest.raises(Refused, match="403"):
            await producer.send(b"x", partition="0-1")
        other.closed |= {T0, T1, TopicPartition("t", -1)}
        with pytest.raises(Refused, match="has been closed"):
            await producer.send(b"x")


async def test_a_broker_that_is_away_is_passed_over_when_the_choice_is_free(broker: FakeBroker) -> None:
    async with FakeBroker(1) as other, connect_to(broker, other) as both:
        producer = both.producer("t", selector="random")
        while len(await both.brokers()) < 2:
            await asyncio.sleep(0.001)
        await broker.stop()
        with suppress(LinkClosed):  # what is sent before that is noticed is lost
            for _ in range(10):
                await producer.send(b"x")
        assert {(await producer.send(b"x")).partition[0] for _ in range(10)} == {"1"}
        with pytest.raises(NoBroker, match=r"t 0-1 at meta://.*: not sent, no connection within .* s: .*111"):
            await producer.send(b"x", partition="0-1", timeout=0.05)
        await other.stop()
        with pytest.raises((LinkClosed, NoBroker)):
            await producer.send(b"x", timeout=0.05)
        with pytest.raises(NoBroker, match=r"t: not sent, nobody takes messages within 0\.\d+ s; meta://.*111"):
            await producer.send(b"x", timeout=0.05)
        waiting = asyncio.ensure_future(producer.send(b"late"))
        await broker.start()
        assert (await waiting).partition[0] == "0"


async def test_a_selector_of_ones_own_sees_all_partitions_and_its_choice_is_kept(
    broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    seen: list[tuple[str, list[BrokerPartition], bytes, str | None]] = []

    def by_length(
        topic: str, partitions: Sequence[BrokerPartition], data: bytes, attribute: str | None, /
    ) -> BrokerPartition:
        seen.append((topic, list(partitions), data, attribute))
        return partitions[len(data) % len(partitions)]

    producer = mq.producer("t", selector=by_length)
    assert (await producer.send(b"1", attribute="k")).partition == "0-1"
    assert (await producer.send(b"22")).partition == "0-0"
    assert seen[0] == ("t", [BrokerPartition(0, 0), BrokerPartition(0, 1)], b"1", "k")
    broker.closed.add(T1)
    with pytest.raises(Refused, match="403"):
        await producer.send(b"1")
    async with FakeBroker(1) as other, connect_to(broker, other) as both:
        while len(await both.brokers()) < 2:
            await asyncio.sleep(0.001)
        producer = both.producer("t", selector=by_length)
        assert (await producer.send(b"22")).partition == "1-0"
        await other.stop()
        with pytest.raises((LinkClosed, NoBroker)):
            await producer.send(b"22", timeout=0.05)
        with pytest.raises(NoBroker, match="1-0"):  # the key stays where it is
            await producer.send(b"22", timeout=0.05)
        assert len(seen[-1][1]) == 4


async def test_a_key_keeps_its_partition_and_messages_without_one_go_where_somebody_is(broker: FakeBroker) -> None:
    async with FakeBroker(1) as other, connect_to(broker, other) as both:
        while len(await both.brokers()) < 2:
            await asyncio.sleep(0.001)
        producer = both.producer("t", selector="key")
        assert both.producer("t", selector="key") is producer
        places = {key: (await producer.send(b"x", attribute=key)).partition for key in "abcd"}
        assert sorted(places.values()) == ["0-0", "0-1", "1-0", "1-1"]
        await other.stop()
        away = next(key for key, place in places.items() if place == "1-0")
        with pytest.raises((LinkClosed, NoBroker)):
            await producer.send(b"x", attribute=away, timeout=0.05)
        with pytest.raises(NoBroker, match="1-0"):
            await producer.send(b"x", attribute=away, timeout=0.05)
        assert {(await producer.send(b"x")).partition[0] for _ in range(4)} == {"0"}
        waiting = asyncio.ensure_future(producer.send(b"x", attribute=away))
        await other.start()
        assert (await waiting).partition == "1-0"
        by_data = both.producer("t", selector=metaq.aio.ByKey(lambda data, attribute: data))
        assert len({(await by_data.send(b"same", attribute=key)).partition for key in "abcd"}) == 1
        broker.closed |= {T0, T1}
        other.closed |= {T0, T1}
        with pytest.raises(Refused, match="403"):  # no other partition will do
            await producer.send(b"x", attribute=away)


async def test_a_bare_number_needs_a_single_broker(broker: FakeBroker) -> None:
    async with FakeBroker(1) as other, connect_to(broker, other) as both:
        while len(await both.brokers()) < 2:
            await asyncio.sleep(0.001)
        with pytest.raises(ConfigError, match=re.escape("several brokers (0, 1)")):
            await both.producer("t").send(b"x", partition=0)


async def test_what_may_be_stored_is_never_called_not_sent(broker: FakeBroker, mq: metaq.aio.MessageQueue) -> None:
    stopping: list[asyncio.Task[None]] = []

    def store_and_die(peer: Peer, command: Command) -> None:
        assert isinstance(command, Put)
        peer.broker.put(command)
        stopping.append(asyncio.ensure_future(peer.broker.stop()))

    broker.next(Put, store_and_die)
    with pytest.raises(LinkClosed, match="put to t"):  # though the second attempt was not sent: NoBroker
        await mq.producer("t", retries=1).send(b"x", partition=0, timeout=0.05)
    await stopping[0]
    assert len(broker.logs[T0]) == 21


async def test_the_same_arguments_give_the_same_producer(broker: FakeBroker, mq: metaq.aio.MessageQueue) -> None:
    producer = mq.producer("t")
    assert mq.producer("t") is producer
    assert mq.producer("t", timeout=1.0) is not producer
    assert mq.producer("u") is not producer
    await producer.close()
    with pytest.raises(NoBroker, match="the producer is closed"):
        await producer.send(b"x")
    assert (await mq.producer("t").send(b"x")).offset == 0
