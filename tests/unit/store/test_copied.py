"""Another broker's records as they are, its segments as they are, and what is kept aside when a log ends."""

import asyncio
from collections.abc import Callable

import pytest

from metaq.errors import SegmentMismatch, StoreError
from metaq.store.log import Gate, PartitionLog
from tests.simulation.world import World
from tests.unit.store.course import (
    FAST,
    HOME,
    SAFE,
    Life,
    Model,
    check_kept,
    config,
    content_of,
    crashed,
    opened,
    start_machine,
)
from tests.unit.store.course import read_all as read

SYNCED = [SAFE, FAST]


def bases_on_disk(life: Life, key: object) -> list[int]:
    return [int(entry.name[:20]) for entry in life.machine.disk.list(f"{HOME}/{key}") if entry.name.endswith(".meta")]


async def done(begin: Callable[[Gate], None]) -> Exception | None:
    """Begin something and wait for its gate."""
    told: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    begin(told.set_result)
    return await told


@pytest.mark.parametrize("key", SYNCED)
def test_segments_of_a_copy_begin_where_those_of_the_master_do(key: object) -> None:
    """Runs of 3000 bytes are large ones here, and a segment of ours ends at 2000."""
    with opened() as (world, life):

        async def course() -> None:
            store = life.open()
            log = life.log(key)  # type: ignore[arg-type]  # one of the two
            base, bases = 0, [0]
            for number, size in enumerate((900, 900, 900, 4000, 5000, 300, 3500, 10)):
                if number in (3, 5, 7):
                    base = log.end
                    bases.append(base)
                life.copy(log.key, base, size)
            await life.settle()
            assert log.bases == bases and log.visible == log.end
            assert not life.errors
            content = await read(store, log)
            await life.look()
            await life.close()
            assert bases_on_disk(life, key) == bases
            again = life.open().get(log.key)
            assert again is not None and again.bases == bases
            assert await read(life.store, again) == content
            life.put(log.key, 90)  # what is put here rolls by our own size again
            life.put(log.key, 2100)
            life.put(log.key, 90)
            await life.settle()
            assert len(again.bases) == len(bases) + 1
            await life.close()

        world.run(course())


def test_a_copy_that_names_another_segment_changes_nothing() -> None:
    with opened() as (world, life):

        async def course() -> None:
            store = life.open()
            log = life.log(SAFE)
            life.copy(SAFE, 0, 900)
            for base in (1, log.end - 1, log.end + 1):
                with pytest.raises(SegmentMismatch, match=f"begins at {base},"):
                    store.append_copied(log, b"x" * 30, base)
            assert log.bases == [0]
            await life.settle()
            await life.close()

        world.run(course())


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("at", [9, 12, 15, 1000])
def test_long_runs_beside_short_ones_are_journaled_as_they_came(at: int, power: bool) -> None:
    """Rounds whose parts are long, and such where most are short; the end comes within one, or behind the last."""

    async def course(life: Life) -> None:
        life.open()
        for size in (150_000, 70_000, 30):
            life.copy(FAST, 0, size)
            await life.settle()
            life.copy(FAST, 0, size)
            life.put(SAFE, 90)
            await life.settle()

    crashed(course, config(), at, power=power)


def test_ids_go_on_above_those_of_copied_records() -> None:
    with opened() as (world, life):

        async def course() -> None:
            store = life.open()
            store.append_copied(life.log(SAFE), life.model.record(900), 0, highest_id=70)
            store.append_copied(life.log(SAFE), life.model.record(900), 0, highest_id=5)
            store.commit(lambda error: None, 1800)
            await life.settle()
            await life.close()
            assert life.open().journal.highest_id == 70
            await life.close()

        world.run(course())


@pytest.mark.parametrize("moved", [False, True])
def test_the_last_bytes_are_those_of_the_last_segment_that_has_any(moved: bool) -> None:
    with opened() as (world, life):

        async def course() -> None:
            store = life.open()
            log = life.log(FAST)
            assert await store.read_last(log, 50) == b""
            first, second = life.copy(FAST, 0, 900)[0], life.copy(FAST, 900, 600)[0]
            await life.settle()
            if moved:
                await store.mover.move_all()
            assert await store.read_last(log, 50) == second.data[-50:]
            assert await store.read_last(log, 5000) == second.data
            assert await done(lambda gate: store.set_aside(log, 900, gate)) is None
            assert await store.read_last(log, 5000) == first.data
            life.model.ended(FAST, 900)
            await life.close()

        world.run(course())


def test_who_waits_for_copied_records_is_told() -> None:
    with opened() as (world, life):

        async def course() -> None:
            store = life.open()
            log = life.log(SAFE)
            woken: list[int] = []

            class Watch:
                def woken(self, nth: int) -> None:
                    woken.append(log.visible)

            for size in (900, 4000):  # by the journal, and as a large run
                log.watchers = {Watch(): None}
                before = log.visible
                life.copy(SAFE, log.end if size == 4000 else 0, size)
                await life.settle()
                assert woken.pop() > before
            assert store.rounds.idle()
            await life.close()

        world.run(course())


@pytest.mark.parametrize("moved", [False, True])
def test_what_is_set_aside_is_kept_and_the_log_goes_on_from_there(moved: bool) -> None:
    with opened() as (world, life):

        async def course() -> None:
            store = life.open()
            puts = [put for _ in range(8) for put in life.put(SAFE, 400, 500)]
            await life.settle()
            if moved:
                await store.mover.move_all()
            log, to = life.log(SAFE), puts[5].offset
            content = await read(store, log)
            life.model.kept.append(content[to : log.bases[2]])
            assert await done(lambda gate: store.set_aside(log, to, gate)) is None
            life.model.ended(SAFE, to)
            check_kept(life.machine.disk, life.model)
            assert await read(store, log) == content[:to]
            life.copy(SAFE, log.base, 700)
            await life.settle()
            await life.close()
            life.open()
            await life.check()
            await life.close()

        world.run(course())


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_log_that_is_moved_aside_leaves_its_bytes_and_its_name(
    elsewhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened() as (world, life):

        async def course() -> None:
            store = life.open()
            disk = life.machine.disk
            if elsewhere:
                space = disk.free_space
                monkeypatch.setattr(disk, "free_space", lambda path: (hash(path), space(path)[1]))
            for _ in range(8):
                life.put(SAFE, 400, 500)
            await life.settle()
            content = await read(store, life.log(SAFE))
            life.model.kept += [content[:1500], content[-500:]]
            assert await done(lambda gate: store.move_aside(life.log(SAFE), gate)) is None
            life.model.ended(SAFE, 0)
            assert store.get(SAFE) is None
            store.create(SAFE, 5000)
            life.copy(SAFE, 5000, 300)
            await life.settle()
            await life.close()
            check_kept(disk, life.model)
            assert content_of(disk, f"{HOME}/{SAFE}")[0] == 5000

        world.run(course())


def test_a_log_whose_bytes_cannot_be_kept_stays_as_it_was() -> None:
    with World(1) as world:
        life = Life(start_machine(world), Model(), config())

        async def course() -> None:
            store = life.open()
            life.put(SAFE, 400, 500)
            await life.settle()
            log: PartitionLog = life.log(SAFE)
            fault = life.machine.disk.fail(lambda call: ".cut" in call.path, OSError(28, "no space"))
            error = await done(lambda gate: store.set_aside(log, 400, gate))
            assert isinstance(error, StoreError)
            fault.stop()
            life.put(SAFE, 30)
            await life.settle()
            await life.check()
            await life.close()
            assert not life.errors and not life.failures

        world.run(course())
