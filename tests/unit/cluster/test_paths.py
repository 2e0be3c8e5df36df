"""The paths are those of zookeeper.md 3."""

import pytest

from metaq.cluster.paths import Paths, broker_child, member, normalize_root, parent
from metaq.model import BrokerPartition


@pytest.mark.parametrize(
    ("text", "root"),
    [("/meta", "/meta"), ("meta", "/meta"), ("meta/", "/meta"), ("/a/b/", "/a/b"), ("/", ""), ("", "")],
)
def test_a_root_is_written_in_several_ways(text: str, root: str) -> None:
    assert normalize_root(text) == root
    assert Paths(text).ids == f"{root}/brokers/ids"


def test_every_node_has_its_documented_place() -> None:
    paths = Paths()
    third = BrokerPartition(0, 3)
    assert paths.broker(0) == "/meta/brokers/ids/0"
    assert paths.broker_address(0) == "/meta/brokers/ids/0/master"
    assert paths.broker_address(0, 1) == "/meta/brokers/ids/0/slave1"
    assert paths.broker_address(0, 0) == "/meta/brokers/ids/0/slave0"
    assert paths.checksum(0) == "/meta/brokers/ids/0/master_config_checksum"
    assert paths.topic("t") == "/meta/brokers/topics/t"
    assert paths.publish("t") == "/meta/brokers/topics-pub/t"
    assert paths.subscribe("t") == "/meta/brokers/topics-sub/t"
    assert paths.group("g") == "/meta/consumers/g"
    assert paths.consumer("g", "g_a") == f"{paths.group_ids('g')}/g_a" == "/meta/consumers/g/ids/g_a"
    assert paths.owner("g", "t", third) == f"{paths.owners('g', 't')}/0-3" == "/meta/consumers/g/owners/t/0-3"
    assert paths.offset("g", "t", third) == f"{paths.offsets('g', 't')}/0-3" == "/meta/consumers/g/offsets/t/0-3"
    assert paths.ours == "/meta/pymetaq"


def test_masters_and_slaves_have_names_of_their_own() -> None:
    assert (member(7, None), member(7, 0), member(7, 2)) == ("7-m", "7-s0", "7-s2")
    assert (broker_child(None), broker_child(0)) == ("master", "slave0")


def test_the_parent_of_a_first_node_is_the_top() -> None:
    assert (parent("/meta/brokers"), parent("/meta")) == ("/meta", "/")
