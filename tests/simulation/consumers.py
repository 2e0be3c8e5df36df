"""Consumers of one group in a simulated world, and a court that sees every message handled and every offset stored."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Final, Literal, TypeAlias

import metaq.aio
from metaq.aio import Consumer, Message
from metaq.client.connect import Outside
from metaq.client.consuming.groups import Host
from metaq.client.consuming.options import ConsumerKeywords
from metaq.cluster.memory import MemoryRegistry, MemoryTree
from metaq.cluster.operations import Create, Node, Operation, Set
from metaq.cluster.paths import Paths
from metaq.cluster.ports import Changed
from metaq.cluster.znodes import decode_partition, decode_position
from metaq.errors import RegistryError
from metaq.model import BrokerPartition, ClusterPartition
from metaq.net.link import LinkOptions
from tests.simulation.world import World

Way: TypeAlias = Literal["one by one", "batches", "mixed", "handlers", "keys"]

WAYS: Final[tuple[Way, ...]] = ("one by one", "batches", "mixed", "handlers", "keys")
PATHS: Final = Paths("/meta")
GROUP: Final = "g"
TIMEOUT: Final = 6.0  # seconds a session lives without a word
LONGEST: Final = 1.0  # seconds a message is handled
KEYS: Final = 3
LINK: Final = LinkOptions(connect_timeout=2.0, heartbeat_idle=1.0, heartbeat_timeout=0.5, longest_delay=1.0)
OPTIONS: Final = ConsumerKeywords(
    commit_every=0.5, release_timeout=20.0, timeout=1.5, first_backoff=0.05, longest_backoff=0.5,
    longest_delay=0.2, prefetch=1500, max_size=300, sync_time=1e5, recover_path="/recover",
)  # fmt: skip


def is_wanted(message: Message) -> bool:
    """What the filter of all members lets pass."""
    return message.id % 11 != 0


@dataclass(slots=True)
class Log:
    """What the court knows of one partition."""

    ends: list[int] = field(default_factory=lambda: [0])  # where messages end; the first begins at 0
    start: int = 0  # what is before was taken by retention
    handled: set[int] = field(default_factory=set)  # offsets
    handling: "dict[Life, set[int]]" = field(default_factory=dict)  # by whom, now

    @property
    def wanted(self) -> int:
        """Return the first offset of a message that is not handled and not gone; the end if there is none."""
        return next((at for at in self.ends[:-1] if at >= self.start and at not in self.handled), self.ends[-1])


class Court:
    """Complains when the laws of consuming are broken."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.logs: dict[ClusterPartition, Log] = defaultdict(Log)
        self.complaints: list[str] = []
        self._now = now

    def complain(self, text: str) -> None:
        self.complaints.append(f"{self._now():.3f} {text}")

    def stored(self, path: str, data: bytes | None) -> None:
        """An offset is written."""
        topic, _, name = path.removeprefix(f"{PATHS.group(GROUP)}/offsets/").partition("/")
        partition, position = decode_partition(name), decode_position(data)
        if partition is None or position is None:
            return
        key = ClusterPartition(topic, partition)
        if position.offset > self.logs[key].wanted:
            self.complain(f"{key}: stored {position.offset}, not handled is {self.logs[key].wanted}")
        if position.offset not in self.logs[key].ends:
            self.complain(f"{key}: stored {position.offset}, where no message begins")

    def begins(self, life: "Life", key: ClusterPartition, offset: int) -> None:
        log = self.logs[key]
        for other, offsets in log.handling.items():
            if other is not life and offsets and other.lives and life.lives:
                self.complain(f"{key}: {life} handles {offset} while {other} handles {sorted(offsets)}")
        log.handling.setdefault(life, set()).add(offset)

    def forget(self, process: "Process") -> None:
        """What a process handles now may be handled by another at the same time."""
        for log in self.logs.values():
            for life in [life for life in log.handling if life.who is process]:
                del log.handling[life]

    def ends(self, life: "Life", key: ClusterPartition, offset: int, *, handled: bool) -> None:
        log = self.logs[key]
        log.handling.get(life, set()).discard(offset)
        if handled:
            log.handled.add(offset)


