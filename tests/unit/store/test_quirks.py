"""The quirks of the original's store that are not to be had again, one test each, by their numbers."""

import asyncio
import logging
import zipfile
from dataclasses import replace
from io import BytesIO

import pytest

from metaq.config.model import DeletePolicy
from metaq.errors import CorruptStore, OffsetMoved, StoreLocked
from metaq.model import TopicPartition
from metaq.record import HEADER_SIZE, pack
from metaq.store.log import segment_name
from metaq.store.store import MessageStore
from tests.simulation.disk import SimDisk
from tests.unit.store.course import ALSO, FAST, HOME, SAFE, Life, content_of, opened, read_all

WEEK = 7 * 86400.0


def write(disk: SimDisk, path: str, data: bytes) -> None:
    """Make a file, its folder too, as another broker would have left it."""
    disk.make_dir(path.rpartition("/")[0])
    fd = disk.open(path, write=True, create=True)
    disk.pwrite(fd, data, 0)
    disk.fdatasync(fd)
    disk.close(fd)


def segment(key: TopicPartition, base: int) -> str:
    return f"{HOME}/{key}/{segment_name(base)}"


async def started_and_stopped(life: Life) -> dict[TopicPartition, tuple[int, bytes]]:
    """Open, read everything, stop; return first offset and content of each partition."""
    store = life.open()
    found = {log.key: (log.start, await read_all(store, log)) for log in store.all()}
    await life.close()
    return found


def test_s1_a_large_message_that_fills_a_segment_stops_nothing() -> None:
    with opened() as (world, life):

        async def course() -> None:
            life.open()
            life.put(SAFE, 4000)
            await life.settle()
            small = life.put(SAFE, 50)
            await life.settle()
            assert small[0].acked
            assert life.log(SAFE).bases == [0, 4000]

        world.run(course())


def test_s2_offsets_are_right_when_large_and_small_messages_race() -> None:
    with opened() as (world, life):

        async def course() -> None:
            life.open()
            for _ in range(6):
                life.put(SAFE, 3200)
                life.put(SAFE, 60)
                await asyncio.sleep(0.0004)
                life.put(SAFE, 40, 3100)
            await life.settle()
            await life.check()

        world.run(course())


def test_s3_a_large_message_is_synced_and_can_be_read_when_it_is_acknowledged() -> None:
    with opened() as (world, life):

        async def course() -> None:
            store = life.open()
            put = life.put(SAFE, 5000)[0]
            while not put.acked:
                await asyncio.sleep(0.0001)
            assert store.create(SAFE).visible == 5000
            assert await read_all(store, store.create(SAFE)) == put.data

        world.run(course())
        life.machine.crash(power=True)
        life.model.crash(power=True)
        assert life.model.of(SAFE).puts[0].durable
        assert world.run(started_and_stopped(life))[SAFE] == (0, life.model.of(SAFE).puts[0].data)


def test_s4_all_partitions_are_loaded_whatever_else_lies_beside_them() -> None:
    with opened() as (world, life):
        disk = life.machine.disk
        record = pack(1, 0, b"hello")
        for number in range(15):
            write(disk, segment(TopicPartition("old", number), 0), record)
        write(disk, f"{HOME}/zzz", b"a file that sorts last")
        disk.make_dir(f"{HOME}/transactions")
        disk.make_dir(f"{HOME}/lost+found")
        found = world.run(started_and_stopped(life))
        assert found == {TopicPartition("old", number): (0, record) for number in range(15)}


@pytest.mark.parametrize("zeros", [HEADER_SIZE - 1, HEADER_SIZE, 1000])
def test_s5_a_tail_of_zeros_is_cut_and_kept_aside(zeros: int) -> None:
    with opened() as (world, life):
        record = pack(1, 0, b"hello")
        write(life.machine.disk, segment(SAFE, 0), record + bytes(zeros))
        assert world.run(started_and_stopped(life))[SAFE] == (0, record)
        assert life.machine.disk.read(f"{HOME}/pymetaq/aside/{SAFE}@25.1.cut") == bytes(zeros)


