"""Which partition a message goes to."""

from collections import Counter
from random import Random

import pytest

from metaq.client.partitioner import RandomChoice, RoundRobin, make_selector, parse_partition
from metaq.errors import ConfigError
from metaq.model import BrokerPartition

PARTITIONS = [BrokerPartition(b, n) for b in (0, 1) for n in (0, 1, 2)]


def test_round_robin_takes_each_in_turn_from_anywhere() -> None:
    chosen = RoundRobin(Random(1))
    first = [chosen("t", PARTITIONS, b"", None) for _ in range(6)]
    assert sorted(first) == PARTITIONS
    assert [chosen("t", PARTITIONS, b"", None) for _ in range(6)] == first
    assert len({RoundRobin(Random(seed))("t", PARTITIONS, b"", None) for seed in range(50)}) > 1


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
    with pytest.raises(ConfigError, match="there are round_robin, random"):
        make_selector("sticky", Random(1))


def test_partitions_are_written_broker_dash_number() -> None:
    assert parse_partition("12-3") == BrokerPartition(12, 3)
    for text in ("", "1", "1-", "-1", "a-1", "1-2-3", "-1--1", "1-²", " 1-2"):
        with pytest.raises(ConfigError, match="wanted <brokerId>-<partition>"):
            parse_partition(text)
