"""Consuming with handlers: order, failures, what becomes of messages nobody can handle."""

import asyncio
import json
from collections import Counter, defaultdict
from pathlib import Path
from random import Random

import pytest

import metaq.aio
from metaq.aio import ConfigError, Consumer, Message
from metaq.client.consuming.recovering import pack, unpack
from metaq.errors import CorruptSpool
from metaq.protocol.commands import Get, Put
from tests.client.consuming import Ledger, consumer_of, fill
from tests.client.fake_broker import FakeBroker, status, until


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


class Recorder:
    """A handler that notes what it was called with, and fails at some messages so many times."""

    def __init__(self, failures: dict[bytes, int] | None = None) -> None:
        self.handled: list[bytes] = []
        self.calls: Counter[bytes] = Counter()
        self._failures = failures or {}

    async def __call__(self, message: Message) -> None:
        self.calls[message.data] += 1
        if self.calls[message.data] <= self._failures.get(message.data, 0):
            raise ValueError(f"cannot handle {message.data!r}")
        self.handled.append(message.data)


async def run_until(consumer: Consumer, recorder: Recorder, count: int, concurrency: int = 1) -> None:
    """Run handlers until so many messages are handled, then close."""
    running = asyncio.ensure_future(consumer.run(recorder, concurrency=concurrency))
    await until(lambda: running.done() or len(recorder.handled) >= count)
    await consumer.close()
    await running


