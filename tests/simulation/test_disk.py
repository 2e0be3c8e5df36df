"""The simulated disk keeps what was synced, and may keep or lose the rest, in legal ways only."""

import errno
from collections.abc import Callable
from random import Random
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaq import ports
from tests.simulation.disk import BOOT_ID, Operation, PowerLoss, SimDisk

seeds = st.integers(0, 1 << 30)


def disk_of(seed: int, *, capacity: int | None = None, cold: float = 0.0) -> SimDisk:
    disk = SimDisk(Random(seed), capacity=capacity, cold=cold)
    disk.make_dir("/d")
    disk.sync_dir("/")
    return disk


def create(disk: SimDisk, path: str, data: bytes = b"", *, sync: bool = False) -> int:
    fd = disk.open(path, write=True, create=True)
    disk.pwrite(fd, data, 0)
    if sync:
        disk.fdatasync(fd)
        disk.sync_dir("/d")
    return fd


def after_crash(prepare: Callable[[SimDisk], object], *, power: bool = True) -> list[dict[str, bytes | None]]:
    """Return what 200 crashes after the same preparation leave."""
    found = []
    for seed in range(200):
        disk = disk_of(seed)
        prepare(disk)
        found.append(disk.crash(power=power).snapshot())
    return found


def test_it_is_a_files_port() -> None:
    files: ports.Files = disk_of(0)
    assert files.exists("/d")


# What a process sees


def test_what_is_written_is_read_at_once() -> None:
    disk = disk_of(0)
    fd = disk.open("/d/f", write=True, create=True)
    disk.pwrite_all(fd, [b"hello ", b"world"], 3)
    assert disk.pread(fd, 100, 0) == b"\0\0\0hello world"
    assert disk.pread(fd, 5, 3) == b"hello"
    assert disk.pread(fd, 5, 100) == b""
    assert disk.size(fd) == 14
    disk.truncate(fd, 8)
    disk.truncate(fd, 10)
    assert disk.read("/d/f") == b"\0\0\0hello\0\0"
    disk.close(fd)
    with pytest.raises(OSError, match="descriptor") as caught:
        disk.pread(fd, 1, 0)
    assert caught.value.errno == errno.EBADF


def test_names_behave_as_posix_says() -> None:
    disk = disk_of(0)
    disk.make_dir("/d/e/f")
    disk.make_dir("/d/e/f")
    disk.close(create(disk, "/d/b", b"bb"))
    disk.close(create(disk, "/d/a", b"a"))
    assert [(entry.name, entry.is_dir, entry.size) for entry in disk.list("/d")] == [
        ("a", False, 1),
        ("b", False, 2),
        ("e", True, 0),
    ]
    disk.rename("/d/a", "/d/b")
    assert disk.read("/d/b") == b"a"
    assert not disk.exists("/d/a")
    assert not disk.exists("/d/b/below")
    disk.rename("/d/b", "/d/b")
    disk.rename("/d/e/f", "/d/g")
    disk.remove_dir("/d/g")
    disk.remove("/d/b")
    assert [entry.name for entry in disk.list("/d")] == ["e"]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda disk: disk.open("/d/none"), FileNotFoundError),
        (lambda disk: disk.open("/none/f", write=True, create=True), FileNotFoundError),
        (lambda disk: disk.open("/d/f/x", create=True), NotADirectoryError),
        (lambda disk: disk.open("/d", write=True), IsADirectoryError),
        (lambda disk: disk.read("/d"), IsADirectoryError),
        (lambda disk: disk.list("/d/f"), NotADirectoryError),
        (lambda disk: disk.make_dir("/d/f"), FileExistsError),
        (lambda disk: disk.make_dir("/d/f/x"), NotADirectoryError),
        (lambda disk: disk.remove("/d/none"), FileNotFoundError),
        (lambda disk: disk.remove("/d/full"), IsADirectoryError),
        (lambda disk: disk.remove_dir("/d/f"), NotADirectoryError),
        (lambda disk: disk.remove_dir("/d/full"), OSError),
        (lambda disk: disk.rename("/d/none", "/d/x"), FileNotFoundError),
        (lambda disk: disk.rename("/d/f", "/d/full"), IsADirectoryError),
        (lambda disk: disk.rename("/d/full", "/d/f"), NotADirectoryError),
        (lambda disk: disk.rename("/d/full", "/d/full/x"), OSError),
        (lambda disk: disk.sync_dir("/d/f"), NotADirectoryError),
        (lambda disk: disk.pwrite(disk.open("/d/f"), b"x", 0), OSError),
        (lambda disk: disk.read("relative"), ValueError),
    ],
)
def test_what_the_system_refuses_is_refused_and_changes_nothing(
    call: Callable[[SimDisk], object], error: type[Exception]
) -> None:
    disk = disk_of(0)
    create(disk, "/d/f", b"f")
    disk.make_dir("/d/full")
    create(disk, "/d/full/x")
    before = disk.snapshot()
    with pytest.raises(error):
        call(disk)
    assert disk.snapshot() == before


