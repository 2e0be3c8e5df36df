"""The one-way producer: nothing is waited for, and nothing is lost."""

import asyncio
import errno
from pathlib import Path

import pytest

import metaq.aio
from metaq.aio import BrokerPartition, ConfigError, NoBroker, OneWayProducer, SpoolFull, SpoolLimits
from metaq.client.connect import Outside
from metaq.client.message import read_run
from metaq.files import OsFiles
from metaq.model import TopicPartition
from metaq.protocol.commands import Command, Put
from tests.client.conftest import QUICK
from tests.client.fake_broker import Act, FakeBroker, Peer, behave, hang_up, held, release, silence, status, until


@pytest.fixture
def spool(tmp_path: Path) -> str:
    return str(tmp_path / "spool")


async def one_way(mq: metaq.aio.MessageQueue, spool: str, window: int = 20_000) -> OneWayProducer:
    return await mq.one_way_producer("t", spool=spool, window=window, timeout=0.5, patience=0.5, retry=0.02)


def stored(*brokers: FakeBroker) -> list[bytes]:
    """Return the bodies of all messages, sorted, each as often as it is there."""
    found: list[bytes] = []
    for broker in brokers:
        for target, log in broker.logs.items():
            assert target.topic == "t"
            found += [message.data for message in read_run("t", "0-0", 0, bytes(log), 1 << 30).messages]
    return sorted(found)


def numbered(first: int, end: int) -> list[bytes]:
    return sorted(b"%d" % n for n in range(first, end))


async def test_messages_are_sent_without_waiting_for_answers(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, spool: str
) -> None:
    producer = await one_way(mq, spool)
    broker.always(Put, held)
    for n in range(100):
        await producer.send(b"%d" % n, attribute="k", partition=BrokerPartition(0, 1) if n % 2 else "0-0")
    assert producer.sent == 0
    await until(lambda: len(broker.waiting) == 100)
    assert release(broker) == 100
    await producer.flush()
    assert (producer.sent, producer.spooled, producer.waiting, producer.dropped) == (100, 0, 0, 0)
    assert stored(broker) == numbered(0, 100)
    assert {message.attribute async for message in mq.browse("t")} == {"k"}
    assert len(broker.logs[TopicPartition("t", 1)]) == len(broker.logs[TopicPartition("t", 0)]) > 0
    assert await one_way(mq, spool) is producer


async def test_what_does_not_fit_into_the_window_waits_on_disk(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, spool: str
) -> None:
    producer = await one_way(mq, spool, window=10)
    broker.always(Put, held)
    await producer.send(bytes(4 * 4096))  # four units
    for n in range(10):
        await producer.send(b"%d" % n)
    await until(lambda: producer.spooled == 4)
    broker.always(Put, behave)
    release(broker)
    assert await producer.drain(20)
    assert stored(broker) == sorted([bytes(4 * 4096), *numbered(0, 10)])
    assert (producer.sent, producer.spooled) == (11, 4)


def store_and_hang_up(peer: Peer, command: Command) -> None:
    assert isinstance(command, Put)
    peer.broker.put(command)
    hang_up(peer, command)


@pytest.mark.parametrize(
    "act", [hang_up, store_and_hang_up, silence, status(403, "closed"), status(500, "disk full"), status(200, "what?")]
)
async def test_whatever_goes_wrong_the_message_waits_on_disk_and_is_sent_again(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, spool: str, act: Act
) -> None:
    producer = await mq.one_way_producer("t", spool=spool, timeout=0.1, retry=0.02)
    broker.always(Put, act)
    for n in range(100):
        await producer.send(b"%d" % n)
    await until(lambda: producer.spooled)
    broker.always(Put, behave)
    await producer.flush()
    assert await producer.drain(20)
    assert sorted(set(stored(broker))) == numbered(0, 100)
    assert producer.dropped == 0


async def test_without_a_broker_all_goes_to_disk_at_once_and_is_sent_when_there_is_one(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, spool: str, caplog: pytest.LogCaptureFixture
) -> None:
    producer = await mq.one_way_producer("t", spool=spool, patience=0.05, retry=60)
    await broker.stop()
    for n in range(1000):
        await producer.send(b"%d" % n)
    await producer.flush()
    assert (producer.sent, producer.spooled, producer.waiting) == (0, 1000, 1000)
    assert not await producer.drain(0.05)
    await broker.start()
    assert await producer.drain(20)
    assert stored(broker) == numbered(0, 1000)
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len([warning for warning in warnings if "kept on this machine" in warning]) == 1
    await producer.send(b"more")
    await producer.flush()
    assert (producer.sent, producer.spooled) == (1001, 1000)


async def test_a_message_that_is_always_refused_holds_up_no_other(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, spool: str
) -> None:
    def judge(peer: Peer, command: Command) -> None:
        assert isinstance(command, Put)
        (status(500, "too large") if len(command.body) > 100 else behave)(peer, command)

    broker.always(Put, judge)
    producer = await one_way(mq, spool, window=5)
    for _ in range(3):
        await producer.send(bytes(200))
    for n in range(100):
        await producer.send(b"%d" % n)
    await until(lambda: producer.waiting == 3 and len(stored(broker)) == 100)
    assert stored(broker) == numbered(0, 100)
    broker.always(Put, behave)
    assert await producer.drain(20)
    assert len(stored(broker)) == 103


