"""A registry that is killed or loses power at any operation of its disk: all it acknowledged is there, nothing is half.

What is found is always the state after some change, and after all that was acknowledged; see keeper.Model. A failure of
the random form names its seed; METAQ_SEED repeats it alone.
"""

import asyncio
from random import Random

import pytest

from metaq.registry.log import LogOptions
from tests.faults.seeds import try_seeds
from tests.simulation.world import World
from tests.unit.registry.keeper import SMALL, Keeper, Model, recover, run_until, start_machine


async def course(keeper: Keeper) -> None:
    """Begin, fill some files, write snapshots by themselves, on demand and at the end, and open what that left."""
    keeper.open()
    for _ in range(8):
        keeper.write(3)
        await asyncio.sleep(0.004)
    await keeper.settle()
    await asyncio.sleep(0.5)  # a seal
    for _ in range(3):
        keeper.log.snapshot_soon()
        keeper.write(2)
        await keeper.settle()
        await asyncio.sleep(0.1)
    await keeper.log.close()
    keeper.open()
    keeper.write(12)
    await keeper.settle()
    keeper.log.abandon()
    keeper.open()
    keeper.write(3)
    await keeper.log.close()


def crash_at(at: int, *, power: bool, seed: int) -> bool:
    """Run the course up to an operation, crash, and recover; return whether it has so many."""
    with World(seed) as world:
        keeper = Keeper(start_machine(world), Model(), SMALL, 1)
        keeper.sizes = (0, 30, 300)
        struck = run_until(world, keeper, course, at)
        keeper.machine.crash(power=power)
        recover(world, keeper)
        return struck


@pytest.mark.parametrize("power", [True, False], ids=["power loss", "kill"])
def test_a_crash_at_any_fifth_operation_loses_nothing(power: bool) -> None:
    at = 1
    while crash_at(at, power=power, seed=at):
        at += 5
    assert at > 100


def crash_twice(at: int, seed: int) -> bool:
    """Kill a process at an operation of the course, and cut the power soon after the next one has begun to open."""
    with World(seed) as world:
        keeper = Keeper(start_machine(world), Model(), SMALL, 1)
        keeper.sizes = (0, 30, 300)
        struck = run_until(world, keeper, course, at)
        keeper.machine.crash(power=False)
        run_until(world, keeper, course, world.random.randrange(1, 12))
        keeper.machine.crash(power=True)
        recover(world, keeper)
        return struck


def test_a_power_loss_while_what_a_kill_left_is_opened_loses_nothing() -> None:
    at = 1
    while crash_twice(at, seed=at):
        at += 5
    assert at > 100


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_any_power_loss_while_what_a_kill_left_is_opened_loses_nothing() -> None:
    for seed in range(100):
        at = 1
        while crash_twice(at, seed=1000 * seed + at):
            at += 1


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("power", [True, False], ids=["power loss", "kill"])
def test_a_crash_at_any_operation_loses_nothing(power: bool) -> None:
    for seed in range(30):
        at = 1
        while crash_at(at, power=power, seed=1000 * seed + at):
            at += 1


class Day:
    """One process's day: things happen until the last of them, or until the process ends."""

    def __init__(self, keeper: Keeper, chance: Random) -> None:
        self.keeper = keeper
        self.chance = chance

    async def run(self) -> None:
        self.keeper.open()
        for _ in range(self.chance.randrange(1, 30)):
            await self.chance.choice(self.things)(self)
            if self.chance.random() < 0.5:
                await asyncio.sleep(self.chance.random() * 0.01)
        if self.chance.random() < 0.4:
            await self.keeper.log.close()
            await self.run()

    async def write(self) -> None:
        self.keeper.write(self.chance.randrange(1, 5))

    async def write_together(self) -> None:
        for _ in range(self.chance.randrange(1, 20)):
            self.keeper.change()
        self.keeper.commit()

    async def settle(self) -> None:
        await self.keeper.settle()

    async def wait(self) -> None:
        await asyncio.sleep(self.chance.random())

    async def snapshot(self) -> None:
        self.keeper.log.snapshot_soon()

    async def open_again(self) -> None:
        self.keeper.log.abandon()
        self.keeper.open()

    things = (write, write, write, write, write_together, settle, wait, snapshot, open_again)


def bad_days(seed: int) -> None:
    """Live through some days that end in a crash, with all that chance brings; check every morning."""
    chance = Random(f"{seed} days")
    options = LogOptions(file_size=chance.choice((6000, 8192, 20_000)), snapshot_after=chance.choice((9000, 30_000)))
    with World(seed) as world:
        keeper = Keeper(start_machine(world), Model(), options, seed)
        for _ in range(chance.randrange(1, 6)):
            run_until(world, keeper, lambda each: Day(each, chance).run(), chance.randrange(1, 200))
            keeper.machine.crash(power=chance.random() < 0.5)
        recover(world, keeper)


def test_bad_days_lose_nothing_that_was_acknowledged() -> None:
    try_seeds(bad_days, 1, 20)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_thousands_of_bad_days_lose_nothing_that_was_acknowledged() -> None:
    try_seeds(bad_days, Random().randrange(1 << 40), 5000)
