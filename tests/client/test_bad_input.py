"""Bad input to consumers: what others wrote into ZooKeeper, logs that are damaged, brokers that talk nonsense.

Each ends in a clear error or mends itself; nothing hangs, and no message is lost.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from random import Random

import pytest

import metaq.aio
from metaq.aio import CorruptMessage
from metaq.client.message import read_run
from metaq.cluster.memory import MemoryRegistry
from metaq.cluster.paths import Paths
from metaq.model import BrokerPartition, ClusterPartition, TopicPartition
from metaq.protocol import encoder
from metaq.protocol.commands import Command, Get, Offset, Stats, Value
from metaq.record import HEADER_SIZE, pack
from tests.client.conftest import QUICK
from tests.client.consuming import Ledger, consumer_of, fill, take
from tests.client.fake_broker import (
    Act,
    FakeBroker,
    Peer,
    behave,
    garbage,
    half_frame,
    hang_up,
    silence,
    status,
    until,
    wrong_opaque,
)
from tests.client.test_cluster import register, withdraw
from tests.client.test_what_users_suffered import Cluster, filled_cluster

PATHS = Paths("/meta")
ZERO, ONE = (ClusterPartition("t", BrokerPartition(0, n)) for n in (0, 1))
T0 = TopicPartition("t", 0)
FILLED = {b"%d/%d" % (partition, n) for partition in (0, 1) for n in range(20)}


__all__ = ["filled_cluster"]  # the fixture `cluster`


@pytest.fixture
async def stranger(cluster: Cluster) -> AsyncIterator[MemoryRegistry]:
    """The session of somebody who writes what he likes."""
    session = MemoryRegistry(cluster.tree)
    await session.connect()
    yield session
    await session.close()


# ZooKeeper


NONSENSE = [b"nonsense", b"", b" ", b"\xff\xfe", b"12-", b"-", b"1-2-x", b"7-" + b"9" * 30, b"{}", b"0x10"]


@pytest.mark.parametrize("text", NONSENSE)
async def test_bad_input_a_stored_offset_that_is_no_offset_counts_as_none_and_is_mended(
    text: bytes, cluster: Cluster, stranger: MemoryRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    await stranger.create(PATHS.offset("g", *ZERO), text)
    mq = await cluster.client()
    consumer = mq.consumer("t", group="g")
    assert set(await take(consumer, 40)) == FILLED
    assert caplog.text.count(f"{PATHS.offset('g', *ZERO)}: taken for no offset") == 1
    await consumer.commit()
    node = cluster.tree.node(PATHS.offset("g", *ZERO))
    assert node is not None
    assert node.data is not None
    assert node.data.split(b"-")[-1].isdigit()


@pytest.mark.parametrize("text", [b"-5", b"3--7", b"1-999999999"])
async def test_bad_input_a_stored_offset_outside_the_log_is_said_and_replaced(
    text: bytes, cluster: Cluster, stranger: MemoryRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    await stranger.create(PATHS.offset("g", *ZERO), text)
    mq = await cluster.client()
    assert set(await take(mq.consumer("t", group="g"), 40)) == FILLED
    assert "of group g is not in the log, 0 to" in caplog.text or text == b"3--7"


@pytest.mark.parametrize("owner", [b"g_somebody-who-died", b"", b"\xff", b"g_me"])
async def test_bad_input_owners_left_behind_that_end_with_no_session_are_removed(
    owner: bytes, cluster: Cluster, stranger: MemoryRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    for part in (ZERO, ONE):
        await stranger.create(PATHS.owner("g", *part), owner)
    mq = await cluster.client()
    consumer = consumer_of(mq, Ledger(), consumer_id="me")
    assert set(await take(consumer, 40)) == FILLED
    assert "ends with no session; removing it" in caplog.text
    assert {node.owner for part in (ZERO, ONE) if (node := cluster.tree.node(PATHS.owner("g", *part)))} == {
        cluster.sessions[0].session
    }


async def test_bad_input_an_owner_that_lives_is_waited_for_and_the_rest_is_consumed(
    cluster: Cluster, stranger: MemoryRegistry
) -> None:
    await stranger.create(PATHS.owner("g", *ZERO), b"nobody we know", ephemeral=True)
    mq = await cluster.client()
    consumer = consumer_of(mq, Ledger())
    assert set(await take(consumer, 20)) == {b"1/%d" % n for n in range(20)}
    waiting = asyncio.ensure_future(take(consumer, 20))
    await asyncio.sleep(0.02)
    assert not waiting.done()
    await stranger.close()
    assert set(await waiting) == {b"0/%d" % n for n in range(20)}


@pytest.mark.parametrize("data", [b"\xff\xfe", b"", b",,,", b"t,\xff"])
async def test_bad_input_a_member_whose_node_says_nothing_of_sense_keeps_nobody_from_consuming(
    data: bytes, cluster: Cluster, stranger: MemoryRegistry
) -> None:
    await stranger.create(PATHS.consumer("g", "g_0-odd"), data, ephemeral=True)
    mq = await cluster.client()
    consumer = consumer_of(mq, Ledger())
    await consumer.join()
    assert consumer.partitions == ([ONE] if data.startswith(b"t,") else [ZERO, ONE])


@pytest.mark.parametrize("data", [b"{", b"", b"[1]", b'{"numParts":-1,"broker":"0-m"}', b'{"numParts":1e99}', b"\xff"])
async def test_bad_input_a_topic_node_of_no_sense_is_left_out_until_it_is_mended(
    data: bytes, cluster: Cluster, stranger: MemoryRegistry
) -> None:
    path = f"{PATHS.subscribe('t')}/0-m"
    await stranger.set(path, data)
    mq = await cluster.client()
    consumer = consumer_of(mq, Ledger())
    await consumer.join()
    assert consumer.partitions == []
    await stranger.set(path, b'{"numParts":2,"broker":"0-m"}')
    assert set(await take(consumer, 40)) == FILLED


@pytest.mark.parametrize("data", [b"not a url", b"", b"meta://", b"meta://nowhere.invalid:1", b"\xff"])
async def test_bad_input_a_broker_at_no_address_is_waited_for_until_it_says_where_it_is(
    data: bytes, cluster: Cluster, stranger: MemoryRegistry
) -> None:
    path = PATHS.broker_address(0)
    good = cluster.tree.node(path)
    assert good is not None
    await stranger.set(path, data)
    mq = await cluster.client()
    consumer = consumer_of(mq, Ledger(), timeout=0.05)
    waiting = asyncio.ensure_future(take(consumer, 40))
    await until(lambda: len(consumer.partitions) == 2)
    await asyncio.sleep(0.02)
    assert not waiting.done()
    await stranger.set(path, good.data)
    assert set(await waiting) == FILLED


async def test_bad_input_a_broker_that_comes_and_goes_all_the_time_is_consumed_from(cluster: Cluster) -> None:
    mq = await cluster.client()
    consumer = consumer_of(mq, Ledger(), timeout=0.2)
    seen: set[bytes] = set()
    for n in range(5):
        cluster.broker.append(T0, 0, b"more %d" % n)
        await withdraw(cluster.brokers_session, cluster.broker)
        await cluster.broker.stop()
        waiting = asyncio.ensure_future(take(consumer, 40 if n == 0 else 1))
        await asyncio.sleep(0.005)
        await cluster.broker.start()
        await register(cluster.brokers_session, cluster.broker)
        seen |= set(await waiting)
    seen |= set(await take(consumer, 1))
    assert FILLED | {b"more %d" % n for n in range(5)} >= seen >= FILLED


# damaged logs


def damaged(chance: Random, broker: FakeBroker, count: int) -> list[bytes]:
    """Store messages and damage some bytes of some of them; return the bodies of those that are whole."""
    bodies = [b"%d " % n + bytes(chance.choice((1, 20, 44, 300))) for n in range(count)]
    whole = []
    log = broker.logs[T0]
    for body in bodies:
        _, at = broker.append(T0, 0, body)
        if chance.random() < 0.2:
            for _ in range(chance.randrange(1, 4)):
                place = chance.choice([*range(8), *range(HEADER_SIZE, HEADER_SIZE + len(body))])
                log[at + place] ^= chance.randrange(1, 256)
        record = bytes(log[at : at + HEADER_SIZE + len(body)])
        if [m.body for m in read_run("t", "", 0, record, 1 << 20).messages] == [body]:
            whole.append(body)
    return whole


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("way", ["one by one", "batches", "handlers"])
async def test_bad_input_of_a_damaged_log_every_message_that_is_whole_is_handed_out_in_order(
    way: str, seed: int, broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    chance = Random(seed)
    whole = damaged(chance, broker, 200)
    broker.append(T0, 0, b"the end")
    consumer = consumer_of(mq, Ledger(), max_size=chance.choice((100, 1000, 1 << 20)))
    seen: list[bytes] = []

    async def handle(message: metaq.aio.Message) -> None:
        seen.append(message.body)

    if way == "handlers":
        running = asyncio.ensure_future(consumer.run(handle))
        await until(lambda: b"the end" in seen, 20.0)
        await consumer.close()
        await running
    async with asyncio.timeout(20.0):
        while b"the end" not in seen:
            if way == "batches":
                seen += [m.body for m in await consumer.batch(chance.randrange(1, 30), 0.001)]
            else:
                seen += [(await anext(consumer)).body]
    assert [body for body in seen if body in set(whole)] == whole


async def test_bad_input_each_corrupt_record_is_raised_where_that_is_wanted(
    broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    offsets = fill(broker, 30)
    hurt = [0, 7, 8, 20, 29]
    for n in hurt:
        broker.logs[T0][offsets[n] + 21] ^= 0xFF
    end = broker.append(T0, 0, b"the end")
    consumer = consumer_of(mq, Ledger(), corrupt="raise")
    seen: list[bytes] = []
    raised = 0
    async with asyncio.timeout(10.0):
        while b"the end" not in seen:
            try:
                seen += [(await anext(consumer)).data]
            except CorruptMessage as exc:
                raised += 1
                assert any(f"offset {offsets[n]} " in str(exc) for n in hurt)
                await consumer.skip()
    assert seen == [b"0/%d" % n for n in range(30) if n not in hurt] + [b"the end"]
    assert raised == 3 + 1  # two pairs of neighbours are skipped together: 7 and 8, 29 has none
    assert end[1] == offsets[30]


async def test_bad_input_a_corrupt_record_where_a_time_is_looked_for_is_passed_over(
    broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    now = datetime.now(UTC)
    for body in (b"one", b"two", b"three"):
        broker.logs[T0] += pack(1 << 61, 0, body)
    broker.logs[T0][HEADER_SIZE] ^= 0xFF
    assert await take(consumer_of(mq, Ledger(), start=now), 2) == [b"two", b"three"]


# brokers that talk nonsense


def oversized(peer: Peer, command: Command) -> None:
    """Give more than was asked for."""
    assert isinstance(command, Get)
    log = bytes(peer.broker.logs[command.target][command.offset :])
    peer.send(encoder.encode(Value(log, command.opaque)))


def unasked(peer: Peer, command: Command) -> None:
    """Send data that nobody asked for, and then the answer."""
    peer.send(encoder.encode(Value(pack(1, 0, b"stray"), 987654)))
    behave(peer, command)


ODD_GETS = [
    garbage, half_frame, hang_up, silence, wrong_opaque, oversized, unasked,
    status(200, "not data"), status(301, "nowhere"), status(301, ""), status(301, "-4"), status(301, "9" * 25),
    status(400, "no"), status(403, "closed"), status(404, ""), status(500, "disk"), status(503, ""), status(999, "?"),
]  # fmt: skip


@pytest.mark.parametrize("act", ODD_GETS)
async def test_bad_input_whatever_a_broker_answers_to_get_consuming_goes_on(
    act: Act, broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    fill(broker, 40)
    broker.next(Get, behave, *[act, behave, act, act] * 2)
    consumer = consumer_of(mq, Ledger(), timeout=0.03, max_size=250)
    assert await take(consumer, 40) == [b"0/%d" % n for n in range(40)]


@pytest.mark.parametrize(
    "act", [garbage, hang_up, silence, status(200, "x"), status(200, ""), status(500, "no"), unasked]
)
@pytest.mark.parametrize("start", ["earliest", "latest"])
async def test_bad_input_whatever_a_broker_answers_to_offset_consuming_begins_in_the_end(
    act: Act, start: str, broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    fill(broker, 3)
    broker.next(Offset, *[act] * 3)
    consumer = consumer_of(mq, Ledger(), timeout=0.05, start=start)  # type: ignore[arg-type]
    await consumer.join()
    await until(lambda: broker.of(Get))
    broker.append(T0, 0, b"new")
    expected = [b"new"] if start == "latest" else [b"0/0", b"0/1", b"0/2", b"new"]
    assert await take(consumer, len(expected)) == expected


@pytest.mark.parametrize("answer", ["", "t part 0 min_offset -1 max_offset 9\r\nt part x min_offset 0\r\nEND"])
async def test_bad_input_without_zookeeper_partitions_that_are_told_of_oddly_are_looked_for_again(
    answer: str, broker: FakeBroker
) -> None:
    async with metaq.aio.connect(broker.url, link=QUICK) as mq:
        fill(broker, 2)
        broker.next(Stats, status(200, answer), garbage, hang_up)
        consumer = consumer_of(mq, Ledger())
        assert await take(consumer, 2) == [b"0/0", b"0/1"]


async def test_bad_input_a_broker_of_1462_whose_filter_needs_larger_answers_is_asked_for_larger_ones(
    broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    """Where not one record is whole in its answer it names the offset it was asked for, for ever (protocol.md Q8)."""
    for n in range(3):
        broker.append(T0, 0, b"%d" % n * 500)

    def filtered(peer: Peer, command: Command) -> None:
        assert isinstance(command, Get)
        if command.max_size < 520 and command.offset < 1560:
            peer.send(encoder.result(301, str(command.offset), command.opaque))
        else:
            behave(peer, command)

    broker.always(Get, filtered)
    assert await take(consumer_of(mq, Ledger(), max_size=50), 3) == [b"%d" % n * 500 for n in range(3)]
