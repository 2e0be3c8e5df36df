"""The registry's log in one process: who is told when, what is written, and what happens when the disk fails."""

import asyncio
import errno
import logging
from collections.abc import Callable, Coroutine

import pytest

from metaq.errors import StoreError, StoreLocked
from metaq.registry.layout import look
from metaq.registry.log import LogOptions
from metaq.registry.opening import open_registry
from tests.simulation.disk import Operation
from tests.simulation.world import World
from tests.unit.registry.keeper import PLACE, Keeper, Model, remembered, start_machine

LARGE = LogOptions(file_size=1 << 20, snapshot_after=1 << 30)  # one file, no snapshot


def live(
    course: Callable[[Keeper], Coroutine[object, None, None]], options: LogOptions = LARGE, capacity: int | None = None
) -> Keeper:
    """Run a course on a registry that is open."""

    async def opened(keeper: Keeper) -> None:
        keeper.open()
        await course(keeper)

    with World(1) as world:
        world.machine(capacity=capacity)
        keeper = Keeper(start_machine(world), Model(), options)
        world.run(opened(keeper))
        return keeper


def syncs(keeper: Keeper) -> int:
    return sum(each.name == "fdatasync" for each in keeper.machine.disk.log)


def test_what_comes_while_a_round_is_on_its_way_goes_with_the_next_one() -> None:
    async def course(keeper: Keeper) -> None:
        before = syncs(keeper)
        keeper.write(100)
        await keeper.settle()
        assert syncs(keeper) - before == 2  # the first change alone, then all others

    live(course)


def test_nobody_is_told_before_commit_has_returned_nor_before_those_who_came_first() -> None:
    async def course(keeper: Keeper) -> None:
        told: list[int] = []
        keeper.log.commit(lambda: told.append(0))  # nothing was appended: nothing to wait for
        assert told == []
        keeper.change()
        keeper.log.commit(lambda: told.append(1))
        keeper.log.commit(lambda: told.append(2))
        assert told == []
        keeper.change()
        keeper.commit()
        await keeper.settle()
        keeper.change()
        keeper.log.commit(lambda: told.append(3))  # goes at once
        keeper.log.commit(lambda: told.append(4))
        assert told == [0, 1, 2]
        await asyncio.sleep(1)
        assert told == [0, 1, 2, 3, 4]

    live(course)


def test_a_directory_is_opened_by_one_process_at_a_time() -> None:
    async def course(keeper: Keeper) -> None:
        with pytest.raises(StoreLocked, match="/data/registry is in use by another registry"):
            open_registry(PLACE, keeper.machine.outside)
        await keeper.log.close()
        keeper.open()
        await keeper.log.close()

    live(course)


def test_a_round_larger_than_a_file_gets_a_file_of_its_own() -> None:
    async def course(keeper: Keeper) -> None:
        keeper.write(1)
        for _ in range(100):
            keeper.change()
        keeper.commit()
        await keeper.settle()
        keeper.write(3)
        await keeper.settle()
        keeper.log.abandon()
        keeper.open()

    keeper = live(course, LogOptions(file_size=8192, snapshot_after=1 << 30))
    assert max(entry.size for entry in keeper.machine.disk.list(PLACE)) > 8192


def test_two_snapshots_stay_and_no_more_of_the_log_than_the_older_one_needs() -> None:
    async def course(keeper: Keeper) -> None:
        for _ in range(300):
            keeper.write(3)
            await asyncio.sleep(0.001)
        await keeper.settle()
        await asyncio.sleep(1)
        names = [entry.name for entry in keeper.machine.disk.list(PLACE)]
        assert sum(name.endswith(".snapshot") for name in names) == 2
        assert names[0] > f"{20:020}"
        assert sum(name.endswith(".log") for name in names) < 12

    live(course, LogOptions(file_size=8192, snapshot_after=20_000))


def test_two_snapshots_of_one_place_are_one() -> None:
    async def course(keeper: Keeper) -> None:
        for count in (0, 3, 3, 0, 0):
            keeper.write(count)
            keeper.log.snapshot_soon()
            keeper.commit()
            await asyncio.sleep(1)
        assert len(look(keeper.machine.disk, PLACE).snapshots) == 2

    live(course)


def test_a_snapshot_may_be_asked_for_at_any_moment_of_a_busy_log() -> None:
    async def course(keeper: Keeper) -> None:
        for number in range(60):
            keeper.write(keeper.chance.randrange(4))
            if number % 3 == 0:
                keeper.log.snapshot_soon()
            await asyncio.sleep(keeper.chance.random() * 0.01)
            if number % 10 == 0:
                await keeper.settle()
                keeper.log.abandon()
                keeper.open()

    live(course)


def test_a_log_that_was_closed_opens_without_replaying_anything(caplog: pytest.LogCaptureFixture) -> None:
    async def course(keeper: Keeper) -> None:
        keeper.write(50)
        await keeper.log.close()
        assert keeper.model.acked == 50
        with caplog.at_level(logging.INFO):
            keeper.open()

    live(course)
    assert "0 rounds of log since the snapshot" in caplog.text


def test_closing_what_has_not_changed_writes_no_snapshot() -> None:
    async def course(keeper: Keeper) -> None:
        keeper.write(5)
        await keeper.log.close()
        keeper.open()
        before = keeper.machine.disk.snapshot().keys()
        await keeper.log.close()
        assert keeper.machine.disk.snapshot().keys() == before

    live(course)


