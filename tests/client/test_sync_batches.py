"""Batches in plain code: the order of the calls, many threads, limits, and what is told of each message."""

import threading
from collections.abc import Iterator

import pytest

import metaq
from metaq.errors import ConfigError, LinkClosed, NoBroker, Refused
from metaq.protocol.commands import Command, Mput, Put, Version
from metaq.record import walk
from tests.client.conftest import QUICK
from tests.client.fake_broker import FakeBroker, Peer, behave, held, release, silence, status
from tests.client.test_sync import eventually


@pytest.fixture
def mq(fake: FakeBroker) -> Iterator[metaq.MessageQueue]:
    fake.extensions = ("mput",)
    with metaq.connect(fake.url, link=QUICK, timeout=0.5) as client:
        yield client
        client.close()


def test_the_order_of_the_calls_is_the_order_of_the_messages(fake: FakeBroker, mq: metaq.MessageQueue) -> None:
    producer = mq.producer("t", in_flight=700)
    wanted: list[bytes] = []
    sent: list[metaq.sync.Sent] = []
    for turn in range(20):
        places: tuple[int | str | metaq.BrokerPartition, ...] = (0, "0-0", metaq.BrokerPartition(0, 0))
        for n in range(90):
            wanted.append(b"%d-%d" % (turn, n))
            attribute = "odd" if n % 7 == 3 else None
            sent.append(producer.send_nowait(wanted[-1], partition=places[n // 30], attribute=attribute))
        chunk = [b"%d-many-%d" % (turn, n) for n in range(30)]
        assert len(producer.send_many(iter(chunk) if turn % 2 else chunk, partition=0)) == 30
        wanted += chunk
    producer.flush()
    found = list(mq.browse("t"))
    assert [message.data for message in found] == wanted
    offsets = [message.offset for message in found if b"many" not in message.data]
    assert [each.result(5).offset for each in sent] == offsets
    assert not fake.of(Put)
    assert len(fake.of(Mput)) < 1000


def test_threads_that_send_at_the_same_time_lose_nothing(fake: FakeBroker, mq: metaq.MessageQueue) -> None:
    producer = mq.producer("t", in_flight=500)
    outcomes: dict[bytes, metaq.sync.Sent] = {}

    def work(name: int) -> None:
        for n in range(2_000):
            data = b"%d-%d" % (name, n)
            outcomes[data] = producer.send_nowait(data)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    producer.flush()
    found = {(message.partition, message.offset): message.data for message in mq.browse("t")}
    assert len(found) == 8_000
    assert all(found[r.partition, r.offset] == data for data, r in ((d, s.result(5)) for d, s in outcomes.items()))
    assert (producer._under_way, producer._size) == (0, 0)


def test_sending_waits_while_too_much_has_no_answer(fake: FakeBroker, mq: metaq.MessageQueue) -> None:
    fake.always(Mput, held)
    producer = mq.producer("t", in_flight=5)
    sent: list[metaq.sync.Sent] = []
    thread = threading.Thread(
        target=lambda: sent.extend(producer.send_nowait(b"%d" % n, partition=0) for n in range(6))
    )
    thread.start()
    eventually(lambda: producer._waiting)
    assert len(sent) == 5
    assert not any(each.done() for each in sent)
    with pytest.raises(TimeoutError, match="not known within"):
        sent[0].result(0.01)
    told: list[bool] = []
    sent[4].add_done_callback(lambda each: told.append(each.done()))

    def release_all(peer: Peer, command: Command) -> None:
        fake.always(Mput, behave)
        release(fake)
        behave(peer, command)

    fake.always(Version, release_all)
    with metaq.connect(fake.url, link=QUICK):
        thread.join(20)
        assert [each.result(5).offset for each in sent] == [n * 21 for n in range(6)]
    assert told == [True]
    sent[4].add_done_callback(lambda each: told.append(True))
    assert told == [True, True]


def test_an_error_is_told_to_who_asks_or_to_who_flushes(fake: FakeBroker, mq: metaq.MessageQueue) -> None:
    producer = mq.producer("t", selector="key")
    fake.always(Mput, status(500, "disk full"))
    asked = producer.send_nowait(b"1", attribute="k")
    assert isinstance(asked.exception(5), Refused)
    assert asked.seen
    producer.flush()
    unasked = producer.send_nowait(b"2", partition=1)
    with pytest.raises(Refused, match=r"disk full \(put to t 0-1 at"):
        producer.flush()
    assert not unasked.seen
    with pytest.raises(TypeError, match="bytes, not str"):
        producer.send_nowait("text").result(5)  # type: ignore[arg-type]
    with pytest.raises(UnicodeEncodeError):
        producer.send_nowait(b"x", attribute="\ud800").result(5)
    fake.always(Mput, behave)
    assert producer.send(b"3", attribute="k").offset == 0
    assert [[r.body for r in walk(c.records)] for c in fake.of(Mput)[-1:] if isinstance(c, Mput)] == [[b"\0\0\0\1k3"]]


def test_closing_tells_all_that_wait(fake: FakeBroker, mq: metaq.MessageQueue) -> None:
    fake.always(Mput, silence)
    producer = mq.producer("t", in_flight=20)
    errors: list[Exception] = []
    sent: list[metaq.sync.Sent] = []

    def send() -> None:
        try:
            while True:
                sent.append(producer.send_nowait(b"x"))
        except ConfigError as exc:
            errors.append(exc)

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    eventually(lambda: producer._waiting == 3)
    mq.close()
    for thread in threads:
        thread.join(20)
    assert len(errors) == 3
    assert all(isinstance(each.exception(5), LinkClosed | NoBroker) for each in sent)
    with pytest.raises(ConfigError, match="closed"):
        producer.send_nowait(b"x")
