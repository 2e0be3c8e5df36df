"""The face for plain code: the same core, one thread, safe to interrupt and to forget."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import metaq
from metaq.errors import ConfigError, CorruptMessage, LinkClosed, NoBroker, Refused
from metaq.model import TopicPartition
from metaq.protocol.commands import Command, Get, Put, Version
from tests.client.conftest import QUICK
from tests.client.fake_broker import FakeBroker, Peer, behave, held, release, silence, status

T0 = TopicPartition("t", 0)


@pytest.fixture
def mq(fake: FakeBroker) -> Iterator[metaq.MessageQueue]:
    with metaq.connect(fake.url, link=QUICK, timeout=0.5) as client:
        yield client
        client.close()


def eventually(condition: Callable[[], object]) -> None:
    """Return once the condition holds; fail after twenty seconds."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.002)


def test_messages_go_out_and_come_back(mq: metaq.MessageQueue) -> None:
    producer = mq.producer("t")
    receipt = producer.send(b"hello", attribute="key", partition=0)
    assert (receipt.partition, receipt.offset) == ("0-0", 0)
    assert producer.send_nowait(b"x", partition=0).result(5).offset == 32
    assert len(producer.send_many([b"y"] * 10, partition="0-0")) == 10
    producer.flush()
    messages = list(mq.browse("t"))
    assert [m.data for m in messages] == [b"hello", b"x", *[b"y"] * 10]
    assert messages[0].attribute == "key"
    reader = mq.reader("t", 0, "earliest")
    assert [next(reader).data for _ in range(2)] == [b"hello", b"x"]
    assert reader.offset == 53
    assert [m.data for m in reader.fetch(0)] == [b"y"] * 10
    assert reader.fetch(wait=0) == []
    assert (reader.offset, reader.partition) == (263, "0-0")
    assert mq.partitions("t") == ["0-0"]
    assert mq.offsets("t", 0) == (0, 263)
    assert mq.stats()["broker_id"] == "0"
    assert b"brokerId=0" in mq.stats_text(item="config")
    assert mq.version() == "1.4.6.2"
    assert list(mq.brokers()) == [0]


def test_the_order_of_the_calls_is_the_order_of_the_messages(fake: FakeBroker, mq: metaq.MessageQueue) -> None:
    producer = mq.producer("t", in_flight=50)
    wanted = []
    for turn in range(20):
        for n in range(30):
            wanted.append(b"%d-%d" % (turn, n))
            producer.send_nowait(wanted[-1], partition=0)
        chunk = [b"%d-many-%d" % (turn, n) for n in range(30)]
        producer.send_many(iter(chunk) if turn % 2 else chunk, partition=0)
        wanted += chunk
    producer.flush()
    assert [message.data for message in mq.browse("t")] == wanted


def test_a_generator_is_read_in_chunks(mq: metaq.MessageQueue) -> None:
    receipts = mq.producer("t").send_many((b"%d" % n for n in range(10_000)), partition=0)
    assert len(receipts) == 10_000
    assert [m.data for m in mq.browse("t")] == [b"%d" % n for n in range(10_000)]


def test_flush_and_leaving_the_block_raise_what_nobody_asked_for(fake: FakeBroker) -> None:
    fake.next(Put, status(500, "first"), status(500, "second"), status(500, "third"))
    with pytest.raises(Refused, match="third"), metaq.connect(fake.url, link=QUICK) as mq:
        producer = mq.producer("t")
        with pytest.raises(Refused, match="first"):
            producer.send_nowait(b"x").result(5)
        producer.send_nowait(b"x")
        with pytest.raises(Refused, match="second"):
            producer.flush()
        producer.flush()
        producer.send_nowait(b"x")


def test_an_order_that_cannot_be_carried_out_tells_its_future(mq: metaq.MessageQueue) -> None:
    producer = mq.producer("t")
    with pytest.raises(TypeError, match="bytes, not str"):
        producer.send_nowait("text").result(5)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no partition"):
        producer.send_nowait(b"x", partition="here").result(5)
    sent = producer.send_nowait(b"x")
    assert not sent.cancel()
    assert sent.result(5).offset >= 0
    with pytest.raises(ZeroDivisionError):
        producer.send_many(b"%d" % (1 // n) for n in (1, 0))


def test_corrupt_messages_are_raised_and_can_be_skipped(fake: FakeBroker, mq: metaq.MessageQueue) -> None:
    for n in range(3):
        fake.append(T0, 0, b"%d" % n)
    fake.logs[T0][21 + 20] ^= 1
    reader = mq.reader("t", 0)
    assert next(reader).data == b"0"
    with pytest.raises(CorruptMessage):
        next(reader)
    assert reader.skip() == 42
    assert next(reader).data == b"2"
    reader.seek(0)
    assert (reader.offset, next(reader).data) == (0, b"0")
    browser = mq.browse("t")
    assert next(browser).data == b"0"
    with pytest.raises(CorruptMessage):
        next(browser)
    browser.skip()
    assert [m.data for m in browser] == [b"2"]


def test_an_interrupt_ends_the_wait_and_nothing_is_lost(fake: FakeBroker, mq: metaq.MessageQueue) -> None:
    fake.append(T0, 0, b"0")
    reader = mq.reader("t", 0)
    assert next(reader).data == b"0"

    def interrupt() -> None:
        before = len(fake.of(Get))
        eventually(lambda: len(fake.of(Get)) > before + 1)
        os.kill(os.getpid(), signal.SIGINT)

    for _ in range(2):
        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            next(reader)
        thread.join()
    fake.append(T0, 0, b"1")
    assert next(reader).data == b"1"
    fake.next(Put, silence)

    def interrupt_sending() -> None:
        eventually(lambda: fake.of(Put))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt_sending)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        mq.producer("t").send(b"x")
    thread.join()
    assert mq.producer("t").send(b"y").offset >= 0


def test_closing_is_final_and_may_be_repeated(fake: FakeBroker) -> None:
    mq = metaq.connect(fake.url, link=QUICK)
    producer, reader = mq.producer("t"), mq.reader("t", 0)
    reading: list[list[metaq.Message]] = []
    thread = threading.Thread(target=lambda: reading.append(list(reader)))
    thread.start()
    eventually(lambda: fake.of(Get))
    mq.close()
    thread.join(20)
    assert reading == [[]]
    mq.close()
    reader.close()
    for call in (lambda: producer.send(b"x"), lambda: producer.send_nowait(b"x"), lambda: next(reader), mq.stats):
        with pytest.raises(ConfigError, match="closed"):
            call()
    eventually(lambda: not fake.peers)
    assert len([each for each in threading.enumerate() if each.name == "metaq client"]) == 1  # the fake broker's


def test_who_waits_when_another_thread_closes_is_told(fake: FakeBroker) -> None:
    mq = metaq.connect(fake.url, link=QUICK)
    fake.always(Put, silence)
    producer = mq.producer("t")
    errors: list[BaseException] = []

    def send() -> None:
        try:
            producer.send(b"x")
        except LinkClosed as exc:
            errors.append(exc)

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(fake.of(Put)) == 3)
    sent = producer.send_nowait(b"x")
    mq.close()
    for thread in threads:
        thread.join(20)
    assert len(errors) == 3
    assert isinstance(sent.exception(5), LinkClosed | NoBroker)