def test_a_directory_is_locked_once_until_its_descriptor_closes() -> None:
    disk = disk_of(0)
    other = disk.reopen()
    fd = disk.lock_dir("/d")
    with pytest.raises(BlockingIOError):
        other.lock_dir("/d")
    disk.close(fd)
    other.lock_dir("/d")


def test_a_file_is_locked_once_until_its_descriptor_closes() -> None:
    disk = disk_of(0)
    fd = disk.lock_file("/d/lock")
    with pytest.raises(BlockingIOError):
        disk.lock_file("/d/lock")
    disk.close(fd)
    disk.reopen().lock_file("/d/lock")


def test_cold_reads_are_told_and_warm_ones_are_right() -> None:
    disk = disk_of(1, cold=0.5)
    fd = create(disk, "/d/f", b"abc")
    answers = {None if data is None else bytes(data) for data in (disk.pread_cached(fd, 2, 1) for _ in range(50))}
    assert answers == {None, b"bc"}


# Crashes


def test_the_end_of_a_process_keeps_what_was_written_and_frees_locks_and_descriptors() -> None:
    disk = disk_of(0)
    fd = create(disk, "/d/f", b"not synced")
    disk.lock_dir("/d")
    survivor = disk.reopen()
    found = disk.crash(power=False)
    assert found.read("/d/f") == b"not synced"
    found.lock_dir("/d")
    for call in (lambda: disk.read("/d/f"), lambda: disk.pread(fd, 1, 0), lambda: disk.close(fd)):
        with pytest.raises(PowerLoss):
            call()
    with pytest.raises(OSError, match="descriptor"):
        found.pread(fd, 1, 0)
    assert survivor.exists("/d/f")


def test_a_power_loss_ends_all_processes_of_the_disk() -> None:
    disk = disk_of(0)
    other = disk.reopen()
    found = disk.crash(power=True)
    with pytest.raises(PowerLoss):
        other.exists("/d")
    assert found.exists("/d")


writes = st.lists(st.tuples(st.integers(0, 3000), st.binary(min_size=1, max_size=1500)), max_size=8)


@settings(deadline=None)
@given(seeds, writes, writes)
def test_synced_bytes_survive_and_every_sector_holds_some_state_it_went_through(
    seed: int, synced: list[tuple[int, bytes]], unsynced: list[tuple[int, bytes]]
) -> None:
    disk = disk_of(seed)
    fd = create(disk, "/d/f")
    for position, data in synced:
        disk.pwrite(fd, data, position)
    disk.fdatasync(fd)
    disk.sync_dir("/d")
    states = [disk.read("/d/f")]
    for position, data in unsynced:
        disk.pwrite(fd, data, position)
        states.append(disk.read("/d/f"))
    found = disk.crash(power=True).read("/d/f")
    assert len(states[0]) <= len(found) <= len(states[-1])
    for start in range(0, len(found), 512):
        legal = {state[start : start + 512].ljust(512, b"\0")[: len(found) - start] for state in states}
        assert found[start : start + 512] in legal


