"""The client in a simulated world: virtual time, a network that delays, splits and cuts; one seed, one course."""

import asyncio
from collections import Counter
from random import Random

import pytest

import metaq.aio
from metaq.client.connect import Outside
from metaq.client.message import read_run
from metaq.errors import ClientError, NoBroker
from metaq.model import TopicPartition
from metaq.net.link import LinkOptions
from tests.client.fake_broker import FakeBroker
from tests.simulation.world import World

BROKER, CLIENT = "10.0.0.1", "10.0.0.2"


async def bad_day(world: World, retries: int) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Send and read over a network that fails; return what was acknowledged, stored and read."""
    broker = FakeBroker(network=world.machine(BROKER).network, host=BROKER, port=8123)
    await broker.start()
    chance = world.random_for("day")
    done = asyncio.Event()
    outside = Outside(network=world.machine(CLIENT).network, random=world.machine(CLIENT).random)
    link = LinkOptions(connect_timeout=2.0, heartbeat_idle=1.0, heartbeat_timeout=0.5)
    acknowledged: list[bytes] = []

    async with metaq.aio.connect(f"metaq://{BROKER}:8123", link=link, outside=outside, connect_timeout=60.0) as mq:
        producer = mq.producer("t", timeout=3.0, retries=retries)
        reading = asyncio.ensure_future(read_until(mq.reader("t", 0, timeout=2.0), b"last"))
        trouble = asyncio.ensure_future(make_trouble(world, chance, done))
        for n in range(200):
            while True:
                try:
                    await producer.send(b"%d" % n, partition=0)
                except NoBroker:
                    continue  # it was not sent, says the document
                except ClientError:
                    assert not retries
                    break
                acknowledged.append(b"%d" % n)
                break
        done.set()
        await trouble
        await mq.producer("t", retries=1000).send(b"last", partition=0)
        acknowledged.append(b"last")
        read = await reading
    stored = [message.data for message in stored_in(broker)]
    await broker.stop()
    return acknowledged, stored, read


async def make_trouble(world: World, chance: Random, done: asyncio.Event) -> None:
    """Cut connections and part the two for a while, until told to stop; then heal."""
    while not done.is_set():
        await asyncio.sleep(chance.uniform(0.01, 0.4))
        if chance.random() < 0.3:
            world.network.part(CLIENT, BROKER, one_way=chance.random() < 0.5)
            await asyncio.sleep(chance.uniform(0.1, 5.0))
            world.network.heal()
        else:
            world.network.cut(CLIENT, BROKER)
    world.network.heal()


async def read_until(reader: metaq.aio.Reader, last: bytes) -> list[bytes]:
    read: list[bytes] = []
    while last not in read[-1:]:
        read.append((await anext(reader)).data)
    return read


def stored_in(broker: FakeBroker) -> list[metaq.aio.Message]:
    return list(read_run("t", "0-0", 0, bytes(broker.logs[TopicPartition("t", 0)]), 1 << 20).messages)


def one_day(seed: int, retries: int) -> tuple[list[bytes], list[bytes], list[bytes], int]:
    with World(seed) as world:
        return (*world.run(bad_day(world, retries)), world.digest())


@pytest.mark.parametrize("seed", range(6))
def test_without_retries_nothing_is_stored_twice_and_nothing_acknowledged_is_missing(seed: int) -> None:
    acknowledged, stored, read, _ = one_day(seed, 0)
    counts = Counter(stored)
    del counts[b"last"]
    assert max(counts.values()) == 1
    assert list(dict.fromkeys(body for body in stored if body in set(acknowledged))) == acknowledged
    assert read == stored[: len(read)]


@pytest.mark.parametrize("seed", range(6, 12))
def test_with_retries_every_message_arrives_at_least_once_and_in_order(seed: int) -> None:
    acknowledged, stored, read, _ = one_day(seed, 1000)
    assert acknowledged == [b"%d" % n for n in range(200)] + [b"last"]
    assert list(dict.fromkeys(stored)) == acknowledged
    assert read == stored[: len(read)]


def test_one_seed_is_one_course_of_events() -> None:
    assert one_day(3, 1000) == one_day(3, 1000)
