"""The ordered producer: partitions that never move, order whatever happens, nothing lost."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import metaq.aio
from metaq.aio import BrokerPartition, ConfigError, NoBroker, OrderedProducer, Receipt, Refused, Spooled
from metaq.client.connect import Outside
from metaq.client.message import read_run
from metaq.client.partitioner import key_hash
from metaq.cluster.memory import MemoryRegistry, MemoryTree
from metaq.errors import SpoolFull, SpoolLocked
from metaq.model import TopicPartition
from metaq.protocol.commands import Command, Put
from tests.client.conftest import QUICK
from tests.client.fake_broker import Act, FakeBroker, Peer, hang_up, held, release, silence, status, until
from tests.client.test_cluster import register, withdraw

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)


@pytest.fixture
def spool(tmp_path: Path) -> str:
    return str(tmp_path / "spool")


@pytest.fixture
async def producer(mq: metaq.aio.MessageQueue, spool: str) -> AsyncIterator[OrderedProducer]:
    yield await ordered(mq, spool)


async def ordered(mq: metaq.aio.MessageQueue, spool: str) -> OrderedProducer:
    return await mq.ordered_producer("t", layout="0:2", spool=spool, timeout=0.5, patience=0.5, retry=0.02)


def stored(broker: FakeBroker, target: TopicPartition = T0) -> list[bytes]:
    partition = f"{broker.broker_id}-{target.partition}"
    return [m.data for m in read_run("t", partition, 0, bytes(broker.logs[target]), 1 << 20).messages]


async def test_a_message_is_stored_where_its_key_belongs(broker: FakeBroker, producer: OrderedProducer) -> None:
    assert producer.partitions == ("0-0", "0-1")
    for n in range(20):
        receipt = await producer.send(b"%d" % n, attribute=f"key {n % 5}")
        assert isinstance(receipt, Receipt)
        assert receipt.partition == f"0-{key_hash(f'key {n % 5}') % 2}"
    assert {(await producer.send(b"x")).partition for _ in range(4)} == {"0-0", "0-1"}
    assert (await producer.send(b"x", partition="0-1")).partition == "0-1"
    assert (await producer.send(b"x", partition=0)).partition == "0-0"
    assert (await producer.send(b"x", partition=BrokerPartition(0, 0))).partition == "0-0"
    assert (producer.sent, producer.spooled, producer.waiting) == (27, 0, {})
    assert await producer.drain(20)


async def test_the_key_may_be_told_by_a_function(mq: metaq.aio.MessageQueue, spool: str) -> None:
    def first_byte(data: bytes, attribute: str | None) -> int:
        return data[0]

    producer = await mq.ordered_producer("t", layout={"t": "0:2", "u": "1:1"}, spool=spool, key=first_byte)
    assert [(await producer.send(bytes([n]))).partition for n in range(4)] == ["0-0", "0-1", "0-0", "0-1"]
    assert await mq.ordered_producer("t", layout={"t": "0:2"}, spool=spool, key=first_byte) is producer
    with pytest.raises(ConfigError, match="with another layout, key or options already"):
        await mq.ordered_producer("t", layout="0:2", spool=spool)


async def test_one_message_of_a_partition_is_under_way_at_a_time(broker: FakeBroker, producer: OrderedProducer) -> None:
    broker.always(Put, held)
    many = asyncio.ensure_future(producer.send_many([b"%d" % n for n in range(6)], partition=0))
    others = asyncio.ensure_future(producer.send_many([b"a", b"b"], partition=1))
    for n in range(6):
        await until(lambda: broker.waiting)
        assert len([put for put in broker.of(Put) if isinstance(put, Put) and put.target == T0]) == n + 1
        release(broker)
    receipts = await many
    assert [receipt.offset for receipt in receipts if isinstance(receipt, Receipt)] == [21 * n for n in range(6)]
    assert len(await others) == 2
    assert stored(broker, T0) == [b"%d" % n for n in range(6)]


def store_and_hang_up(peer: Peer, command: Command) -> None:
    assert isinstance(command, Put)
    peer.broker.put(command)
    hang_up(peer, command)


@pytest.mark.parametrize(
    ("act", "doubled"),
    [
        (hang_up, False),
        (store_and_hang_up, True),
        (silence, False),
        (status(403, "closed"), False),
        (status(500, "disk full"), False),
        (status(200, "nonsense"), False),
    ],
)
async def test_whatever_goes_wrong_the_message_waits_on_disk_and_those_behind_it_too(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, spool: str, act: Act, doubled: bool
) -> None:
    producer = await mq.ordered_producer("t", layout="0:2", spool=spool, timeout=0.1, retry=60)
    await producer.send(b"0", partition=0)
    broker.always(Put, act)
    many = asyncio.ensure_future(producer.send_many([b"1", b"2", b"3"], partition=0))
    await until(lambda: producer.troubles)
    broker.always(Put, held)
    assert await many == [Spooled("0-0")] * 3
    assert list(producer.troubles) == ["0-0"]
    assert (await producer.send(b"4", partition=0)) == Spooled("0-0")
    broker.always(Put, lambda peer, command: release_and_go_on(broker, peer, command))
    release(broker)
    broker.drop_all()
    assert await producer.drain(20)
    assert producer.troubles == {}
    await producer.send(b"5", partition=0)
    wanted = [b"0", b"1", b"2", b"3", b"4", b"5"]
    assert list(dict.fromkeys(stored(broker))) == wanted
    assert not doubled or stored(broker).count(b"1") >= 2


def release_and_go_on(broker: FakeBroker, peer: Peer, command: Command) -> None:
    assert isinstance(command, Put)
    peer.send(broker.put(command))


async def test_a_closed_partition_holds_up_nobody_else_and_opens_by_itself(
    broker: FakeBroker, producer: OrderedProducer
) -> None:
    broker.closed.add(T0)
    assert await producer.send(b"0", partition=0) == Spooled("0-0")
    assert isinstance(await producer.send(b"1", partition=1), Receipt)
    for n in range(1, 300):
        await producer.send(b"%d" % n, partition=0)
    assert producer.waiting == {"0-0": 300}
    assert "has been closed (put to t 0-0 at meta://" in producer.troubles["0-0"]
    assert not await producer.drain(0.05)
    broker.closed.clear()
    assert await producer.drain(20)
    assert stored(broker) == [b"%d" % n for n in range(300)]
    assert isinstance(await producer.send(b"x", partition=0), Receipt)
    assert (producer.sent, producer.spooled) == (302, 300)


async def test_a_new_process_first_sends_what_the_one_before_left(broker: FakeBroker, spool: str) -> None:
    async with metaq.aio.connect(broker.url, link=QUICK) as mq:
        producer = await ordered(mq, spool)
        await broker.stop()
        assert await producer.send_many([b"%d" % n for n in range(50)], partition=0) == [Spooled("0-0")] * 50
    async with broker, metaq.aio.connect(broker.url, link=QUICK) as mq:
        producer = await mq.ordered_producer("t", layout="0:1", spool=spool, retry=0.02)
        await producer.send(b"new", partition=0)
        assert await producer.drain(20)
        assert stored(broker) == [*(b"%d" % n for n in range(50)), b"new"]


async def test_partitions_no_longer_in_the_layout_are_emptied(broker: FakeBroker, spool: str) -> None:
    async with metaq.aio.connect(broker.url, link=QUICK) as mq:
        producer = await ordered(mq, spool)
        broker.closed.add(T1)
        assert await producer.send(b"old", partition=1) == Spooled("0-1")
    broker.closed.clear()
    async with metaq.aio.connect(broker.url, link=QUICK) as mq:
        producer = await mq.ordered_producer("t", layout="0:1", spool=spool, retry=0.02)
        with pytest.raises(ConfigError, match="t: 0-1 is not in the layout, which has 0-0"):
            await producer.send(b"x", partition=1)
        assert await producer.drain(20)
        assert stored(broker, T1) == [b"old"]


async def test_what_is_under_way_when_it_is_closed_is_on_disk(broker: FakeBroker, spool: str) -> None:
    broker.always(Put, silence)
    async with metaq.aio.connect(broker.url, link=QUICK) as mq:
        producer = await mq.ordered_producer("t", layout="0:2", spool=spool)
        sending = asyncio.ensure_future(producer.send_many([b"0", b"1", b"2"], partition=0))
        await until(lambda: broker.of(Put))
        await producer.close()
        assert await sending == [Spooled("0-0")] * 3
        with pytest.raises(NoBroker, match="closed"):
            await producer.send(b"x")
        assert not await producer.drain(1)
        broker.always(Put, lambda peer, command: release_and_go_on(broker, peer, command))
        producer = await mq.ordered_producer("t", layout="0:2", spool=spool)
        await producer.send(b"3", partition=0)
        assert await producer.drain(20)
        assert stored(broker) == [b"0", b"1", b"2", b"3"]


async def test_a_message_the_broker_never_takes_can_be_skipped(
    broker: FakeBroker, producer: OrderedProducer, caplog: pytest.LogCaptureFixture
) -> None:
    def judge(peer: Peer, command: Command) -> None:
        assert isinstance(command, Put)
        (status(500, "too large") if len(command.body) > 100 else release_for(broker))(peer, command)

    broker.always(Put, judge)
    assert await producer.skip(0) is None
    assert await producer.send(bytes(200), attribute="k", partition=0) == Spooled("0-0")
    assert await producer.send(b"behind", partition=0) == Spooled("0-0")
    assert await producer.skip(1) is None
    item = await producer.skip(0)
    assert item is not None
    assert (item.data, item.attribute) == (bytes(200), "k")
    assert await producer.drain(20)
    assert await producer.skip("0-0") is None
    assert stored(broker) == [b"behind"]
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        f"t 0-0: nothing is sent until the broker takes this message, or it is skipped:"
        f" 500: too large (put to t 0-0 at {broker.address})"
    ]


def release_for(broker: FakeBroker) -> Act:
    return lambda peer, command: release_and_go_on(broker, peer, command)


async def test_refusals_can_be_raised_instead(broker: FakeBroker, mq: metaq.aio.MessageQueue, spool: str) -> None:
    producer = await mq.ordered_producer("t", layout="0:2", spool=spool, keep_refused=False)
    broker.next(Put, status(500, "too large"), status(403, "closed"))
    with pytest.raises(Refused, match="too large"):
        await producer.send(b"x", partition=0)
    assert await producer.send(b"y", partition=0) == Spooled("0-0")  # a closed partition is not the message's fault
    assert await producer.drain(20)
    broker.next(Put, status(500, "1"), status(500, "2"))
    with pytest.raises(Refused, match="1"):
        await producer.send_many([b"1", b"2", b"3"], partition=0)
    assert stored(broker) == [b"y", b"3"]


async def test_a_full_spool_takes_nothing_and_says_so(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, spool: str
) -> None:
    limits = metaq.aio.SpoolLimits(count=3)
    producer = await mq.ordered_producer("t", layout="0:2", spool=spool, retry=0.02, limits=limits)
    broker.closed.add(T0)
    for n in range(3):
        await producer.send(b"%d" % n, partition=0)
    with pytest.raises(SpoolFull, match="t@0-0: 3 messages of"):
        await producer.send(b"x", partition=0)
    assert isinstance(await producer.send(b"x", partition=1), Receipt)
    broker.closed.clear()
    assert await producer.drain(20)
    await producer.send(b"3", partition=0)
    assert stored(broker) == [b"0", b"1", b"2", b"3"]


async def test_a_spool_belongs_to_one_client(broker: FakeBroker, mq: metaq.aio.MessageQueue, spool: str) -> None:
    await ordered(mq, spool)
    async with metaq.aio.connect(broker.url, link=QUICK) as other:
        with pytest.raises(SpoolLocked, match=rf"{spool}/ordered: another process, or another client of this one"):
            await ordered(other, spool)
        await other.ordered_producer("t", layout="0:2", spool=f"{spool}/other")
        await mq.close()
        with pytest.raises(ConfigError, match="the client is closed"):
            await ordered(mq, spool)
        await ordered(other, spool)


async def test_arguments_that_make_no_sense_leave_nothing_behind(
    mq: metaq.aio.MessageQueue, spool: str, producer: OrderedProducer
) -> None:
    for layout in ("", "0", "0:0", {"u": "0:1"}):
        with pytest.raises(ConfigError):
            await mq.ordered_producer("v", layout=layout, spool=f"{spool}/new")
    with pytest.raises(ConfigError):
        await mq.ordered_producer("a b", layout="0:1", spool=f"{spool}/new")
    with pytest.raises(ConfigError):
        await mq.ordered_producer("v", layout="0:1", spool="")
    with pytest.raises(ConfigError, match="timeout is more than 0, not 0"):
        await mq.ordered_producer("v", layout="0:1", spool=f"{spool}/new", timeout=0)
    with pytest.raises(ConfigError, match="patience is at least 0, not -1"):
        await mq.ordered_producer("v", layout="0:1", spool=f"{spool}/new", patience=-1)
    assert not Path(f"{spool}/new").exists()
    with pytest.raises(TypeError):
        await producer.send("text")  # type: ignore[arg-type]
    with pytest.raises(UnicodeEncodeError):
        await producer.send(b"x", attribute="\ud800")
    with pytest.raises(ConfigError):
        await producer.send(b"x", partition="0-7")
    assert isinstance(await producer.send(b"x", attribute="é"), Receipt)
    both = await mq.ordered_producer("w", layout="0:1;1:1", spool=spool)
    with pytest.raises(ConfigError, match=r"several brokers \(0, 1\)"):
        await both.send(b"x", partition=0)


async def test_through_zookeeper_the_partition_of_a_broker_that_has_left_waits_for_it(
    spool: str, caplog: pytest.LogCaptureFixture
) -> None:
    tree = MemoryTree()
    registry = MemoryRegistry(tree)
    await registry.connect()
    outside = Outside(session=lambda _: MemoryRegistry(tree))
    async with (
        FakeBroker(0) as one,
        FakeBroker(1) as other,
        metaq.aio.connect("zk://anywhere/meta", link=QUICK, timeout=0.2, outside=outside) as mq,
    ):
        await register(registry, one)
        await register(registry, other)
        producer = await mq.ordered_producer("t", layout="0:2;1:2", spool=spool, patience=0.5, retry=60)
        assert {(await producer.send(b"x")).partition for _ in range(4)} == {"0-0", "0-1", "1-0", "1-1"}
        await withdraw(registry, other)
        await other.stop()
        while 1 in await mq.brokers():
            await asyncio.sleep(0.001)
        assert await producer.send_many([b"1", b"2"], partition="1-0") == [Spooled("1-0")] * 2
        assert producer.troubles == {"1-0": "t 1-0: not sent: its broker is away"}
        assert isinstance(await producer.send(b"3", partition="0-1"), Receipt)
        await other.start()
        await register(registry, other)
        assert await producer.drain(20)
        assert stored(other)[-2:] == [b"1", b"2"]
        await registry.delete("/meta/brokers/topics-pub/t/1-m")  # there, but it takes no messages of the topic
        while await producer.send(b"4", partition="1-0") != Spooled("1-0"):
            pass
        assert "does not accept messages of the topic" in producer.troubles["1-0"]
        assert [r.levelname for r in caplog.records if "kept on this machine" in r.message] == ["WARNING"] * 2
    await registry.close()
