"""Producers with a spool through bad days: brokers away, partitions closed, refusals, crashes and power losses.

The law of the ordered producer: every message arrives, and no message arrives for the first time after one that was
sent later to its partition. That of the one-way producer: what was flushed arrives.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random

import pytest

import metaq.aio
from metaq.aio import SpoolLimits
from metaq.client.connect import Outside
from metaq.client.message import read_run
from metaq.model import TopicPartition
from metaq.net.link import LinkOptions
from metaq.protocol.commands import Put
from tests.client.fake_broker import FakeBroker, hang_up, silence, status
from tests.simulation.disk import PowerLoss
from tests.simulation.world import Machine, World

BROKERS, CLIENT = ("10.0.0.1", "10.0.0.2"), "10.0.0.9"
PARTITIONS = ("0-0", "0-1", "1-0", "1-1")
URL = "metaq://10.0.0.1:8123,10.0.0.2:8123"
LINK = LinkOptions(connect_timeout=2.0, heartbeat_idle=1.0, heartbeat_timeout=0.5, longest_delay=1.0)
LIMITS = SpoolLimits(segment=500)


class Killed(BaseException):
    """The process of the client has ended."""


class Day:
    """Two brokers and one client machine, on which one process follows the other."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random = world.random_for("day")
        self.machine: Machine = world.machine(CLIENT)
        self.brokers = [
            FakeBroker(n, network=world.machine(host).network, host=host, port=8123) for n, host in enumerate(BROKERS)
        ]
        self.sent = dict.fromkeys(PARTITIONS, 0)  # how many each partition was sent, and has told so
        self.flushed: set[bytes] = set()
        self.number = 0
        self.dead: list[asyncio.Task[object]] = []  # what is left of processes that have ended, and never ends

    def connect(self) -> metaq.aio.MessageQueue:
        outside = Outside(
            network=self.machine.network,
            random=self.machine.random,
            files=self.machine.disk,
            threads=lambda: self.machine.threads,
        )
        return metaq.aio.connect(URL, link=LINK, outside=outside, connect_timeout=60.0)

    def arrived(self, partition: str) -> list[bytes]:
        """Return the messages of a partition, each where it arrived first."""
        broker, number = map(int, partition.split("-"))
        log = bytes(self.brokers[broker].logs[TopicPartition("t", number)])
        return list(dict.fromkeys(m.data for m in read_run("t", partition, 0, log, 1 << 20).messages))

    async def trouble(self) -> None:
        """Make trouble until cancelled."""
        chance = self.random
        while True:
            await asyncio.sleep(chance.uniform(0.01, 0.5))
            broker = chance.choice(self.brokers)
            length = chance.choice((0.05, 0.5, 5.0))
            match chance.randrange(6):
                case 0:
                    self.world.network.cut(CLIENT, broker.host)
                case 1:
                    self.world.network.part(CLIENT, broker.host, one_way=chance.random() < 0.5)
                    await asyncio.sleep(length)
                    self.world.network.heal()
                case 2:
                    await broker.stop()
                    await asyncio.sleep(length)
                    await broker.start()
                case 3:
                    broker.closed.add(TopicPartition("t", chance.randrange(2)))
                    await asyncio.sleep(length)
                    broker.closed.clear()
                case 4:
                    broker.next(Put, *[status(500, "disk full")] * chance.randrange(1, 5))
                case 5:
                    broker.next(Put, chance.choice((silence, hang_up)))

    async def mend(self) -> None:
        self.world.network.heal()
        for broker in self.brokers:
            broker.closed.clear()
            broker._once.clear()
            await broker.stop()
            await broker.start()

    async def live(self, work: Callable[[metaq.aio.MessageQueue], Awaitable[None]], lifetime: float) -> None:
        """Run the process until it is killed; it closes nothing."""
        await self.mend()
        mq = await self.connect()
        tasks = [asyncio.ensure_future(work(mq)), asyncio.ensure_future(self.trouble())]
        await asyncio.wait(tasks, timeout=lifetime, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                await task
        self.machine.crash(power=self.random.random() < 0.5)
        raise Killed

    def play(self, work: Callable[[metaq.aio.MessageQueue], Awaitable[None]], lives: int) -> None:
        """Let processes live and die."""
        for _ in range(lives):
            if self.random.random() < 0.5:
                self.machine.disk.crash_at(self.machine.disk.operations + self.random.randrange(1, 200))
            try:
                self.world.run(self.live(work, self.random.uniform(1.0, 30.0)))
            except PowerLoss:
                self.machine.crash(power=self.random.random() < 0.5)
            except Killed:
                pass
            self.dead += asyncio.all_tasks(self.world.loop)


async def ordered(mq: metaq.aio.MessageQueue) -> metaq.aio.OrderedProducer:
    return await mq.ordered_producer("t", layout="0:2;1:2", spool="/spool", timeout=2.0, retry=0.5, limits=LIMITS)


async def send_in_order(day: Day, mq: metaq.aio.MessageQueue) -> None:
    """Send to all partitions, in each one message after the other, several at a time now and then."""
    producer = await ordered(mq)

    async def send(partition: str, chance: Random) -> None:
        while True:
            number = chance.choice((1, 1, 5))
            first = day.sent[partition]
            await producer.send_many([b"%d" % (first + n) for n in range(number)], partition=partition)
            day.sent[partition] += number
            await asyncio.sleep(chance.choice((0.0, 0.01, 0.3)))

    await asyncio.gather(*(send(partition, Random(day.random.random())) for partition in PARTITIONS))


async def finish_in_order(day: Day) -> None:
    await day.mend()
    async with day.connect() as mq:
        producer = await ordered(mq)
        for partition in PARTITIONS:
            await producer.send(b"last", partition=partition)
        assert await producer.drain(600.0)
        assert producer.waiting == {}


def ordered_day(seed: int, lives: int = 3) -> tuple[int, int]:
    """Return how many messages were sent, and a number that tells this course from others."""
    with World(seed) as world:
        day = Day(world)
        day.play(lambda mq: send_in_order(day, mq), lives)
        world.run(finish_in_order(day))
        for partition, number in day.sent.items():
            arrived = day.arrived(partition)
            assert arrived[-1] == b"last"
            # what was not told to have been sent when the process ended may have arrived, too
            assert arrived[:-1] == [b"%d" % n for n in range(len(arrived) - 1)]
            assert len(arrived) - 1 >= number
        return sum(day.sent.values()), world.digest()


@pytest.mark.parametrize("seed", range(4))
def test_every_message_arrives_and_none_overtakes_another(seed: int) -> None:
    assert ordered_day(seed)[0] > 0


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(4, 500))
def test_on_many_days_every_message_arrives_and_none_overtakes_another(seed: int) -> None:
    ordered_day(seed)