async def test_a_message_its_handler_failed_at_is_handled_again_and_only_its_partition_waits(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    ends = [fill(broker, 50, partition)[-1] for partition in (0, 1)]
    recorder = Recorder({b"0/7": 3})
    await run_until(consumer_of(mq, ledger, first_backoff=0.05), recorder, 100)
    assert recorder.calls[b"0/7"] == 4
    for partition in (0, 1):
        own = [data for data in recorder.handled if data.startswith(b"%d/" % partition)]
        assert own == [b"%d/%d" % (partition, n) for n in range(50)]
        assert ledger.offset(partition) == ends[partition]
    assert recorder.handled.index(b"1/49") < recorder.handled.index(b"0/7")


async def test_with_a_key_only_messages_of_the_same_key_wait(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, 100)
    recorder = Recorder({b"0/13": 2})
    consumer = consumer_of(mq, ledger, first_backoff=0.05)

    def key(message: Message) -> int:
        return int(message.data[2:]) % 10

    running = asyncio.ensure_future(consumer.run(recorder, key=key, concurrency=4))
    await until(lambda: len(recorder.handled) == 91)
    assert ledger.offset(0) is None
    await consumer.commit()
    first = ledger.offset(0)
    await until(lambda: len(recorder.handled) == 100)
    await consumer.commit()
    assert first == sum(20 + len(b"0/%d" % n) for n in range(13))  # all before the one that fails
    for k in range(10):
        assert [d for d in recorder.handled if int(d[2:]) % 10 == k] == [b"0/%d" % n for n in range(k, 100, 10)]
    await consumer.close()
    await running


@pytest.mark.parametrize("seed", range(5))
async def test_order_is_kept_and_nothing_is_passed_over_whatever_fails(
    seed: int, broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    chance = Random(seed)
    ends = [fill(broker, 120, partition)[-1] for partition in (0, 1)]
    bodies = [b"%d/%d" % (p, n) for p in (0, 1) for n in range(120)]
    recorder = Recorder({body: chance.randrange(1, 4) for body in chance.sample(bodies, 20)})
    keys = chance.choice([1, 3, 50])
    began: dict[tuple[bytes, int], list[int]] = defaultdict(list)
    active: Counter[tuple[bytes, int]] = Counter()

    async def handle(message: Message) -> None:
        partition, number = message.data.split(b"/")
        lane = partition, int(number) % keys
        active[lane] += 1
        assert active[lane] == 1
        try:
            await asyncio.sleep(0)
            await recorder(message)
            began[lane].append(int(number))
        finally:
            active[lane] -= 1

    consumer = consumer_of(mq, ledger, first_backoff=0.001, retries=5)
    running = asyncio.ensure_future(
        consumer.run(handle, key=lambda m: int(m.data[2:]) % keys, concurrency=chance.randrange(1, 9))
    )
    await until(lambda: running.done() or len(recorder.handled) == 240)
    await consumer.close()
    await running
    assert sorted(recorder.handled) == sorted(bodies)
    assert all(numbers == sorted(numbers) for numbers in began.values())
    assert [ledger.offset(0), ledger.offset(1)] == ends


async def test_a_message_that_is_rejected_is_given_to_the_function_and_the_rest_goes_on(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, 5)
    rejected: list[tuple[bytes, str]] = []

    def reject(message: Message, error: BaseException) -> None:
        rejected.append((message.data, str(error)))

    recorder = Recorder({b"0/2": 99})
    await run_until(consumer_of(mq, ledger, retries=2, reject=reject), recorder, 4)
    assert recorder.calls[b"0/2"] == 3
    assert rejected == [(b"0/2", "cannot handle b'0/2'")]
    assert recorder.handled == [b"0/0", b"0/1", b"0/3", b"0/4"]


async def test_a_rejection_that_fails_loses_nothing(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    fill(broker, 3)
    tries = 0

    async def reject(message: Message, error: BaseException) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise OSError("nowhere to put it")

    recorder = Recorder({b"0/1": 99})
    await run_until(consumer_of(mq, ledger, retries=0, reject=reject), recorder, 2)
    assert tries == 3
    assert recorder.handled == [b"0/0", b"0/2"]
    assert "message at 23 not rejected" in caplog.text


async def test_a_dropped_message_leaves_a_line_in_the_log(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    fill(broker, 2)
    await run_until(consumer_of(mq, ledger, retries=1, reject="drop"), Recorder({b"0/0": 99}), 1)
    assert "message 1 at 0 dropped: ValueError" in caplog.text


async def test_a_dead_letter_says_where_it_came_from_and_is_kept_until_a_broker_takes_it(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, 2)
    broker.next(Put, status(500, "no such topic"))
    await run_until(consumer_of(mq, ledger, retries=0, reject="dead_letter"), Recorder({b"0/0": 99}), 1)
    async for letter in mq.browse("g.dead"):
        assert letter.data == b"0/0"
        origin = json.loads(letter.attribute or "")
        assert origin.pop("error").startswith("ValueError(")
        assert origin == {"topic": "t", "partition": "0-0", "offset": 0, "id": 1, "attribute": None}
        return
    pytest.fail("no dead letter")


async def test_what_was_kept_on_disk_comes_to_the_handler_again_also_in_another_process_life(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger, tmp_path: Path
) -> None:
    fill(broker, 6)
    recorder = Recorder({b"0/1": 3, b"0/4": 99})
    one = consumer_of(mq, ledger, retries=1, recover_path=str(tmp_path))
    running = asyncio.ensure_future(one.run(recorder))
    await until(lambda: len(recorder.handled) == 5 and recorder.calls[b"0/4"] > 2)  # kept, and tried again since
    await one.close()
    await running
    assert b"0/1" in recorder.handled  # the other one did not hold it up
    two = consumer_of(mq, ledger, retries=1, recover_path=str(tmp_path))
    later = Recorder()
    await run_until(two, later, 1)
    assert later.handled == [b"0/4"]
    three = consumer_of(mq, ledger, retries=1, recover_path=str(tmp_path))
    nothing = Recorder()
    running = asyncio.ensure_future(three.run(nothing))
    gets = len(broker.of(Get))
    await until(lambda: len(broker.of(Get)) > gets + 5)
    await three.close()
    await running
    assert nothing.handled == []


async def test_two_consumers_of_one_group_keep_their_messages_apart(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, tmp_path: Path
) -> None:
    fill(broker, 1)
    consumers = [consumer_of(mq, Ledger(), recover_path=str(tmp_path)) for _ in range(2)]
    message = Message("t", "0-0", 0, 1, 0, b"x")
    for consumer in consumers:
        await consumer.reject(message)
    assert sorted(path.name for path in (tmp_path / "g").iterdir()) == ["0", "1"]
    for consumer in consumers:
        await consumer.close()
    heir = Recorder()
    await run_until(consumer_of(mq, Ledger(), recover_path=str(tmp_path)), heir, 3)
    assert sorted(heir.handled) == [b"0/0", b"x", b"x"]


def test_a_kept_message_is_what_it_was_and_garbage_is_refused() -> None:
    message = Message("tö", "3-17", 1 << 40, -(1 << 63), 1, b"\0\0\0\1abody")
    assert unpack(pack(message)) == message
    for garbage in (b"", b"\0\0\0\2{}", b"\0\0\0\xff{}", b"\0\0\0\4null"):
        with pytest.raises(CorruptSpool):
            unpack(garbage)


async def test_closing_waits_for_handlers_that_run_and_begins_no_others(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    offsets = fill(broker, 10)
    entered, leave = asyncio.Event(), asyncio.Event()

    async def handle(message: Message) -> None:
        entered.set()
        await leave.wait()

    consumer = consumer_of(mq, ledger)
    running = asyncio.ensure_future(consumer.run(handle))
    await entered.wait()
    closing = asyncio.ensure_future(consumer.close())
    await asyncio.sleep(0.02)
    assert not closing.done()
    leave.set()
    await closing
    await running
    assert ledger.offset(0) == offsets[1]


async def test_a_handler_that_does_not_end_is_given_up_after_the_time_allowed(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, 2)
    entered = asyncio.Event()

    async def handle(message: Message) -> None:
        entered.set()
        await asyncio.sleep(3600)

    consumer = consumer_of(mq, ledger, release_timeout=0.05)
    running = asyncio.ensure_future(consumer.run(handle))
    await entered.wait()
    async with asyncio.timeout(8.0):
        await consumer.close()
        await running
    assert ledger.offset(0) in (None, 0)


async def test_a_cancelled_run_leaves_its_messages_to_the_next(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, 3)
    stuck = asyncio.Event()
    consumer = consumer_of(mq, ledger)
    running = asyncio.ensure_future(consumer.run(lambda _: stuck.wait()))
    await until(lambda: broker.of(Get))
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    await consumer.close()
    assert ledger.offset(0) in (None, 0)
    recorder = Recorder()
    await run_until(consumer_of(mq, ledger), recorder, 3)
    assert recorder.handled == [b"0/0", b"0/1", b"0/2"]


async def test_more_messages_than_lanes_hold_are_handled_without_pause(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    end = fill(broker, 9000)[-1]
    recorder = Recorder()
    await run_until(consumer_of(mq, ledger, max_size=20_000), recorder, 9000, concurrency=3)
    assert recorder.handled == [b"0/%d" % n for n in range(9000)]
    assert ledger.offset(0) == end


async def test_with_manual_acknowledgement_a_handler_that_returns_acknowledges_nothing(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    offsets = fill(broker, 4)
    consumer = consumer_of(mq, ledger, ack="manual")
    seen: list[bytes] = []

    async def handle(message: Message) -> None:
        seen.append(message.data)
        if message.data == b"0/2":
            consumer.ack(message)

    running = asyncio.ensure_future(consumer.run(handle))
    await until(lambda: len(seen) == 4)
    await consumer.close()
    await running
    assert ledger.offset(0) == offsets[3]


async def test_options_of_handlers_that_cannot_be_are_refused(mq: metaq.aio.MessageQueue) -> None:
    consumer = consumer_of(mq, Ledger())
    with pytest.raises(ConfigError, match="concurrency is at least 1"):
        await consumer.run(Recorder(), concurrency=0)
    with pytest.raises(ConfigError, match="key is a function"):
        await consumer.run(Recorder(), key="colour")
