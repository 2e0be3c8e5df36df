"""The table of producers' batches: what it finds, what it refuses, what it forgets."""

from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.errors import BadRequest, SequenceConflict
from metaq.store import places, producers
from metaq.store.checkpoint import ProducerState
from metaq.store.entries import Batch, Stamp
from metaq.store.producers import ProducerTable, states_of

LENGTH = 10
LOG = 3


def batch(sequence: int, epoch: int = 1, producer: int = 9, log_id: int = LOG) -> Batch:
    """Return one that stands where those of its number stand."""
    return Batch(log_id, sequence * LENGTH, LENGTH, 2, 1000 + sequence, Stamp(producer, epoch, sequence))


def noted(count: int) -> ProducerTable:
    table = ProducerTable()
    for sequence in range(count):
        table.note(batch(sequence))
    return table


def found(table: ProducerTable, sequence: int, epoch: int = 1, producer: int = 9) -> int | None:
    """Return the first id of the batch that is remembered."""
    sent = table.find(Stamp(producer, epoch, sequence), LOG, LENGTH, 2)
    return None if sent is None else sent.first_id


def next_of(table: ProducerTable, epoch: int, sequence: int, producer: int = 9) -> str:
    """Return what the refusal of a batch says would be next."""
    with pytest.raises(SequenceConflict) as caught:
        found(table, sequence, epoch, producer)
    return str(caught.value).partition(" would")[0]


def test_at_least_the_last_five_batches_are_found_and_older_ones_are_out_of_order() -> None:
    table = noted(9)
    assert [found(table, sequence) for sequence in range(4, 9)] == [1004, 1005, 1006, 1007, 1008]
    assert found(table, 9) is None
    assert next_of(table, 1, 0) == "1 9"


@pytest.mark.parametrize(("epoch", "sequence"), [(1, 5), (1, 4), (0, 3), (0, 0), (2, 1), (2, 3)])
def test_what_is_neither_known_nor_next_is_refused_and_the_next_is_named(epoch: int, sequence: int) -> None:
    assert next_of(noted(3), epoch, sequence) == "1 3"


def test_a_producer_begins_an_epoch_with_batch_0_and_the_one_before_is_over() -> None:
    table = noted(3)
    assert found(table, 0, epoch=5) is None
    table.note(batch(0, epoch=5)._replace(offset=30))
    assert found(table, 1, epoch=5) is None
    assert found(table, 2, epoch=1) == 1002, "a late repeat of what is stored is answered"
    assert next_of(table, 1, 3) == "5 1"


def test_a_producer_that_is_not_known_begins_with_batch_0_of_any_epoch() -> None:
    table = noted(3)
    assert found(table, 0, epoch=7, producer=8) is None
    assert next_of(table, 7, 1, producer=8) == "0 0"


@pytest.mark.parametrize(("length", "count"), [(LENGTH + 1, 2), (LENGTH, 3)])
def test_another_batch_under_a_stamp_that_was_used_is_a_bad_request(length: int, count: int) -> None:
    with pytest.raises(BadRequest, match="was stored with 2 records in 10 bytes"):
        noted(3).find(Stamp(9, 1, 2), LOG, length, count)


def test_a_batch_whose_count_is_not_known_is_known_by_its_length() -> None:
    table = ProducerTable()
    table.note(batch(0)._replace(record_count=0))
    assert table.find(Stamp(9, 1, 0), LOG, LENGTH, 17) is not None


def test_what_was_cut_away_is_stored_again_when_it_is_sent_again() -> None:
    table = noted(3)
    table.note(batch(0, log_id=4))
    table.cut(LOG, 2 * LENGTH)
    assert found(table, 1) == 1001 and found(table, 2) is None
    table.cut(LOG, 0)
    assert len(table) == 1
    table.forget_log(4)
    table.forget_log(4)
    assert len(table) == 0 and found(table, 0) is None


def test_five_batches_that_all_failed_can_be_sent_again() -> None:
    table = noted(20)
    table.cut(LOG, 15 * LENGTH)
    assert found(table, 14) == 1014 and found(table, 15) is None


def test_stamps_survive_a_checkpoint_and_age_from_then_on() -> None:
    table = ProducerTable()
    table.note(batch(0), 100.0)
    table.note(batch(0, producer=8))
    again = ProducerTable(table.states())
    assert again.states() == table.states()
    again.age_out(1000.0, 950.0)
    assert len(again) == 2, "the recovered one, whose time is unknown, counts from now on"
    again.age_out(1060.0, 950.0)
    assert [state.producer for state in again.states()] == [8]
    again.age_out(1951.0, 950.0)
    assert len(again) == 0


def test_a_batch_noted_again_and_again_keeps_its_producer_young() -> None:
    table = ProducerTable()
    table.note(batch(0), 100.0)
    table.note(batch(0, producer=8), 200.0)
    table.note(batch(1), 300.0)
    table.age_out(400.0, 150.0)
    assert [state.producer for state in table.states()] == [9]