def test_what_other_files_are_in_the_folder_is_left_alone() -> None:
    async def course(keeper: Keeper) -> None:
        disk = keeper.machine.disk
        disk.close(disk.open(f"{PLACE}/notes.txt", create=True))
        disk.close(disk.open(f"{PLACE}/1.log", create=True))
        keeper.write(5)
        await keeper.log.close()
        keeper.open()
        await keeper.log.close()
        assert disk.exists(f"{PLACE}/notes.txt")
        assert disk.exists(f"{PLACE}/1.log")

    live(course)


# A disk that fails


def is_round(operation: Operation) -> bool:
    """The disk knows a file by the name it was opened by."""
    return operation.name == "pwrite" and operation.path.endswith("next.new")


def is_sync_of_round(operation: Operation) -> bool:
    return operation.name == "fdatasync" and operation.path.endswith("next.new")


@pytest.mark.parametrize("matches", [is_round, is_sync_of_round])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.get)
def test_after_an_error_nobody_is_told_anything_and_the_failure_is_told_once(
    matches: Callable[[Operation], bool], number: int
) -> None:
    async def course(keeper: Keeper) -> None:
        keeper.write(5)
        await keeper.settle()
        keeper.machine.disk.fail(matches, OSError(number, "it is broken"), times=1)
        keeper.write(5)
        await keeper.settle()
        keeper.write(5)
        await asyncio.sleep(1)
        assert keeper.model.acked == 5
        assert [str(failure) for failure in keeper.failures] == [
            f"{PLACE}/{1:020}.log: cannot write the registry's log: it is broken"
        ]
        with pytest.raises(StoreError, match="was not closed in order: /data/"):
            await keeper.log.close()
        keeper.open()
        assert keeper.model.acked <= 10  # what was on its way is there or not, what came later is not

    live(course)


def test_an_error_while_closing_is_told_and_loses_nothing() -> None:
    async def course(keeper: Keeper) -> None:
        keeper.write(5)
        await keeper.settle()
        keeper.machine.disk.fail(is_sync_of_round, OSError(errno.EIO, "it is broken"))
        with pytest.raises(StoreError, match="it is broken"):
            await keeper.log.close()
        keeper.machine.crash(power=True)
        keeper.open()
        assert keeper.model.acked == 5

    live(course)


def test_a_full_disk_is_announced_half_a_file_ahead_and_ends_the_log_when_the_file_is_full(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def course(keeper: Keeper) -> None:
        disk = keeper.machine.disk
        disk.fail(lambda op: is_round(op) and op.position == 0, OSError(errno.ENOSPC, "no space left"))
        disk.fail(lambda op: op.path.endswith("spare.new"), OSError(errno.ENOSPC, "no space left"))
        while "cannot make the next file of the log: no space left" not in caplog.text:
            keeper.write(1)
            await keeper.settle()
        assert not keeper.failures
        announced = keeper.model.acked
        while not keeper.failures:
            keeper.write(1)
            await keeper.settle()
        assert keeper.model.acked > announced
        assert "no space left" in str(keeper.failures[0])
        keeper.log.abandon()
        disk.crash(power=False)
        keeper.machine.crash(power=True)
        keeper.open()

    live(course, LogOptions(file_size=65536, snapshot_after=1 << 30))


def test_a_registry_on_a_full_disk_does_not_start_and_says_why() -> None:
    async def course(keeper: Keeper) -> None:
        keeper.write(5)
        await keeper.settle()
        keeper.log.abandon()
        keeper.machine.disk.fail(is_round, OSError(errno.ENOSPC, "no space left"), times=1)
        with pytest.raises(
            StoreError, match="/data/registry: cannot begin a file of the registry's log: no space left"
        ):
            keeper.open()
        keeper.open()
        assert keeper.model.acked == 5

    live(course)


def test_a_snapshot_that_cannot_be_written_is_tried_again_and_the_log_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def course(keeper: Keeper) -> None:
        disk = keeper.machine.disk

        def has_snapshot() -> bool:
            return any(entry.name.endswith(".snapshot") for entry in disk.list(PLACE))

        fault = disk.fail(lambda op: op.path.endswith("snapshot.new"), OSError(errno.ENOSPC, "no space left"))
        while fault.met < 3:
            keeper.write(3)
            await keeper.settle()
        assert not has_snapshot()
        assert "cannot write a snapshot of the registry, its log grows" in caplog.text
        fault.stop()
        while not has_snapshot():
            keeper.write(3)
            await keeper.settle()
        assert not keeper.failures
        keeper.log.abandon()
        keeper.open()

    live(course, LogOptions(file_size=8192, snapshot_after=20_000))


def test_what_a_process_left_after_a_failed_sync_is_made_durable_before_anybody_sees_it() -> None:
    """After a failed sync the system takes the bytes for written: another sync alone would not write them."""

    async def first(keeper: Keeper) -> None:
        keeper.open()
        keeper.write(5)
        await keeper.settle()
        keeper.machine.disk.fail(is_sync_of_round, OSError(errno.EIO, "it is broken"), times=1)
        keeper.write(1)
        await keeper.settle()

    async def second(keeper: Keeper) -> None:
        keeper.open()

    for seed in range(8):
        with World(seed) as world:
            keeper = Keeper(start_machine(world), Model(), LARGE, seed)
            world.run(first(keeper))
            keeper.machine.crash(power=False)
            world.run(second(keeper))
            assert keeper.model.acked == 6
            keeper.machine.crash(power=True)
            world.run(second(keeper))
            assert remembered(keeper.state) == keeper.model.memories[6]
