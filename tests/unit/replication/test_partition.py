"""The copying of one partition, against a master that is a list of segments."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.errors import CorruptMessage
from metaq.protocol.parts import Stamped
from metaq.record import pack
from metaq.replication.partition import Ask, Copy, Kind, survey


class Master:
    """Answers `get` as brokers do: raw bytes from any offset, never across the end of a segment."""

    def __init__(self, segments: list[list[bytes]]) -> None:
        self.data = b""
        self.bases: list[int] = []
        for records in segments:
            self.bases.append(len(self.data))
            self.data += b"".join(records)

    def base_of(self, offset: int) -> int:
        return max(base for base in self.bases if base <= offset)

    def get(self, offset: int, size: int, end: int) -> bytes:
        """Return what is there while the log ends at `end`."""
        stop = min([end, offset + size, *(base for base in self.bases if base > offset)])
        return self.data[offset:stop]


class Slave:
    """Writes what a copy hands on, in segments."""

    def __init__(self) -> None:
        self.data = b""
        self.bases = [0]
        self.messages = 0

    def take(self, copy: Copy, ask: Ask, data: bytes, base: int | None) -> None:
        for records in copy.take(ask, data, base):
            if records.base is not None and records.base != self.bases[-1]:
                assert records.base == len(self.data)
                self.bases.append(records.base)
            self.data += records.data
            self.messages += records.messages


records = st.builds(lambda id, body: pack(id, 0, body), st.integers(1, 9), st.binary(max_size=40))
logs = st.lists(st.lists(records, min_size=1, max_size=5), min_size=1, max_size=4)


@given(logs, st.integers(1, 150), st.booleans(), st.integers(0, 1 << 32))
def test_bytes_and_segments_are_those_of_the_master(
    segments: list[list[bytes]], step: int, is_ours: bool, seed: int
) -> None:
    """While the log grows, records are larger than an answer, and answers come in any order."""
    random, master, slave, copy = Random(seed), Master(segments), Slave(), Copy()
    whole = len(master.data)
    ends = [0]
    for part in segments:
        for record in part:
            ends.append(ends[-1] + len(record))
    grown = 0
    waiting: list[Ask] = []
    idle = 0
    while idle < 12:
        while copy.may_ask():
            waiting.append(copy.ask(step, tells_base=is_ours))
        ask = waiting.pop(random.randrange(len(waiting)))
        data = master.get(ask.offset, ask.size, ends[grown])
        if data:
            slave.take(copy, ask, data, master.base_of(ask.offset) if is_ours else None)
        else:
            copy.nothing(ask)
        idle = idle + 1 if len(slave.data) == whole else 0
        if random.random() < 0.3:
            grown = min(grown + random.randrange(4), len(ends) - 1)
    assert slave.data == master.data
    assert slave.bases == master.bases
    assert slave.messages == len(ends) - 1


def test_a_stretch_that_is_full_has_the_next_ones_asked_for() -> None:
    master, copy = Master([[pack(n, 0, b"x" * 80) for n in range(1, 100)]]), Copy()
    first = copy.ask(1000, tells_base=True)
    assert not copy.may_ask()
    assert copy.take(first, master.get(0, 1000, 9900), 0)[0].messages == 10
    assert [copy.ask(1000, tells_base=True).offset for _ in range(4) if copy.may_ask()] == [1000, 2000, 3000, 4000]
    assert not copy.may_ask()


def test_what_was_asked_for_before_a_new_beginning_is_not_taken() -> None:
    copy = Copy()
    ask = copy.ask(1000, tells_base=True)
    copy.start_at(5000, is_edge=True)
    assert copy.take(ask, pack(1, 0, b"x"), 0) == []
    assert copy.end == 5000


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (pack(3, 0, b"body")[:-1] + b"?", "checksum"),
        (bytes(20), "length of 0"),
        (b"\xff" * 20, "length of -1"),
        (b"\x7f" + bytes(19), "length of 2130706432"),
    ],
)
def test_no_record_goes_on_that_is_none(bad: bytes, words: str) -> None:
    good = pack(1, 0, b"1") + pack(2, 1, b"\x00\x00\x00\x00two")
    copy = Copy()
    with pytest.raises(CorruptMessage, match=rf"at {len(good)}: .*{words}") as raised:
        copy.take(copy.ask(1000, tells_base=True), good + bad + good, 0)
    (kept,) = raised.value.args[1]
    assert (kept.data, kept.base, kept.messages, kept.highest_id) == (good, 0, 2, 2)
    assert copy.end == len(good)


def test_a_record_does_not_go_on_in_another_segment() -> None:
    record = pack(1, 0, b"x" * 100)
    copy = Copy()
    copy.take(copy.ask(50, tells_base=True), record[:50], 0)
    with pytest.raises(CorruptMessage, match="goes on in the segment that begins at 50"):
        copy.take(copy.ask(1000, tells_base=True), record[50:], 50)


@given(logs, st.integers(1, 150), st.integers(0, 1 << 32))
def test_batches_are_handed_on_whole_each_once_with_its_last_record(
    segments: list[list[bytes]], step: int, seed: int
) -> None:
    """Some records of each segment are batches. Copying may begin within one."""
    random, master, copy = Random(seed), Master(segments), Copy()
    batches: list[Stamped] = []
    ends = [0]
    for part in segments:
        first = ends[-1]
        for number, record in enumerate(part, 1):
            ends.append(ends[-1] + len(record))
            if number == len(part) or random.random() < 0.4:
                if random.random() < 0.7:
                    batches.append(Stamped(7, 0, len(batches), first, ends[-1] - first, 0, 0))
                first = ends[-1]
    start = random.choice(ends[:-1])
    copy.start_at(start, is_edge=start > 0)
    got = master.data[:start]
    told: list[Stamped] = []
    waiting: list[Ask] = []
    while len(got) < len(master.data):
        while copy.may_ask():
            waiting.append(copy.ask(step, tells_base=True))
        ask = waiting.pop(random.randrange(len(waiting)))
        data = master.get(ask.offset, ask.size, len(master.data))
        if not data:
            copy.nothing(ask)
            continue
        end = ask.offset + len(data)
        stamps = [each for each in batches if each.offset < end and each.offset + each.length > ask.offset]
        for records in copy.take(ask, data, master.base_of(ask.offset), stamps):
            got += records.data
            told += records.batches
            assert all(each.offset + each.length <= len(got) for each in told)
        assert not any(max(each.offset, start) < len(got) < each.offset + each.length for each in batches)
    assert got == master.data
    assert told == [each for each in batches if each.offset + each.length > start]


def test_a_batch_does_not_end_within_a_record() -> None:
    record, copy = pack(1, 0, b"x" * 80), Copy()
    with pytest.raises(CorruptMessage, match="the batch at 100 ends within a record") as raised:
        copy.take(copy.ask(1000, tells_base=True), record * 3 + record[:50], 0, [Stamped(7, 0, 0, 100, 230, 2, 0)])
    (kept,) = raised.value.args[1]
    assert (len(kept.data), kept.batches) == (300, ())


def test_records_before_a_broken_one_go_on_though_their_batch_does_not() -> None:
    record, copy = pack(1, 0, b"x" * 80), Copy()
    bad = record[:-1] + b"?"
    with pytest.raises(CorruptMessage, match=r"at 200: .*checksum") as raised:
        copy.take(copy.ask(1000, tells_base=True), record * 2 + bad, 0, [Stamped(7, 0, 0, 100, 200, 2, 0)])
    (kept,) = raised.value.args[1]
    assert (len(kept.data), kept.batches) == (200, ())


@given(st.lists(records, max_size=10), st.data())
def test_a_survey_ends_at_the_last_whole_record(found: list[bytes], data: st.DataObject) -> None:
    run = b"".join(found)
    cut = data.draw(st.integers(0, len(run)))
    end, messages, _ = survey(run[:cut])
    assert run[:end] == b"".join(found[:messages])
    assert messages == len(found) or end + len(found[messages]) > cut


def test_the_edges_are_asked_for_as_the_table_says() -> None:
    copy = Copy()
    copy.start_at(500, is_edge=True)
    probe = copy.ask(100, tells_base=False)
    assert probe[:3] == (Kind.PROBE, 499, 101)
    copy.take(probe, b"x", None)
    beyond = copy.ask(100, tells_base=False)
    assert beyond[:2] == (Kind.BEYOND, 500)
    copy.take(beyond, b"any", None)
    confirm = copy.ask(100, tells_base=False)
    assert confirm[:3] == (Kind.CONFIRM, 499, 2)
    copy.take(confirm, b"x", None)
    record = pack(1, 0, b"")
    (kept,) = copy.take(copy.ask(100, tells_base=False), record, None)
    assert (kept.data, kept.base) == (record, 500)


def test_much_is_handed_on_as_it_came_and_what_is_kept_holds_nothing_else() -> None:
    record, copy = pack(1, 0, b"x" * 999), Copy()
    run = record * 100
    (first,) = copy.take(copy.ask(1 << 20, tells_base=True), memoryview(run + record[:500]), 0)
    assert isinstance(first.data, memoryview) and first.data == run
    (second,) = copy.take(copy.ask(1 << 20, tells_base=True), memoryview(record[500:] + record[:300]), 0)
    assert isinstance(second.data, bytes) and second.data == record
    (third,) = copy.take(copy.ask(1 << 20, tells_base=True), memoryview(record[300:] + run), 0)
    assert third.data == record + run
    assert copy.end == 202 * len(record)