class Tree(MemoryTree):
    """A tree whose offsets the court sees."""

    def __init__(self, court: Court) -> None:
        super().__init__()
        self._court = court

    def apply(self, operation: Operation, session: int) -> None:
        super().apply(operation, session)
        if isinstance(operation, Create | Set) and "/offsets/" in operation.path:
            self._court.stored(operation.path, operation.data)


class Session(MemoryRegistry):
    """A way to the tree that can be slow, and on which offsets may not be had."""

    def __init__(self, tree: MemoryTree, chance: Random) -> None:
        super().__init__(tree, delay=self._lag, session_timeout=TIMEOUT)
        self.is_slow = False
        self.fails_offsets = False
        self._chance = chance

    def _lag(self) -> float:
        return TIMEOUT * 1.5 if self.is_slow else self._chance.choice((0.0, 0.0, 0.001, 0.01))

    def lives(self, session: int) -> bool:
        """Return whether the tree still has this session."""
        return self._alive == session != 0

    async def get(self, path: str, changed: Changed | None = None) -> Node | None:
        self._check(path)
        return await super().get(path, changed)

    async def apply(self, operations: Sequence[Operation], *, session: int = 0) -> list[RegistryError | None]:
        for each in operations:
            self._check(each.path)
        return await super().apply(operations, session=session)

    def _check(self, path: str) -> None:
        if self.fails_offsets and "/offsets/" in path:
            raise RegistryError("no offsets today")


@dataclass(eq=False, slots=True)
class Life:
    """One ownership of one partition: from a taking on until it is given back or lost."""

    who: "Process"
    session: int
    reached: dict[int, int] = field(default_factory=dict)  # by key, the offset of the last message that was begun

    def __repr__(self) -> str:
        return f"{self.who.name} ({self.session:#x})"

    @property
    def lives(self) -> bool:
        return not self.who.is_dead and self.who.session.lives(self.session)


