"""In which order copies of a partition are read from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.client.preference import Preference, in_order, nearest_first, parse_preference
from metaq.model import BrokerAddress

MASTER, ONE, TWO = (BrokerAddress(f"10.0.0.{n}", 8123) for n in range(3))
SLAVES = {1: ONE, 2: TWO}


@pytest.mark.parametrize(
    ("read_from", "turn", "order"),
    [
        ("master", 1, [MASTER, ONE, TWO]),
        ("slave", 0, [ONE, TWO, MASTER]),
        ("slave", 1, [TWO, ONE, MASTER]),
        ("slave", 2, [ONE, TWO, MASTER]),
        ("slave:2", 0, [TWO, MASTER, ONE]),
        ("slave:3", 0, [MASTER, ONE, TWO]),
        ("any", 0, [MASTER, ONE, TWO]),
        ("any", 1, [ONE, TWO, MASTER]),
        ("any", 5, [TWO, MASTER, ONE]),
        ("nearest", 0, [TWO, MASTER, ONE]),
    ],
)
def test_the_one_that_is_meant_comes_first_then_those_to_fall_back_to(
    read_from: str, turn: int, order: list[BrokerAddress]
) -> None:
    found = in_order(parse_preference(read_from), MASTER, SLAVES, turn, near=(TWO, MASTER, ONE))
    assert [each.address for each in found] == order
    assert [each.is_master for each in found] == [address == MASTER for address in order]
    assert str(parse_preference(read_from)) == read_from


@given(
    st.sampled_from(["master", "slave", "slave:1", "slave:9", "nearest", "any"]),
    st.dictionaries(st.integers(-3, 9), st.integers(10, 40).map(lambda n: BrokerAddress(f"10.0.0.{n}", 1)), max_size=5),
    st.booleans(),
    st.integers(0, 20),
)
def test_everybody_who_has_a_copy_is_there_once(
    read_from: str, slaves: dict[int, BrokerAddress], has_master: bool, turn: int
) -> None:
    slaves = {number: address for address, number in {a: n for n, a in slaves.items()}.items()}
    found = in_order(parse_preference(read_from), MASTER if has_master else None, slaves, turn)
    assert sorted(each.address for each in found) == sorted([*slaves.values(), *([MASTER] if has_master else [])])


def test_the_nearest_stays_until_another_is_clearly_nearer() -> None:
    times = {MASTER: 0.040, ONE: 0.010}
    assert nearest_first([MASTER, ONE, TWO], times) == [ONE, MASTER, TWO]
    assert nearest_first([MASTER, ONE, TWO], times | {TWO: 0.009}, before=[ONE]) == [ONE, TWO, MASTER]
    assert nearest_first([MASTER, ONE, TWO], times | {TWO: 0.005}, before=[ONE]) == [TWO, ONE, MASTER]
    assert nearest_first([MASTER, ONE], {MASTER: 0.0003, ONE: 0.0001}, before=[MASTER]) == [MASTER, ONE]
    assert nearest_first([MASTER, ONE], times, before=[TWO]) == [ONE, MASTER]
    assert nearest_first([], times, before=[ONE]) == []


def test_a_preference_says_what_it_prefers() -> None:
    assert parse_preference("slave:12") == Preference("slave", 12)
