"""From a time to an offset, and past what is corrupt, in logs of any shape."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.client import replay, scan
from metaq.client.message import next_record, unfinished
from metaq.client.replay import find_offset
from metaq.client.scan import find_record
from metaq.errors import NoTimeInIds, Refused
from metaq.record import HEADER_SIZE, ID_EPOCH_MS, ID_TIME_SHIFT, pack
from tests.unit.client.logs import TARGET, SegmentedLog, outcome

FIRST_MS = ID_EPOCH_MS + 1_000_000


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    """Look at little at a time, so that logs of some KiB have many places to look at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay, "_LOOK", 128)
        patch.setattr(scan, "LARGEST", 2048)
        yield


@dataclass(frozen=True)
class Record:
    ms: int
    body: bytes
    is_corrupt: bool = False
    id: int | None = None

    @property
    def packed(self) -> bytes:
        id = (self.ms - ID_EPOCH_MS) << ID_TIME_SHIFT if self.id is None else self.id
        data = bytearray(pack(id, 0, self.body))
        if self.is_corrupt:
            data[HEADER_SIZE] ^= 0xFF
        return bytes(data)


def time(ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)


def log_of(segments: list[list[Record]], *, base: int = 0, most: int = 1 << 20) -> SegmentedLog:
    return SegmentedLog([b"".join(each.packed for each in segment) for segment in segments], base=base, most=most)


def expected(segments: list[list[Record]], base: int, ms: int) -> int:
    offset = base
    for record in (record for segment in segments for record in segment):
        if not record.is_corrupt and record.ms >= ms:
            return offset
        offset += len(record.packed)
    return offset


sizes = st.sampled_from([1, 5, 30, 100, 128, 129, 700, 1500])


@st.composite
def logs(draw: st.DrawFn) -> list[list[Record]]:
    steps = draw(st.lists(st.tuples(st.sampled_from([0, 0, 1, 1000]), sizes, st.integers(0, 9)), max_size=60))
    ms, records = FIRST_MS, []
    for step, size, luck in steps:
        ms += step
        records.append(Record(ms, bytes([luck + 1]) * size, is_corrupt=luck == 9))
    cuts = sorted(draw(st.lists(st.integers(0, len(records)), max_size=4)))
    bounds = [0, *cuts, len(records)]
    return [records[start:end] for start, end in pairwise(bounds) if start < end]


@given(logs(), st.data(), st.sampled_from([1600, 4000]), st.sampled_from([0, 12345]))
def test_the_first_message_of_a_time_or_later_is_found_in_any_log(
    segments: list[list[Record]], data: st.DataObject, most: int, base: int
) -> None:
    times = sorted({record.ms for segment in segments for record in segment}) or [FIRST_MS]
    ms = data.draw(st.sampled_from([times[0] - 5, *times, *(each + 1 for each in times)]))
    log = log_of(segments, base=base, most=most)
    assert outcome(find_offset(log.link, TARGET, time(ms), 1.0)) == expected(segments, base, ms)


def test_a_search_in_a_large_log_takes_few_fetches() -> None:
    segments = [[Record(FIRST_MS + 10 * n + k, bytes(50)) for k in range(10)] for n in range(2000)]
    log = log_of(segments)
    ms = FIRST_MS + 12_345
    assert outcome(find_offset(log.link, TARGET, time(ms), 1.0)) == expected(segments, 0, ms)
    assert log.gets < 40


def test_records_larger_than_an_answer_are_fetched_in_pieces_and_end_no_search() -> None:
    segments = [[Record(FIRST_MS + n, bytes([n + 1]) * 5000) for n in range(10)]]
    for most in (1000, 5000, 5020):
        for n in (0, 4, 9, 10):
            log = log_of(segments, most=most)
            assert outcome(find_offset(log.link, TARGET, time(FIRST_MS + n), 1.0)) == 5020 * n
            assert log.gets < 1000


def test_a_partition_that_is_empty_begins_and_ends_at_one_place() -> None:
    assert outcome(find_offset(log_of([], base=77).link, TARGET, time(FIRST_MS), 1.0)) == 77


def test_a_record_cut_by_the_end_of_the_log_is_passed_over() -> None:
    log = SegmentedLog([Record(FIRST_MS, b"whole").packed + Record(FIRST_MS + 5, bytes(300)).packed[:100]])
    assert outcome(find_offset(log.link, TARGET, time(FIRST_MS), 1.0)) == 0
    assert outcome(find_offset(log.link, TARGET, time(FIRST_MS + 1), 1.0)) == log.end