def test_many_threads_share_a_client(fake: FakeBroker, mq: metaq.MessageQueue) -> None:
    producer = mq.producer("t")

    def work(name: int) -> None:
        for n in range(20):
            producer.send(b"%d-%d" % (name, n), partition=0)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    got = [m.data for m in mq.browse("t")]
    for name in range(5):
        assert [data for data in got if data.startswith(b"%d-" % name)] == [b"%d-%d" % (name, n) for n in range(20)]


def test_a_failed_connect_leaves_no_thread() -> None:
    before = threading.active_count()
    with pytest.raises(NoBroker):
        metaq.connect("metaq://127.0.0.1:1", connect_timeout=0.05)
    for url in ("", "nonsense"):
        with pytest.raises(ConfigError):
            metaq.connect(url)
    assert threading.active_count() == before


def test_the_url_may_come_from_the_environment(fake: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("METAQ_URL", raising=False)
    with pytest.raises(ConfigError, match="METAQ_URL is not set"):
        metaq.connect()
    monkeypatch.setenv("METAQ_URL", fake.url)
    with metaq.connect(link=QUICK) as mq:
        assert mq.version() == "1.4.6.2"


def test_a_call_from_the_clients_own_thread_is_refused(mq: metaq.MessageQueue) -> None:
    def calls(topic: str, partitions: object, data: bytes, attribute: str | None, /) -> metaq.BrokerPartition:
        mq.version()
        raise AssertionError

    with pytest.raises(ConfigError, match="own thread"):
        mq.producer("t", selector=calls).send(b"x")


FORGETS = """
import sys, metaq
mq = metaq.connect(sys.argv[1])
producer = mq.producer("t")
producer.send(b"x")
reader = iter(mq.reader("t", 0))
print("sent", flush=True)
if sys.argv[2] == "raise":
    raise SystemExit(7)
if sys.argv[2] == "wait":
    next(mq.reader("empty", 1))
"""


@pytest.mark.parametrize(("how", "code"), [("end", 0), ("raise", 7), ("wait", -signal.SIGINT)])
def test_python_ends_at_once_whether_or_not_the_client_was_closed(fake: FakeBroker, how: str, code: int) -> None:
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", FORGETS, fake.url, how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            if how == "wait":
                eventually(lambda: any(isinstance(c, Get) and c.target.topic == "empty" for c in fake.received))
                process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, output) == (code, b"sent\n"), errors
    assert b"Exception ignored" not in errors and b"Warning" not in errors, errors
    eventually(lambda: not fake.peers)


def test_closing_tells_all_whose_messages_were_not_sent(fake: FakeBroker) -> None:
    mq = metaq.connect(fake.url, link=QUICK)
    fake.always(Put, silence)
    producer = mq.producer("t", in_flight=5)
    sent: list[metaq.sync.Sent] = []
    errors: list[Exception] = []

    def send() -> None:
        try:
            while True:
                sent.append(producer.send_nowait(b"x", partition=len(sent) % 2))
        except ConfigError as exc:
            errors.append(exc)

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(fake.of(Put)) == 5)
    mq.close()
    for thread in threads:
        thread.join(20)
    assert len(errors) == 3
    assert len(sent) >= 5
    assert all(isinstance(each.exception(5), LinkClosed | NoBroker) for each in sent)


def test_sending_waits_when_too_many_bytes_have_no_answer(fake: FakeBroker, mq: metaq.MessageQueue) -> None:
    def release_all(peer: Peer, command: Command) -> None:
        fake.always(Put, behave)
        release(fake)
        behave(peer, command)

    producer = mq.producer("t")
    fake.always(Put, held)
    piece = bytes(1 << 20)
    sent: list[metaq.sync.Sent] = []
    sender = threading.Thread(
        target=lambda: sent.extend(producer.send_nowait(piece, partition=0) for _ in range(100)), daemon=True
    )
    sender.start()
    eventually(lambda: producer._waiting)
    assert producer._under_way == 63  # a message is a few bytes more than its data
    fake.always(Version, release_all)
    with metaq.connect(fake.url, link=QUICK):
        sender.join(20)
    assert [each.result(10).offset for each in sent] == [n * (len(piece) + 20) for n in range(100)]
