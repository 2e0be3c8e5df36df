"""Batches in a simulated world: whatever is lost, nothing is stored twice, nothing is missing, the order is kept."""

import asyncio
from collections import Counter
from random import Random

import pytest

import metaq.aio
import metaq.client.outbox
import metaq.client.shipping
from metaq.client.connect import Outside
from metaq.client.message import read_run
from metaq.errors import ClientError, NoBroker
from metaq.model import TopicPartition
from metaq.net.link import LinkOptions
from metaq.protocol.commands import Command, Mput
from tests.client.fake_broker import FakeBroker, Peer, behave, status
from tests.client.test_simulated import BROKER, CLIENT, make_trouble
from tests.simulation.world import World

MESSAGES = 400
Outcome = tuple[bytes, str | None]  # the partition it was stored in, None: an error


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a few messages be a full batch, so that several are under way."""
    for module in (metaq.client.outbox, metaq.client.shipping):
        monkeypatch.setattr(module, "MOST_RECORDS", 4)


def careless(chance: Random, refusals: float) -> object:
    """Return an act that stores and keeps silent, or refuses, or neither stores nor answers, now and then."""

    def act(peer: Peer, command: Command) -> None:
        assert isinstance(command, Mput)
        dice = chance.random()
        if dice < 0.1:
            peer.broker.mput(command)
        elif dice < 0.15:
            peer.transport.abort()
        elif dice < 0.15 + refusals:
            # as the broker does, only what is not stored yet is refused
            known = peer.broker.producers.get((command.target, command.producer), [])
            again = any(before[4:6] == command[4:6] for before, _ in known)
            (behave if again else status(403 if dice < 0.15 + refusals / 2 else 500, "not now"))(peer, command)
        else:
            behave(peer, command)

    return act


async def send_all(
    producer: metaq.aio.Producer, chance: Random, partition: int | None, name: str
) -> list[tuple[bytes, metaq.aio.Sent | ClientError]]:
    sent: list[tuple[bytes, metaq.aio.Sent | ClientError]] = []
    for n in range(MESSAGES // 2):
        data = f"{name} {n}".encode()
        try:
            sent.append((data, await producer.send_nowait(data, partition=partition)))
        except ClientError as exc:
            assert isinstance(exc, NoBroker)
            sent.append((data, exc))
        if chance.random() < 0.2:
            await asyncio.sleep(chance.uniform(0, 0.2))
    return sent


async def bad_day(world: World, timeout: float, refusals: float) -> tuple[list[Outcome], dict[str, list[bytes]]]:
    """Send over a network and to a broker that fail; return what came of each message, and what is stored where."""
    broker = FakeBroker(network=world.machine(BROKER).network, host=BROKER, port=8123)
    broker.extensions = ("mput",)
    await broker.start()
    chance = world.random_for("day")
    broker.always(Mput, careless(chance, refusals))  # type: ignore[arg-type]
    done = asyncio.Event()
    outside = Outside(network=world.machine(CLIENT).network, random=world.machine(CLIENT).random)
    link = LinkOptions(connect_timeout=2.0, heartbeat_idle=1.0, heartbeat_timeout=0.5)
    async with metaq.aio.connect(f"metaq://{BROKER}:8123", link=link, outside=outside, connect_timeout=60.0) as mq:
        producer = mq.producer("t", timeout=timeout)
        trouble = asyncio.ensure_future(make_trouble(world, chance, done))
        sent = await asyncio.gather(send_all(producer, chance, 0, "named"), send_all(producer, chance, None, "free"))
        outcomes: list[Outcome] = []
        for data, each in [pair for some in sent for pair in some]:
            try:
                where = (await each).partition if isinstance(each, metaq.aio.Sent) else None
                outcomes.append((data, where))
            except ClientError:
                outcomes.append((data, None))
        done.set()
        await trouble
        with_room = mq.producer("t", timeout=60.0)
        broker.always(Mput, behave)
        for partition in (0, 1):
            receipt = await with_room.send(b"last", partition=partition)
            outcomes.append((b"last", receipt.partition))
    await broker.stop()
    logs = {
        f"0-{n}": [
            m.data for m in read_run("t", f"0-{n}", 0, bytes(broker.logs[TopicPartition("t", n)]), 1 << 30).messages
        ]
        for n in (0, 1)
    }
    return outcomes, logs


def one_day(seed: int, timeout: float, refusals: float) -> tuple[list[Outcome], dict[str, list[bytes]], int]:
    with World(seed) as world:
        return (*world.run(bad_day(world, timeout, refusals)), world.digest())


def check(outcomes: list[Outcome], logs: dict[str, list[bytes]]) -> None:
    counts = Counter(data for log in logs.values() for data in log if data != b"last")
    assert not [data for data, count in counts.items() if count > 1]
    places = {data: name for name, log in logs.items() for data in log}
    assert all(places.get(data) == where for data, where in outcomes if where is not None and data != b"last")
    for kind in (b"named", b"free"):
        for log in logs.values():
            mine = [int(data.split()[1]) for data in log if data.startswith(kind)]
            stored = {data for data, where in outcomes if where is not None}
            kept = [n for n in mine if b"%b %d" % (kind, n) in stored]
            if kind == b"named":
                assert kept == sorted(kept)


@pytest.mark.parametrize("seed", range(12))
def test_with_patience_every_message_is_stored_exactly_once_and_in_order(seed: int) -> None:
    outcomes, logs, _ = one_day(seed, 300.0, 0.0)
    assert all(where is not None for _, where in outcomes)
    check(outcomes, logs)
    assert [data for data in logs["0-0"] if data.startswith(b"named")] == [
        b"named %d" % n for n in range(MESSAGES // 2)
    ]


@pytest.mark.parametrize("seed", range(12, 30))
def test_without_patience_none_is_stored_twice_and_what_was_acknowledged_is_in_order(seed: int) -> None:
    check(*one_day(seed, 2.0, 0.0)[:2])


@pytest.mark.parametrize("seed", range(30, 42))
def test_a_broker_that_refuses_now_and_then_gets_nothing_twice(seed: int) -> None:
    outcomes, logs, _ = one_day(seed, 300.0, 0.1)
    check(outcomes, logs)


def test_one_seed_is_one_course_of_events() -> None:
    assert one_day(3, 5.0, 0.1) == one_day(3, 5.0, 0.1)
