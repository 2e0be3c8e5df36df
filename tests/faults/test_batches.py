"""Batches after crashes: each is stored once, whole, and answered alike however often it is sent (protocol.md §9)."""

import asyncio
import os
from random import Random
from typing import Final

import pytest

from tests.faults.senders import MOST_UNDER_WAY, Sending, settings
from tests.simulation.world import World
from tests.unit.store.course import ALSO, FAST, SAFE, run_until, start_machine

TARGETS: Final = (SAFE, ALSO, FAST)


class Day:
    """One process's day: batches are sent, some of them again, until the last thing happened or the process ends."""

    def __init__(self, life: Sending, chance: Random) -> None:
        self.life = life
        self.chance = chance
        self.beside: list[asyncio.Future[None]] = []

    async def run(self) -> None:
        """Open, send again what has no answer, do some things, and perhaps stop in order."""
        life, chance = self.life, self.chance
        life.open()
        await life.check_batches(recovered=True)
        if chance.random() < 0.8:
            await life.send_all_again()
        for _ in range(chance.randrange(1, 20)):
            await chance.choice(self.things)(self)
            if chance.random() < 0.5:
                await asyncio.sleep(chance.random() * 0.004)
        await self.wait_beside()
        if chance.random() < 0.4:
            await life.close()
            await self.run()

    async def send(self) -> None:
        sender = self.chance.choice(self.life.senders)
        count = min(self.chance.randrange(1, 4), sender.room())
        self.life.send(*(sender.next(self.life.bodies(self.chance)) for _ in range(count)))

    async def repeat(self) -> None:
        """Send again what is under way or was answered, all of it in order or one that is known."""
        sender = self.chance.choice(self.life.senders)
        last = sender.sent[-MOST_UNDER_WAY:]
        if last:
            self.life.send(*(last if self.chance.random() < 0.5 else [self.chance.choice(last)]))

    async def put(self) -> None:
        self.life.put_plainly(self.chance.choice(TARGETS), self.life.bodies(self.chance))

    async def settle(self) -> None:
        await self.life.settle()

    async def checkpoint(self) -> None:
        await self.wait_beside()
        self.beside.append(asyncio.ensure_future(self.life.checkpoint()))

    async def move(self) -> None:
        await self.wait_beside()
        self.beside.append(asyncio.ensure_future(self.life.store.mover.move_all()))

    async def wait_beside(self) -> None:
        beside, self.beside = self.beside, []
        await asyncio.gather(*beside)

    things = (send, send, send, send, repeat, repeat, put, settle, checkpoint, move)


def life_in(world: World, chance: Random) -> Sending:
    made = settings(
        journal_file_size=chance.choice((5000, 8192, 20000)),
        max_segment_size=chance.choice((300, 2000, 9000)),
        large_run=chance.choice((500, 3000)),
    )
    return Sending(start_machine(world), made, TARGETS)


def bad_days(seed: int) -> None:
    """Live through some days that end in a crash; in the end everything is sent until it is answered."""
    chance = Random(f"{seed} batches")
    with World(seed) as world:
        life = life_in(world, chance)
        for _ in range(chance.randrange(1, 5)):
            run_until(world, life, lambda _: Day(life, chance).run(), chance.randrange(1, 250))
            life.crash(power=chance.random() < 0.5)
        world.run(last_day(life))


async def last_day(life: Sending) -> None:
    life.open()
    await life.check_batches(recovered=True)
    await life.send_all_again()
    await life.close()
    life.open()
    await life.check_batches(recovered=True)
    await life.send_all_again()
    await life.close()


def try_seeds(first: int, count: int) -> None:
    for seed in [int(os.environ["METAQ_SEED"])] if "METAQ_SEED" in os.environ else range(first, first + count):
        try:
            bad_days(seed)
        except BaseException as exc:
            exc.add_note(f"METAQ_SEED={seed}")
            raise


def test_after_bad_days_every_batch_is_stored_once_and_answered_as_the_first_time() -> None:
    try_seeds(1, 30)


@pytest.mark.soak
def test_after_thousands_of_bad_days_every_batch_is_stored_once_and_answered_as_the_first_time() -> None:
    try_seeds(Random().randrange(1 << 40), 5000)
