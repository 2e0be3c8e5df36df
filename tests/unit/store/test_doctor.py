"""The doctor says what is there, and neither way out of foreign bytes destroys anything."""

import errno
from uuid import UUID

import pytest

from metaq.errors import ForeignBytes, StoreError, StoreLocked
from metaq.record import pack
from metaq.store import doctor
from metaq.store.store import BOOT_ID
from tests.simulation.disk import PowerLoss
from tests.unit.store.course import HOME, SAFE, Life, check_stopped, content_of, opened, read_all, reopened

SEGMENT = f"{HOME}/{SAFE}/{0:020}.meta"
FOREIGN = pack(77, 0, b"of somebody else")


async def leave_unclean(life: Life) -> None:
    """Three records, two of them in the partition file, the third in the journal alone."""
    life.open()
    life.put(SAFE, 60, 70)
    await life.settle()
    await life.store.mover.move_all()
    life.put(SAFE, 80)
    await life.settle()
    life.store.abandon()


def grow(life: Life, *records: bytes) -> None:
    """Append to the partition file behind our back."""
    disk = life.machine.disk
    fd = disk.open(SEGMENT, write=True)
    disk.pwrite(fd, b"".join(records), disk.size(fd))
    disk.close(fd)


def test_a_folder_is_new_then_in_use_then_clean_or_unclean() -> None:
    with opened() as (world, life):
        look = life.machine.disk

        async def course() -> list[doctor.Report]:
            reports = [doctor.examine(life.settings, look)]
            life.open()
            life.put(SAFE, 100)
            await life.settle()
            reports.append(doctor.examine(life.settings, look))
            life.store.abandon()
            reports.append(doctor.examine(life.settings, look))
            life.open()
            await life.close()
            reports.append(doctor.examine(life.settings, look))
            return reports

        new, used, unclean, clean = world.run(course())
        assert [r.state for r in (new, used, unclean, clean)] == ["new", "in use", "unclean", "clean"]
        assert [r.java_locked_out for r in (new, used, unclean, clean)] == [False, True, True, False]
        assert [r.partitions for r in (new, used, unclean, clean)] == [0, 0, 0, 1]
        assert (unclean.journal_files, unclean.journal_bytes) == (1, life.settings.journal_file_size)
        assert (clean.journal_files, clean.journal_bytes) == (0, 0)
        assert (new.generation, unclean.generation, clean.generation) == (0, 1, 2)
        assert (clean.aside_files, clean.aside_bytes, clean.done) == (0, 0, ())


def test_looking_changes_nothing() -> None:
    with opened() as (world, life):
        world.run(leave_unclean(life))
        before = life.machine.disk.snapshot()
        doctor.examine(life.settings, life.machine.disk)
        assert life.machine.disk.snapshot() == before


async def refused(life: Life) -> None:
    with pytest.raises(ForeignBytes, match=rf"{SEGMENT}.*--keep-journal.*--keep-files"):
        life.open()


def test_keeping_the_journal_sets_the_surplus_aside() -> None:
    with opened() as (world, life):
        world.run(leave_unclean(life))
        grow(life, b"x" * 80, FOREIGN)
        before = life.machine.disk.snapshot()
        world.run(refused(life))
        after = life.machine.disk.snapshot()
        assert {path: after[path] for path in before} == before, "a refused start must touch nothing"
        report = world.run(doctor.keep_journal(life.settings, life.machine.outside))
        assert report.state == "clean"
        assert report.done == (f"{HOME}/pymetaq/aside/{SAFE}@210.1.cut",)
        assert life.machine.disk.read(report.done[0]) == FOREIGN
        check_stopped(life.machine.disk, life.model)


def test_keeping_the_files_gives_the_journal_up_and_keeps_it_aside() -> None:
    with opened() as (world, life):
        world.run(leave_unclean(life))
        disk = life.machine.disk
        journal = disk.read(f"{HOME}/pymetaq/journal/{1:020}.journal")
        kept = disk.read(SEGMENT)
        grow(life, FOREIGN * 3)
        world.run(refused(life))
        report = doctor.keep_files(life.settings, disk)
        assert (report.state, report.java_locked_out, report.journal_files) == ("clean", False, 0)
        assert [disk.read(path) for path in report.done] == [journal]

        async def start() -> bytes:
            store = life.open()
            content = await read_all(store, life.log(SAFE))
            await life.close()
            return content

        assert world.run(start()) == kept + FOREIGN * 3 == content_of(disk, f"{HOME}/{SAFE}")[1]


def test_giving_the_journal_up_can_be_interrupted_anywhere_and_done_again() -> None:
    for at in range(1, 40):
        for power in (False, True):
            with opened() as (world, life):
                world.run(leave_unclean(life))
                life.machine.crash(power=False)
                life.machine.disk.crash_at(at)
                try:
                    doctor.keep_files(life.settings, life.machine.disk)
                except PowerLoss:
                    life.machine.crash(power=power)
                    report = doctor.examine(life.settings, life.machine.disk)
                    assert report.state in ("clean", "unclean")
                    assert report.state == "clean" or report.java_locked_out
                    if report.java_locked_out:
                        assert doctor.keep_files(life.settings, life.machine.disk).state == "clean"
                else:
                    return
    pytest.fail("it takes more operations than were tried")


def test_a_folder_in_use_is_left_alone() -> None:
    with opened() as (world, life):

        async def course() -> None:
            life.open()
            with pytest.raises(StoreLocked, match=f"{HOME} is in use"):
                doctor.keep_files(life.settings, life.machine.disk)
            with pytest.raises(StoreLocked):
                await doctor.keep_journal(life.settings, life.machine.outside)
            await life.close()

        world.run(course())


def test_there_is_nothing_to_give_up_after_a_stop_in_order() -> None:
    with opened() as (world, life):

        async def course() -> None:
            life.open()
            await life.close()

        world.run(course())
        with pytest.raises(StoreError, match="stopped in order"):
            doctor.keep_files(life.settings, life.machine.disk)


def test_foreign_bytes_after_another_boot_are_set_aside_without_asking() -> None:
    with opened() as (world, life):
        world.run(leave_unclean(life))
        grow(life, b"x" * 80, FOREIGN)
        life.machine.disk.media.boot_id = UUID(int=7)
        world.run(reopened(life))
        check_stopped(life.machine.disk, life.model)
        assert life.machine.disk.read(f"{HOME}/pymetaq/aside/{SAFE}@210.1.cut") == FOREIGN


def test_foreign_bytes_are_set_aside_where_the_system_does_not_tell_when_it_was_started() -> None:
    with opened() as (world, life):
        life.machine.disk.fail(lambda op: op.path == BOOT_ID, FileNotFoundError(errno.ENOENT, ""))
        world.run(leave_unclean(life))
        grow(life, b"x" * 80, FOREIGN)
        world.run(reopened(life))
        check_stopped(life.machine.disk, life.model)
