"""Which partition a message goes to."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.client.partitioner import (
    BrokersInTurn,
    ByKey,
    KeySelector,
    RandomChoice,
    RoundRobin,
    key_hash,
    make_selector,
    parse_layout,
    parse_partition,
)
from metaq.errors import ConfigError
from metaq.model import BrokerPartition

PARTITIONS = [BrokerPartition(b, n) for b in (0, 1) for n in (0, 1, 2)]


def test_round_robin_takes_each_in_turn_from_anywhere() -> None:
    chosen = RoundRobin(Random(1))
    first = [chosen("t", PARTITIONS, b"", None) for _ in range(6)]
    assert sorted(first) == PARTITIONS
    assert [chosen("t", PARTITIONS, b"", None) for _ in range(6)] == first
    assert len({RoundRobin(Random(seed))("t", PARTITIONS, b"", None) for seed in range(50)}) > 1


def test_brokers_in_turn_takes_another_broker_each_time_and_reaches_all_partitions() -> None:
    partitions = [*PARTITIONS, BrokerPartition(7, 0)]
    choose = BrokersInTurn(Random(1))
    chosen = [choose("t", partitions, b"", None) for _ in range(9)]
    assert all(len({partition.broker_id for partition in chosen[n : n + 3]}) == 3 for n in range(7))
    assert sorted(set(chosen)) == partitions


def test_random_reaches_all_about_alike() -> None:
    choose = RandomChoice(Random(1))
    counts = Counter(choose("t", PARTITIONS, b"", None) for _ in range(6000))
    assert all(800 < counts[partition] < 1200 for partition in PARTITIONS)


def test_selectors_are_named_or_given() -> None:
    def mine(topic: str, partitions: object, data: bytes, attribute: str | None, /) -> BrokerPartition:
        return PARTITIONS[len(data)]

    assert make_selector(mine, Random(1)) is mine
    assert isinstance(make_selector("round_robin", Random(1)), RoundRobin)
    assert isinstance(make_selector("random", Random(1)), RandomChoice)
    assert isinstance(make_selector("key", Random(1)), KeySelector)
    with pytest.raises(ConfigError, match="there are round_robin, brokers, random, key"):
        make_selector("sticky", Random(1))


def test_partitions_are_written_broker_dash_number() -> None:
    assert parse_partition("12-3") == BrokerPartition(12, 3)
    for text in ("", "1", "1-", "-1", "a-1", "1-2-3", "-1--1", "1-²", " 1-2"):
        with pytest.raises(ConfigError, match="wanted <brokerId>-<partition>"):
            parse_partition(text)


@pytest.mark.parametrize(
    ("key", "java"),
    [
        ("", 0),
        ("hello", 99162322),
        ("alice", 92903040),
        ("polygenelubricants", -2147483648),
        ("é", 233),
        ("😀", 1772899),
        (b"hello", 99162322),
        (b"\xe9", 233),
        (7, 7),
        (-1, 0),
        (1 << 32, 1),
        ((5 << 32) + 3, 6),
    ],
)
def test_the_hash_of_a_key_is_that_of_java_without_its_sign(key: str | bytes | int, java: int) -> None:
    assert key_hash(key) == java & 0x7FFFFFFF


@given(st.one_of(st.text(), st.binary(), st.integers()))
def test_any_key_has_a_hash_that_an_index_can_be_made_of(key: str | bytes | int) -> None:
    assert 0 <= key_hash(key) < 1 << 31


def test_a_key_has_its_partition_and_messages_without_one_go_to_each_in_turn() -> None:
    by_key = make_selector("key", Random(1))
    assert by_key("t", PARTITIONS, b"1", "hello") == PARTITIONS[99162322 % 6] == by_key("t", PARTITIONS, b"2", "hello")
    assert sorted(by_key("t", PARTITIONS, b"", None) for _ in range(6)) == PARTITIONS
    by_first_byte = make_selector(ByKey(lambda data, attribute: data[0] if data else None), Random(1))
    assert by_first_byte("t", PARTITIONS, b"\x04", "hello") == PARTITIONS[4]
    assert sorted(by_first_byte("t", PARTITIONS, b"", None) for _ in range(6)) == PARTITIONS


def test_a_layout_is_pairs_of_broker_and_count() -> None:
    partitions = [BrokerPartition(0, 0), BrokerPartition(0, 1), BrokerPartition(2, 0), BrokerPartition(10, 0)]
    assert parse_layout("10:1;0:2;2:1", "t") == partitions
    assert parse_layout(" 0 : 2; 2:1;10:1;", "t") == partitions
    assert parse_layout({"t": "0:2;2:1;10:1", "u": "nonsense"}, "t") == partitions
    for text in ("", "0", "0:", ":1", "0:4,1:4", "a:1", "0:-1", "0:1;;1:1", "0:²"):
        with pytest.raises(ConfigError, match="wanted <brokerId>:<partitions>"):
            parse_layout(text, "t")
    with pytest.raises(ConfigError, match="has no partition"):
        parse_layout("0:0", "t")
    with pytest.raises(ConfigError, match="t: the layout does not name it; it names u"):
        parse_layout({"u": "0:1"}, "t")
