"""Long polls in simulated time: each is answered exactly once, whatever happens, and nothing of it stays behind."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaq import app
from metaq.config.broker import parse
from metaq.model import TopicPartition
from metaq.protocol.commands import Command, Get, Mget, Result, Value, Want
from metaq.protocol.decoder import Decoder
from metaq.protocol.encoder import encode
from metaq.protocol.parts import read_parts
from metaq.store.store import MessageStore
from tests.embedding import settings as ini
from tests.simulation.test_broker import broker_of
from tests.simulation.world import World

BROKER: Final = "10.0.0.1"
PARTITIONS: Final = 3
PEERS: Final = 3
LONGEST: Final = 60.0  # seconds
LATE: Final = 0.3  # seconds that the end of a long wait may come late
MOMENT: Final = 1.0  # virtual seconds in which whatever can be done at once is done
RECORD: Final = 25
TEXT: Final = ini(
    "/srv",
    {"hostName": BROKER, "numPartitions": PARTITIONS},
    {"journalFileSize": 1 << 16, "bindAddress": BROKER},
    topics="[topic=test]\nunflushThreshold=1000\n[topic=safe]\n",
)
CONFIG: Final = parse(TEXT.encode(), "server.ini")

Step = tuple[str, int, int, int]


class Poller(asyncio.Protocol):
    """One consumer: sends polls, keeps the answers."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.sent: dict[int, tuple[Get | Mget, float]] = {}
        self.answers: dict[int, tuple[Command, float]] = {}
        self.count: Counter[int] = Counter()
        self.lost = False
        self.transport: asyncio.Transport
        self._decoder = Decoder()
        self._loop = loop

    def data_received(self, data: bytes) -> None:
        for reply in self._decoder.feed(data):
            assert isinstance(reply, Result | Value)
            self.answers[reply.opaque] = reply, self._loop.time()
            self.count[reply.opaque] += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True

    def send(self, command: Get | Mget) -> None:
        self.sent[command.opaque] = command, self._loop.time()
        self.transport.write(encode(command))

    def check(self) -> None:
        """Raise AssertionError if an answer is wrong: twice, before its time without a reason, not what was there."""
        assert set(self.count.values()) <= {1}
        assert not self.answers.keys() - self.sent.keys()


