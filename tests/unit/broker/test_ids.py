from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.broker.ids import MAX_WORKER, IdAllocator, IdParts, compose, decompose
from metaq.errors import ConfigError

NOW_MS = 1700000000000
LOWEST, HIGHEST = -(1 << 63), (1 << 63) - 1

workers = st.integers(0, MAX_WORKER)
int64 = st.integers(LOWEST, HIGHEST)


@dataclass
class HandClock:
    """Stands still at `ms` until it is moved."""

    ms: int = NOW_MS

    def time(self) -> float:
        return self.ms / 1000

    def monotonic(self) -> float:
        return self.ms / 1000


@pytest.mark.parametrize(
    ("parts", "id"),
    [
        (IdParts(1700000000000, 3, 5), 1661382015569637381),
        (IdParts(1303895660504, 0, 0), 4194304),
        (IdParts(1303895660503, 1023, 4095), 4194303),
        (IdParts(1000, 0, 0), -5468934780236070912),
        (IdParts(86400000, 3, 0), -5468572396564762624),
        (IdParts(1778596, 0, 0), -5468927324458057728),
    ],
)
def test_ids_have_the_layout_of_the_original(parts: IdParts, id: int) -> None:
    assert compose(parts) == id
    assert decompose(id) == parts


@given(int64)
def test_every_64_bit_number_has_parts_and_is_made_of_them(id: int) -> None:
    parts = decompose(id)
    assert 0 <= parts.worker_id <= MAX_WORKER
    assert 0 <= parts.sequence < 4096
    assert compose(parts) == id


def test_ids_of_one_millisecond_count_up_from_zero() -> None:
    ids = IdAllocator(3, HandClock())
    assert [*ids.take(2), *ids.take(1)] == [compose(IdParts(NOW_MS, 3, n)) for n in range(3)]
    assert ids.take(3)[-1] == 1661382015569637381  # the vector: sequence 5


def test_a_later_millisecond_starts_again_at_sequence_zero() -> None:
    clock = HandClock()
    ids = IdAllocator(3, clock)
    ids.take(7)
    clock.ms += 1
    assert list(ids.take(1)) == [compose(IdParts(NOW_MS + 1, 3, 0))]


def test_a_batch_that_does_not_fit_into_the_millisecond_moves_on_whole() -> None:
    ids = IdAllocator(3, HandClock())
    ids.take(4000)
    first, last = ids.take(97)[0], ids.take(0)
    assert decompose(first) == (NOW_MS + 1, 3, 0)
    assert len(last) == 0


def test_a_full_millisecond_is_used_to_its_last_id_before_running_ahead() -> None:
    ids = IdAllocator(3, HandClock())
    assert decompose(ids.take(4096)[-1]) == (NOW_MS, 3, 4095)
    assert decompose(ids.take(1)[0]) == (NOW_MS + 1, 3, 0)


def test_the_clock_takes_over_again_once_it_has_caught_up() -> None:
    clock = HandClock()
    ids = IdAllocator(0, clock)
    ids.take(3 * 4096)
    clock.ms += 2
    assert decompose(ids.take(1)[0]).time_ms == NOW_MS + 3
    clock.ms += 2
    assert decompose(ids.take(1)[0]) == (NOW_MS + 4, 0, 0)


def test_a_large_batch_is_chained_from_full_milliseconds() -> None:
    ids = IdAllocator(1023, HandClock())
    ids.take(10)
    taken = [decompose(id) for id in ids.take(10_000)]
    assert taken[:2] == [(NOW_MS, 1023, 10), (NOW_MS, 1023, 11)]
    assert taken[4085:4087] == [(NOW_MS, 1023, 4095), (NOW_MS + 1, 1023, 0)]
    assert taken[-1] == (NOW_MS + 2, 1023, 10_009 - 2 * 4096)


def test_ids_continue_when_the_clock_is_set_back() -> None:
    clock = HandClock()
    ids = IdAllocator(3, clock)
    before = ids.take(5)[-1]
    clock.ms -= 3_600_000
    assert list(ids.take(2)) == [before + 1, before + 2]


def test_ids_continue_above_the_highest_of_the_last_run() -> None:
    future = compose(IdParts(NOW_MS + 60_000, 3, 4094))
    ids = IdAllocator(3, HandClock(), highest=future)
    assert decompose(ids.take(1)[0]) == (NOW_MS + 60_000, 3, 4095)
    assert decompose(ids.take(1)[0]) == (NOW_MS + 60_001, 3, 0)


@pytest.mark.parametrize(("other", "time_ms"), [(2, NOW_MS), (4, NOW_MS + 1)])
def test_ids_of_other_brokers_in_the_log_are_passed_too(other: int, time_ms: int) -> None:
    ids = IdAllocator(3, HandClock())
    ids.seen(compose(IdParts(NOW_MS, other, 9)))
    assert decompose(ids.take(1)[0]) == (time_ms, 3, 0)


def test_boot_relative_ids_of_the_original_do_not_hold_ids_back() -> None:
    ids = IdAllocator(3, HandClock(), highest=-5468927324458057728)
    assert decompose(ids.take(1)[0]) == (NOW_MS, 3, 0)


def test_ids_are_positive_even_when_the_clock_stands_before_the_epoch() -> None:
    ids = IdAllocator(0, HandClock(ms=0))
    assert list(ids.take(2)) == [1, 2]


def test_an_id_at_the_end_of_its_range_does_not_use_up_all_others() -> None:
    ids = IdAllocator(3, HandClock(), highest=HIGHEST)
    assert decompose(ids.take(1)[0]) == (NOW_MS, 3, 0)


@pytest.mark.parametrize("worker", [-1, 1024])
def test_a_broker_id_outside_its_ten_bits_is_refused(worker: int) -> None:
    with pytest.raises(ConfigError, match=str(worker)):
        IdAllocator(worker, HandClock())


steps = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.one_of(st.integers(0, 5), st.integers(0, 9000))),
        st.tuples(st.just("move"), st.one_of(st.integers(-2, 3), st.integers(-(10**13), 10**11))),
        st.tuples(st.just("seen"), st.one_of(int64, st.integers(0, 5000))),  # small: relative to the last id
    ),
    max_size=20,
)


@given(workers, int64, steps)
def test_ids_always_rise_above_all_given_or_seen_and_carry_their_worker(
    worker: int, highest: int, history: Sequence[tuple[str, int]]
) -> None:
    clock = HandClock()
    ids = IdAllocator(worker, clock, highest)
    floor = max(highest, 0) if highest < 1 << 62 else 0  # ids beyond 2046 may be left out of the floor
    for verb, number in history:
        if verb == "move":
            clock.ms = min(max(clock.ms + number, 0), NOW_MS + 10**12)
        elif verb == "seen":
            id = floor + number if 0 <= number <= 5000 else number
            ids.seen(id)
            floor = max(floor, id) if id < 1 << 62 else floor
        else:
            taken = list(ids.take(number))
            assert len(taken) == number
            assert taken == sorted(set(taken))
            assert all(floor < id <= HIGHEST and decompose(id).worker_id == worker for id in taken)
            floor = taken[-1] if taken else floor
