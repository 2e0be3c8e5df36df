"""Bad days by chance: puts, copies, ends of logs, checkpoints, retention and stops in any order, with crashes in each.

The checker is that of test_store_recovery.py. A failure names its seed; METAQ_SEED repeats it alone.
"""

import asyncio
from collections.abc import Coroutine
from random import Random
from typing import Final

import pytest

from metaq.model import TopicPartition
from tests.faults.seeds import try_seeds
from tests.simulation.world import World
from tests.unit.store.course import (
    ALSO,
    FAST,
    SAFE,
    Life,
    Model,
    check_kept,
    config,
    crash,
    recover,
    run_until,
    start_machine,
)

KEYS: Final = (SAFE, ALSO, FAST, TopicPartition("fast", 1))
SIZES: Final = (1, 30, 100, 400, 900, 2100, 3200)


class Day:
    """One process's day: things happen until the last of them, or until the process ends."""

    def __init__(self, life: Life, chance: Random) -> None:
        self.life = life
        self.chance = chance
        self.beside: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Open, do some things, and perhaps stop in order."""
        life, chance = self.life, self.chance
        life.open()
        await life.check()
        for _ in range(chance.randrange(1, 25)):
            await chance.choice(self.things)(self)
            if chance.random() < 0.5:
                await asyncio.sleep(chance.random() * 0.004)
        await self.wait_beside()
        if chance.random() < 0.3:
            await self.stop()
            await self.run()

    async def put(self) -> None:
        for _ in range(self.chance.randrange(1, 4)):
            self.life.put(self.chance.choice(KEYS), *self.chance.choices(SIZES, k=self.chance.randrange(1, 4)))

    async def batch(self) -> None:
        """Send stamped batches; no more are under way than a producer may have."""
        await self.life.settle()
        epoch = self.chance.choice((0, 0, 0, 1, 2))
        for _ in range(self.chance.randrange(1, 4)):
            sizes = self.chance.choices(SIZES, k=self.chance.randrange(1, 6))
            self.life.batch(self.chance.choice(KEYS), self.chance.choice((5, 6)), *sizes, epoch=epoch)

    async def look(self) -> None:
        await self.life.look()

    async def settle(self) -> None:
        await self.life.settle()

    async def checkpoint(self) -> None:
        self.do_beside(self.life.checkpoint())

    async def move(self) -> None:
        self.do_beside(self.life.store.mover.move_all())

    async def sync(self) -> None:
        self.life.store.sync_now()

    async def cut(self) -> None:
        """Cut a log where one of its records begins; nothing of it is on its way."""
        await self.life.settle()
        key = self.chance.choice(KEYS)
        log = self.life.store.get(key)
        offsets = [put.offset for put in self.life.model.of(key).puts if log is not None and put.offset >= log.start]
        if offsets:
            await self.life.cut(key, self.chance.choice(offsets))

    async def copy(self) -> None:
        """Append as a copy, in the last segment or at the beginning of one; some while others are on their way."""
        key = self.chance.choice(KEYS)
        for _ in range(self.chance.randrange(1, 4)):
            log = self.life.log(key)
            waiting = self.life.store.rounds.rolls.get(log)
            last = waiting[-1] if waiting else log.base
            base = log.end if self.chance.random() < 0.3 else last
            self.life.copy(key, base, *self.chance.choices(SIZES, k=self.chance.randrange(1, 6)))
            if self.chance.random() < 0.3:
                await asyncio.sleep(self.chance.random() * 0.002)

    async def set_aside(self) -> None:
        """As `cut`, and what is cut is still somewhere, whatever happens afterwards."""
        await self.life.settle()
        key = self.chance.choice(KEYS)
        log = self.life.store.get(key)
        offsets = [put.offset for put in self.life.model.of(key).puts if log is not None and put.offset >= log.start]
        if offsets:
            await self.life.set_aside(key, self.chance.choice(offsets))

    async def move_aside(self) -> None:
        await self.life.settle()
        key = self.chance.choice(KEYS)
        if self.life.store.get(key) is not None:
            await self.wait_beside()
            await self.life.move_aside(key)
            self.life.model.of(key).retires = False

    async def drop(self) -> None:
        await self.life.settle()
        key = self.chance.choice(KEYS)
        if self.life.store.get(key) is not None:
            await self.wait_beside()
            await self.life.drop(key)
            self.life.model.of(key).retires = False

    async def epoch(self) -> None:
        key = self.chance.choice(KEYS)
        if self.life.store.get(key) is not None:
            await self.life.epoch(key, self.chance.randrange(100))

    async def retire(self) -> None:
        key = self.chance.choice(KEYS)
        log = self.life.store.get(key)
        if log is not None:
            self.life.model.of(key).retires = True
            await self.wait_beside()
            await self.life.store.housekeeping.retire_log(log, self.life.machine.clock.time() + 1e7)

    async def resize(self) -> None:
        log = self.life.store.get(self.chance.choice(KEYS))
        if log is not None and not log.held:
            log.set_limit(self.chance.choice((300, 2000, 9000)))

    async def step(self) -> None:
        await self.wait_beside()
        await self.life.store.housekeeping.step()

    async def abandon(self) -> None:
        """End as a crash of the process would, between two operations, and start again."""
        await self.wait_beside()
        await self.life.settle()
        self.life.store.abandon()
        self.life.open()
        self.life.model.synced()

    async def stop(self) -> None:
        await self.wait_beside()
        await self.life.close()

    async def wait_beside(self) -> None:
        tasks, self.beside = self.beside, []
        await asyncio.gather(*tasks)

    def do_beside(self, work: Coroutine[object, None, None]) -> None:
        """Begin something that goes on beside what follows; two of the kind would never run at once in a broker."""
        if any(not task.done() for task in self.beside):
            work.close()
        else:
            self.beside = [asyncio.ensure_future(work)]

    things = (
        put,
        put,
        put,
        put,
        put,
        batch,
        batch,
        copy,
        copy,
        look,
        settle,
        checkpoint,
        move,
        sync,
        cut,
        set_aside,
        drop,
        move_aside,
        epoch,
        retire,
        resize,
        step,
        abandon,
    )


def bad_days(seed: int) -> None:
    """Live through some days that end in a crash, with all that chance brings; check every morning."""
    chance = Random(f"{seed} days")
    settings = config(
        journal_file_size=chance.choice((5000, 8192, 20000)),
        max_segment_size=chance.choice((300, 2000, 9000)),
        open_files=chance.choice((1, 3, 100)),
    )
    with World(seed) as world:
        life = Life(start_machine(world), Model(), settings)
        for _ in range(chance.randrange(1, 5)):
            run_until(world, life, lambda each: Day(each, chance).run(), chance.randrange(1, 250))
            crash(life.machine, life.model, power=chance.random() < 0.5)
            check_kept(life.machine.disk, life.model)
            life.model.keeping.clear()
        recover(world, life)


def test_bad_days_lose_nothing_that_was_acknowledged() -> None:
    try_seeds(bad_days, 1, 40)


@pytest.mark.soak
def test_thousands_of_bad_days_lose_nothing_that_was_acknowledged() -> None:
    try_seeds(bad_days, Random().randrange(1 << 40), 5000)
