"""The small parts of the store: checkpoint, log, retention, space, reader, partition files."""

import errno
import json
from collections.abc import Iterator
from random import Random
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.config.model import DeletePolicy, TopicConfig
from metaq.errors import CorruptStore, DiskFull, NothingAtOffset, OffsetMoved, StoreError
from metaq.model import TopicPartition
from metaq.store import checkpoint as checkpoints
from metaq.store.checkpoint import Checkpoint, LogState, ProducerState
from metaq.store.journal import Mark
from metaq.store.log import Countdown, PartitionLog, segment_name
from metaq.store.partition_files import PartitionFiles, Piece
from metaq.store.reader import Cold, Parts, Reader
from metaq.store.retention import Sealed, dispose, expired
from metaq.store.space import Space, write_error
from tests.simulation.disk import PowerLoss, SimDisk
from tests.simulation.threads import InlineThreads

counts = st.integers(0, 2**62)
states = st.builds(
    LogState,
    counts,
    st.text(max_size=9),
    counts,
    st.text(max_size=9),
    counts,
    counts,
    counts,
    st.lists(st.tuples(counts, counts), max_size=2).map(tuple),
)
producers = st.builds(
    ProducerState, counts, counts, st.lists(st.tuples(*[counts] * 6, st.floats(0, 1e9)), max_size=2).map(tuple)
)
made = st.builds(
    Checkpoint,
    mark=st.builds(Mark, counts, counts, counts, counts, counts),
    clean=st.booleans(),
    highest_id=st.integers(-(2**63), 2**63),
    next_log_id=counts,
    boot_id=st.just("ab" * 16),
    logs=st.lists(states, max_size=4),
    producers=st.lists(producers, max_size=3),
)


@given(made)
def test_a_checkpoint_is_read_back(checkpoint: Checkpoint) -> None:
    assert checkpoints.decode(checkpoints.encode(checkpoint), "here") == checkpoint


@given(made, st.data())
def test_a_checkpoint_that_is_damaged_or_cut_is_refused(checkpoint: Checkpoint, data: st.DataObject) -> None:
    text = bytearray(checkpoints.encode(checkpoint))
    position = data.draw(st.integers(0, len(text) - 2))
    changed = bytes(text[:position])
    if data.draw(st.booleans()):
        text[position] ^= data.draw(st.integers(1, 255))
        changed = bytes(text)
    with pytest.raises(CorruptStore, match="here"):
        checkpoints.decode(changed, "here")


def test_a_checkpoint_of_a_later_release_is_refused_by_its_version() -> None:
    lines = checkpoints.encode(Checkpoint(mark=Mark(1, 2, 3, 4, 5), clean=True)).splitlines()
    head = json.dumps({**json.loads(lines[0]), "version": 2}).encode() + b"\n"
    with pytest.raises(CorruptStore, match="here: version 2, this release reads 1"):
        checkpoints.decode(head + b'{"crc": %d}\n' % crc32(head), "here")


def test_a_checkpoint_is_the_old_one_or_the_new_one_whatever_happens_while_it_is_saved() -> None:
    old, new = (Checkpoint(mark=Mark(n, 0, 0, 0, 0), clean=False) for n in (1, 2))
    for at in range(1, 10):
        for power in (False, True):
            disk = SimDisk(Random(at))
            disk.make_dir("/own")
            disk.sync_dir("/")
            checkpoints.save(disk, "/own", old)
            disk = disk.reopen()
            disk.crash_at(at)
            try:
                checkpoints.save(disk, "/own", new)
                expected = [new]
            except PowerLoss:
                expected = [old, new]
            assert checkpoints.load(disk.crash(power=power), "/own") in expected


# -- the log in memory


def a_log(*runs: int, limit: int = 100) -> PartitionLog:
    """A log with runs of these sizes in its tail."""
    log = PartitionLog(1, TopicPartition("t", 0), "/d/t-0", "", TopicConfig(name="t"))
    log.limit = limit
    log.restore([0], {}, 0)
    for size in runs:
        log.extend_tail(log.visible, bytes([len(log.tail_runs) + 1]) * size)
        log.end = log.visible
    return log


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.data())
def test_the_tail_gives_any_piece_of_itself(sizes: list[int], data: st.DataObject) -> None:
    log = a_log(*sizes)
    whole = b"".join(log.tail_runs)
    start = data.draw(st.integers(0, len(whole) - 1))
    end = data.draw(st.integers(start, len(whole)))
    assert b"".join(log.slice_tail(start, end)) == whole[start:end]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.data())
