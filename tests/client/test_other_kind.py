"""A broker of ours that becomes a Java one and one of ours again, while questions and batches wait: simulated days.

Same id, same address, same log; what ours knows of batches a Java broker does not keep.
"""

import asyncio
from collections import Counter
from random import Random

import pytest

import metaq.aio
from metaq.aio import Message, Sent
from metaq.client.connect import Outside
from metaq.client.message import read_run
from metaq.errors import ClientError
from metaq.model import TopicPartition
from metaq.net.link import LinkOptions
from metaq.protocol.commands import Command, Get, Mput, Put
from tests.client.fake_broker import OURS, Act, FakeBroker, Peer, behave, until
from tests.client.test_simulated import BROKER, CLIENT
from tests.simulation.world import World

EXCHANGES = 6
EACH = 25  # messages sent between two of them
LINK = LinkOptions(connect_timeout=2.0, heartbeat_idle=1.0, heartbeat_timeout=0.5, longest_delay=0.2)


def connect(world: World) -> metaq.aio.MessageQueue:
    machine = world.machine(CLIENT)
    outside = Outside(network=machine.network, random=machine.random)
    return metaq.aio.connect(f"metaq://{BROKER}:8123", link=LINK, outside=outside, connect_timeout=60.0)


async def started(world: World) -> FakeBroker:
    broker = FakeBroker(network=world.machine(BROKER).network, host=BROKER, port=8123)
    broker.extensions = OURS
    return await broker.start()


async def exchange(broker: FakeBroker) -> None:
    """Have another process take over, one of the other kind, and the client come back to it."""
    await broker.stop()
    broker.extensions = () if broker.extensions else OURS
    if not broker.extensions:
        broker.producers.clear()
    accepted = broker.accepted
    await asyncio.sleep(0.05)
    await broker.start()
    await until(lambda: broker.accepted > accepted)


def careless(chance: Random) -> Act:
    """Return an act that answers, or stores and keeps silent, or only keeps silent, but not twice to the same."""
    seen: set[object] = set()

    def act(peer: Peer, command: Command) -> None:
        assert isinstance(command, Mput | Put)
        what = command.body if isinstance(command, Put) else command[3:6]
        is_refused = isinstance(command, Mput) and command.sequence and not peer.broker.knows(command)
        dice = 0.0 if is_refused or what in seen else chance.random()
        seen.add(what)
        if dice < 0.6:
            behave(peer, command)
        elif dice < 0.8:
            peer.broker.mput(command) if isinstance(command, Mput) else peer.broker.put(command)

    return act


def stored(broker: FakeBroker) -> list[list[bytes]]:
    logs = [bytes(broker.logs[TopicPartition("t", number)]) for number in (0, 1)]
    return [[message.data for message in read_run("t", "0-0", 0, log, 1 << 30).messages] for log in logs]


async def day(world: World, retries: int) -> tuple[list[tuple[bytes, bool]], list[list[bytes]], list[list[bytes]]]:
    """Return each message and whether it was acknowledged, what is stored in each partition, and what was read."""
    broker, chance = await started(world), world.random_for("day")
    broker.always(Mput, careless(chance))
    broker.always(Put, careless(chance))
    read: list[list[bytes]] = [[], []]
    waited = 0
    async with connect(world) as mq:
        consumer = mq.consumer("t", group="g", start="earliest", offsets="memory")

        async def note(message: Message) -> None:
            read[int(message.partition[-1])].append(message.data)

        consuming = asyncio.ensure_future(consumer.run(note))
        producer = mq.producer("t", timeout=60.0 if retries else 4.0, retries=retries)
        sent: list[tuple[bytes, Sent]] = []
        for turn in range(EXCHANGES + 1):
            for n in range(EACH):
                data = b"%d" % (turn * EACH + n)
                sent.append((data, await producer.send_nowait(data, partition=n % 2)))
                await asyncio.sleep(chance.choice((0.0, 0.0, 0.01, 0.1)))
            waited += len(broker.polls)
            if turn < EXCHANGES:
                await exchange(broker)
        outcomes = [(data, await acknowledged(each)) for data, each in sent]
        await until(lambda: list(map(len, read)) >= list(map(len, stored(broker))), 2.0)
        await consumer.close()
        await consuming
    await broker.stop()
    assert waited, "no question ever waited while a broker went"
    return outcomes, stored(broker), read


async def acknowledged(sent: Sent) -> bool:
    try:
        await sent
    except ClientError:
        return False
    return True


@pytest.mark.parametrize("seed", range(6))
def test_nothing_acknowledged_is_missing_and_nothing_comes_twice_through_exchanges_of_the_broker(seed: int) -> None:
    with World(seed) as world:
        outcomes, logs, read = world.run(day(world, 0))
    counts = Counter(data for log in logs for data in log)
    assert set(counts.values()) == {1}
    assert not [data for data, is_stored in outcomes if is_stored and data not in counts]
    assert len({is_stored for _, is_stored in outcomes}) == 2
    assert read == logs


@pytest.mark.parametrize("seed", range(6, 10))
def test_with_retries_every_message_arrives_through_exchanges_of_the_broker(seed: int) -> None:
    with World(seed) as world:
        outcomes, logs, read = world.run(day(world, 1000))
    assert {data for log in logs for data in log} == {data for data, _ in outcomes}
    assert all(is_stored for _, is_stored in outcomes)
    assert read == logs


@pytest.mark.parametrize("becomes", [(), OURS], ids=["java", "ours"])
def test_who_waits_at_a_broker_hears_of_the_first_message_at_the_other_kind(becomes: tuple[str, ...]) -> None:
    async def scene(world: World) -> None:
        broker = await started(world)
        broker.extensions = () if becomes else OURS
        broker.append(TopicPartition("t", 0), 0, b"before")
        async with connect(world) as mq:
            reader = mq.reader("t", 0)
            assert (await anext(reader)).data == b"before"
            waiting = asyncio.ensure_future(anext(reader))
            await asyncio.sleep(20.0)
            assert bool(broker.polls) is not bool(becomes)
            await exchange(broker)
            await asyncio.sleep(1.0)
            assert bool(broker.polls) is bool(becomes)
            gets = len(broker.of(Get))
            await asyncio.sleep(10.0)
            assert (len(broker.of(Get)) == gets) is bool(becomes)
            assert not waiting.done()
            broker.append(TopicPartition("t", 0), 0, b"after")
            async with asyncio.timeout(0.6):
                assert (await waiting).data == b"after"
        await broker.stop()

    with World(1) as world:
        world.run(scene(world))