def test_s6_retention_takes_segments_from_the_head_only() -> None:
    with opened() as (world, life):

        async def course() -> list[int]:
            store = life.open()
            life.put(SAFE, *[1000] * 9)
            await life.settle()
            await life.checkpoint()
            disk, log = life.machine.disk, store.create(SAFE)
            young = disk.media.find(segment(SAFE, log.bases[1]))
            young.mtime += WEEK * 2
            await store.housekeeping.retire_log(log, life.machine.clock.time() + WEEK * 1.5)
            return log.bases

        assert world.run(course()) == [2000, 4000, 6000, 8000], "the old ones behind the young one stay"


def test_s6_retention_leaves_what_recovery_or_a_tail_still_needs() -> None:
    with opened() as (world, life):

        async def course() -> None:
            store = life.open()
            later = life.machine.clock.time() + WEEK * 2
            life.put(SAFE, 2000)
            await life.settle()
            await life.checkpoint()
            life.put(SAFE, 100)
            await life.settle()
            log = store.create(SAFE)
            await store.housekeeping.retire_log(log, later)
            assert log.bases == [0, 2000], "the checkpoint has the first one as active"
            await life.checkpoint()
            await store.housekeeping.retire_log(log, later)
            assert log.bases == [2000]
            life.put(ALSO, 2000, 100)
            await life.settle()
            log = store.create(ALSO)
            await store.mover.move_all()
            log.durable, log.moved = 2000, 0  # as after a move that a cut overtook
            await store.housekeeping.retire_log(log, later)
            assert log.bases == [0, 2000], "it is still in the tail"

        world.run(course())


def test_s6_readers_are_sent_past_a_hole_and_the_broker_starts() -> None:
    with opened() as (world, life):
        record = pack(1, 0, b"hello")
        for base in (0, 100):
            write(life.machine.disk, segment(SAFE, base), record)

        async def course() -> None:
            store = life.open()
            log = store.create(SAFE)
            assert (log.start, log.visible) == (0, 125)
            for offset in (25, 60, 99):
                with pytest.raises(OffsetMoved) as moved:
                    store.slice(log, offset, 10)
                assert moved.value.offset == 100
            put = life.put(SAFE, 40)
            await life.settle()
            assert put[0].offset == 125
            store.abandon()
            store = life.open()
            assert store.create(SAFE).holes == {0: 25}
            await life.close()

        world.run(course())


def test_s7_a_zip_that_fails_leaves_the_segment_where_it_is_and_readable() -> None:
    with opened() as (world, life):

        async def course() -> None:
            store = life.open()
            life.put(SAFE, *[1000] * 5)
            await life.settle()
            await life.checkpoint()
            log = store.create(SAFE)
            zipped = DeletePolicy(action="archive", age=WEEK, compress=True)
            log.configure(replace(log.config, delete_policy=zipped))
            disk = life.machine.disk
            fault = disk.fail(lambda op: op.name == "pwrite" and ".zip" in op.path, OSError(28, "full"))
            before = disk.snapshot()
            await store.housekeeping.retire_log(log, life.machine.clock.time() + WEEK * 2)
            assert disk.snapshot() == before and log.bases == [0, 2000, 4000]
            await life.check()
            fault.stop()
            first = disk.read(segment(SAFE, 0))
            await store.housekeeping.retire_log(log, life.machine.clock.time() + WEEK * 2)
            assert log.bases == [4000]
            assert [entry.name for entry in disk.list(f"{HOME}/{SAFE}")] == [
                f"{segment_name(0)}.zip",
                f"{segment_name(2000)}.zip",
                segment_name(4000),
            ]
            with zipfile.ZipFile(BytesIO(disk.read(f"{segment(SAFE, 0)}.zip"))) as archive:
                assert archive.namelist() == [segment_name(0)] and archive.testzip() is None
                assert archive.read(segment_name(0)) == first
            await life.close()

        world.run(course())


def test_s8_nobody_reads_beyond_what_is_acknowledged() -> None:
    with opened() as (world, life):

        async def course() -> None:
            store = life.open()
            life.put(SAFE, 100)
            await life.settle()
            late = life.put(SAFE, 200)
            log = store.create(SAFE)
            while not late[0].acked:
                content = await read_all(store, log)
                assert len(content) == 100 or late[0].acked
                await asyncio.sleep(0.0001)
            assert log.visible == 300

        world.run(course())


def test_s9_the_nearest_offset_is_the_first_the_segments_or_the_end() -> None:
    with opened() as (world, life):

        async def course() -> None:
            store = life.open()
            life.put(SAFE, *[1000] * 5)
            await life.settle()
            log = store.create(SAFE)
            asked = (-5, 0, 30, 1999, 2000, 2150, 4999, 5000, 99999)
            assert [store.nearest(log, offset) for offset in asked] == [0, 0, 0, 0, 2000, 2000, 4000, 5000, 5000]

        world.run(course())


