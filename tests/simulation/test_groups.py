"""Bad days of a consumer group, from seeds: members come, go, die, fall silent; brokers and topics change under them.

At no time is a partition consumed by two members, unless the session of one was ended behind its back and it has not
heard of it yet. When it is calm again each has exactly its share, and nothing is left over in the tree. Members never
try again by themselves here: whoever waits for a partition must be woken by what happens.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import Final

import pytest

from metaq.cluster.assignment import Strategy
from metaq.cluster.memory import MemoryRegistry, MemoryTree
from metaq.cluster.operations import State
from metaq.errors import RegistryError
from metaq.model import BrokerPartition
from tests.cluster.court import PATHS, Court, Member, offer, options, owners, settled
from tests.simulation.world import World

TIMEOUT: Final = 6.0  # seconds a session lives without a word
FOREVER: Final = 1e6  # seconds
NAMES: Final = ("a", "b", "c", "d", "e")  # few, so that members meet their predecessors
TOPICS: Final = ("t", "u", "v")
SUBSCRIPTIONS: Final = (("t",), ("t", "u"), ("u",), ("t", "u", "v"))


class Process:
    """One member, and its way to the tree, which can be slow or cut."""

    def __init__(self, tree: MemoryTree, court: Court, chance: Random, strategy: Strategy) -> None:
        self.slow = False
        self.failing = 0.0  # how often taking or giving fails
        self.registry = MemoryRegistry(tree, delay=self._delay, session_timeout=TIMEOUT)
        self.ends: list[asyncio.Task[None]] = []
        self._chance = chance
        self._court = court
        self._strategy = strategy

    def be(self, name: str) -> None:
        """Become the member of this name."""
        subscribed = self._chance.choice(SUBSCRIPTIONS)
        chosen = options(name, *subscribed, strategy=self._strategy, sync_time=FOREVER, timeout=FOREVER)
        self.member = Member(self._court, self.registry, chosen)
        self.member.party.taking = self.member.party.giving = self._work

    async def start(self) -> None:
        await self.registry.connect()
        self.joining = asyncio.create_task(self.member.membership.join())

    async def end(self) -> None:
        self.joining.cancel()
        await asyncio.gather(self.joining, return_exceptions=True)
        await self.member.membership.leave()
        assert self.member.party.has == set()
        await self.registry.close()

    async def die(self) -> None:
        """End at once: nobody hears of it, and the tree ends the session when its time is over."""
        self.registry.suspend()
        self.member.party.taking = lambda _: asyncio.sleep(FOREVER)
        self.member.party.die()
        await asyncio.sleep(TIMEOUT)
        self.registry.expire()
        await self.end()

    async def be_cut(self, seconds: float) -> None:
        """Lose the connection for some time; the tree ends the session if that is too long."""
        self.registry.suspend()
        await asyncio.sleep(min(seconds, TIMEOUT))
        if seconds >= TIMEOUT and self.registry.state is State.SUSPENDED:
            self.registry.expire()
            await asyncio.sleep(seconds - TIMEOUT)
        if self.registry.state is State.SUSPENDED and not self.member.party.dead:
            self.registry.resume()

    async def fall_silent(self) -> None:
        """Have a connection that is dead without anybody noticing, until the tree ends the session."""
        self.slow = True
        await asyncio.sleep(TIMEOUT)
        self.registry.expire()
        self.slow = False

    async def subscribe(self) -> None:
        topics = self._chance.choice(SUBSCRIPTIONS)
        self.member.subscribe(*topics)
        with suppress(RegistryError):  # it leaves meanwhile
            await self.member.membership.update_topics(topics)

    def _delay(self) -> float:
        return TIMEOUT * 1.5 if self.slow else self._chance.choice((0.0, 0.0, 0.01, 0.05))

    async def _work(self, _: object) -> None:
        await asyncio.sleep(self._chance.choice((0.0, 0.0, 0.1, 1.0)))
        if self._chance.random() < self.failing:
            raise RegistryError("no offsets today")


class BadDay:
    """One group, and what happens to it."""

    def __init__(self, seed: int) -> None:
        self._chance = Random(seed)
        self._strategy: Strategy = self._chance.choice(("default", "consistent"))
        self._tree = MemoryTree()
        self._court = Court()
        self._broker = MemoryRegistry(self._tree)
        self._offered: dict[tuple[int, str], int] = {}
        self._processes: dict[str, Process] = {}
        self._under_way: list[asyncio.Task[None]] = []

    async def run(self, steps: int) -> None:
        await self._broker.connect()
        for topic in TOPICS:
            await self._offer(0, topic, 5)
        for _ in range(steps):
            await asyncio.sleep(self._chance.choice((0.0, 0.01, 0.1, 1.0, 5.0)))
            await self._act()
        await self._come_to_rest()

    async def _act(self) -> None:
        if len(self._processes) < 2:
            await self._join()
            return
        acts: list[Callable[[], Awaitable[None]]] = [self._join, self._join, self._leave, self._die, self._expire]
        acts += [self._cut, self._silence, self._change_topic, self._subscribe, self._fail, self._litter]
        await self._chance.choice(acts)()

    def _start(self, deed: Awaitable[None]) -> None:
        self._under_way.append(asyncio.ensure_future(deed))

    def _some(self) -> Process:
        return self._processes[self._chance.choice(sorted(self._processes))]

    def _pop(self) -> Process:
        return self._processes.pop(self._chance.choice(sorted(self._processes)))

    async def _join(self) -> None:
        free = [name for name in NAMES if name not in self._processes]
        if free:
            process = Process(self._tree, self._court, self._chance, self._strategy)
            name = self._chance.choice(free)
            process.be(name)
            self._processes[name] = process
            await process.start()

    async def _leave(self) -> None:
        self._start(self._pop().end())

    async def _die(self) -> None:
        self._start(self._pop().die())

    async def _expire(self) -> None:
        """The session ends in the middle of things: who has it hears of that a moment later."""
        process = self._some()
        if process.registry.state is State.CONNECTED:
            self._court.excuse(process.registry.session)
            process.registry.expire()

    async def _cut(self) -> None:
        process = self._some()
        if process.registry.state is State.CONNECTED and not process.slow:
            self._start(process.be_cut(self._chance.choice((0.1, 1.0, 4.0, TIMEOUT, 20.0))))

    async def _silence(self) -> None:
        process = self._some()
        if process.registry.state is State.CONNECTED and not process.slow:
            self._start(process.fall_silent())

    async def _subscribe(self) -> None:
        self._start(self._some().subscribe())

    async def _fail(self) -> None:
        self._some().failing = self._chance.choice((0.0, 0.1, 0.5, 1.0))

    async def _change_topic(self) -> None:
        await self._offer(self._chance.randrange(3), self._chance.choice(TOPICS), self._chance.choice((0, 1, 4, 12)))

    async def _offer(self, broker: int, topic: str, count: int) -> None:
        self._offered[broker, topic] = count
        await offer(self._broker, count, topic, broker)

    async def _litter(self) -> None:
        """Somebody's tool leaves an owner node that ends with no session."""
        partition = BrokerPartition(0, self._chance.randrange(5))
        path = PATHS.owner("g", self._chance.choice(TOPICS), partition)
        with suppress(RegistryError):  # it is somebody's
            await self._broker.create(path, self._chance.choice((b"nobody", b"", b"\xff")))

    async def _come_to_rest(self) -> None:
        processes = list(self._processes.values())
        for process in processes:
            process.failing = 0.0
        await asyncio.gather(*self._under_way)
        await asyncio.gather(*(process.joining for process in processes))
        members = [process.member for process in processes]
        offered = {
            topic: [f"{broker}-{n}" for (broker, each), count in self._offered.items() if each == topic
                    for n in range(count)]
            for topic in TOPICS
        }  # fmt: skip
        await settled(members, offered, 60.0)
        async with asyncio.timeout(60.0):  # somebody may have claims yet that nobody consumes
            while not all([await self._owned_in_the_tree(topic, members) for topic in TOPICS]):
                await asyncio.sleep(0.1)
        assert self._court.complaints == []
        await asyncio.gather(*(process.end() for process in processes))
        assert self._tree.children(PATHS.group_ids("g")) == []

    async def _owned_in_the_tree(self, topic: str, members: list[Member]) -> bool:
        expected = {
            str(each.partition): (member.options.name, member.registry.session)
            for member in members
            for each in member.membership.owned
            if each.topic == topic
        }
        found = await owners(self._broker, topic)  # litter that is in nobody's way may lie
        return {text: owner for text, owner in found.items() if owner[1] or text in expected} == expected


def run(seed: int, steps: int) -> None:
    with World(seed) as world:
        world.run(BadDay(seed).run(steps))


@pytest.mark.parametrize("seed", range(16))
def test_a_group_survives_a_bad_day(seed: int) -> None:
    run(seed, 60)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(1000, 2000, 100))
def test_a_group_survives_many_bad_days(first: int) -> None:
    for seed in range(first, first + 100):
        try:
            run(seed, 150)
        except BaseException as exc:
            exc.add_note(f"seed {seed}")
            raise


def test_the_same_bad_day_is_the_same_again() -> None:
    logs = []
    for _ in range(2):
        with World(7) as world:
            day = BadDay(7)
            world.run(day.run(60))
            logs.append((world.loop.time(), day._tree.log))
    assert logs[0] == logs[1]
