"""Consumers of one group through bad days: nothing is passed over, nothing is handled by two at a time, all settles.

Four laws, watched all the time (see `consumers.Court`): every message is handled at least once; within one ownership
those of a partition, or of a key in it, are handled in order; no two members whose sessions live handle one partition
at the same time; no offset is stored behind a message that is not handled.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import pytest

from metaq.aio import Message
from metaq.cluster.memory import MemoryRegistry
from metaq.cluster.operations import Create, Delete, State
from metaq.cluster.paths import member
from metaq.cluster.znodes import TopicBroker, decode_position, encode_topic
from metaq.model import BrokerPartition, ClusterPartition, TopicPartition
from metaq.protocol.commands import Command, Get, Offset
from metaq.record import HEADER_SIZE
from tests.client.fake_broker import OURS, FakeBroker, Peer, garbage, half_frame, hang_up, silence, status
from tests.client.test_cluster import register, withdraw
from tests.simulation.consumers import GROUP, PATHS, TIMEOUT, Court, Process, Tree, is_wanted
from tests.simulation.world import World

MOST: Final = 4  # processes at a time
PATIENCE: Final = 200.0  # seconds until all is as it should be, once it is calm


class Day:
    """Brokers, processes that come and go, and all that may happen to them."""

    def __init__(self, world: World) -> None:
        self.court = Court(world.loop.time)
        self._world = world
        self._chance = world.random_for("day")
        self._tree = Tree(self.court)
        self._registry = MemoryRegistry(self._tree)
        self._brokers = [
            FakeBroker(n, partitions=3, network=world.machine(host).network, host=host, port=8123)
            for n, host in enumerate(("10.0.0.1", "10.0.0.2"))
        ]
        self._away: set[int] = set()  # ids of brokers
        self._processes: list[Process] = []
        self._dead: list[Process] = []  # kept: what waits in them would be collected, and complain
        self._began = 0
        self._ends: list[asyncio.Task[None]] = []
        self._garbled = 0.0  # when something was last

    async def run(self, steps: int) -> None:
        await self._registry.connect()
        for broker in self._brokers:
            self._exchange(broker)
            await broker.start()
            await register(self._registry, broker)
        for _ in range(steps):
            await asyncio.sleep(self._chance.choice((0.0, 0.01, 0.1, 0.5, 2.0)))
            await self._send()
            await self._chance.choice(self._acts)()
            assert self.court.complaints == [], self.court.complaints
        await self._calm()

    @property
    def _acts(self) -> list[Callable[[], Awaitable[None]]]:
        if not self._processes:
            return [self._join]
        return [
            self._join, self._join, self._join, self._leave, self._die, self._expire, self._suspend, self._fall_silent,
            self._cut, self._part, self._go_away, self._misbehave, self._misbehave, self._garble, self._fail_offsets,
            self._retire, self._grow, self._pause,
        ]  # fmt: skip

    def _some(self) -> Process:
        return self._chance.choice(self._processes)

    def _later(self, seconds: float, act: Callable[[], Awaitable[None]]) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)
            await act()

        self._ends.append(asyncio.create_task(wait(), name="later"))

    # messages

    async def _send(self) -> None:
        for _ in range(self._chance.choice((0, 1, 1, 5, 20))):
            broker = self._chance.choice(self._brokers)
            target = TopicPartition("t", self._chance.randrange(broker.partitions))
            id, offset = broker.append(target, 0, bytes(self._chance.choice((1, 10, 10, 100, 1000))))
            log = self.court.logs[_key(broker, target)]
            log.ends.append(broker.bases[target] + len(broker.logs[target]))
            if not is_wanted(Message("t", "", offset, id, 0, b"")):
                log.handled.add(offset)

    async def _retire(self) -> None:
        """Retention takes the oldest messages of a partition."""
        broker = self._chance.choice(self._brokers)
        target = TopicPartition("t", self._chance.randrange(broker.partitions))
        log = self.court.logs[_key(broker, target)]
        wanted = [end for end in log.ends if end > log.start]
        if wanted:
            log.start = self._chance.choice(wanted)
            del broker.logs[target][: log.start - broker.bases[target]]
            broker.bases[target] = log.start

    # processes

    async def _join(self) -> None:
        if len(self._processes) < MOST:
            self._began += 1
            process = Process(self.court, self._world, self._tree, self._began)
            self._processes.append(process)
            await process.start()

    async def _leave(self) -> None:
        process = self._some()
        self._processes.remove(process)
        self._ends.append(asyncio.create_task(process.close()))

    async def _die(self) -> None:
        process = self._some()
        self._processes.remove(process)
        self._dead.append(process)
        process.die()

        async def expire() -> None:
            process.session.expire()

        self._later(TIMEOUT, expire)

    async def _pause(self) -> None:
        process = self._some()
        process.consumer.pause(None, self._chance.choice((None, 0, 1)))

        async def resume() -> None:
            process.consumer.resume()

        self._later(self._chance.choice((0.0, 0.1, 3.0)), resume)

    # ZooKeeper

    async def _expire(self) -> None:
        self._some().session.expire()

    async def _suspend(self) -> None:
        process = self._some()
        session = process.session
        seconds = self._chance.choice((0.1, 1.0, 4.5, TIMEOUT, 20.0))
        if session.state is not State.CONNECTED or session.is_slow:
            return
        session.suspend()
        if seconds >= TIMEOUT:
            self._later(TIMEOUT, _call(session.expire))

        async def resume() -> None:
            if session.state is State.SUSPENDED and not process.is_dead:
                session.resume()

        self._later(seconds, resume)

    async def _fall_silent(self) -> None:
        """The connection is dead, and nobody says so before the tree ends the session."""
        session = self._some().session
        if session.state is State.CONNECTED and not session.is_slow:
            session.is_slow = True

            async def speak() -> None:
                session.expire()
                session.is_slow = False

            self._later(TIMEOUT, speak)

    async def _fail_offsets(self) -> None:
        session = self._some().session
        session.fails_offsets = True

        async def mend() -> None:
            session.fails_offsets = False

        self._later(self._chance.choice((0.1, 1.0, 10.0)), mend)

    # brokers

    async def _cut(self) -> None:
        self._world.network.cut(self._some().name, self._chance.choice(self._brokers).host)

    async def _part(self) -> None:
        process, broker = self._some(), self._chance.choice(self._brokers)
        self._world.network.part(process.name, broker.host, one_way=self._chance.random() < 0.5)
        self._later(
            self._chance.choice((0.1, 1.0, 5.0)), _call(lambda: self._world.network.heal(process.name, broker.host))
        )

    async def _go_away(self) -> None:
        broker = self._chance.choice(self._brokers)
        if broker.broker_id in self._away:
            return
        self._away.add(broker.broker_id)
        is_known = self._chance.random() < 0.5
        if is_known:
            await withdraw(self._registry, broker)
        await broker.stop()

        async def come_back() -> None:
            self._exchange(broker)
            await broker.start()
            if is_known:
                await register(self._registry, broker)
            self._away.discard(broker.broker_id)

        self._later(self._chance.choice((0.1, 1.0, 10.0)), come_back)

    def _exchange(self, broker: FakeBroker) -> None:
        """Let it be one of ours, which may be left a question, or a Java one."""
        broker.extensions = self._chance.choice((OURS, ()))

    async def _misbehave(self) -> None:
        act = self._chance.choice([silence, garbage, half_frame, hang_up, status(500, "no"), status(403, "closed")])
        kind = self._chance.choice([Get, Get, Get, Offset])
        self._chance.choice(self._brokers).next(kind, *[act] * self._chance.randrange(1, 6))

    async def _garble(self) -> None:
        """One answer arrives with a byte that is wrong; soon after another the same could be hit twice, and count."""
        if self._world.loop.time() > self._garbled + 20.0:
            self._garbled = self._world.loop.time()
            self._chance.choice(self._brokers).next(Get, self._answer_garbled)

    def _answer_garbled(self, peer: Peer, command: Command) -> None:
        """Answer with a wrong length, checksum or body. Id and flag no checksum guards."""
        assert isinstance(command, Get)
        answer = bytearray(peer.broker.get(command))
        start = answer.index(b"\r\n") + 2
        places: list[int] = []
        while answer.startswith(b"value") and start + HEADER_SIZE <= len(answer):
            end = min(start + HEADER_SIZE + int.from_bytes(answer[start : start + 4], "big"), len(answer))
            places += [*range(start, start + 8), *range(start + HEADER_SIZE, end)]
            start = end
        if places:
            answer[self._chance.choice(places)] ^= 1 << self._chance.randrange(7)
        peer.send(bytes(answer))

    async def _grow(self) -> None:
        """A broker has one partition more."""
        broker = self._chance.choice(self._brokers)
        if broker.broker_id in self._away or broker.partitions >= 6:
            return
        broker.partitions += 1
        data = encode_topic(TopicBroker(broker.partitions, member(broker.broker_id, None)))
        path = f"{PATHS.subscribe('t')}/{member(broker.broker_id, None)}"
        await self._registry.apply([Delete(path), Create(path, data, ephemeral=True)])

    # the end

    async def _calm(self) -> None:
        await asyncio.gather(*self._ends)
        for broker in self._brokers:
            broker._once.clear()
        self._world.network.heal()
        while len(self._processes) < 2:
            await self._join()
        for process in self._processes:
            process.failing = 0.0
            process.consumer.resume()
        await self._until(lambda: all(log.wanted == log.ends[-1] for log in self.court.logs.values()), self._unhandled)
        everything = {_key(b, TopicPartition("t", n)) for b in self._brokers for n in range(b.partitions)}
        await self._until(
            lambda: sorted(each for p in self._processes for each in p.consumer.partitions) == sorted(everything),
            lambda: str({p.name: p.consumer.partitions for p in self._processes}),
        )
        await asyncio.gather(*(process.close() for process in self._processes))
        await self._inherit()
        assert self.court.complaints == [], self.court.complaints
        for broker in self._brokers:
            await broker.stop()

    async def _inherit(self) -> None:
        """A last member handles what the others had in hand; then everything is stored to its end."""
        heir = Process(self.court, self._world, self._tree, 99, "handlers")
        heir.failing = 0.0
        await heir.start()
        logs = {key: log for key, log in self.court.logs.items() if log.ends[-1] > 0}
        await self._until(
            lambda: all(
                (stream := heir.consumer._share.streams.get(key)) is not None
                and (position := stream.position()) is not None
                and position.offset == log.ends[-1]
                for key, log in logs.items()
            ),
            lambda: str({str(k): s.position() for k, s in heir.consumer._share.streams.items()}),
        )
        await heir.close()
        for key, log in logs.items():
            node = self._tree.node(PATHS.offset(GROUP, key.topic, key.partition))
            assert node is not None
            assert decode_position(node.data) is not None
            assert (decode_position(node.data) or (0, 0))[1] == log.ends[-1]

    async def _until(self, condition: Callable[[], bool], tell: Callable[[], str]) -> None:
        deadline = self._world.loop.time() + PATIENCE
        while not condition():
            assert self.court.complaints == [], self.court.complaints
            assert self._world.loop.time() < deadline, tell()
            await asyncio.sleep(0.05)

    def _unhandled(self) -> str:
        return ", ".join(
            f"{k} from {log.wanted} to {log.ends[-1]}"
            for k, log in self.court.logs.items()
            if log.wanted < log.ends[-1]
        )


def _key(broker: FakeBroker, target: TopicPartition) -> ClusterPartition:
    return ClusterPartition(target.topic, BrokerPartition(broker.broker_id, target.partition))


def _call(function: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    async def call() -> None:
        function()

    return call


def run(seed: int, steps: int) -> None:
    try:
        with World(seed) as world:
            world.run(Day(world).run(steps))
    except BaseException as exc:
        exc.add_note(f"seed {seed}")
        raise


@pytest.mark.parametrize("seed", range(8))
def test_consumers_survive_a_bad_day(seed: int) -> None:
    run(seed, 60)


def test_the_same_bad_day_is_the_same_again() -> None:
    digests = []
    for _ in range(2):
        with World(5) as world:
            world.run(Day(world).run(60))
            digests.append(world.digest())
    assert digests[0] == digests[1]


@pytest.mark.soak
@pytest.mark.parametrize("first", range(1000, 1500, 50))
def test_consumers_survive_many_bad_days(first: int) -> None:
    for seed in range(first, first + 50):
        run(seed, 120)
