"""Disks that fail or fill up at any operation: nothing acknowledged is lost, and everybody who waits is told."""

import asyncio
import errno
import os
from collections.abc import Coroutine
from contextlib import suppress
from typing import Final

import pytest

from metaq.errors import DiskFull, StoreError
from metaq.model import TopicPartition
from metaq.store.store import BOOT_ID
from tests.simulation.disk import Operation
from tests.simulation.world import World
from tests.unit.store.course import (
    ALSO,
    FAST,
    HOME,
    LOCK,
    SAFE,
    Life,
    Model,
    check_stopped,
    config,
    crash,
    opened,
    recover,
    start_machine,
)

EIO: Final = OSError(errno.EIO, "broken")
ENOSPC: Final = OSError(errno.ENOSPC, "full")


async def full_day(life: Life) -> None:
    """Something of everything. What the disk refuses is passed over, as a broker does that is being stopped."""
    life.open()
    await attempt(some_of_all(life))
    with suppress(OSError, StoreError):
        await life.close()


async def attempt(work: Coroutine[object, None, None]) -> None:
    with suppress(OSError, StoreError):
        await work


async def some_of_all(life: Life) -> None:
    life.model.of(FAST).retires = True
    life.put(SAFE, 300)
    life.put(FAST, 900, 1200)
    await life.settle()
    await attempt(life.store.mover.move_all())
    life.put(SAFE, 1500, 1700)
    life.put(ALSO, 100)
    await asyncio.sleep(0.001)
    life.put(SAFE, 200)
    life.put(FAST, 1500)
    await attempt(life.checkpoint())
    await life.settle()
    log = life.log(FAST)
    await attempt(life.store.housekeeping.retire_log(log, life.machine.clock.time() + 1e7))
    for _ in range(3):
        life.put(FAST, 2000)
        await life.settle()
    life.store.sync_now()
    life.put(ALSO, 3400)
    await life.settle()
    await attempt(life.store.housekeeping.step())
    life.put(SAFE, 50)
    await life.settle()


def operations() -> int:
    with opened() as (world, life):
        world.run(full_day(life))
        assert not life.errors
        return life.machine.disk.operations


def fail_at(number: int, error: int, times: int) -> tuple[World, Life]:
    """Run the day with an error in that operation, and in those after it until so many have failed."""
    world = World(number)
    life = Life(start_machine(world), Model(), config())
    life.machine.disk.fail(
        lambda operation: operation.number is not None and operation.number >= number,
        OSError(error, os.strerror(error)),
        times=times,
    )
    with world:
        with suppress(OSError, StoreError):
            world.run(full_day(life))
        assert not life.machine.disk.media.opened, "descriptors are left open"
        crash(life.machine, life.model, power=number % 2 == 0)
        recover(world, life)
    return world, life


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.get)
def test_an_error_in_any_operation_loses_nothing_and_leaves_nothing_open(error: int) -> None:
    for number in range(1, operations() + 1):
        try:
            fail_at(number, error, times=1 + number % 3)
        except BaseException as exc:
            exc.add_note(f"{errno.errorcode[error]} in operation {number}")
            raise