def test_a_cut_log_ends_where_it_was_cut(sizes: list[int], data: st.DataObject) -> None:
    log = a_log(*sizes)
    whole, total = b"".join(log.tail_runs), sum(sizes)
    to = data.draw(st.integers(0, total))
    assert log.cut_back(to) == total - to
    assert (log.end, log.visible) == (to, to)
    assert b"".join(log.tail_runs) == whole[:to]


def test_undoing_goes_back_to_what_is_visible_with_its_segments() -> None:
    log = a_log(60)
    log.pending, log.end = [b"x" * 50], 110
    log.bases.append(110)
    log.undo()
    assert (log.end, log.bases, log.pending, log.roll_at) == (60, [0], [], 100)


def test_a_hole_ends_a_segment_before_the_next_begins() -> None:
    log = a_log()
    log.restore([0, 100, 200], {0: 80}, 250)
    assert log.segment_of(10) == (0, 80)
    assert log.segment_of(90) == (0, 80) and log.after_hole(90) == 100
    assert log.segment_of(100) == (100, 200)
    assert log.segment_of(249) == (200, 250)


def test_a_countdown_passes_on_the_first_error_when_all_were_told() -> None:
    told: list[Exception | None] = []
    gate = Countdown(told.append, 3)
    first = DiskFull("a")
    for error in (None, first, DiskFull("b")):
        assert told == []
        gate(error)
    assert told == [first]


# -- retention


def test_segments_expire_from_the_head_on_when_they_are_strictly_older_and_covered() -> None:
    policy = DeletePolicy(age=10.0)
    segments = [Sealed(0, 5, 80.0), Sealed(5, 9, 89.9), Sealed(9, 20, 90.0), Sealed(20, 30, 0.0)]
    assert expired(segments, policy, 100.0, durable=99) == [0, 5]
    assert expired(segments, policy, 100.1, durable=99) == [0, 5, 9, 20]
    assert expired(segments, policy, 100.1, durable=8) == [0]
    assert expired(segments, DeletePolicy(age=-3600.0), 0.0, durable=99) == [0, 5, 9, 20]
    assert expired([], policy, 100.0, durable=99) == []


@pytest.mark.parametrize(
    ("policy", "left"),
    [
        (DeletePolicy(), {}),
        (DeletePolicy(action="archive"), {".meta.arc": b"content"}),
    ],
    ids=["delete", "archive"],
)
def test_a_segment_is_disposed_of_durably(policy: DeletePolicy, left: dict[str, bytes]) -> None:
    disk = SimDisk(Random(1))
    make(disk, f"/d/{segment_name(0)}", b"content")
    dispose(disk, "/d", 0, policy)
    after = disk.crash(power=True)
    assert {entry.name[20:]: after.read(f"/d/{entry.name}") for entry in after.list("/d")} == left


def test_a_segment_or_its_archive_is_there_whatever_happens_while_it_is_zipped() -> None:
    assert next(at for at in range(1, 30) if all(zipped_until(at, seed) for seed in range(20))) > 5


def zipped_until(at: int, seed: int) -> bool:
    """Zip a segment, with a loss of power at this operation; return whether there are fewer."""
    disk = SimDisk(Random(seed))
    make(disk, f"/d/{segment_name(0)}", b"content" * 500)
    disk = disk.reopen()
    disk.crash_at(at)
    try:
        dispose(disk, "/d", 0, DeletePolicy(action="archive", compress=True))
    except PowerLoss:
        names = [entry.name for entry in disk.crash(power=True).list("/d")]
        assert segment_name(0) in names or f"{segment_name(0)}.zip" in names
        return False
    return True


def make(disk: SimDisk, path: str, data: bytes) -> None:
    """Make a file and its folder, durably."""
    folder = path.rpartition("/")[0]
    disk.make_dir(folder)
    fd = disk.open(path, write=True, create=True)
    disk.pwrite(fd, data, 0)
    disk.fdatasync(fd)
    disk.close(fd)
    disk.sync_dir("/")
    disk.sync_dir(folder)


