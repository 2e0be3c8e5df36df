"""The consumer of plain code: threads, Ctrl-C, loops that are left and entered again."""

import asyncio
import signal
import threading
import time
from collections.abc import Iterator

import pytest

import metaq
from metaq.aio import Message
from metaq.client.background import LoopThread
from metaq.client.consuming.options import ConsumerKeywords
from metaq.model import TopicPartition
from tests.client.conftest import QUICK
from tests.client.consuming import FAST, Ledger, fill
from tests.client.fake_broker import FakeBroker


@pytest.fixture
def far() -> Iterator[FakeBroker]:
    """A scripted broker in a thread of its own."""
    thread = LoopThread()
    fake = FakeBroker()
    thread.call(fake.start())
    yield fake
    thread.call(fake.stop())
    thread.close()


def consumer(mq: metaq.MessageQueue, ledger: Ledger, group: str = "g") -> metaq.Consumer:
    settings: ConsumerKeywords = {**FAST, "offsets": ledger}
    return mq.consumer("t", group=group, **settings)


def press_ctrl_c() -> None:
    """Send the signal where the terminal's arrives: a wait of the main thread is interrupted."""
    ident = threading.main_thread().ident
    assert ident is not None
    signal.pthread_kill(ident, signal.SIGINT)


def until(condition: object, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_for_loop_consumes_and_acknowledges_when_it_comes_back(far: FakeBroker) -> None:
    offsets = fill(far, 100)
    ledger = Ledger()
    with metaq.connect(far.url, link=QUICK) as mq:
        seen = []
        for message in consumer(mq, ledger):
            seen.append(message.data)
            if len(seen) == 100:
                break
        assert seen == [b"0/%d" % n for n in range(100)]
    assert ledger.offset(0) == offsets[99]  # the loop did not come back for another


def test_a_message_that_was_acknowledged_before_the_loop_was_left_does_not_come_again(far: FakeBroker) -> None:
    offsets = fill(far, 3)
    ledger = Ledger()
    with metaq.connect(far.url, link=QUICK) as mq, consumer(mq, ledger) as one:
        for message in one:
            if message.data == b"0/1":
                one.ack(message)
                break
    assert ledger.offset(0) == offsets[2]


def test_a_loop_that_was_left_is_entered_again_where_it_was(far: FakeBroker) -> None:
    fill(far, 4)
    with metaq.connect(far.url, link=QUICK) as mq, consumer(mq, Ledger()) as one:
        first = [message.data for message, _ in zip(one, range(2), strict=False)]
        rest = iter(one)
        assert [*first, next(rest).data] == [b"0/0", b"0/1", b"0/3"]  # zip asked for one that it did not take


def test_an_exception_in_the_loop_leaves_its_message_to_the_next_consumer(far: FakeBroker) -> None:
    fill(far, 3)
    ledger = Ledger()
    with metaq.connect(far.url, link=QUICK) as mq:
        with pytest.raises(ZeroDivisionError), consumer(mq, ledger) as one:
            for message in one:
                if message.data == b"0/1":
                    _ = 1 // 0
        assert next(iter(consumer(mq, ledger))).data == b"0/1"


def test_ctrl_c_ends_the_wait_and_consuming_can_go_on(far: FakeBroker) -> None:
    fill(far, 1)
    with metaq.connect(far.url, link=QUICK) as mq, consumer(mq, Ledger()) as one:
        loop = iter(one)
        assert next(loop).data == b"0/0"
        timer = threading.Timer(0.05, press_ctrl_c)
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            next(loop)
        timer.join()
        far.append(TopicPartition("t", 0), 0, b"later")
        assert next(iter(one)).data == b"later"


def test_handlers_run_in_threads_and_ctrl_c_ends_them_in_order(far: FakeBroker) -> None:
    offsets = fill(far, 20)
    fill(far, 20, 1)
    ledger, handled, names = Ledger(), [], set()
    lock = threading.Lock()

    def handle(message: Message) -> None:
        with lock:
            handled.append(message.data)
            names.add(threading.current_thread().name)
            if len(handled) == 40:
                threading.Timer(0.02, press_ctrl_c).start()

    with metaq.connect(far.url, link=QUICK) as mq, consumer(mq, ledger) as one:
        with pytest.raises(KeyboardInterrupt):
            one.run(handle, concurrency=2)
        assert len(set(handled)) == 40
    assert ledger.offset(0) == offsets[20]
    assert all(name.startswith("metaq g") for name in names)


def test_closing_from_another_thread_ends_loops_and_handlers(far: FakeBroker) -> None:
    fill(far, 1)
    with metaq.connect(far.url, link=QUICK) as mq:
        for work in (list, lambda c: list(c.batches()), lambda c: c.run(print)):
            one = consumer(mq, Ledger(), "other")
            thread = threading.Thread(target=work, args=(one,))
            thread.start()
            until(lambda one=one: one.partitions)
            one.close()
            thread.join(5.0)
            assert not thread.is_alive()


def test_the_other_calls_go_through(far: FakeBroker) -> None:
    offsets = fill(far, 4)
    ledger = Ledger()
    with metaq.connect(far.url, link=QUICK) as mq, consumer(mq, ledger) as one:
        assert one.topics == ("t",)
        assert one.name.startswith("g_")
        assert [m.data for m in one.batch(2)] == [b"0/0", b"0/1"]
        one.seek("t", "0-0", offsets[3])
        one.commit()
        assert ledger.offset(0) == offsets[3]
        assert list(one.lag().values()) == [23]
        one.pause()
        one.resume()
        assert next(iter(one)).data == b"0/3"
        one.subscribe(["u"])
        assert one.partitions == []
    assert asyncio.run(ledger.load("g", [])) == {}