class Count:
    """Matches the call of this number, of those that a start cannot do without."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.calls = 0

    def __call__(self, operation: Operation) -> bool:
        self.calls += operation.path != BOOT_ID and operation.name != "close"
        return self.calls == self.number and operation.name != "close"


def test_an_error_in_any_call_of_an_opening_leaves_no_descriptor_and_no_lock_behind() -> None:
    assert next(number for number in range(1, 400) if opens_with_error_in(number)) > 40


def opens_with_error_in(number: int) -> bool:
    """Open an unclean folder with an error in one call; return whether it was opened, as there are fewer calls."""

    async def leave(life: Life) -> None:
        life.open()
        life.put(SAFE, 300, 900)
        life.put(FAST, 700)
        await life.settle()
        await life.store.mover.move_all()
        await life.cut(SAFE, 300)
        life.store.abandon()

    async def start(life: Life, calls: Count) -> bool:
        try:
            life.open()
        except (OSError, StoreError):
            assert not life.machine.disk.media.opened, f"call {number}"
            return False
        assert calls.calls < number, f"the error in call {number} was passed over"
        return True

    with opened() as (world, life):
        world.run(leave(life))
        life.machine.crash(power=False)
        calls = Count(number)
        life.machine.disk.fail(calls, EIO)
        return world.run(start(life, calls))


class Match:
    """Matches one kind of operation on paths that contain a text."""

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self.path = path

    def __call__(self, operation: Operation) -> bool:
        return operation.name == self.name and self.path in operation.path


@pytest.mark.parametrize(("kind", "key"), [("fdatasync", SAFE), ("pwrite", SAFE), ("pwrite", FAST)])
def test_a_journal_that_cannot_be_written_ends_the_broker_after_all_were_told(kind: str, key: TopicPartition) -> None:
    with opened() as (world, life):

        async def course() -> None:
            life.open()
            life.put(SAFE, 10)
            await life.settle()
            life.machine.disk.fail(Match(kind, "/journal/"), EIO)
            puts = life.put(key, 100) + life.put(ALSO, 100)
            await life.settle()
            assert len(life.errors) == 2 and not any(put.acked for put in puts)
            assert [type(failure) for failure in life.failures] == [StoreError]
            life.put(SAFE, 100)
            await life.settle()
            assert len(life.errors) == 3, "what comes later is refused at once"
            with pytest.raises(StoreError, match="cannot empty the journal"):
                await life.close()

        world.run(course())
        assert life.machine.disk.exists(LOCK), "not stopped in order: no Java broker may start"
        crash(life.machine, life.model, power=True)
        recover(world, life)


def test_a_failed_sync_behind_the_scenes_ends_the_broker_and_nothing_after_it_is_acknowledged_as_durable() -> None:
    with opened() as (world, life):

        async def course() -> None:
            life.open()
            life.put(FAST, 100)
            life.machine.disk.fail(Match("fdatasync", "/journal/"), ENOSPC, times=1)
            life.store.sync_now()
            put = life.put(SAFE, 100)
            await life.settle()
            assert not put[0].acked and len(life.failures) == 1

        world.run(course())
        crash(life.machine, life.model, power=True)
        recover(world, life)


@pytest.mark.parametrize("error", [EIO, ENOSPC], ids=str)
def test_after_a_failed_sync_of_a_partition_file_no_checkpoint_is_made_of_what_may_be_lost(error: OSError) -> None:
    """The system says once that it could not write, and takes the bytes for written from then on."""
    with opened() as (world, life):

        async def course() -> None:
            life.open()
            life.put(SAFE, 100, 200)
            await life.settle()
            life.machine.disk.fail(Match("fdatasync", ".meta"), error, times=1)
            for _ in range(3):
                with pytest.raises(OSError, match="cannot sync"):
                    await life.checkpoint()
            with pytest.raises(StoreError, match="cannot sync"):
                await life.close()

        world.run(course())
        crash(life.machine, life.model, power=True)
        recover(world, life)


def test_no_room_for_a_journal_file_refuses_puts_and_ends_when_there_is_room_again() -> None:
    with opened() as (world, life):

        async def course() -> None:
            life.open()
            life.put(FAST, 1000)
            await life.settle()
            fault = life.machine.disk.fail(lambda op: op.name == "create" and "/journal/" in op.path, ENOSPC)
            for _ in range(6):
                life.put(FAST, 900, 900)
                await life.settle()
            refused = len(life.errors)
            assert refused and {type(error) for error in life.errors} == {DiskFull}
            assert life.store.space.full == {f"{HOME}/pymetaq"}
            with pytest.raises(DiskFull):
                life.store.check_space(life.log(SAFE))
            await life.checkpoint()
            fault.stop()
            await life.store.housekeeping.step()
            life.store.check_space(life.log(SAFE))
            life.put(FAST, 900, 900)
            life.put(SAFE, 900, 900)
            await life.settle()
            assert len(life.errors) == refused and not life.failures
            await life.check()
            await life.close()

        world.run(course())
        check_stopped(life.machine.disk, life.model)


def test_a_full_disk_stops_puts_to_it_keeps_reads_going_and_moves_when_there_is_room() -> None:
    with World(5) as world:
        life = Life(start_machine(world), Model(), config(journal_limit=1))  # a checkpoint in every step

        async def course() -> None:
            life.open()
            life.put(SAFE, 1000)
            await life.settle()
            fault = life.machine.disk.fail(Match("pwrite", ".meta"), ENOSPC)
            life.put(SAFE, 1000, 900, 800)
            await life.settle()
            await life.store.housekeeping.step()
            assert life.store.space.full == {HOME}, "the place where writing failed, not the file"
            with pytest.raises(DiskFull):
                life.store.check_space(life.log(SAFE))
            await life.check()
            life.put(SAFE, 3500)
            await life.settle()
            assert [type(error) for error in life.errors] == [DiskFull], "a large run is refused alone"
            fault.stop()
            await life.store.housekeeping.step()
            life.store.check_space(life.log(SAFE))
            life.put(SAFE, 3500, 60)
            await life.settle()
            assert len(life.errors) == 1 and not life.failures
            await life.check()
            await life.close()

        world.run(course())
        check_stopped(life.machine.disk, life.model)


@pytest.mark.parametrize("stop", [False, True])
def test_what_a_refused_large_run_left_in_the_file_does_not_come_back(stop: bool) -> None:
    """Records of one size: what is left of the refused run would join what comes after it exactly."""
    with opened(config(max_segment_size=100_000)) as (world, life):

        async def course() -> None:
            life.open()
            life.put(SAFE, 1000)
            await life.settle()
            fault = life.machine.disk.fail(Match("pwrite", "/journal/"), ENOSPC, times=0)
            put = life.put(SAFE, *[1000] * 4)
            while not life.log(SAFE).held:
                await asyncio.sleep(0.0001)
            while life.machine.disk.log[-1].name != "sync_dir" and not put[0].acked:
                await asyncio.sleep(0.0001)  # the run is in its file
            fault.times = 1
            await life.settle()
            fault.stop()
            assert [type(error) for error in life.errors] == [DiskFull]
            log = life.model.of(SAFE)
            log.puts = [put for put in log.puts if put.acked]
            life.put(SAFE, 1000)
            await life.settle()
            if stop:
                await life.close()

        world.run(course())
        if stop:
            check_stopped(life.machine.disk, life.model)
        crash(life.machine, life.model, power=False)
        recover(world, life)


def test_closing_waits_for_what_is_on_its_way_and_refuses_what_comes_later() -> None:
    with opened() as (world, life):

        async def course() -> None:
            store = life.open()
            puts = life.put(SAFE, 1600, 1700) + life.put(ALSO, 200) + life.put(FAST, 300)
            closing = asyncio.ensure_future(life.close())
            while store.rounds.failure is None:
                await asyncio.sleep(0.0001)
            assert all(put.acked for put in puts)
            life._store = store
            late = life.put(SAFE, 100)
            await closing
            assert not late[0].acked and [str(error) for error in life.errors] == ["the store is closed"]
            life.model.of(SAFE).puts.remove(late[0])

        world.run(course())
        check_stopped(life.machine.disk, life.model)
        assert not life.machine.disk.media.opened


def test_housekeeping_that_is_cancelled_in_a_checkpoint_forgets_no_file_that_is_to_be_synced() -> None:
    assert next(steps for steps in range(1, 60) if cancelled_after(steps)), "the checkpoint never ended"


def cancelled_after(steps: int) -> bool:
    """Cancel a checkpoint after some time, stop in order, cut the power; return whether it had ended before."""

    async def course(life: Life) -> bool:
        life.open()
        for key in (SAFE, ALSO, FAST):
            life.put(key, 500, 600)
        await life.settle()
        task = asyncio.ensure_future(life.checkpoint())
        await asyncio.sleep(0.0005 * steps)
        done = task.done()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await life.close()
        return done

    with opened(seed=steps) as (world, life):
        done = world.run(course(life))
        crash(life.machine, life.model, power=True)
        recover(world, life)
        return done


def test_a_data_path_of_its_own_that_fills_up_stops_only_its_topics() -> None:
    with opened() as (world, life):
        other = TopicPartition("other", 0)

        async def course() -> None:
            store = life.open()
            store.space.set_full(frozenset(["/elsewhere"]))
            store.check_space(life.log(SAFE))
            log = life.log(other)
            log.directory = f"/elsewhere/{other}"
            with pytest.raises(DiskFull):
                store.check_space(log)

        world.run(course())


def test_a_partition_whose_first_put_was_refused_begins_with_the_next_one() -> None:
    """The journal was not told of it yet, although its first offset is not 0."""
    with opened() as (world, life):

        async def course() -> None:
            store = life.open()
            store.create(FAST, 1000)
            life.model.of(FAST).first = 1000
            life.machine.disk.fail(Match("pwrite", "/journal/"), ENOSPC, times=1)
            life.put(FAST, 100)
            await life.settle()
            assert [type(error) for error in life.errors] == [DiskFull]
            life.model.of(FAST).puts.clear()
            assert life.put(FAST, 200)[0].offset == 1000
            await life.settle()

        world.run(course())
        crash(life.machine, life.model, power=False)
        recover(world, life)
