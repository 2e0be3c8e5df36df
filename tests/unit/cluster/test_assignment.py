"""How a group divides partitions: as 1.4.6.2 does, each once, fast."""

import time
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.cluster.assignment import Strategy, assign, position, sort_texts

STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)

names = st.text(st.characters(exclude_characters="/,"), min_size=1, max_size=12)
partitions = st.builds("{}-{}".format, st.integers(0, 12), st.integers(0, 30))


def numbered(brokers: int, count: int) -> list[str]:
    return [f"{broker}-{n}" for broker in range(brokers) for n in range(count)]


def test_slices_are_those_of_the_reference() -> None:
    division = assign("default", ("a", "b"), sort_texts(numbered(1, 11)))
    assert list(division["a"]) == ["0-0", "0-1", "0-10", "0-2", "0-3", "0-4"]
    assert list(division["b"]) == ["0-5", "0-6", "0-7", "0-8", "0-9"]


@pytest.mark.parametrize(("partition", "point"), [("0-0", 53638855), ("1-11", 3464452845)])
def test_a_partition_lies_where_the_reference_puts_it(partition: str, point: int) -> None:
    assert position(partition) == point


def test_the_ring_divides_as_the_reference() -> None:
    division = assign("consistent", ("g_c1", "g_c2", "g_c3"), sort_texts(numbered(2, 12)))
    assert {name: set(found) for name, found in division.items()} == {
        "g_c1": {"0-3", "0-4", "1-0", "1-3", "1-4", "1-6", "1-9"},
        "g_c2": {"0-2", "0-6", "0-10", "0-11", "1-2", "1-5", "1-7", "1-8", "1-10", "1-11"},
        "g_c3": {"0-0", "0-1", "0-5", "0-7", "0-8", "0-9", "1-1"},
    }


def test_texts_are_sorted_by_their_utf_16_code_units_as_java_sorts_them() -> None:
    assert sort_texts(["0-2", "0-10", "0-1", "0-2"]) == ("0-1", "0-10", "0-2")
    assert sort_texts(["\uff5e", "\U0001f600", "z"]) == ("z", "\U0001f600", "\uff5e")  # by code points it comes last


@given(st.sampled_from(STRATEGIES), st.sets(names, max_size=9), st.sets(partitions, max_size=80))
def test_every_partition_has_exactly_one_owner_as_long_as_there_is_a_member(
    strategy: Strategy, members: set[str], wanted: set[str]
) -> None:
    division = assign(strategy, sort_texts(members), sort_texts(wanted))
    given_out = [partition for found in division.values() for partition in found]
    assert sorted(given_out) == (sorted(wanted) if members else [])
    assert set(division) <= members


@given(st.sets(names, min_size=1, max_size=9), st.sets(partitions, max_size=80))
def test_slices_are_contiguous_and_differ_by_one_at_most(members: set[str], wanted: set[str]) -> None:
    consumers, texts = sort_texts(members), sort_texts(wanted)
    division = assign("default", consumers, texts)
    assert [partition for name in consumers for partition in division[name]] == list(texts)
    sizes = [len(division[name]) for name in consumers]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) - min(sizes) <= 1


@given(st.sets(names, min_size=2, max_size=9), st.sets(partitions, max_size=80), st.data())
def test_on_the_ring_a_leaving_member_moves_only_what_it_owned(
    members: set[str], wanted: set[str], data: st.DataObject
) -> None:
    leaver = data.draw(st.sampled_from(sorted(members)))
    texts = sort_texts(wanted)
    before = assign("consistent", sort_texts(members), texts)
    after = assign("consistent", sort_texts(members - {leaver}), texts)
    for name in members - {leaver}:
        assert set(before.get(name, ())) <= set(after.get(name, ()))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_hundred_members_divide_a_thousand_partitions_in_milliseconds(strategy: Strategy) -> None:
    members = sort_texts(f"g_10.0.0.{n}-4711-6f1c2f1e-8f6b-4a7e-9a55-0f4f2d3c1b22" for n in range(100))
    texts = sort_texts(numbered(4, 256))
    first = assign(strategy, members, texts)
    begun = time.process_time()
    for n in range(100):  # each member divides for itself
        assert assign(strategy, tuple(members), tuple(texts)).get(members[n]) == first.get(members[n])
    assert time.process_time() - begun < 0.1
