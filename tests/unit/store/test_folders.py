"""Data folders as they are found: each has its answer or one clear error, and an error changes nothing."""

import errno
import os
from dataclasses import replace

import pytest

from metaq.errors import CorruptStore, StoreError
from metaq.record import pack
from metaq.store.log import segment_name
from tests.simulation.world import World
from tests.unit.store.course import ALSO, FAST, HOME, SAFE, Life, Put, config, content_of, crash, opened, recover
from tests.unit.store.test_quirks import segment, started_and_stopped, write

RECORD = pack(1, 0, b"hello")  # 25 bytes


def refused(world: World, life: Life, text: str) -> None:
    """A start is refused with CorruptStore, and changes nothing."""

    async def start() -> None:
        with pytest.raises(CorruptStore, match=text):
            life.open()

    before = life.machine.disk.snapshot()
    world.run(start())
    after = life.machine.disk.snapshot()
    assert {path: after.get(path) for path in before} == before


@pytest.mark.parametrize("cut", [1, 19, 20, 24])
def test_a_torn_tail_is_cut_at_the_last_whole_record(cut: int) -> None:
    with opened() as (world, life):
        write(life.machine.disk, segment(SAFE, 0), RECORD + RECORD[:cut])
        assert world.run(started_and_stopped(life))[SAFE] == (0, RECORD)
        assert life.machine.disk.read(f"{HOME}/pymetaq/aside/{SAFE}@25.1.cut") == RECORD[:cut]
        assert content_of(life.machine.disk, f"{HOME}/{SAFE}") == (0, RECORD)


def test_a_record_whose_header_promises_more_than_there_is_costs_no_memory() -> None:
    with opened() as (world, life):
        write(life.machine.disk, segment(SAFE, 0), RECORD + b"\x7f\xff\xff\xff" + bytes(100))
        assert world.run(started_and_stopped(life))[SAFE] == (0, RECORD)


def test_a_negative_length_ends_a_segment() -> None:
    with opened() as (world, life):
        write(life.machine.disk, segment(SAFE, 0), RECORD + b"\xff" * 100)
        assert world.run(started_and_stopped(life))[SAFE] == (0, RECORD)


def test_an_empty_segment_and_an_empty_folder_are_an_empty_partition() -> None:
    with opened() as (world, life):
        write(life.machine.disk, segment(SAFE, 500), b"")
        life.machine.disk.make_dir(f"{HOME}/{ALSO}")
        assert world.run(started_and_stopped(life)) == {SAFE: (500, b""), ALSO: (0, b"")}


def test_segments_that_overlap_are_refused_by_name() -> None:
    with opened() as (world, life):
        write(life.machine.disk, segment(SAFE, 0), RECORD * 2)
        write(life.machine.disk, segment(SAFE, 25), RECORD)
        refused(world, life, f"{segment_name(0)} ends at 50, behind the beginning of {segment_name(25)}")


def test_two_files_of_one_offset_are_refused_and_neither_is_touched() -> None:
    with opened() as (world, life):
        write(life.machine.disk, segment(SAFE, 7), RECORD)
        write(life.machine.disk, f"{HOME}/{SAFE}/7.meta", RECORD * 2)
        refused(world, life, "two files begin at offset 7")


def test_a_journal_without_a_checkpoint_is_refused() -> None:
    with opened() as (world, life):
        world.run(leave_unclean(life))
        life.machine.disk.remove(f"{HOME}/pymetaq/checkpoint/checkpoint")
        refused(world, life, "has a journal but no checkpoint")


def test_a_damaged_checkpoint_is_refused() -> None:
    with opened() as (world, life):
        world.run(leave_unclean(life))
        path = f"{HOME}/pymetaq/checkpoint/checkpoint"
        fd = life.machine.disk.open(path, write=True)
        life.machine.disk.pwrite(fd, b"7", 20)
        life.machine.disk.close(fd)
        refused(world, life, f"{path}")


async def leave_unclean(life: Life) -> None:
    life.open()
    life.put(SAFE, 300)
    life.put(FAST, 400)
    await life.settle()
    await life.checkpoint()
    life.put(SAFE, 200)
    life.put(FAST, 100)
    await life.settle()
    life.store.abandon()


def test_a_partition_that_is_gone_after_a_crash_is_refused_by_name() -> None:
    with opened() as (world, life):
        world.run(leave_unclean(life))
        life.machine.disk.remove(segment(SAFE, 0))
        refused(world, life, f"{HOME}/{SAFE}: bytes up to offset 300 were on disk, its files end at 0")


def test_a_partition_that_is_gone_after_a_stop_in_order_begins_anew() -> None:
    with opened() as (world, life):

        async def course() -> None:
            life.open()
            life.put(SAFE, 300)
            life.put(ALSO, 100)
            await life.settle()
            await life.close()
            life.machine.disk.remove(segment(SAFE, 0))
            life.machine.disk.remove_dir(f"{HOME}/{SAFE}")
            life.model.logs.pop(SAFE)
            life.open()
            assert life.put(SAFE, 50)[0].offset == 0
            await life.settle()
            await life.check()
            await life.close()

        world.run(course())