def test_one_seed_is_one_course_of_events() -> None:
    assert ordered_day(100, 2) == ordered_day(100, 2)


async def send_one_way(day: Day, mq: metaq.aio.MessageQueue) -> None:
    producer = await mq.one_way_producer(
        "t", spool="/spool", window=50, timeout=2.0, retry=0.5, patience=0.3, limits=LIMITS
    )
    while True:
        taken = []
        for _ in range(day.random.choice((1, 10, 100))):
            day.number += 1
            taken.append(b"%d" % day.number)
            await producer.send(taken[-1], partition=day.random.choice((None, None, *PARTITIONS)))
        with suppress(TimeoutError):
            async with asyncio.timeout(day.random.choice((0.1, 100.0))):
                await producer.flush()
                day.flushed.update(taken)
        assert producer.dropped == 0
        await asyncio.sleep(day.random.choice((0.0, 0.1)))


async def finish_one_way(day: Day) -> None:
    await day.mend()
    async with day.connect() as mq:
        producer = await mq.one_way_producer("t", spool="/spool", timeout=2.0, retry=0.5)
        assert await producer.drain(600.0)


def one_way_day(seed: int) -> None:
    with World(seed) as world:
        day = Day(world)
        day.play(lambda mq: send_one_way(day, mq), 3)
        world.run(finish_one_way(day))
        arrived = {body for partition in PARTITIONS for body in day.arrived(partition)}
        assert day.flushed <= arrived
        assert arrived <= {b"%d" % n for n in range(1, day.number + 1)}
        assert day.flushed


@pytest.mark.parametrize("seed", range(2))
def test_what_was_flushed_arrives(seed: int) -> None:
    one_way_day(seed)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(2, 500))
def test_on_many_days_what_was_flushed_arrives(seed: int) -> None:
    one_way_day(seed)


def test_in_a_partition_that_is_well_a_message_costs_one_put_and_nothing_on_disk() -> None:
    with World(7) as world:
        day = Day(world)

        async def work() -> None:
            await day.mend()
            async with day.connect() as mq:
                producer = await ordered(mq)
                await producer.send_many([b"%d" % n for n in range(50)], partition="1-1")
                assert (producer.sent, producer.spooled) == (50, 0)

        world.run(work())
        assert day.arrived("1-1") == [b"%d" % n for n in range(50)]
        assert len(day.brokers[1].of(Put)) == 50