@settings(deadline=None)
@given(
    seeds, st.lists(st.one_of(st.integers(0, 2500), st.tuples(st.integers(0, 2500), st.integers(1, 900))), max_size=9)
)
def test_cuts_and_growth_keep_what_was_synced_below_the_smallest_size(
    seed: int, steps: list[int | tuple[int, int]]
) -> None:
    disk = disk_of(seed)
    fd = create(disk, "/d/f", b"S" * 2000, sync=True)
    smallest, sizes = 2000, {2000}
    for step in steps:
        if isinstance(step, int):
            disk.truncate(fd, step)
        else:
            disk.pwrite(fd, b"w" * step[1], step[0])
        smallest = min(smallest, disk.size(fd))
        sizes.add(disk.size(fd))
    found = disk.crash(power=True).read("/d/f")
    assert smallest <= len(found) <= max(sizes)
    assert set(found) <= set(b"Sw\0")
    if not any(isinstance(step, tuple) for step in steps):
        assert found[:smallest] == b"S" * smallest


@settings(deadline=None)
@given(seeds)
def test_the_state_after_a_crash_is_durable_itself(seed: int) -> None:
    disk = disk_of(seed)
    create(disk, "/d/f", b"x" * 5000)
    disk.rename("/d/f", "/d/g")
    first = disk.crash(power=True)
    before = first.snapshot()
    assert first.crash(power=True).snapshot() == before


def test_unsynced_sectors_are_kept_and_lost_in_all_mixtures() -> None:
    def prepare(disk: SimDisk) -> None:
        fd = create(disk, "/d/f", bytes(1536), sync=True)
        disk.pwrite(fd, b"a" * 512 + b"b" * 512 + b"c" * 512, 0)

    mixtures = set()
    for found in after_crash(prepare):
        data = found["/d/f"]
        assert data is not None
        mixtures.add(tuple(data[start] != 0 for start in (0, 512, 1024)))
    assert len(mixtures) == 8


def test_a_file_may_grow_without_its_bytes_and_bytes_are_lost_with_the_size() -> None:
    def prepare(disk: SimDisk) -> None:
        fd = create(disk, "/d/f", b"s", sync=True)
        disk.pwrite(fd, b"x" * 1200, 1)

    sizes, zeros = set(), 0
    for found in after_crash(prepare):
        data = found["/d/f"]
        assert data is not None
        assert data[:1] == b"s"
        sizes.add(len(data))
        zeros += b"\0" in data
    assert {1, 1201} < sizes
    assert zeros > 10


def test_names_not_synced_may_go_although_the_bytes_were_synced() -> None:
    def prepare(disk: SimDisk) -> None:
        disk.fdatasync(create(disk, "/d/f", b"bytes"))

    found = [each.get("/d/f") for each in after_crash(prepare)]
    assert set(found) == {None, b"bytes"}


def test_syncing_a_directory_keeps_its_names_but_not_its_own() -> None:
    def prepare(disk: SimDisk) -> None:
        disk.make_dir("/d/e")
        disk.fdatasync(create(disk, "/d/e/f", b"x"))
        disk.sync_dir("/d/e")

    found = after_crash(prepare)
    assert {each.get("/d/e/f") for each in found} == {b"x", None}
    assert all(("/d/e" in each) == ("/d/e/f" in each) for each in found)