async def test_leaving_the_block_loses_nothing_and_does_not_wait_for_a_broker_that_is_away(
    broker: FakeBroker, spool: str
) -> None:
    async with metaq.aio.connect(broker.url, link=QUICK) as mq:
        producer = await mq.one_way_producer("t", spool=spool, patience=0.05)
        await broker.stop()
        for n in range(50):
            await producer.send(b"%d" % n)
    async with broker, metaq.aio.connect(broker.url, link=QUICK) as mq:
        producer = await one_way(mq, spool)
        assert await producer.drain(20)
        assert stored(broker) == numbered(0, 50)


async def test_what_has_no_answer_when_it_is_closed_is_on_disk(broker: FakeBroker, spool: str) -> None:
    broker.always(Put, silence)
    async with metaq.aio.connect(broker.url, link=QUICK) as mq:
        producer = await mq.one_way_producer("t", spool=spool, window=20)
        for n in range(50):
            await producer.send(b"%d" % n)
        await until(lambda: len(broker.of(Put)) >= 20)
        await producer.close()
        assert (producer.waiting, producer.dropped) == (50, 0)
        with pytest.raises(NoBroker, match="t: the producer is closed"):
            await producer.send(b"x")
        broker.always(Put, behave)
        again = await mq.one_way_producer("t", spool=spool, retry=0.02)
        assert again is not producer
        assert await again.drain(20)
    assert sorted(set(stored(broker))) == numbered(0, 50)


async def test_closing_may_wait_for_answers(broker: FakeBroker, mq: metaq.aio.MessageQueue, spool: str) -> None:
    broker.always(Put, held)
    producer = await one_way(mq, spool)
    await producer.send(b"x")
    await until(lambda: broker.waiting)
    closing = asyncio.ensure_future(producer.close(5))
    await asyncio.sleep(0)
    release(broker)
    await closing
    assert (producer.sent, producer.spooled) == (1, 0)


async def test_when_the_disk_is_full_up_to_the_limit_messages_are_not_taken(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, spool: str
) -> None:
    limits = SpoolLimits(count=30)
    producer = await mq.one_way_producer("t", spool=spool, window=20, retry=0.02, timeout=0.1, limits=limits)
    broker.always(Put, silence)
    for n in range(30):
        await producer.send(b"%d" % n)
    for _ in range(3):
        with pytest.raises(SpoolFull, match="t: 30 messages are under way or on disk, the limit is 30 or"):
            await producer.send(b"x")
    await producer.flush()  # those in the window have found their room
    assert (producer.waiting, producer.dropped) == (30, 0)
    with pytest.raises(SpoolFull):
        await producer.send(b"x")
    broker.always(Put, behave)
    assert await producer.drain(20)
    await producer.send(b"30")
    await producer.flush()
    assert sorted(set(stored(broker))) == numbered(0, 31)


async def test_several_processes_share_a_folder_and_one_sends_what_another_left(broker: FakeBroker, spool: str) -> None:
    clients = [await metaq.aio.connect(broker.url, link=QUICK) for _ in range(3)]
    producers = [await mq.one_way_producer("t", spool=spool, patience=0.02, retry=60) for mq in clients]
    await broker.stop()
    for n in range(90):
        await producers[n % 3].send(b"%d" % n)
    for mq in clients:
        await mq.flush()
        await mq.close()
    async with broker, metaq.aio.connect(broker.url, link=QUICK) as mq:
        producer = await one_way(mq, spool)
        assert await producer.drain(20)
        assert stored(broker) == numbered(0, 90)
        assert producer.sent == 90


class BrokenFiles(OsFiles):
    """A disk that can break."""

    is_broken = False

    def fdatasync(self, fd: int) -> None:
        if self.is_broken:
            raise OSError(errno.EIO, "broken")
        super().fdatasync(fd)


async def test_what_is_lost_because_the_disk_fails_is_counted_and_logged(
    broker: FakeBroker, spool: str, caplog: pytest.LogCaptureFixture
) -> None:
    files = BrokenFiles()
    async with metaq.aio.connect(broker.url, link=QUICK, outside=Outside(files=files)) as mq:
        producer = await one_way(mq, spool)
        files.is_broken = True
        broker.next(Put, status(500, "no"))
        await producer.send(b"x")
        await producer.flush()
        assert (producer.dropped, producer.waiting) == (1, 0)
        assert [r.message for r in caplog.records if r.levelname == "ERROR"] == [
            "t: a message of 1 bytes is lost: t: [Errno 5] broken"
        ]


async def test_what_is_no_message_is_not_taken(mq: metaq.aio.MessageQueue, spool: str) -> None:
    producer = await one_way(mq, spool)
    with pytest.raises(TypeError):
        await producer.send("text")  # type: ignore[arg-type]
    with pytest.raises(UnicodeEncodeError):
        await producer.send(b"x", attribute="\ud800")
    for partition in ("1", BrokerPartition(-1, 0), BrokerPartition(0, 1 << 31)):
        with pytest.raises(ConfigError):
            await producer.send(b"x", partition=partition)
    await producer.flush()
    with pytest.raises(ConfigError, match="window is at least 1"):
        await one_way(mq, f"{spool}/new", window=0)
    with pytest.raises(ConfigError, match="with another window or options already"):
        await one_way(mq, spool, window=1)
    assert not Path(f"{spool}/new").exists()


async def test_sending_waits_when_the_disk_does_not_keep_up(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, spool: str
) -> None:
    producer = await mq.one_way_producer("t", spool=spool, window=1, retry=60)
    broker.always(Put, silence)
    piece = bytes(1 << 20)
    most = 0
    for _ in range(60):
        await producer.send(piece)
        most = max(most, producer._loose)
    assert 0 < most <= 20 << 20
    await producer.close()
    assert producer.waiting == 60
