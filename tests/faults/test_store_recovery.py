"""Every rule of recovery (docs/storage.md), with the process killed or the power cut at every operation in between."""

import asyncio
from dataclasses import replace
from errno import EIO
from typing import Final

import pytest

from metaq.record import pack
from metaq.store.log import segment_name
from tests.simulation.world import World
from tests.unit.store.course import (
    ALSO,
    FAST,
    HOME,
    SAFE,
    Course,
    Life,
    Model,
    Put,
    config,
    crash,
    crashed,
    opened,
    operations,
    recover,
    reopened,
    run_until,
    start_machine,
)


async def rule_1_generations(life: Life) -> None:
    """Several openings, with and without puts between them, none of them followed by a stop in order."""
    for size in (60, 0, 700, 0, 40):
        life.open()
        if size:
            life.put(FAST, size, size)
            life.put(SAFE, size)
            await life.settle()
        life.store.abandon()


async def rule_2_one_break(life: Life) -> None:
    """More rounds than a journal file takes, synced ones and others, and one that is larger than a file."""
    life.open()
    for number in range(8):
        life.put(FAST, 900, 500)
        if number % 3 == 2:
            life.put(SAFE, 800)
        await life.settle()
    life.put(FAST, 5000, 5000)
    await life.settle()
    life.put(SAFE, 100)
    await life.settle()


async def rule_3_the_end(life: Life) -> None:
    """The background writer is ahead of all syncs."""
    life.open()
    for _ in range(3):
        life.put(FAST, 600, 700)
        await life.settle()
        await life.store.mover.move_all()
    life.put(SAFE, 50)
    life.put(FAST, 600, 700)
    await life.settle()
    await life.store.mover.move_all()


async def rule_4_before_the_port_opens(life: Life) -> None:
    """What is read after an opening was only written, not synced, before it."""
    life.open()
    life.put(FAST, 600, 700, 800)
    await life.settle()
    life.store.abandon()
    life.open()
    life.model.synced()
    await life.look()
    life.put(FAST, 20)
    await life.settle()


async def rule_5_large_runs(life: Life) -> None:
    """Large runs before, between and behind small ones, with puts waiting for them and rolls among them."""
    life.open()
    life.put(SAFE, 100)
    await life.settle()
    life.put(SAFE, 1500, 1600)
    life.put(ALSO, 200)
    await asyncio.sleep(0.001)
    life.put(SAFE, 70)
    life.put(ALSO, 50)
    await life.settle()
    life.put(ALSO, 3000)
    await asyncio.sleep(0.001)
    life.put(ALSO, 3500)
    checkpoint = asyncio.ensure_future(life.checkpoint())
    await life.settle()
    await checkpoint
    life.put(SAFE, 40)
    await life.settle()


async def rule_6_freeing_the_journal(life: Life) -> None:
    """Checkpoints while puts and large runs are on their way; retention behind them."""
    life.open()
    life.model.of(FAST).retires = True
    for number in range(4):
        life.put(FAST, 900, 1200)
        life.put(SAFE, 300, 400)
        await asyncio.sleep(0.001 * number)
        checkpoint = asyncio.ensure_future(life.checkpoint())
        life.put(FAST, 100)
        life.put(SAFE, 3100 if number == 2 else 100)
        await checkpoint
        await life.settle()
        log = life.log(FAST)
        await life.store.housekeeping.retire_log(log, life.machine.clock.time() + 1e7)


async def rule_7_clean_mark(life: Life) -> None:
    """Stopped in order, started, changed by another broker in between, stopped again."""
    life.open()
    life.put(SAFE, 300)
    life.put(FAST, 500)
    await life.settle()
    await life.close()
    append_as_java(life)
    life.open()
    await life.look()
    life.put(SAFE, 200)
    await life.settle()
    await life.close()
    life.open()
    await life.close()


async def rule_8_java_is_locked_out(life: Life) -> None:
    """Cuts, drops and new partitions of the same name; nothing of it may look like another broker's work."""
    life.open()
    life.put(SAFE, 900, 900, 900)
    life.put(ALSO, 900)
    await life.settle()
    await asyncio.gather(life.store.mover.move_all(), life.cut(SAFE, 900))
    life.put(SAFE, 50, 60)
    await life.settle()
    await life.checkpoint()
    await life.drop(ALSO)
    life.put(ALSO, 300)
    await life.settle()
    await life.store.mover.move_all()
    await life.cut(SAFE, 950)
    await life.epoch(SAFE, 3)
    life.put(SAFE, 70)
    await life.settle()
    await life.drop(ALSO)