def test_a_rename_is_old_or_new_never_both_never_neither() -> None:
    def prepare(disk: SimDisk) -> None:
        create(disk, "/d/f", b"old", sync=True)
        create(disk, "/d/f.new", b"new", sync=True)
        disk.rename("/d/f.new", "/d/f")

    found = [{path: data for path, data in each.items() if data is not None} for each in after_crash(prepare)]
    old, new = {"/d/f": b"old", "/d/f.new": b"new"}, {"/d/f": b"new"}
    assert all(each in (old, new) for each in found)
    assert old in found
    assert new in found


def test_a_synced_rename_stays_and_brings_the_name_it_came_from() -> None:
    def prepare(disk: SimDisk) -> None:
        disk.make_dir("/other")
        disk.sync_dir("/")
        disk.fdatasync(create(disk, "/other/f", b"moved"))
        disk.rename("/other/f", "/d/f")
        disk.sync_dir("/d")

    assert all({path for path, data in each.items() if data is not None} == {"/d/f"} for each in after_crash(prepare))


def test_a_removed_file_may_come_back_until_the_directory_is_synced() -> None:
    def prepare(disk: SimDisk) -> None:
        create(disk, "/d/f", b"x", sync=True)
        disk.remove("/d/f")

    def prepare_synced(disk: SimDisk) -> None:
        prepare(disk)
        disk.sync_dir("/d")

    assert {each.get("/d/f") for each in after_crash(prepare)} == {None, b"x"}
    assert {each.get("/d/f") for each in after_crash(prepare_synced)} == {None}


def test_names_that_build_upon_lost_ones_are_lost_with_them() -> None:
    def prepare(disk: SimDisk) -> None:
        create(disk, "/d/f", b"1", sync=True)
        disk.remove("/d/f")
        disk.fdatasync(create(disk, "/d/f", b"2"))

    assert {each.get("/d/f") for each in after_crash(prepare)} == {None, b"1", b"2"}


def test_the_boot_id_changes_with_the_power_and_with_nothing_else() -> None:
    disk = disk_of(0)
    boot_id = disk.read(BOOT_ID)
    UUID(boot_id.decode().strip())
    same = disk.crash(power=False)
    assert same.read(BOOT_ID) == boot_id
    assert same.crash(power=True).read(BOOT_ID) != boot_id


# Faults


def test_power_can_be_cut_at_every_changing_call() -> None:
    def work(disk: SimDisk) -> None:
        fd = disk.open("/d/f", write=True, create=True)
        disk.pwrite(fd, b"x" * 1000, 0)
        disk.fdatasync(fd)
        disk.close(fd)
        disk.sync_dir("/d")
        disk.rename("/d/f", "/d/g")
        disk.sync_dir("/d")

    whole = disk_of(0)
    begun = whole.operations
    work(whole)
    assert whole.operations - begun == 6
    for number in range(1, 7):
        disk = disk_of(number)
        disk.crash_at(begun + number)
        with pytest.raises(PowerLoss):
            work(disk)
        assert disk.dead
        with pytest.raises(PowerLoss):
            disk.list("/d")
        found = disk.crash(power=True).snapshot()
        if number > 4:
            assert b"x" * 1000 in found.values()


def test_the_call_that_is_interrupted_has_happened_or_not_or_in_part() -> None:
    sizes = set()
    for seed in range(100):
        disk = disk_of(seed)
        fd = create(disk, "/d/f")
        disk.crash_at(disk.operations + 1)
        with pytest.raises(PowerLoss):
            disk.pwrite(fd, b"x" * 10, 0)
        data = disk.crash(power=False).read("/d/f")
        assert data == b"x" * len(data)
        sizes.add(len(data))
    assert sizes == set(range(11))


def test_power_loss_passes_through_except_exception() -> None:
    assert not issubclass(PowerLoss, Exception)