# -- room


def test_a_place_is_full_when_less_than_the_reserve_is_left_behind_what_is_on_its_way() -> None:
    disk = SimDisk(Random(1), capacity=10_000)
    disk.make_dir("/a/b")
    space = Space(disk, ["/a", "/a/b"], 4_000)
    assert space.check(6_000) == frozenset()
    assert space.check(6_001) == {"/a", "/a/b"}
    assert space.place_of("/a/b/t-0/x.meta") == "/a/b"
    assert space.place_of("/a/bc") == "/a"
    assert space.place_of("/z") is None


def test_an_error_of_a_write_is_a_full_disk_or_the_end() -> None:
    assert isinstance(write_error(OSError(errno.ENOSPC, "x")), DiskFull)
    assert isinstance(write_error(OSError(errno.EDQUOT, "x")), DiskFull)
    assert isinstance(write_error(OSError(errno.EIO, "x")), StoreError)


# -- partition files


def test_the_writer_keeps_no_more_files_open_than_it_may_and_syncs_all_it_wrote() -> None:
    disk = SimDisk(Random(1))
    disk.make_dir("/d")
    files = PartitionFiles(disk, 2)
    for number in range(5):
        files.write(Piece(f"/d/t-{number}", 0, 0, [b"abc", b"de"]))
        assert len(disk.media.opened) <= 2
    files.sync_files(files.unsynced())
    files.sync_folders()
    disk.sync_dir("/")
    assert files.unsynced() == []
    files.close()
    assert not disk.media.opened
    after = disk.crash(power=True)
    assert all(after.read(f"/d/t-{number}/{segment_name(0)}") == b"abcde" for number in range(5))


def test_a_dropped_folder_is_not_made_again_by_a_sync_that_was_due() -> None:
    disk = SimDisk(Random(1))
    disk.make_dir("/d")
    files = PartitionFiles(disk, 1)
    files.write(Piece("/d/t-0", 0, 0, [b"abc"]))
    files.write(Piece("/d/t-1", 0, 0, [b"abc"]))
    names = files.unsynced()
    files.remove_folder("/d/t-0")
    files.sync_files(names)
    assert [entry.name for entry in disk.list("/d")] == ["t-1"]


def test_a_folder_with_something_of_others_in_it_loses_only_its_files() -> None:
    disk = SimDisk(Random(1))
    make(disk, f"/d/t-0/{segment_name(0)}", b"x")
    make(disk, "/d/t-0/other/file", b"x")
    files = PartitionFiles(disk, 1)
    files.remove_folder("/d/t-0")
    assert [entry.name for entry in disk.list("/d/t-0")] == ["other"]


# -- readers


@pytest.fixture
def cold() -> Iterator[tuple[SimDisk, InlineThreads, Reader, PartitionLog]]:
    """A reader whose outcomes wait for `run`, and a log of two segments that has 100 bytes of tail."""
    disk = SimDisk(Random(1), cold=0.0)
    make(disk, f"/d/t-0/{segment_name(0)}", b"a" * 100)
    make(disk, f"/d/t-0/{segment_name(100)}", b"b" * 50)
    threads = InlineThreads(queued=True)
    log = a_log()
    log.restore([0, 100], {}, 150)
    log.extend_tail(150, b"t" * 100)
    reader = Reader(disk, threads.worker("read"), 1)
    yield disk, threads, reader, log
    reader.close()
    threads.run()
    assert not disk.media.opened, "descriptors are left open"


Read = tuple[Parts | None, BaseException | None]


def test_hundreds_of_reads_at_once_open_no_more_files_than_a_reader_may_have() -> None:
    disk = SimDisk(Random(1), cold=0.0)
    threads = InlineThreads(queued=True)
    reader = Reader(disk, threads.worker("read"), 8)
    read: list[Read] = []
    for number in range(100):
        make(disk, f"/d/t-{number}/{segment_name(0)}", b"a" * 100)
        want = Cold(f"/d/t-{number}", 0, 0, 50, [])
        reader.read_cold(want, lambda *outcome: read.append(outcome))  # done in the thread; the loop is behind
        assert len(disk.media.opened) <= 2
    threads.run()
    assert [parts for parts, _ in read] == [[b"a" * 50]] * 100
    for number in range(50):
        reader.read_cold(Cold(f"/d/t-{number}", 0, 0, 50, []), lambda *outcome: read.append(outcome))
        threads.run()
        assert len(disk.media.opened) <= 8
    assert len(disk.media.opened) == 8, "in turn all are kept, up to the limit"
    reader.close()
    assert not disk.media.opened