class Course:
    """A broker, some consumers, and what happens to them."""

    def __init__(self, world: World, running: app.RunningBroker) -> None:
        self.world = world
        self.running = running
        self.store: MessageStore = running.broker.store
        self.pollers: list[Poller] = []
        self.producer = Poller(world.loop)
        self.opaque = 0
        self.disturbed = False  # a partition was cut, dropped or closed: not every answer has a message now

    async def connect(self, poller: Poller) -> Poller:
        host = self.world.machine("10.0.0.2").network
        poller.transport = await host.connect(lambda: poller, BROKER, self.running.address.port)
        return poller

    def key(self, number: int) -> TopicPartition:
        return TopicPartition(("test", "safe")[number // PARTITIONS % 2], number % PARTITIONS)

    def end(self, key: TopicPartition) -> int:
        log = self.store.get(key)
        return log.visible if log is not None else 0

    async def step(self, step: Step) -> None:
        """Do one thing, and let it have its effect, or not."""
        kind, one, two, three = step
        await self.DO[kind](self, one, two, three)
        await asyncio.sleep((0, 0.001, MOMENT)[three % 3])

    async def poll(self, peer: int, number: int, wait: int) -> None:
        poller, key = self.pollers[peer % PEERS], self.key(number)
        if not poller.lost:
            self.opaque += 1
            offset = self.end(key) - (RECORD if wait % 5 == 0 and self.end(key) else 0)
            poller.send(Get(key, "g", offset, 1000, self.opaque, 1 + wait * 7919 % 70_000))

    async def poll_many(self, peer: int, number: int, wait: int) -> None:
        poller = self.pollers[peer % PEERS]
        if not poller.lost:
            self.opaque += 1
            keys = [self.key(number + more) for more in range(1 + wait % 4)]
            wants = tuple(Want(key, self.end(key), 1000) for key in keys)
            poller.send(Mget("g", wants, 5000, 1 + wait * 7919 % 70_000, self.opaque))

    async def put(self, _: int, number: int, count: int) -> None:
        key = self.key(number)
        for _ in range(1 + count % 3):
            self.opaque += 1
            self.producer.transport.write(b"put %s %d 5 0 -1 %d\r\nhello" % (key.topic.encode(), key[1], self.opaque))

    async def cut(self, _: int, number: int, back: int) -> None:
        log = self.store.get(self.key(number))
        if log is not None and log.end == log.visible and not log.held:
            self.disturbed = True
            done: asyncio.Future[object] = self.world.loop.create_future()
            self.store.cut(log, max(0, log.visible - back % 3 * RECORD), done.set_result)
            await done

    async def drop(self, _: int, number: int, __: int) -> None:
        log = self.store.get(self.key(number))
        if log is not None and log.end == log.visible and not log.held:
            self.disturbed = True
            done: asyncio.Future[object] = self.world.loop.create_future()
            self.store.drop(log, done.set_result)
            await done

    async def close(self, _: int, number: int, __: int) -> None:
        self.disturbed = True
        self.running.broker.close_partitions(self.key(number).topic, 0, number % PARTITIONS)

    async def open(self, _: int, number: int, __: int) -> None:
        self.running.broker.open_partitions(self.key(number).topic)

    async def vanish(self, peer: int, how: int, _: int) -> None:
        poller = self.pollers[peer % PEERS]
        poller.transport.resume_reading()
        if how % 2:
            poller.transport.abort()
        else:
            poller.transport.write(b"quit\r\n")
        await asyncio.sleep(MOMENT)
        poller.check()
        if not how % 2:
            assert poller.sent.keys() == poller.answers.keys()
        self.pollers[peer % PEERS] = await self.connect(Poller(self.world.loop))

    async def stall(self, peer: int, on: int, _: int) -> None:
        poller = self.pollers[peer % PEERS]
        poller.transport.resume_reading() if on % 2 else poller.transport.pause_reading()

    async def time(self, _: int, much: int, __: int) -> None:
        await asyncio.sleep(much % 100)

    DO: Final[dict[str, Callable[..., Awaitable[None]]]] = {
        "poll": poll, "poll many": poll_many, "put": put, "cut": cut, "drop": drop, "close": close, "open": open,
        "vanish": vanish, "stall": stall, "time": time,
    }  # fmt: skip

    async def settle(self) -> None:
        """Wait until every poll's time is up, and check that all were answered and nothing is left of them."""
        for poller in self.pollers:
            poller.transport.resume_reading()
        await asyncio.sleep(LONGEST + MOMENT)
        for poller in self.pollers:
            poller.check()
            assert poller.sent.keys() == poller.answers.keys()
            for opaque, (command, sent) in poller.sent.items():
                self.check_time(command, sent, *poller.answers[opaque])
        polls = self.running.broker.polls
        assert (polls.lines, len(polls.deadlines), len(polls.watching)) == (0, 0, 0)

    def check_time(self, command: Get | Mget, sent: float, answer: Command, came: float) -> None:
        """Check that a poll was not told that there is nothing before its time, nor after it."""
        nothing = isinstance(answer, Value) and not answer.data
        if isinstance(answer, Result):
            assert answer.status in ((404, 301, 403) if self.disturbed else (404,)), answer
            nothing = answer.status == 404
        elif isinstance(command, Mget):
            assert isinstance(answer, Value)
            read_parts(answer.data)
        if nothing and not self.disturbed:
            assert came - sent >= min(command.wait / 1000, LONGEST) - 0.001


async def run(world: World, steps: list[Step]) -> None:
    machine = broker_of(world)
    stop = asyncio.Event()
    ready: asyncio.Future[app.RunningBroker] = world.loop.create_future()
    broker = world.loop.create_task(app.run(CONFIG, ready=ready.set_result, stop=stop, world=machine.outside))
    course = Course(world, await ready)
    await course.connect(course.producer)
    course.pollers = [await course.connect(Poller(world.loop)) for _ in range(PEERS)]
    for step in steps:
        await course.step(step)
    await course.settle()
    key = course.key(0)
    if not course.pollers[0].lost:
        course.opaque += 1
        course.pollers[0].send(Get(key, "g", course.end(key), 1000, course.opaque, 50_000))
        await asyncio.sleep(MOMENT)
    stop.set()
    await broker
    await asyncio.sleep(MOMENT)
    assert course.pollers[0].sent.keys() == course.pollers[0].answers.keys(), "a broker that stops answers polls"


numbers = st.integers(0, 1000)
kinds = st.sampled_from(["poll"] * 4 + ["poll many"] * 3 + ["put"] * 4 + [kind for kind in Course.DO if kind != "put"])


@given(st.integers(0, 1 << 30), st.lists(st.tuples(kinds, numbers, numbers, numbers), max_size=40))
@settings(max_examples=40, deadline=None)
def test_every_poll_is_answered_once_whatever_happens(seed: int, steps: list[Step]) -> None:
    with World(seed) as world:
        world.run(run(world, steps))


@pytest.mark.soak
def test_every_poll_is_answered_once_in_100_courses() -> None:
    for seed in range(100):
        chance = Random(seed)
        kind = list(Course.DO)
        any_ = chance.randrange
        steps = [(chance.choice(kind), any_(1000), any_(1000), any_(1000)) for _ in range(80)]
        with World(seed) as world:
            world.run(run(world, steps))