def test_the_producer_heard_of_longest_ago_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metaq.store.producers._PRODUCERS", 2)
    table = ProducerTable()
    for producer in (7, 8, 7, 9):
        table.note(batch(0, producer=producer))
    assert [state.producer for state in table.states()] == [7, 9]


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 2)), max_size=20),
    st.dictionaries(st.integers(1, 2), st.integers(0, 60)),
)
def test_a_checkpoint_has_what_was_visible_and_stays_as_it_was(
    sent: list[tuple[int, int]], visible: dict[int, int]
) -> None:
    table = ProducerTable()
    ends = {1: 0, 2: 0}
    for producer, log_id in sent:
        made = batch(len(table), producer=producer, log_id=log_id)._replace(offset=ends[log_id])
        ends[log_id] += LENGTH
        table.note(made)
    copy, before = table.copy(), table.states()
    for log_id, end in ends.items():
        table.note(batch(0, log_id=log_id)._replace(offset=end))
        table.cut(log_id, end // 2)
    assert list(states_of(copy, None)) == before
    kept = [
        ProducerState(state.producer, state.log_id, rows)
        for state in before
        if (rows := tuple(row for row in state.batches if row[2] + row[3] <= visible.get(state.log_id, 0)))
    ]
    assert list(states_of(copy, visible)) == kept


def between(table: ProducerTable, start: int, end: int) -> list[int]:
    return [each.stamp.sequence for each in table.between(LOG, start, end)]


def test_batches_of_a_stretch_are_found_in_order_also_the_cut_ones_and_forgotten_ones_are_not() -> None:
    table = noted(9)
    table.note(batch(0, producer=8)._replace(offset=90))
    assert between(table, 0, 1000) == [3, 4, 5, 6, 7, 8, 0]
    assert between(table, 45, 61) == [4, 5, 6]
    assert between(table, 40, 60) == [4, 5]
    assert between(table, 100, 200) == between(table, 0, 30) == []
    table.note(batch(1, producer=8)._replace(offset=100))
    assert between(table, 95, 200) == [0, 1]
    table.cut(LOG, 65)
    assert between(table, 0, 200) == [3, 4, 5]
    table.note(batch(6)._replace(length=5))
    assert between(table, 0, 200) == [3, 4, 5, 6]
    table.forget_log(LOG)
    assert between(table, 0, 200) == []


STEPS = st.lists(st.tuples(st.sampled_from("npclr"), st.integers(1, 5), st.integers(1, 30)), max_size=60)


@pytest.mark.parametrize(("many", "step"), [(1000, 256), (1000, 2), (1, 2), (3, 1)])
@given(STEPS)
def test_what_is_found_by_offset_is_what_is_remembered(many: int, step: int, steps: list[tuple[str, int, int]]) -> None:
    """Notes, plain puts, cuts, reads, restarts, while producers and batches are forgotten."""
    with patch.object(producers, "_MANY", many), patch.object(places, "_STEP", step):
        check_places(steps)


def check_places(steps: list[tuple[str, int, int]]) -> None:
    table, end, sequences = ProducerTable(), 0, dict.fromkeys(range(1, 6), 0)
    for what, producer, size in steps:
        if what == "n":
            table.note(Batch(LOG, end, size, 1, 0, Stamp(producer, 0, sequences[producer])))
            sequences[producer] += 1
        if what in "np":
            end += size
        elif what == "c":
            end = max(0, end - size)
            table.cut(LOG, end)
        elif what == "l" and producer == 1:
            table.forget_log(LOG)
            end = 0
        elif what == "r" and producer == 1:
            table = ProducerTable(table.states())
        kept = sorted((each[2], each[3]) for state in table.states() for each in state.batches)
        start, stop = max(0, end - 3 * size), end - size // 2
        assert [each[1:3] for each in table.between(LOG, start, stop)] == [
            (offset, length) for offset, length in kept if offset < stop and offset + length > start
        ]


def test_a_list_of_places_keeps_little_of_what_is_forgotten() -> None:
    known = {0: 0, 1: 0}  # the oldest offset that is remembered, by producer
    here = places.Places([(0, 0)], lambda offset, producer: known[producer] <= offset)
    for offset in range(1, 20_000):
        here.add(offset, 1)
        known[1] = max(0, offset - 5)
        assert len(here) < 1500
    assert list(here.between(19_990, 20_000))[-6:] == [(offset, 1) for offset in range(19_994, 20_000)]
    assert next(here.between(0, 1)) == (0, 0)


@given(st.lists(st.integers(-9, 3).filter(bool), min_size=10, max_size=60))
def test_places_behind_one_that_is_added_are_gone_be_they_swept_or_not(moves: list[int]) -> None:
    here, left, at = places.Places([], lambda offset, producer: True), list[int](), 0
    with patch.object(places, "_STEP", 2):
        for move in moves * 3:
            at = max(0, at + (1 if move < -2 else move * 5))
            here.add(at, 1)
            left = [*(offset for offset in left if offset < at), at]
            assert [offset for offset, _ in here.between(0, 1000)] == left
            assert len(here) == len(left)