async def rule_9_rolling(life: Life) -> None:
    """Segments that fill up, cuts back into full ones, and another size of segments."""
    life.open()
    for _ in range(3):
        life.put(SAFE, 700, 800, 900)
        await life.settle()
        await life.store.mover.move_all()
    await life.cut(SAFE, 2400)
    life.log(SAFE).set_limit(500)
    life.put(SAFE, 300, 300)
    await life.settle()
    checkpoint = asyncio.ensure_future(life.checkpoint())
    life.put(SAFE, 300, 300)
    await checkpoint
    await life.cut(SAFE, 1500)
    life.log(SAFE).set_limit(2000)
    life.put(SAFE, 400)
    await life.settle()


def append_as_java(life: Life, *, sync: bool = True) -> None:
    """Append a record to a stopped store's file, as another broker does."""
    log = life.model.of(SAFE)
    disk = life.machine.disk
    path = f"{HOME}/{SAFE}/{0:020}.meta"
    record = pack(-7, 0, b"of another broker")
    fd = disk.open(path, write=True)
    put = Put(disk.size(fd), record)
    log.puts.append(put)
    disk.pwrite(fd, record, put.offset)
    if sync:
        disk.fdatasync(fd)
    disk.close(fd)
    put.acked = put.durable = sync


RULES: Final[dict[str, Course]] = {
    course.__name__: course
    for course in (
        rule_1_generations,
        rule_2_one_break,
        rule_3_the_end,
        rule_4_before_the_port_opens,
        rule_5_large_runs,
        rule_6_freeing_the_journal,
        rule_7_clean_mark,
        rule_8_java_is_locked_out,
        rule_9_rolling,
    )
}


@pytest.mark.parametrize("power", [False, True], ids=["kill", "power"])
@pytest.mark.parametrize("rule", RULES)
def test_a_rule_of_recovery_holds_whichever_operation_was_the_last(rule: str, power: bool) -> None:
    course, settings = RULES[rule], config()
    for at in range(1, operations(course, settings) + 1):
        try:
            crashed(course, settings, at, power=power)
        except BaseException as exc:
            exc.add_note(f"{rule}, operation {at}, {power=}")
            raise


@pytest.mark.parametrize("power", [False, True], ids=["kill", "power"])
@pytest.mark.parametrize("rule", ["rule_5_large_runs", "rule_6_freeing_the_journal", "rule_8_java_is_locked_out"])
def test_recovery_itself_may_end_at_any_operation_and_is_begun_again(rule: str, power: bool) -> None:
    """The first crash is a loss of power at two thirds of the course; the second comes in the recovery from it."""
    course, settings = RULES[rule], config()
    first = operations(course, settings) * 2 // 3
    for second in range(1, 200):
        with World(second) as world:
            life = Life(start_machine(world), Model(), settings)
            run_until(world, life, course, first)
            crash(life.machine, life.model, power=True)
            run_until(world, life, reopened, second)
            done = life.machine.disk.operations < second
            crash(life.machine, life.model, power=power)
            recover(world, life)
        if done:
            return
    pytest.fail("it takes more operations than were tried")


@pytest.mark.parametrize("seed", range(8))
def test_a_cut_that_a_killed_process_made_and_did_not_sync_does_not_come_undone(seed: int) -> None:
    """The next process finds the file cut already, and nothing is written to that segment any more."""

    async def cut(life: Life) -> None:
        life.open()
        life.put(SAFE, 1500, 400)
        await life.settle()
        await life.checkpoint()
        await life.cut(SAFE, 1500)
        while life.machine.disk.log[-1].name != "truncate":
            await asyncio.sleep(0.001)

    async def go_on(life: Life) -> None:
        life.open()
        life.log(SAFE).set_limit(1000)
        life.put(SAFE, 300)
        await life.settle()
        await life.checkpoint()

    with opened(seed=seed) as (world, life):
        world.run(cut(life))
        crash(life.machine, life.model, power=False)
        world.run(go_on(life))
        crash(life.machine, life.model, power=True)
        recover(world, life)


@pytest.mark.parametrize("seed", range(8))
def test_what_another_broker_did_not_sync_is_on_disk_before_somebody_reads_it_from_us(seed: int) -> None:
    async def leave(life: Life) -> None:
        life.open()
        life.put(SAFE, 300)
        await life.settle()
        await life.close()
        append_as_java(life, sync=False)

    async def take_over(life: Life) -> None:
        life.open()
        await life.look()

    with opened(seed=seed) as (world, life):
        world.run(leave(life))
        life.machine.crash(power=False)
        world.run(take_over(life))
        crash(life.machine, life.model, power=True)
        recover(world, life)