class Process:
    """A client with one consumer of the group, on a machine of its own."""

    def __init__(self, court: Court, world: World, tree: MemoryTree, number: int, way: Way | None = None) -> None:
        self.name = f"10.0.1.{number}"
        self.chance = world.random_for(f"process {number}")
        self.session = Session(tree, self.chance)
        self.is_dead = False
        self.way: Way = self.chance.choice(WAYS) if way is None else way
        self.failing = self.chance.choice((0.0, 0.05, 0.3))
        self.slowness = self.chance.choice((0.0, 0.0, 0.02, LONGEST))
        self._options: ConsumerKeywords = {
            **OPTIONS,
            "filter": is_wanted,
            "skip_duplicates": self.chance.choice((0, 0, 20)),
            "retries": self.chance.choice((1, 1 << 30)),
            "reject": self._reject,
            "ack": self.chance.choice(("auto", "manual")) if self.way == "one by one" else "auto",
        }
        self.consumer: Consumer
        self._machine = world.machine(self.name)
        self._court = court
        self._world = world
        self._lives: dict[ClusterPartition, Life] = {}
        self._task: asyncio.Task[None] | None = None
        self._is_leaving = False
        self._is_handling = False

    async def start(self) -> None:
        outside = Outside(
            network=self._machine.network, random=self._machine.random, session=lambda _: self.session,
            files=self._machine.disk, threads=lambda: self._machine.threads,
            host=Host(address=lambda: self.name, pid=1),
        )  # fmt: skip
        self._mq = metaq.aio.connect("zk://zk/meta", link=LINK, outside=outside, connect_timeout=600.0, timeout=60.0)
        await self._mq.open()
        self.consumer = self._mq.consumer("t", group=GROUP, **self._options)
        self._watch()
        self._task = asyncio.create_task(self._consume(), name=f"consume {self.name}")

    async def close(self) -> None:
        """End in order. Who iterates may leave his loop first; if not, his message may come to another at once."""
        assert self._task is not None
        if self.way not in ("handlers", "keys"):
            if self.chance.random() < 0.5:
                self._is_leaving = True
                while self._is_handling:
                    await asyncio.sleep(0.01)
                self._task.cancel()
            else:
                self._court.forget(self)
        await self.consumer.close()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()
        await self._mq.close()

    def die(self) -> None:
        """End without a word; the tree ends the session in time."""
        self.is_dead = True
        if self._task is not None:
            self._task.cancel()
        self.session.suspend()
        self._world.network.crash(self.name, power=True)
        self._court.forget(self)

    def _watch(self) -> None:
        """Note when partitions change hands."""
        share = self.consumer._share
        take, give = share.take, share.give

        async def take_and_tell(partitions: Sequence[ClusterPartition]) -> None:
            await take(partitions)
            for each in partitions:
                self._lives[each] = Life(self, self.session._session)

        async def give_and_tell(partitions: Sequence[ClusterPartition]) -> None:
            await give(partitions)
            for each in partitions:
                self._lives.pop(each, None)

        share.take, share.give = take_and_tell, give_and_tell  # type: ignore[method-assign]

    async def _consume(self) -> None:
        ways = {
            "one by one": [self._iterate],
            "batches": [self._take_batch],
            "mixed": [self._iterate, self._take_batch],
        }
        try:
            while not (self.consumer.is_closed or self._is_leaving):
                with suppress(RegistryError):  # not a member in time, on a day like this: the user tries again
                    await self.chance.choice(ways.get(self.way, [self._run]))()
        except asyncio.CancelledError:
            if not self.is_dead:
                raise

    async def _iterate(self) -> None:
        left = self.chance.randrange(1, 60)  # then the loop is left, and entered again
        async for message in self.consumer:
            await self._handle(message)
            if not self.consumer.acks_itself and self.chance.random() < 0.7:
                self.consumer.ack(message)
            left -= 1
            if not left or self._is_leaving:
                break

    async def _take_batch(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self.chance.choice((0.01, 0.1, 5.0, 60.0))):
                batch = await self.consumer.batch(self.chance.randrange(1, 20), self.chance.choice((0.0, 0.05, 1.0)))
            await asyncio.gather(*(self._handle(message) for message in batch))

    async def _run(self) -> None:
        key = (lambda m: m.id % KEYS) if self.way == "keys" else None

        async def handle(message: Message) -> None:
            if self.chance.random() < self.failing:
                await asyncio.sleep(self.slowness / 3 * self.chance.random())
                raise ValueError("not this time")
            await self._handle(message)

        try:
            async with asyncio.timeout(self.chance.choice((None, 0.5, 5.0))):  # then it is cancelled, and run again
                await self.consumer.run(handle, concurrency=self.chance.randrange(1, 4), key=key)
        except TimeoutError:
            for life in self._lives.values():
                life.reached.clear()

    async def _reject(self, message: Message, error: BaseException) -> None:
        await asyncio.sleep(0.1 * self.chance.random())
        if self.chance.random() < 0.3:
            raise OSError("nowhere to put it")
        if not self.is_dead:
            self._court.logs[_key(message)].handled.add(message.offset)

    async def _handle(self, message: Message) -> None:
        key = _key(message)
        life = self._lives.get(key) or Life(self, self.session._session)
        lane = message.id % KEYS if self.way == "keys" else 0
        before = life.reached.get(lane, -1)
        if message.offset <= before:
            self._court.complain(f"{key}: {life} handles {message.offset} after {before}")
        life.reached[lane] = message.offset
        self._court.begins(life, key, message.offset)
        done, self._is_handling = False, True
        try:
            await asyncio.sleep(self.slowness * self.chance.random())
            done = True
        finally:
            self._is_handling = False
            self._court.ends(life, key, message.offset, handled=done and not self.is_dead)


def _key(message: Message) -> ClusterPartition:
    broker, number = map(int, message.partition.split("-"))
    return ClusterPartition(message.topic, BrokerPartition(broker, number))
