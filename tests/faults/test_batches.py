"""Batches after crashes: each is stored once, whole, and answered alike however often it is sent (protocol.md §9)."""

import asyncio
import errno
import os
import re
from collections.abc import Coroutine
from contextlib import suppress
from random import Random
from typing import Final

import pytest

from metaq.errors import StoreError
from metaq.model import TopicPartition
from metaq.protocol.commands import Mput
from metaq.protocol.encoder import encode
from metaq.record import pack
from metaq.store.log import segment_name
from tests.embedding import Dial
from tests.faults.conftest import Launch
from tests.faults.seeds import try_seeds
from tests.faults.senders import MOST_UNDER_WAY, Sending, settings
from tests.simulation.world import World
from tests.unit.store.course import ALSO, FAST, HOME, SAFE, run_until, start_machine

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


def test_after_bad_days_every_batch_is_stored_once_and_answered_as_the_first_time() -> None:
    try_seeds(bad_days, 1, 30)


@pytest.mark.soak
def test_after_thousands_of_bad_days_every_batch_is_stored_once_and_answered_as_the_first_time() -> None:
    try_seeds(bad_days, Random().randrange(1 << 40), 5000)


@pytest.mark.parametrize("seed", range(8))
def test_a_checkpoint_does_not_remember_a_batch_that_the_power_takes_with_its_round(seed: int) -> None:
    """It is made between two rounds, when the batch was appended and neither written nor lost yet."""
    with World(seed) as world:
        life = life_in(world, Random(seed))
        sender = next(sender for sender in life.senders if sender.target == FAST)
        batches = [sender.next([b"%d" % number * 50]) for number in range(3)]

        async def send() -> None:
            life.open()
            life.send(batches[0])
            await life.settle()
            life.put_plainly(SAFE, [b"a round that is synced"])
            await asyncio.sleep(0)
            life.send(*batches[1:])
            await life.checkpoint()
            await life.settle()

        world.run(send())
        assert batches[2].result is not None
        life.machine.crash(power=True)  # and its senders do not begin another epoch
        for batch in batches:
            batch.result = None
        world.run(last_day(life))


async def several_batches(life: Sending) -> None:
    """Small ones and large ones, in the way of each other, and a checkpoint beside them."""
    life.open()
    safe, other, fast = (next(s for s in life.senders if s.target == target) for target in TARGETS)
    life.send(safe.next([b"a" * 100]), safe.next([b"b" * 1500, b"c" * 1600]))
    life.send(fast.next([b"d" * 900]), fast.next([b"e" * 900]))
    await asyncio.sleep(0.001)
    life.send(safe.next([b"f" * 90]), other.next([b"g" * 50]), *safe.sent[:2])
    with suppress(OSError, StoreError):
        await life.checkpoint()
    life.send(other.next([b"h" * 2000]), safe.next([b"i" * 3500]))
    await asyncio.sleep(0.001)
    life.send(safe.next([b"j" * 60]), *safe.sent)
    await life.settle()


async def send_what_was_refused(life: Sending) -> None:
    for _ in range(MOST_UNDER_WAY):
        with suppress(OSError, StoreError):
            await life.store.housekeeping.step()  # sees that there is room again
        for sender in life.senders:
            life.send(*sender.under_way())
        await life.settle()


def test_a_disk_that_is_full_for_a_moment_stores_no_batch_twice_and_none_in_part() -> None:
    refused: set[bytes] = set()
    for number in range(1, 60):
        with World(number) as world:
            life = Sending(start_machine(world), settings(), TARGETS)
            life.machine.disk.fail(
                lambda operation, number=number: (operation.number or 0) >= number,  # type: ignore[misc]
                OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
                times=1 + number % 3,
            )
            try:
                world.run(full_for_a_moment(life, again=number % 4 > 1))
                refused |= {batch.refusal[:3] for batch in life.batches}
                life.crash(power=number % 2 == 0)
                world.run(last_day(life))
            except BaseException as exc:
                exc.add_note(f"from operation {number} on")
                raise
    assert refused == {b"", b"500", b"409"}, "a batch behind a refused one is out of order"


async def full_for_a_moment(life: Sending, *, again: bool) -> None:
    with suppress(OSError, StoreError):
        await several_batches(life)
        if again:
            await send_what_was_refused(life)
        if again and not life.failures:
            await life.send_all_again()
        life.put_plainly(SAFE, [b"of those who did not wait"])
        await life.settle()


def test_after_a_term_of_a_broker_without_stamps_producers_begin_again(caplog: pytest.LogCaptureFixture) -> None:
    with World(1) as world:
        life = Sending(start_machine(world), settings(), TARGETS)
        sender = life.senders[0]

        async def before() -> None:
            life.open()
            life.send(sender.next([b"one"]), sender.next([b"two"]))
            await life.settle()
            await life.close()

        async def after(answer: bytes) -> None:
            life.open()
            late = sender.next([b"three"])
            life.send(late)
            await life.settle()
            assert late.refusal.startswith(answer), late.refusal
            await life.close()

        world.run(before())
        world.run(after(b""))
        disk = life.machine.disk
        fd = disk.open(f"{HOME}/{sender.target}/{segment_name(0)}", write=True)
        disk.pwrite(fd, pack(-7, 0, b"of another broker"), disk.size(fd))
        disk.close(fd)
        assert not caplog.messages
        world.run(after(b"409 0 0 "))
        assert [text for text in caplog.messages if "what producers sent" in text]


def test_a_batch_sent_again_goes_through_every_crash_at_every_operation() -> None:
    for power in (False, True):
        for number in range(1, 200):
            with World(number) as world:
                life = Sending(start_machine(world), settings(), TARGETS)
                run_until(world, life, several_batches_of, number)
                done = life.machine.disk.operations < number
                life.crash(power=power)
                try:
                    world.run(last_day(life))
                except BaseException as exc:
                    exc.add_note(f"operation {number}, {power=}")
                    raise
            if done:
                break


def several_batches_of(life: object) -> Coroutine[object, None, None]:
    assert isinstance(life, Sending)
    return several_batches(life)


async def test_a_batch_is_known_after_the_process_was_killed_and_after_it_was_stopped(launch: Launch) -> None:
    broker = await launch()
    first = [await answer(launch.dial(broker), number) for number in range(3)]
    await broker.kill()
    broker = await launch()
    assert [await answer(launch.dial(broker), number) for number in range(3)] == first
    later = await answer(launch.dial(broker), 3)
    assert await broker.stop() == 0, broker.words()
    broker = await launch()
    assert [await answer(launch.dial(broker), number) for number in range(4)] == [*first, later]


async def answer(dial: Dial, number: int) -> bytes:
    """Send batch `number` of a producer; return what it is told."""
    peer = await dial()
    records = pack(0, 0, b"%d" % number) * 2
    match = re.fullmatch(
        rb"result 200 \d+ 1\r\n(.*)",
        await peer.asks(encode(Mput(TopicPartition("test", 0), records, 2, 7, 0, number, 1))),
    )
    assert match is not None
    return match[1]
