"""A slave that appears as a master below a root of its own: all nodes, and nothing that Java consumers would miss."""

from dataclasses import replace

import pytest

from metaq.cluster.directory import Directory
from metaq.cluster.operations import Node
from metaq.cluster.ports import Registry
from metaq.cluster.reading import Registration, read_root, readable_as_master
from metaq.cluster.registry import BrokerRegistration
from metaq.config.model import BrokerConfig, TopicConfig, ZooKeeperConfig
from metaq.errors import ConfigError, RegistryError
from metaq.model import BrokerAddress, BrokerPartition
from tests.cluster.conftest import Ensemble
from tests.cluster.test_registration import tree

SLAVE = BrokerAddress("10.0.0.6", 8123)
URL = b"meta://10.0.0.6:8123"
CONFIG = BrokerConfig(broker_id=1, topics=(TopicConfig(name="test", num_partitions=4),), checksum=77)


def slave_of(
    registry: Registry, config: BrokerConfig = CONFIG, address: BrokerAddress = SLAVE, slave_id: int = 2
) -> Registration:
    main = BrokerRegistration(registry, config, address, slave_id=slave_id)
    return readable_as_master(main, registry, config, address, slave_id)


async def test_below_its_own_root_a_slave_is_the_master_with_all_nodes(ensemble: Ensemble) -> None:
    registry = await ensemble.connect()
    await slave_of(registry).register(["test"])
    s = registry.session
    found = await tree(registry, "/read-slave2/meta")
    assert {path: node for path, node in found.items() if node.data is not None} == {
        "/read-slave2/meta/brokers/ids/1": Node(URL, 0),
        "/read-slave2/meta/brokers/ids/1/master": Node(URL, s),
        "/read-slave2/meta/brokers/ids/1/master_config_checksum": Node(b"77", s),
        "/read-slave2/meta/brokers/topics/test/1-m": Node(b"4", s),
        "/read-slave2/meta/brokers/topics-pub/test/1-m": Node(b'{"numParts":4,"broker":"1-m"}', s),
        "/read-slave2/meta/brokers/topics-sub/test/1-m": Node(b'{"numParts":4,"broker":"1-m"}', s),
    }
    assert sorted(path for path in await tree(registry) if "/1-" in path or "/slave" in path) == [
        "/meta/brokers/ids/1/slave2",
        *(f"/meta/brokers/{section}/test/1-s2" for section in ("topics-pub", "topics-sub", "topics")),
    ]


async def test_topics_that_come_later_and_the_end_are_seen_below_both(ensemble: Ensemble) -> None:
    registry = await ensemble.connect()
    slave = slave_of(registry)
    await slave.register(["test"])
    config = replace(CONFIG, topics=(*CONFIG.topics, TopicConfig(name="new", num_partitions=2)), checksum=78)
    await slave.update(config, ["test", "new"])
    await slave.add_topic("third")
    for root in ("/meta", "/read-slave2/meta"):
        directory = Directory(registry, root)
        assert await directory.readable("new") == [BrokerPartition(1, 0), BrokerPartition(1, 1)]
        assert await directory.readable("third") == [BrokerPartition(1, 0)]
        await directory.close()
    assert (await tree(registry))["/meta/brokers/ids/1"].data is None
    await slave.forget("new")
    for root in ("/meta", "/read-slave2/meta"):
        assert not [path for path in await tree(registry, root) if "/new/" in path]
    await slave.withdraw()
    for root in ("/meta", "/read-slave2/meta"):
        left = await tree(registry, root)
        assert not [path for path in left if "/1-" in path or path.endswith(("/master", "/slave2"))]


async def test_two_slaves_below_one_root_are_refused_with_the_remedy(ensemble: Ensemble) -> None:
    one, other = await ensemble.connect(), await ensemble.connect()
    config = replace(CONFIG, slave_read_root="/far/meta")
    await slave_of(one, config).register(["test"])
    second = slave_of(other, config, BrokerAddress("10.0.0.7", 8123), slave_id=3)
    with pytest.raises(
        RegistryError, match=r"below /far/meta: broker 1 is registered [^;]*; [^;]*; give each slave a slaveRead"
    ):
        await second.register(["test"])
    await second.withdraw()
    assert "/meta/brokers/ids/1/slave3" not in await tree(one)
    assert "/far/meta/brokers/ids/1/master" in await tree(one, "/far/meta")


async def test_a_slave_without_such_a_root_is_registered_once(ensemble: Ensemble) -> None:
    registry = await ensemble.connect()
    await slave_of(registry, replace(CONFIG, slave_read_root="")).register(["test"])
    assert await registry.children("/") is not None
    assert await registry.exists("/read-slave2") is False


@pytest.mark.parametrize(
    ("setting", "root", "expected"),
    [
        (None, "/meta", "/read-slave2/meta"),
        (None, "", "/read-slave2"),
        (None, "/a/b", "/read-slave2/a/b"),
        ("/gz/meta", "/meta", "/gz/meta"),
        ("", "/meta", ""),
    ],
)
def test_the_root_is_the_one_set_or_has_the_number_of_the_slave(setting: str | None, root: str, expected: str) -> None:
    config = replace(CONFIG, slave_read_root=setting, zookeeper=ZooKeeperConfig(root=root))
    assert read_root(config, 2) == expected


def test_the_root_of_the_master_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"slaveReadRoot=/meta: that is zk.zkRoot, where the master is; write /read"):
        read_root(replace(CONFIG, slave_read_root="/meta"), 2)
