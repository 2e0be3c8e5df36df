"""Producers with a spool in plain code: the same, from any thread."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import metaq
from metaq.client.message import read_run
from metaq.protocol.commands import Put
from tests.client.conftest import QUICK
from tests.client.fake_broker import FakeBroker, behave, silence, status
from tests.client.test_sync import eventually


@pytest.fixture
def mq(fake: FakeBroker) -> Iterator[metaq.MessageQueue]:
    with metaq.connect(fake.url, link=QUICK, timeout=0.5) as client:
        yield client
        client.close()


def stored(broker: FakeBroker, partition: int) -> list[bytes]:
    for target, log in broker.logs.items():
        if target.partition == partition:
            return [message.data for message in read_run("t", f"0-{partition}", 0, bytes(log), 1 << 20).messages]
    return []


def test_an_ordered_producer_keeps_what_it_cannot_send(
    fake: FakeBroker, mq: metaq.MessageQueue, tmp_path: Path
) -> None:
    producer = mq.ordered_producer("t", layout="0:2", spool=str(tmp_path), retry=0.02)
    assert mq.ordered_producer("t", layout="0:2", spool=str(tmp_path), retry=0.02) is producer
    assert producer.partitions == ("0-0", "0-1")
    assert isinstance(producer.send(b"0", partition=0), metaq.Receipt)
    fake.always(Put, status(403, "closed"))
    assert producer.send(b"1", attribute="k", partition=0) == metaq.Spooled("0-0")
    assert producer.send_many((b"%d" % n for n in (2, 3)), partition=0) == [metaq.Spooled("0-0")] * 2
    producer.flush()
    assert (producer.waiting, producer.sent, producer.spooled) == ({"0-0": 3}, 1, 3)
    assert "closed" in producer.troubles["0-0"]
    assert not producer.drain(0.01)
    item = producer.skip(0)
    assert item is not None
    assert item.data == b"1"
    fake.always(Put, behave)
    assert producer.drain(20)
    assert stored(fake, 0) == [b"0", b"2", b"3"]
    producer.close()
    with pytest.raises(metaq.NoBroker, match="closed"):
        producer.send(b"x")


def test_senders_in_many_threads_each_keep_their_order(
    fake: FakeBroker, mq: metaq.MessageQueue, tmp_path: Path
) -> None:
    producer = mq.ordered_producer("t", layout="0:2", spool=str(tmp_path), retry=0.01)

    def send(sender: int) -> None:
        for n in range(50):
            producer.send(b"%d %d" % (sender, n), partition=sender % 2)
            if sender == 0 and n % 20 == 10:
                fake.always(Put, status(403, "closed") if n == 10 else behave)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(send, range(4)))
    assert producer.drain(20)
    for sender in range(4):
        mine = [body for body in stored(fake, sender % 2) if body.startswith(b"%d " % sender)]
        assert mine == [b"%d %d" % (sender, n) for n in range(50)]


def test_a_one_way_producer_takes_messages_from_any_thread(
    fake: FakeBroker, mq: metaq.MessageQueue, tmp_path: Path
) -> None:
    producer = mq.one_way_producer("t", spool=str(tmp_path), window=100, retry=0.01)
    assert mq.one_way_producer("t", spool=str(tmp_path), window=100, retry=0.01) is producer

    def send(sender: int) -> None:
        for n in range(1000):
            producer.send(b"%d %d" % (sender, n), attribute="k", partition="0-1")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(send, range(4)))
    assert producer.drain(20)
    assert sorted(stored(fake, 1)) == sorted(b"%d %d" % (sender, n) for sender in range(4) for n in range(1000))
    assert (producer.sent, producer.waiting, producer.dropped) == (4000, 0, 0)
    assert (producer.topic, producer.window) == ("t", 100)


def test_leaving_the_block_loses_nothing(fake: FakeBroker, tmp_path: Path) -> None:
    fake.always(Put, silence)
    with metaq.connect(fake.url, link=QUICK) as mq:
        producer = mq.one_way_producer("t", spool=str(tmp_path), timeout=0.05, retry=60)
        for n in range(100):
            producer.send(b"%d" % n)
    with metaq.connect(fake.url, link=QUICK) as mq:
        producer = mq.one_way_producer("t", spool=str(tmp_path))
        for n in range(100, 200):
            producer.send(b"%d" % n)
        mq.close()  # waits for nobody
        with pytest.raises(metaq.ConfigError, match="closed"):
            producer.send(b"x")
    fake.always(Put, behave)
    with metaq.connect(fake.url, link=QUICK) as mq:
        producer = mq.one_way_producer("t", spool=str(tmp_path))
        assert producer.drain(20)
    assert {*stored(fake, 0), *stored(fake, 1)} == {b"%d" % n for n in range(200)}


def test_a_full_spool_is_told_to_the_thread_that_sends(
    fake: FakeBroker, mq: metaq.MessageQueue, tmp_path: Path
) -> None:
    limits = metaq.SpoolLimits(count=50)
    producer = mq.one_way_producer("t", spool=str(tmp_path), window=10, timeout=0.05, retry=60, limits=limits)
    fake.always(Put, silence)
    taken = 0
    with pytest.raises(metaq.SpoolFull):
        while True:
            producer.send(b"x")
            taken += 1
    assert taken == 50
    producer.flush()
    assert (producer.spooled, producer.dropped) == (50, 0)
    producer.close()
    with pytest.raises(metaq.NoBroker, match="closed"):
        producer.send(b"x")


def test_sending_waits_when_the_other_thread_does_not_keep_up(
    fake: FakeBroker, mq: metaq.MessageQueue, tmp_path: Path
) -> None:
    producer = mq.one_way_producer("t", spool=str(tmp_path))
    resume = threading.Event()

    def something_else() -> None:
        resume.wait(10)

    def send() -> None:
        for _ in range(6000):
            producer.send(b"x")

    producer._thread.post(something_else)
    sending = threading.Thread(target=send)
    sending.start()
    eventually(lambda: len(producer._taken) > 4096)
    sending.join(0.1)
    assert sending.is_alive()
    assert len(producer._taken) == 4097
    resume.set()
    sending.join(10)
    assert producer.drain(20)
    assert producer.sent == 6000
