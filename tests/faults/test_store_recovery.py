"""Every rule of recovery (docs/storage.md), with the process killed or the power cut at every operation in between."""

import asyncio
from errno import EIO

import pytest

from metaq.store.log import segment_name
from tests.faults.scenes import RULES, SCENES
from tests.simulation.cuts import Cuts, live
from tests.simulation.world import World
from tests.unit.store.course import (
    HOME,
    SAFE,
    Life,
    Model,
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


def kill_at_every(step: int, rule: str) -> None:
    """Kill the process of a course in every so many operations, and see that the rules hold."""
    course, settings = RULES[rule], config()
    for at in range(1, operations(course, settings) + 1, step):
        try:
            crashed(course, settings, at, power=False)
        except BaseException as exc:
            exc.add_note(f"{rule}, operation {at}")
            raise


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_of_recovery_holds_whichever_third_operation_was_the_last_of_a_process(rule: str) -> None:
    kill_at_every(3, rule)


@pytest.mark.soak
@pytest.mark.parametrize("rule", RULES)
def test_a_rule_of_recovery_holds_whichever_operation_was_the_last_of_a_process(rule: str) -> None:
    kill_at_every(1, rule)


@pytest.mark.parametrize("scene", SCENES)
def test_all_laws_hold_whichever_operation_was_the_last_before_the_power_went(scene: str) -> None:
    with World(1) as world:
        cuts = live(world, SCENES[scene], Cuts)
        assert len(cuts.moments) > 20
        cuts.check(1)


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