def test_a_read_that_must_wait_joins_file_and_tail(cold: tuple[SimDisk, InlineThreads, Reader, PartitionLog]) -> None:
    _, threads, reader, log = cold
    want = reader.slice(log, 120, 60)
    assert isinstance(want, Cold)
    read: list[Read] = []
    reader.read_cold(want, lambda *outcome: read.append(outcome))
    threads.run()
    assert read[0][0] is not None and b"".join(read[0][0]) == b"b" * 30 + b"t" * 30
    warm = reader.slice(log, 120, 60)
    assert not isinstance(warm, Cold) and b"".join(warm) == b"b" * 30 + b"t" * 30


def test_reads_end_at_segments_and_say_where_to_go(cold: tuple[SimDisk, InlineThreads, Reader, PartitionLog]) -> None:
    _, _, reader, log = cold
    want = reader.slice(log, 90, 1000)
    assert isinstance(want, Cold) and (want.position, want.size) == (90, 10)
    with pytest.raises(NothingAtOffset):
        reader.slice(log, 250, 10)
    log.bases[:] = [100]
    with pytest.raises(OffsetMoved) as moved:
        reader.slice(log, 90, 10)
    assert moved.value.offset == 100


def test_a_segment_that_retention_takes_while_it_is_read_is_read_or_said_to_be_gone(
    cold: tuple[SimDisk, InlineThreads, Reader, PartitionLog],
) -> None:
    disk, threads, reader, log = cold
    want = reader.slice(log, 0, 100)
    assert isinstance(want, Cold)
    read: list[Read] = []
    reader.read_cold(want, lambda *outcome: read.append(outcome))
    reader.forget("/d/t-0", 0)
    disk.remove(f"/d/t-0/{segment_name(0)}")
    reader.read_cold(want, lambda *outcome: read.append(outcome))
    threads.run()
    assert read[0][0] == [b"a" * 100]
    assert isinstance(read[1][1], FileNotFoundError)


def test_a_segment_of_the_same_name_that_comes_again_is_not_read_from_the_old_file(
    cold: tuple[SimDisk, InlineThreads, Reader, PartitionLog],
) -> None:
    disk, threads, reader, log = cold
    want = reader.slice(log, 0, 100)
    assert isinstance(want, Cold)
    read: list[Read] = []
    reader.read_cold(want, lambda *outcome: read.append(outcome))
    threads.run()
    reader.read_cold(want, lambda *outcome: read.append(outcome))  # with the open file
    reader.forget("/d/t-0", 0)
    disk.remove(f"/d/t-0/{segment_name(0)}")
    make(disk, f"/d/t-0/{segment_name(0)}", b"n" * 100)
    reader.read_cold(want, lambda *outcome: read.append(outcome))
    threads.run()
    assert [outcome[0] for outcome in read] == [[b"a" * 100], [b"a" * 100], [b"n" * 100]]


def test_a_file_that_was_cut_meanwhile_gives_what_is_left_and_no_tail_behind_a_gap(
    cold: tuple[SimDisk, InlineThreads, Reader, PartitionLog],
) -> None:
    disk, threads, reader, log = cold
    want = reader.slice(log, 100, 200)
    fd = disk.open(f"/d/t-0/{segment_name(100)}", write=True)
    disk.truncate(fd, 20)
    disk.close(fd)
    assert isinstance(want, Cold)
    read: list[Read] = []
    reader.read_cold(want, lambda *outcome: read.append(outcome))
    threads.run()
    assert read[0][0] == [b"b" * 20]


def test_readers_keep_no_more_files_open_than_they_may(
    cold: tuple[SimDisk, InlineThreads, Reader, PartitionLog],
) -> None:
    disk, threads, reader, log = cold
    for offset in (0, 120, 10, 130):
        want = reader.slice(log, offset, 10)
        if isinstance(want, Cold):
            reader.read_cold(want, lambda *_: None)
            threads.run()
        assert len(disk.media.opened) == 1