def test_a_data_path_that_no_topic_names_any_more_is_refused_after_a_crash() -> None:
    with opened() as (world, life):
        here = life.settings
        there = tuple(replace(topic, data_path="/elsewhere") for topic in here.topics)
        life.settings = replace(here, topics=there)
        world.run(leave_unclean(life))
        life.settings = here
        refused(world, life, f"partition {FAST} lies in /elsewhere, which no topic's dataPath names any more")


def test_a_damaged_round_that_was_on_disk_is_refused_with_file_and_position() -> None:
    with opened() as (world, life):

        async def course() -> None:
            life.open()
            for _ in range(3):
                life.put(SAFE, 100)
                await life.settle()
            life.store.abandon()

        world.run(course())
        path = f"{HOME}/pymetaq/journal/{1:020}.journal"
        fd = life.machine.disk.open(path, write=True)
        life.machine.disk.pwrite(fd, b"?", 4096 + 60)
        life.machine.disk.close(fd)
        refused(
            world,
            life,
            rf"{path} is damaged at 4096: round 1 cannot be read, but a later\s+one, at \d+, says that round",
        )


def test_a_damaged_last_round_is_the_end_of_the_log() -> None:
    """Nothing tells it from a round that a loss of power tore: nobody was promised more than what is before it."""
    with opened() as (world, life):

        async def course() -> None:
            life.open()
            life.put(SAFE, 100)
            await life.settle()
            end = life.store.journal.mark().position
            life.put(FAST, 100)
            await life.settle()
            life.store.abandon()
            disk = life.machine.disk
            fd = disk.open(f"{HOME}/pymetaq/journal/{1:020}.journal", write=True)
            disk.pwrite(fd, b"?", end + 50)
            disk.close(fd)

        world.run(course())
        crash(life.machine, life.model, power=True)
        recover(world, life)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_that_may_not_be_written_is_one_error_that_names_it(number: int) -> None:
    with opened() as (world, life):
        life.machine.disk.fail(lambda op: op.number is not None, OSError(number, os.strerror(number)))

        async def start() -> None:
            with pytest.raises(OSError, match=f"{os.strerror(number)}.*{HOME}"):
                life.open()

        world.run(start())


def test_cut_bytes_that_cannot_be_kept_aside_are_not_cut() -> None:
    with opened() as (world, life):
        write(life.machine.disk, segment(SAFE, 0), RECORD + b"torn")

        async def start() -> None:
            fault = life.machine.disk.fail(lambda op: "/aside/" in op.path and op.name == "pwrite", OSError(28, "full"))
            with pytest.raises(StoreError, match=f"cannot keep the bytes that {segment(SAFE, 0)} holds from 25 on"):
                life.open()
            assert life.machine.disk.read(segment(SAFE, 0)) == RECORD + b"torn"
            fault.stop()
            life.open()
            await life.close()

        world.run(start())
        assert life.machine.disk.read(segment(SAFE, 0)) == RECORD


def test_a_large_run_that_changed_on_disk_is_refused() -> None:
    with opened() as (world, life):

        async def course() -> None:
            life.open()
            life.put(SAFE, 5000)
            await life.settle()
            life.store.abandon()

        world.run(course())
        fd = life.machine.disk.open(segment(SAFE, 0), write=True)
        life.machine.disk.pwrite(fd, b"?", 2500)
        life.machine.disk.close(fd)
        refused(world, life, "5000 bytes at offset 0 are not those that were synced there")


def test_what_another_broker_appended_after_a_stop_in_order_is_accepted_and_its_torn_tail_cut() -> None:
    with opened() as (world, life):

        async def course() -> None:
            life.open()
            life.put(SAFE, 300)
            await life.settle()
            await life.close()
            disk = life.machine.disk
            old = disk.read(segment(SAFE, 0))
            write(disk, segment(SAFE, 0), old + RECORD * 2)
            write(disk, segment(SAFE, 350), RECORD * 3 + RECORD[:7])
            log = life.model.of(SAFE)
            log.puts += [Put(300 + 25 * number, RECORD, True, True) for number in range(5)]
            life.open()
            await life.check()
            assert life.log(SAFE).bases == [0, 350]
            life.put(SAFE, 60)
            await life.settle()
            life.store.abandon()
            life.open()
            await life.check()
            await life.close()

        world.run(course())


def test_opening_again_and_again_without_a_put_changes_no_partition_file_and_adds_no_journal_files() -> None:
    with opened() as (world, life):

        async def course() -> None:
            life.open()
            life.put(SAFE, 300)
            await life.settle()
            await life.close()
            before = content_of(life.machine.disk, f"{HOME}/{SAFE}")
            for _ in range(4):
                life.open()
                await life.check()
                await life.close()
            assert content_of(life.machine.disk, f"{HOME}/{SAFE}") == before
            journals = life.machine.disk.list(f"{HOME}/pymetaq/journal")
            assert len(journals) <= 2, [entry.name for entry in journals]  # one and its successor

        world.run(course())


def test_a_folder_that_was_never_stopped_in_order_keeps_a_bounded_number_of_journal_files() -> None:
    with opened(config()) as (world, life):

        async def course() -> None:
            for _ in range(6):
                life.open()
                await life.checkpoint()
                life.store.abandon()
            journals = life.machine.disk.list(f"{HOME}/pymetaq/journal")
            assert len(journals) <= 3, [entry.name for entry in journals]

        world.run(course())