def test_s11_what_stands_behind_a_bad_record_is_kept_aside() -> None:
    with opened() as (world, life):
        good, bad = pack(1, 0, b"good"), bytearray(pack(2, 0, b"bad"))
        bad[-1] ^= 1
        rest = bytes(bad) + pack(3, 0, b"after it")
        write(life.machine.disk, segment(SAFE, 0), good + rest)
        assert world.run(started_and_stopped(life))[SAFE] == (0, good)
        assert life.machine.disk.read(f"{HOME}/pymetaq/aside/{SAFE}@{len(good)}.1.cut") == rest


def test_s12_a_partition_stays_where_it_is_when_its_data_path_changes(caplog: pytest.LogCaptureFixture) -> None:
    with opened() as (world, life):

        async def course() -> None:
            life.open()
            life.put(FAST, 100)
            await life.settle()
            await life.close()
            moved = [replace(topic, data_path="/elsewhere") for topic in life.settings.topics]
            life.settings = replace(life.settings, topics=tuple(moved))
            with caplog.at_level(logging.WARNING):
                life.open()
            assert f"{FAST} stays in {HOME}" in caplog.text
            put = life.put(FAST, 50)
            also = life.put(TopicPartition("fast", 1), 60)
            await life.settle()
            assert put[0].offset == 100
            await life.check()
            await life.close()
            disk = life.machine.disk
            assert content_of(disk, f"{HOME}/{FAST}")[1].endswith(put[0].data)
            assert content_of(disk, "/elsewhere/fast-1") == (0, also[0].data)
            assert not disk.exists(f"/elsewhere/{FAST}")

        world.run(course())


def test_s14_names_that_are_no_partition_or_no_segment_are_left_alone() -> None:
    with opened() as (world, life):
        disk, record = life.machine.disk, pack(1, 0, b"hello")
        strange = [
            f"{HOME}/my-backup/x",
            f"{HOME}/safe-007/{segment_name(0)}",
            f"{HOME}/-3/{segment_name(0)}",
            f"{HOME}/safe-٣/{segment_name(0)}",
            f"{HOME}/{SAFE}/notes.meta",
            f"{HOME}/{SAFE}/{1 << 63}.meta",
            f"{segment(SAFE, 0)}.arc",
            f"{HOME}/{SAFE}/sub/{segment_name(9)}",
        ]
        write(disk, segment(SAFE, 0), record)
        for path in strange:
            write(disk, path, b"strange")
        assert world.run(started_and_stopped(life)) == {SAFE: (0, record)}
        assert all(disk.read(path) == b"strange" for path in strange)


def test_s17_two_brokers_cannot_open_one_folder_and_no_lock_file_is_left() -> None:
    with opened() as (world, life):

        async def course() -> None:
            life.open()
            with pytest.raises(StoreLocked, match=f"{HOME} is in use by another broker"):
                MessageStore.open(life.settings, life.machine.outside)
            await life.close()
            assert [entry.name for entry in life.machine.disk.list(HOME)] == ["pymetaq", "transactions"]
            assert life.machine.disk.list(f"{HOME}/transactions") == []
            life.open()
            await life.close()

        world.run(course())


def test_s17_a_failed_start_locks_nobody_out() -> None:
    with opened() as (world, life):
        write(life.machine.disk, segment(SAFE, 0), pack(1, 0, b"x" * 100))
        write(life.machine.disk, segment(SAFE, 50), pack(2, 0, b"y"))

        async def course() -> None:
            for _ in range(2):
                with pytest.raises(CorruptStore):
                    life.open()

        world.run(course())


def test_s20_names_are_written_in_20_ascii_digits_and_shorter_ones_are_read() -> None:
    assert segment_name(1073741903) == "00000000001073741903.meta"
    with opened() as (world, life):
        disk, record = life.machine.disk, pack(1, 0, b"hello")
        write(disk, f"{HOME}/{ALSO}/7.meta", record)
        assert world.run(started_and_stopped(life)) == {ALSO: (7, record)}
        assert [entry.name for entry in disk.list(f"{HOME}/{ALSO}")] == [segment_name(7)]