def test_errors_are_injected_where_they_match_and_mended() -> None:
    disk = disk_of(0)
    fd = create(disk, "/d/f")
    fault = disk.fail(lambda call: call.name == "pwrite" and call.path == "/d/f", OSError(errno.EIO, "broken"))
    once = disk.fail(lambda call: call.name == "fdatasync", OSError(errno.ENOSPC, "full"), times=1)
    with pytest.raises(OSError, match="broken") as caught:
        disk.pwrite(fd, b"x" * 100, 0)
    assert caught.value.errno == errno.EIO
    assert disk.read("/d/f") == b"x" * disk.size(fd)
    create(disk, "/d/other", b"fine")
    fault.stop()
    disk.pwrite(fd, b"x", 0)
    with pytest.raises(OSError, match="full"):
        disk.fdatasync(fd)
    disk.fdatasync(fd)
    assert (fault.met, once.met) == (1, 1)


def test_a_read_only_disk_is_one_predicate() -> None:
    disk = disk_of(0)
    fd = create(disk, "/d/f", b"x")
    disk.fail(lambda call: call.number is not None, OSError(errno.EROFS, "read-only"))
    calls: list[Callable[[], object]] = [
        lambda: disk.truncate(fd, 0),
        lambda: disk.remove("/d/f"),
        lambda: disk.make_dir("/d/x"),
    ]
    for call in calls:
        with pytest.raises(OSError, match="read-only"):
            call()
    assert disk.read("/d/f") == b"x"


def test_a_failed_sync_is_not_made_good_by_the_next_one() -> None:
    def prepare(disk: SimDisk) -> None:
        fd = create(disk, "/d/f", bytes(1024), sync=True)
        disk.pwrite(fd, b"a" * 512, 0)
        disk.fail(lambda call: call.name == "fdatasync", OSError(errno.EIO, "broken"), times=1)
        with pytest.raises(OSError, match="broken"):
            disk.fdatasync(fd)
        disk.pwrite(fd, b"b" * 512, 512)
        disk.fdatasync(fd)

    def prepare_again(disk: SimDisk) -> None:
        prepare(disk)
        fd = disk.open("/d/f", write=True)
        disk.pwrite(fd, b"a" * 512, 0)
        disk.fdatasync(fd)

    assert {each["/d/f"] for each in after_crash(prepare)} == {b"a" * 512 + b"b" * 512, bytes(512) + b"b" * 512}
    assert {each["/d/f"] for each in after_crash(prepare_again)} == {b"a" * 512 + b"b" * 512}


def test_a_full_disk_takes_what_fits_and_tells_how_much_is_free() -> None:
    disk = disk_of(0, capacity=1000)
    fd = create(disk, "/d/f", b"x" * 600)
    assert disk.free_space("/d")[1] == 400
    other = disk.open("/d/g", write=True, create=True)
    with pytest.raises(OSError, match="No space") as caught:
        disk.pwrite(other, b"y" * 500, 0)
    assert caught.value.errno == errno.ENOSPC
    assert disk.read("/d/g") == b"y" * 400
    disk.pwrite(fd, b"z" * 600, 0)
    with pytest.raises(OSError, match="No space"):
        disk.truncate(fd, 601)
    disk.remove("/d/f")
    assert disk.free_space("/d")[1] == 0
    disk.close(fd)
    assert disk.free_space("/d")[1] == 600


def test_the_log_tells_what_was_done() -> None:
    disk = disk_of(0)
    disk.log.clear()
    create(disk, "/d/f", b"abc")
    assert list(disk.log) == [
        Operation(None, "open", "/d/f"),
        Operation(3, "create", "/d/f"),
        Operation(4, "pwrite", "/d/f", 0, 3),
    ]


@settings(deadline=None)
@given(seeds)
def test_one_seed_gives_one_fate(seed: int) -> None:
    def fate() -> dict[str, bytes | None]:
        disk = disk_of(seed)
        for number in range(5):
            create(disk, f"/d/{number}", bytes([65 + number]) * 3000)
        disk.rename("/d/1", "/d/2")
        return disk.crash(power=True).snapshot()

    assert fate() == fate()
