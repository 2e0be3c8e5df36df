"""Slices that have at least the first record whole, from the tail, the page cache and the disk."""

from collections.abc import Iterator
from random import Random

import pytest

from metaq.config.model import TopicConfig
from metaq.model import TopicPartition
from metaq.record import pack
from metaq.store.log import PartitionLog, segment_name
from metaq.store.reader import Cold, Parts, Reader
from tests.simulation.disk import SimDisk
from tests.simulation.threads import InlineThreads

LONG = pack(1, 0, b"l" * 480)  # of 500 bytes
SHORT = pack(2, 0, b"s" * 30)  # of 50 bytes


@pytest.fixture
def records() -> Iterator[tuple[InlineThreads, Reader, PartitionLog]]:
    """A reader, and a log with a long and a short record in its file, and the same again in its tail."""
    disk = SimDisk(Random(1), cold=0.0)
    disk.make_dir("/d/t-0")
    fd = disk.open(f"/d/t-0/{segment_name(0)}", write=True, create=True)
    disk.pwrite(fd, LONG + SHORT, 0)
    disk.close(fd)
    threads = InlineThreads(queued=True)
    log = PartitionLog(1, TopicPartition("t", 0), "/d/t-0", "", TopicConfig(name="t"))
    log.limit = 10_000
    log.restore([0], {}, 550)
    log.extend_tail(550, LONG + SHORT)
    reader = Reader(disk, threads.worker("read"), 1)
    yield threads, reader, log
    reader.close()
    threads.run()


def bring(threads: InlineThreads, reader: Reader, found: Parts | Cold) -> bytes:
    """Return what a slice brings, from wherever it is."""
    if not isinstance(found, Cold):
        return b"".join(found)
    read: list[tuple[Parts | None, BaseException | None]] = []
    reader.read_cold(found, lambda *outcome: read.append(outcome))
    threads.run()
    assert read[0][0] is not None
    data = b"".join(read[0][0])
    assert len(data) <= found.takes
    return data


@pytest.mark.parametrize("start", [0, 550])
def test_a_record_that_is_longer_than_the_least_comes_whole_and_nothing_of_the_next(
    records: tuple[InlineThreads, Reader, PartitionLog], start: int
) -> None:
    threads, reader, log = records
    for _ in range(3):  # from a file that is not open yet, then from one that is
        assert bring(threads, reader, reader.slice_first(log, start, 100, 10_000)) == LONG
        assert bring(threads, reader, reader.slice_first(log, start + 500, 10, 10_000)) == SHORT
        assert len(bring(threads, reader, reader.slice_first(log, start, 100, 200))) == 200, (
            "as asked for, if that cuts it"
        )
        assert len(bring(threads, reader, reader.slice_first(log, start, 520, 600))) == 520, (
            "the least is no bound above"
        )


def test_a_record_is_read_whole_in_the_thread_whether_its_file_is_open_or_not(
    records: tuple[InlineThreads, Reader, PartitionLog],
) -> None:
    threads, reader, log = records
    wants = [reader.slice_first(log, 0, 100, 10_000) for _ in range(2)]
    for want in wants:  # the second finds the file open
        assert isinstance(want, Cold) and (want.size, want.most) == (100, 550)
        assert bring(threads, reader, want) == LONG


def test_what_is_no_length_brings_no_more_than_was_asked_for(
    records: tuple[InlineThreads, Reader, PartitionLog],
) -> None:
    threads, reader, log = records
    assert len(bring(threads, reader, reader.slice_first(log, 30, 100, 300))) == 300, "far too long"
    assert len(bring(threads, reader, reader.slice_first(log, 580, 100, 300))) == 300, "the same in the tail"
    log.restore([0], {}, 550)
    log.extend_tail(550, b"\xff" * 400)
    assert len(bring(threads, reader, reader.slice_first(log, 550, 100, 300))) == 100, "below zero"


def test_a_read_that_goes_on_in_the_tail_has_the_first_record_whole_anyway(
    records: tuple[InlineThreads, Reader, PartitionLog],
) -> None:
    threads, reader, log = records
    assert bring(threads, reader, reader.slice_first(log, 500, 60, 10_000)) == SHORT + LONG[:10]
