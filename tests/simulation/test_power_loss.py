"""Whatever a store is asked to do, and whenever the power goes: five laws hold (design.md §2).

1. Bytes below the end never change, but by a cut, which readers see as a nearer end.
2. Offsets that were told to producers are those that recovery restores.
3. No record that was acknowledged as durable is missing.
4. No reader sees a byte that recovery could take back.
5. What a put costs does not depend on the number of partitions.

The first four are what the model of `course.py` checks, and that a batch is there whole, once, or not at all.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Coroutine
from random import Random
from typing import Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from metaq.model import TopicPartition
from metaq.store.log import PartitionLog
from tests.simulation.cuts import Cuts
from tests.simulation.world import World
from tests.unit.store.course import ALSO, FAST, SAFE, Life, Model, config, crash, opened, start_machine

KEYS: Final = st.sampled_from((SAFE, ALSO, FAST, TopicPartition("fast", 1)))
SIZES: Final = st.lists(st.sampled_from((1, 30, 100, 400, 900, 2100, 3200)), min_size=1, max_size=4)
EXAMPLES: Final = int(os.environ.get("METAQ_EXAMPLES", "60"))
SLOWER: Final = 15  # examples of other laws in the time of one of these


class BadDays(RuleBasedStateMachine):
    """A store that lives on; behind every operation a copy of it loses its power, and is opened and compared."""

    @initialize(
        seed=st.integers(0, 1 << 30),
        journal=st.sampled_from((5000, 8192, 20_000)),
        segment=st.sampled_from((300, 2000, 9000)),
        files=st.sampled_from((1, 3, 100)),
    )
    def start(self, seed: int, journal: int, segment: int, files: int) -> None:
        self.seed = seed
        self.world = World(seed)
        self.chance = Random(seed)
        small = config(journal_file_size=journal, max_segment_size=segment, open_files=files)
        self.life = Life(start_machine(self.world), Model(), small)
        self.cuts = Cuts(self.life)
        self.beside: asyncio.Future[None] | None = None
        self.dead: list[object] = []  # of processes that ended: no garbage while the world goes on
        self.do(self.open())

    def do(self, step: Coroutine[object, None, None]) -> None:
        """Do one step, and lose the power at each operation in it."""
        self.world.run(step)
        self.cuts.check(self.seed, kills=4)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.close()

    @rule(key=KEYS, sizes=SIZES, wait=st.booleans())
    def put(self, key: TopicPartition, sizes: list[int], wait: bool) -> None:
        async def step() -> None:
            self.life.put(key, *sizes)
            await (self.life.settle() if wait else asyncio.sleep(0.0005))

        self.do(step())

    @rule(key=KEYS, sizes=SIZES, producer=st.sampled_from((5, 6)), epoch=st.sampled_from((0, 0, 1)))
    def send_batches(self, key: TopicPartition, sizes: list[int], producer: int, epoch: int) -> None:
        async def step() -> None:
            await self.life.settle()
            self.life.batch(key, producer, *sizes, epoch=epoch)
            self.life.batch(key, producer, *sizes[:2], epoch=epoch)
            await asyncio.sleep(0.0005)

        self.do(step())

    @rule(key=KEYS, limit=st.sampled_from((100, 2000, 9000)))
    def roll(self, key: TopicPartition, limit: int) -> None:
        """Let segments be left sooner, or later."""
        log = self.life.store.get(key)
        if log is not None and not log.held:
            log.set_limit(limit)

    @rule(wait=st.booleans())
    def checkpoint(self, wait: bool) -> None:
        """Make one, or begin one, so that it goes on beside what follows."""

        async def step() -> None:
            await self.wait_beside()
            self.beside = asyncio.ensure_future(self.life.checkpoint())
            await (self.wait_beside() if wait else asyncio.sleep(0.001))

        self.do(step())

    @rule()
    def move(self) -> None:
        async def step() -> None:
            await self.wait_beside()
            await self.life.store.mover.move_all()

        self.do(step())

    @rule(key=KEYS)
    def retire(self, key: TopicPartition) -> None:
        async def step() -> None:
            await self.wait_beside()
            log = self.life.store.get(key)
            if log is not None:
                self.life.model.of(key).retires = True
                await self.life.store.housekeeping.retire_log(log, self.life.machine.clock.time() + 1e7)

        self.do(step())

    @rule(key=KEYS, where=st.randoms(use_true_random=False))
    def cut(self, key: TopicPartition, where: Random) -> None:
        """Cut where a record begins."""

        async def step() -> None:
            log = await self.quiet(key)
            offsets = [put.offset for put in self.life.model.of(key).puts if log and put.offset >= log.start]
            if offsets:
                await self.life.cut(key, where.choice(offsets))

        self.do(step())

    @rule(key=KEYS)
    def drop(self, key: TopicPartition) -> None:
        async def step() -> None:
            if await self.quiet(key) is not None:
                await self.life.drop(key)
                self.life.model.of(key).retires = False

        self.do(step())

    @rule()
    def read(self) -> None:
        self.do(self.life.look())

    @rule()
    def sync_behind_the_scenes(self) -> None:
        async def step() -> None:
            self.life.store.sync_now()
            await asyncio.sleep(0.001)

        self.do(step())

    @rule()
    def stop_and_start(self) -> None:
        async def step() -> None:
            await self.wait_beside()
            await self.life.close()
            await self.open()

        self.do(step())

    @precondition(lambda self: self.life.machine.disk.operations > 0)
    @rule(power=st.booleans())
    def crash(self, power: bool) -> None:
        """What the other rules do with copies happens to the store itself."""
        self.dead += [self.beside, self.life.store]
        self.beside = None
        crash(self.life.machine, self.life.model, power=power)
        self.do(self.open())

    async def open(self) -> None:
        self.life.open()
        await self.life.check()

    async def quiet(self, key: TopicPartition) -> PartitionLog | None:
        """Return a log nothing of which is on its way."""
        await self.life.settle()
        await self.wait_beside()
        return self.life.store.get(key)

    async def wait_beside(self) -> None:
        beside, self.beside = self.beside, None
        if beside is not None:
            await beside


TestBadDays = BadDays.TestCase
TestBadDays.settings = settings(
    max_examples=max(4, EXAMPLES // SLOWER),
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def calls_of_a_put(partitions: int) -> Counter[str]:
    """Return what the disk is asked to do for one put that syncs, in a store with so many partitions."""
    with opened(config(journal_file_size=1 << 20)) as (world, life):

        async def course() -> None:
            life.open()
            for number in range(partitions):
                life.put(TopicPartition("safe", number), 30)
            await life.settle()
            await life.checkpoint()
            life.machine.disk.log.clear()
            life.put(SAFE, 100)
            await life.settle()

        world.run(course())
        return Counter(f"{call.name} {call.path}" for call in life.machine.disk.log)


def test_what_a_put_costs_does_not_depend_on_the_number_of_partitions() -> None:
    few, many = calls_of_a_put(2), calls_of_a_put(200)
    assert few == many
    assert few.total() == 2, "one write, and one sync"