@pytest.mark.parametrize("seed", range(8))
def test_a_partition_that_a_killed_process_dropped_does_not_come_back(seed: int) -> None:
    """It removed the folder and did not sync that; the next process stops in order, so the files have the last word."""
    there = "/disk2/meta"
    topics = tuple(replace(topic, data_path=there) for topic in config().topics)

    async def drop(life: Life) -> None:
        life.open()
        life.put(FAST, 300)
        await life.settle()
        await life.checkpoint()
        await life.drop(FAST)
        while life.machine.disk.exists(f"{there}/{FAST}"):
            await asyncio.sleep(0.001)

    async def start_and_stop(life: Life) -> None:
        life.open()
        await life.close()

    with opened(config(topics=topics), seed=seed) as (world, life):
        world.run(drop(life))
        crash(life.machine, life.model, power=False)
        world.run(start_and_stop(life))
        crash(life.machine, life.model, power=True)

        async def look(life: Life) -> bool:
            store = life.open()
            found = store.get(FAST) is not None
            await life.close()
            return found

        assert not world.run(look(life))


async def retire_all(life: Life) -> None:
    life.model.of(SAFE).retires = True
    await life.store.housekeeping.retire_log(life.log(SAFE), life.machine.clock.time() + 1e7)


def test_a_segment_that_a_killed_process_removed_and_did_not_sync_comes_back_whole_or_not_at_all() -> None:
    """Both happen: the next process knows nothing of it, and does not sync the folder either."""

    async def retire(life: Life) -> None:
        life.open()
        life.put(SAFE, 2500)
        life.put(SAFE, 400)
        await life.settle()
        await life.checkpoint()
        folder = f"{HOME}/{SAFE}"
        life.machine.disk.fail(lambda call: (call.name, call.path) == ("sync_dir", folder), OSError(EIO, "the end"))
        await retire_all(life)
        assert not life.machine.disk.exists(f"{folder}/{segment_name(0)}")

    async def go_on(life: Life) -> int:
        life.open()
        life.put(SAFE, 300)
        await life.settle()
        await life.check()
        return life.log(SAFE).start

    def start_after(seed: int) -> int:
        with opened(seed=seed) as (world, life):
            world.run(retire(life))
            crash(life.machine, life.model, power=False)
            assert world.run(go_on(life)) == 2500
            crash(life.machine, life.model, power=True)
            found = world.run(go_on(life))
            crash(life.machine, life.model, power=False)
            recover(world, life)
            return found

    assert {start_after(seed) for seed in range(16)} == {0, 2500}


async def cut_and_put_again(life: Life) -> None:
    """Cut deep into what a checkpoint holds and fill the segment again: only the journal has that for certain."""
    await life.cut(SAFE, 300)
    life.put(SAFE, 1800)
    life.put(SAFE, 400)
    await life.settle()
    await life.store.mover.move_all()


async def fill(life: Life) -> None:
    life.open()
    life.put(SAFE, 300)
    for _ in range(3):
        life.put(SAFE, 2500)
    await life.settle()


def test_what_was_put_after_a_cut_is_not_retired_before_a_checkpoint_though_the_broker_restarts() -> None:
    """Recovery would write the journal's part of the segment once more, into a file that lacks its beginning."""

    async def before(life: Life) -> None:
        await fill(life)
        await life.checkpoint()
        await cut_and_put_again(life)

    async def after(life: Life) -> None:
        life.open()
        await life.check()
        await retire_all(life)
        assert life.log(SAFE).start == 0

    with opened() as (world, life):
        world.run(before(life))
        crash(life.machine, life.model, power=False)
        world.run(after(life))
        crash(life.machine, life.model, power=False)
        recover(world, life)


def test_what_was_put_after_a_cut_during_a_checkpoint_is_not_retired_before_the_next() -> None:
    async def course(life: Life) -> None:
        await fill(life)
        checkpoint = asyncio.ensure_future(life.checkpoint())
        while not life.machine.disk.log[-1].name.startswith("fdatasync"):
            await asyncio.sleep(0.0001)
        await cut_and_put_again(life)
        assert not checkpoint.done()
        await checkpoint
        await retire_all(life)
        assert life.log(SAFE).start == 0
        await life.checkpoint()
        await retire_all(life)
        assert life.log(SAFE).start > 0

    with opened() as (world, life):
        world.run(course(life))
        crash(life.machine, life.model, power=False)
        recover(world, life)
