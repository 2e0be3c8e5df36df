"""Which partitions exist, which are closed, which one a put without a partition gets."""

from random import Random

import pytest

from metaq.broker.topics import Topics
from metaq.config.model import BrokerConfig, TopicConfig
from metaq.errors import PartitionClosed, TopicNotAccepted, WrongPartition
from metaq.model import TopicPartition


def config(*topics: TopicConfig, default: int = 3) -> BrokerConfig:
    return BrokerConfig(broker_id=7, topics=topics, defaults=TopicConfig(name="", num_partitions=default))


ORDERS = TopicConfig(name="orders", num_partitions=4)
WILD = TopicConfig(name="log*", num_partitions=9)


def test_a_topic_dropped_from_the_file_is_not_accepted_after_a_reload() -> None:  # S18
    topics = Topics(config(ORDERS, WILD), Random(1))
    assert topics.resolve(TopicPartition("logins", 0)) == ("logins", 0)
    topics.configure(config(ORDERS))
    with pytest.raises(TopicNotAccepted, match="logins"):
        topics.resolve(TopicPartition("logins", 0))
    assert topics.resolve(TopicPartition("orders", 3)) == ("orders", 3)


def test_a_topic_that_a_wildcard_admits_has_the_partitions_of_the_system_section() -> None:  # Q18
    topics = Topics(config(WILD), Random(1))
    assert topics.resolve(TopicPartition("logins", 2)) == ("logins", 2)
    with pytest.raises(WrongPartition, match="wrong partition 3"):
        topics.resolve(TopicPartition("logins", 3))


@pytest.mark.parametrize("partition", [4, -2, 1 << 31])
def test_partitions_beyond_the_count_are_refused(partition: int) -> None:
    with pytest.raises(WrongPartition, match=f"wrong partition {partition}"):
        Topics(config(ORDERS), Random(1)).resolve(TopicPartition("orders", partition))


def test_no_partition_given_means_any_that_is_open() -> None:  # Q17
    topics = Topics(config(ORDERS), Random(1))
    topics.close("orders", 1, 2)
    chosen = {topics.resolve(TopicPartition("orders", -1)).partition for _ in range(200)}
    assert chosen == {0, 3}
    topics.close("orders", 0, 9)
    with pytest.raises(PartitionClosed, match=r"partition\[7--1\] has been closed"):
        topics.resolve(TopicPartition("orders", -1))


def test_closed_partitions_open_again_all_together() -> None:
    topics = Topics(config(ORDERS), Random(1))
    topics.close("orders", 1, 1)
    with pytest.raises(PartitionClosed, match=r"partition\[7-1\] has been closed"):
        topics.resolve(TopicPartition("orders", 1))
    with pytest.raises(PartitionClosed, match=r"Partition\[7-1\] has been closed"):
        topics.check_open(TopicPartition("orders", 1))
    topics.open("orders")
    assert topics.resolve(TopicPartition("orders", 1)) == ("orders", 1)


@pytest.mark.parametrize(("topic", "first", "last"), [("other", 0, 1), ("orders", -1, 1), ("orders", 2, 1)])
def test_only_ranges_of_configured_topics_can_be_closed(topic: str, first: int, last: int) -> None:
    with pytest.raises(ValueError, match=r"not configured|no range"):
        Topics(config(ORDERS), Random(1)).close(topic, first, last)