@pytest.mark.parametrize("count", [1, 400])
def test_ids_that_tell_no_time_are_refused_unless_the_answer_lies_behind_them(count: int) -> None:
    old = [Record(0, b"of 1.4.6.2", id=-(1 << 62) + n) for n in range(count)]
    new = [Record(FIRST_MS + n, b"of ours") for n in range(count)]
    with pytest.raises(NoTimeInIds, match=r"one of a 1\.4\.6\.2 broker"):
        outcome(find_offset(log_of([old]).link, TARGET, time(FIRST_MS), 1.0))
    log = log_of([old, new])
    end = sum(len(each.packed) for each in old)
    with pytest.raises(NoTimeInIds):  # the first of ours is later, but one of those before may be too
        outcome(find_offset(log.link, TARGET, time(FIRST_MS), 1.0))
    if count > 1:
        found = outcome(find_offset(log.link, TARGET, time(FIRST_MS + 1), 1.0))
        assert found == end + len(new[0].packed)
    with pytest.raises(NoTimeInIds):  # the broker is one of 1.4.6.2 again
        outcome(find_offset(log_of([new, old]).link, TARGET, time(FIRST_MS + count), 1.0))


def test_a_search_that_retention_overtakes_begins_anew_but_not_for_ever() -> None:
    segments = [[Record(FIRST_MS + n, bytes(100)) for n in range(100)] for _ in range(3)]
    log = log_of([[replace(r, ms=r.ms + 100 * k) for r in s] for k, s in enumerate(segments)])

    def retire() -> None:
        if log.gets == 2:
            log.base += len(log.segments.pop(0))

    log.before_get = retire
    found = outcome(find_offset(log.link, TARGET, time(FIRST_MS), 1.0))
    assert found == log.base > 0
    flying = log_of(segments)

    def fly() -> None:
        flying.base += flying.end

    flying.before_get = fly
    with pytest.raises(Refused, match="nothing at offset"):
        outcome(find_offset(flying.link, TARGET, time(FIRST_MS), 1.0))


def test_a_partition_that_gives_nothing_below_its_end_is_no_reason_to_begin_at_the_end() -> None:
    class Closed(SegmentedLog):
        def read(self, offset: int, size: int) -> bytes | None:
            return None

    log = Closed([Record(FIRST_MS, bytes(100)).packed * 5])
    with pytest.raises(Refused, match=f"404: t-0 at meta://nowhere:1: nothing at offset .* of {log.end}"):
        outcome(find_offset(log.link, TARGET, time(FIRST_MS), 1.0))


@pytest.mark.parametrize("since", [datetime.min, datetime.max, datetime.max.replace(tzinfo=UTC)])
def test_the_first_and_the_last_time_there_are_mean_all_and_nothing(since: datetime) -> None:
    log = log_of([[Record(FIRST_MS, b"x")]])
    assert outcome(find_offset(log.link, TARGET, since, 1.0)) == (0 if since.year == 1 else log.end)


@given(st.integers(FIRST_MS, FIRST_MS + (1 << 40)))
def test_a_time_is_taken_to_the_millisecond(ms: int) -> None:
    log = log_of([[Record(ms - 1, b"before"), Record(ms, b"then")]])
    then = log.end - HEADER_SIZE - 4
    assert outcome(find_offset(log.link, TARGET, time(ms), 1.0)) == then
    elsewhere = time(ms).astimezone(timezone(timedelta(hours=5, minutes=45)))
    assert outcome(find_offset(log.link, TARGET, elsewhere, 1.0)) == then
    assert outcome(find_offset(log.link, TARGET, time(ms).astimezone().replace(tzinfo=None), 1.0)) == then


# scanning


@given(st.binary(max_size=3000), st.integers(1, 900), st.sampled_from([1000, 1 << 20]), st.integers(1, 3000))
def test_the_next_record_is_found_behind_any_damage_however_it_lies(
    damage: bytes, size: int, most: int, cut: int
) -> None:
    record = pack(5, 0, b"\x07" * size)
    whole = damage + record + pack(6, 0, b"more")
    log = SegmentedLog([whole[:cut], whole[cut:]] if cut in (len(damage), len(damage) + len(record)) else [whole])
    log.most = most

    async def fetch(offset: int, size: int) -> bytes | None:
        data = log.read(offset, min(size, log.most))
        return data or None

    found = outcome(find_record(fetch, 0, 64, 1 << 62))
    if next_record(damage + record[:-1], 0) is None:  # else the damage has something in it that looks like a record
        assert found.offset == len(damage)
        assert found.data.startswith(record[:100])


@given(st.binary(max_size=200), st.integers(0, 30), st.integers(21, 400))
def test_what_goes_on_behind_the_data_is_told_from_what_ends_in_it(data: bytes, position: int, most: int) -> None:
    first = unfinished(data, position, most)
    assert first >= position
    for start in range(position, min(first, len(data) - HEADER_SIZE + 1)):
        length = int.from_bytes(data[start : start + 4], "big", signed=True)
        assert not 0 < length <= most - HEADER_SIZE or start + HEADER_SIZE + length <= len(data)
