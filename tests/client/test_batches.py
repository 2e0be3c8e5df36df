"""Sending in batches: they come from waiting, are stored once whatever is lost, and keep the order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

import metaq.aio
from metaq.aio import LinkClosed, NoBroker, Refused, RequestTimeout
from metaq.client.message import read_run
from metaq.model import TopicPartition
from metaq.net.link import LinkOptions
from metaq.protocol.commands import Command, Mput, Put
from metaq.record import walk
from tests.client.conftest import QUICK
from tests.client.fake_broker import Act, FakeBroker, Peer, behave, hang_up, held, release, silence, status, until

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)


@pytest.fixture
async def broker() -> AsyncIterator[FakeBroker]:
    async with FakeBroker() as fake:
        fake.extensions = ("mput",)
        yield fake


def batches(broker: FakeBroker) -> list[Mput]:
    return [command for command in broker.received if isinstance(command, Mput)]


def bodies(batch: Mput) -> list[bytes]:
    return [record.body for record in walk(batch.records)]


def stored(broker: FakeBroker, partition: int = 0) -> list[bytes]:
    log = bytes(broker.logs[TopicPartition("t", partition)])
    return [message.data for message in read_run("t", "0-0", 0, log, 1 << 30).messages]


def numbered(first: int, end: int) -> list[bytes]:
    return [b"%d" % n for n in range(first, end)]


def store_then(act: Act) -> Act:
    """Store a batch, but answer otherwise."""

    def store(peer: Peer, command: Command) -> None:
        assert isinstance(command, Mput)
        peer.broker.mput(command)
        act(peer, command)

    return store


# gathering


async def test_what_is_sent_while_a_batch_is_under_way_goes_with_the_next(
    broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    producer = mq.producer("t")
    broker.next(Mput, held)
    sent = [await producer.send_nowait(b"0", partition=0)]
    await until(lambda: broker.waiting)
    sent += [await producer.send_nowait(b"%d" % n, partition=0) for n in range(1, 300)]
    release(broker)
    receipts = [await each for each in sent]
    assert [len(bodies(batch)) for batch in batches(broker)] == [1, 299]
    assert stored(broker) == numbered(0, 300)
    assert [receipt.id for receipt in receipts] == list(range(receipts[0].id, receipts[0].id + 300))
    assert [m.offset async for m in mq.browse("t")] == [receipt.offset for receipt in receipts]
    assert {receipt.partition for receipt in receipts} == {"0-0"}
    assert not broker.of(Put)


async def test_tasks_that_wait_each_for_its_own_message_share_batches(
    broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    producer = mq.producer("t")
    await producer.send(b"first")

    async def work(name: int) -> None:
        for n in range(10):
            await producer.send(b"%d-%d" % (name, n))

    await asyncio.gather(*map(work, range(50)))
    assert len(stored(broker, 0)) + len(stored(broker, 1)) == 501
    assert len(batches(broker)) <= 25


async def test_a_list_goes_in_full_batches_over_all_partitions(broker: FakeBroker, mq: metaq.aio.MessageQueue) -> None:
    wanted = numbered(0, 10_000)
    receipts = await mq.producer("t").send_many(wanted, attribute="é")
    assert [len(bodies(batch)) for batch in batches(broker)] == [4096, 4096, 1808]
    assert len(receipts) == 10_000
    found = {(m.partition, m.offset): (m.data, m.attribute) async for m in mq.browse("t")}
    assert [found[r.partition, r.offset] for r in receipts] == [(body, "é") for body in wanted]
    assert receipts[-1] == receipts[9_999]
    assert receipts[5:8] == list(receipts)[5:8]
    assert receipts == list(receipts)
    with pytest.raises(IndexError):
        receipts[10_000]


async def test_no_more_than_five_batches_are_under_way_in_a_partition(
    broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    broker.always(Mput, held)
    sending = asyncio.ensure_future(mq.producer("t").send_many(numbered(0, 30_000), partition=0))
    await until(lambda: len(broker.waiting) == 5)
    await asyncio.sleep(0.02)
    assert [batch.sequence for batch in batches(broker)] == [0, 1, 2, 3, 4]
    broker.always(Mput, behave)
    release(broker)
    assert len(await sending) == 30_000
    assert stored(broker) == numbered(0, 30_000)


async def test_a_large_message_goes_alone_and_others_are_cut_by_size(
    broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    await mq.producer("t").send_many([bytes(1 << 20), *[bytes(100_000)] * 12], partition=1)
    assert [batch.record_count for batch in batches(broker)] == [1, 5, 5, 2]


async def test_messages_that_linger_gather(broker: FakeBroker, mq: metaq.aio.MessageQueue) -> None:
    producer = mq.producer("t", linger=0.02)
    for n in range(5):
        await producer.send_nowait(b"%d" % n)
        await asyncio.sleep(0)
    assert batches(broker) == []
    await until(lambda: len(batches(broker)) == 1)
    assert bodies(batches(broker)[0]) == numbered(0, 5)
    await producer.send_nowait(b"x")
    await mq.producer("t", linger=60.0).send_nowait(b"y")
    await mq.flush()  # waits for nothing
    assert len(batches(broker)) == 3


async def test_keys_stay_in_their_partitions_and_in_order(broker: FakeBroker, mq: metaq.aio.MessageQueue) -> None:
    producer = mq.producer("t", selector="key")
    for n in range(400):
        await producer.send_nowait(b"%d" % n, attribute="ab"[n % 2])
    await producer.send_many([b"400", b"402"], attribute="a")
    assert {(await producer.send(b"none")).partition for _ in range(4)} == {"0-0", "0-1"}
    await producer.flush()
    for partition in (0, 1):
        numbers = [int(data) for data in stored(broker, partition) if data != b"none"]
        assert numbers == sorted(numbers)
        assert len({number % 2 for number in numbers}) == 1


# never twice


@pytest.mark.parametrize("act", [store_then(hang_up), hang_up, store_then(silence), silence])
async def test_a_batch_without_an_answer_is_sent_again_as_it_was_and_stored_once(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, act: Act
) -> None:
    producer = mq.producer("t", timeout=2.0)
    await producer.send(b"0", partition=0)
    broker.next(Mput, act, act)
    receipts = [await producer.send_nowait(b"%d" % n, partition=0, timeout=0.4) for n in range(1, 4)]
    assert [(await each).offset for each in receipts] == [21, 42, 63]
    assert stored(broker) == numbered(0, 4)
    assert len({batch[1:6] for batch in batches(broker)}) == 2
    assert len(batches(broker)) == 4


async def test_all_that_was_under_way_comes_again_in_order_after_a_break(
    broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    def some(peer: Peer, command: Command) -> None:
        if isinstance(command, Mput) and command.sequence < 3:
            peer.broker.mput(command)
        elif isinstance(command, Mput) and command.sequence == 4:
            broker.always(Mput, behave)
            peer.transport.abort()

    broker.always(Mput, some)
    receipts = await mq.producer("t").send_many(numbered(0, 25_000), partition=0)
    assert stored(broker) == numbered(0, 25_000)
    assert [receipts[0].offset, receipts[10].offset] == [0, 210]
    assert {batch.epoch for batch in batches(broker)} == {0}


async def test_a_message_that_nobody_takes_in_time_may_be_stored_and_those_behind_it_go_on(
    broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    producer = mq.producer("t")
    await producer.send(b"0", partition=0)
    broker.always(Mput, silence)
    with pytest.raises(RequestTimeout, match=r"put to t 0-0 at meta://127.0.0.1:\d+: .*no answer"):
        await producer.send(b"lost", partition=0, timeout=0.1)
    assert len(batches(broker)) >= 4
    broker.always(Mput, behave)
    assert (await producer.send(b"1", partition=0)).offset == 21
    assert (await producer.send(b"2", partition=0)).offset == 42
    assert [(batch.epoch, batch.sequence) for batch in batches(broker)[-3:]] == [(0, 2), (1, 0), (1, 1)]
    assert stored(broker) == numbered(0, 3)


async def test_a_broker_that_forgot_the_producer_gets_the_next_epoch(
    broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    producer = mq.producer("t")
    await producer.send_many(numbered(0, 5_000), partition=0)
    broker.producers.clear()
    await producer.send_many(numbered(5_000, 20_000), partition=0)
    assert stored(broker) == numbered(0, 20_000)
    assert {batch.epoch for batch in batches(broker)} == {0, 1}


async def test_a_repeat_that_the_broker_cannot_judge_is_an_error_not_a_duplicate(
    broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    producer = mq.producer("t")
    await producer.send(b"0", partition=0)

    def store_and_forget(peer: Peer, command: Command) -> None:
        assert isinstance(command, Mput)
        peer.broker.mput(command)
        peer.broker.producers.clear()
        peer.transport.abort()

    broker.next(Mput, store_and_forget)
    with pytest.raises(LinkClosed, match="put to t 0-0"):
        await producer.send(b"1", partition=0)
    assert (await producer.send(b"2", partition=0)).offset == 42
    assert stored(broker) == numbered(0, 3)


async def test_messages_behind_one_that_is_refused_keep_their_order(
    broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    producer = mq.producer("t")
    await producer.send(b"0", partition=0)
    broker.next(Mput, held, held, held)
    sending = [asyncio.ensure_future(producer.send_many([b"%d" % n] * 4096, partition=0)) for n in range(1, 4)]
    await until(lambda: len(broker.waiting) == 3)
    (peer, first), *others = broker.waiting
    status(500, "disk full")(peer, first)
    for each in others:
        behave(*each)
    results = await asyncio.gather(*sending)
    assert [len(result) for result in results] == [4096] * 3
    assert [batch.record_count for batch in batches(broker)[4:]] == [2048, 2048, 4096, 4096]
    assert stored(broker) == [b"0", *[b"1"] * 4096, *[b"2"] * 4096, *[b"3"] * 4096]


# what is refused


async def test_when_all_of_a_batch_is_refused_that_is_found_out_soon(
    broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    broker.always(Mput, status(500, "disk full"))
    with pytest.raises(Refused, match="disk full") as caught:
        await mq.producer("t").send_many([b"x"] * 4096, partition=0)
    assert caught.value.__notes__ == ["message 0 of 4096; 4096 were not acknowledged"]
    assert len(batches(broker)) < 30
    broker.always(Mput, behave)
    assert len(await mq.producer("t").send_many([b"x"] * 4096, partition=0)) == 4096
    assert len(batches(broker)) < 32


async def test_one_bad_message_does_not_fail_its_neighbours(broker: FakeBroker, mq: metaq.aio.MessageQueue) -> None:
    def limited(peer: Peer, command: Command) -> None:
        body = command.records if isinstance(command, Mput) else command.body if isinstance(command, Put) else b""
        if b"bad" in body:
            peer.send(metaq_refusal(command))
        else:
            behave(peer, command)

    def metaq_refusal(command: Command) -> bytes:
        assert isinstance(command, Mput | Put)
        return b"result 500 9 %d\r\ntoo large" % command.opaque

    broker.always(Mput, limited)
    broker.always(Put, limited)
    producer = mq.producer("t")
    sent = [await producer.send_nowait(body, partition=0) for body in (b"1", b"bad", b"2")]
    await sent[0]
    with pytest.raises(Refused, match=r"500: too large \(put to t 0-0 at"):
        await sent[1]
    await sent[2]
    await producer.send(b"3", partition=0)
    assert stored(broker) == [b"1", b"2", b"3"]
    with pytest.raises(Refused, match="too large") as caught:
        await producer.send_many([b"4", b"bad", b"5"], partition=0)
    assert caught.value.__notes__ == ["message 1 of 3; 1 were not acknowledged"]
    with pytest.raises(Refused, match="too large"):
        await producer.send(b"bad", partition=1)
    unseen = await producer.send_nowait(b"bad", partition=1)
    with pytest.raises(Refused, match="too large"):
        await producer.flush()
    assert unseen.done()
    await producer.flush()  # told once


async def test_a_closed_partition_is_passed_over_when_the_choice_is_free(
    broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    broker.closed.add(T0)
    producer = mq.producer("t")
    assert {(await producer.send(b"%d" % n)).partition for n in range(6)} == {"0-1"}
    with pytest.raises(Refused, match=r"403: .*has been closed \(put to t 0-0 at"):
        await producer.send(b"x", partition=0)
    broker.closed.add(T1)
    with pytest.raises(Refused, match="has been closed"):
        await producer.send(b"x")
    broker.closed.clear()
    assert (await producer.send(b"x", partition=0)).offset == 0


async def test_nonsense_for_an_answer_is_an_error(broker: FakeBroker, mq: metaq.aio.MessageQueue) -> None:
    producer = mq.producer("t")
    for text in ("", "1 2", "a b c"):
        broker.next(Mput, status(200, text))
        with pytest.raises(LinkClosed, match="answered mput with"):
            await producer.send(b"x", partition=0)
    assert (await producer.send(b"x", partition=0)).offset == 0


# brokers come, go and change


async def test_nobody_there_is_an_error_that_says_so(broker: FakeBroker, mq: metaq.aio.MessageQueue) -> None:
    producer = mq.producer("t")
    await producer.send(b"0", partition=0)
    await broker.stop()
    with pytest.raises((LinkClosed, NoBroker)):  # it may be stored as long as the loss was not noticed
        await producer.send(b"x", partition=0, timeout=0.05)
    with pytest.raises(NoBroker, match="not sent"):
        await producer.send(b"x", partition=0, timeout=0.05)
    with pytest.raises(NoBroker, match="not sent"):
        await producer.send_many([b"x"] * 3, timeout=0.05)
    waiting = asyncio.ensure_future(producer.send_many([b"1", b"2"], partition=0))
    await broker.start()
    assert [receipt.offset for receipt in await waiting] == [21, 42]


async def test_another_broker_takes_what_was_not_sent(broker: FakeBroker) -> None:
    async with FakeBroker(1) as other:
        other.extensions = ("mput",)
        async with metaq.aio.connect(f"{broker.url},127.0.0.1:{other.port}", link=QUICK) as both:
            producer = both.producer("t")
            while len(await both.brokers()) < 2:
                await asyncio.sleep(0.001)
            assert {(await producer.send(b"x")).partition[0] for _ in range(8)} == {"0", "1"}
            await broker.stop()
            for _ in range(4):
                with suppress(LinkClosed):  # may be stored there, as long as the loss was not noticed
                    await producer.send(b"x", timeout=0.05)
            assert {(await producer.send(b"x")).partition[0] for _ in range(8)} == {"1"}


async def test_a_broker_of_the_other_kind_at_the_same_address_gets_puts(
    broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    def become_java(peer: Peer, command: Command) -> None:
        assert isinstance(command, Mput)
        peer.broker.mput(command)
        peer.broker.extensions = ()
        peer.broker.drop_all()

    producer, careless = mq.producer("t"), mq.producer("t", retries=3)
    await producer.send(b"0", partition=0)
    await careless.send(b"0", partition=1)
    broker.next(Mput, become_java)
    uncertain = await producer.send_nowait(b"1", partition=0)
    await until(lambda: not broker.extensions)
    assert (await producer.send(b"2", partition=0)).offset == 42
    with pytest.raises(LinkClosed, match="put to t 0-0"):
        await uncertain
    assert stored(broker) == numbered(0, 3)
    broker.extensions = ("mput",)
    before = broker.accepted
    broker.drop_all()
    await until(lambda: broker.accepted > before)
    await producer.send_many(numbered(3, 6), partition=0)
    assert stored(broker) == numbered(0, 6)
    broker.next(Mput, become_java)
    assert (await careless.send(b"1", partition=1)).offset == 42  # the second of two
    assert len(broker.of(Put)) == 2


async def test_closing_ends_what_waits_and_what_is_under_way(broker: FakeBroker) -> None:
    broker.always(Mput, silence)
    mq = await metaq.aio.connect(broker.url, link=QUICK)
    producer = mq.producer("t")
    sent = [await producer.send_nowait(b"x", partition=n % 2) for n in range(6)]
    await until(lambda: len(batches(broker)) == 2)
    sent += [await producer.send_nowait(b"x", partition=n % 2) for n in range(6)]
    sent += [await producer.send_nowait(b"x") for _ in range(6)]
    await mq.close()
    assert [type(each.exception()) for each in sent] == [LinkClosed] * 6 + [NoBroker] * 12


async def test_a_connection_that_is_dead_is_given_up_however_much_is_sent_over_it(broker: FakeBroker) -> None:
    quick = LinkOptions(
        connect_timeout=2.0, first_delay=0.002, heartbeat_idle=0.05, heartbeat_timeout=0.02, heartbeat_failures=2
    )
    async with metaq.aio.connect(broker.url, link=quick) as mq:
        producer = mq.producer("t", timeout=5.0)
        await producer.send(b"0", partition=0)
        for peer in broker.peers:
            peer.transport.pause_reading()
        waiting = [asyncio.ensure_future(producer.send(b"%d" % n, partition=n % 2)) for n in range(1, 3)]
        async with asyncio.timeout(3.0):  # long before the batch would be sent again
            assert [(await each).offset for each in waiting] == [0, 21]
        assert broker.accepted == 2
