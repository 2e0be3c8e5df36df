"""Asynchronous slaves: registered beside their master, equal to it, and told apart from it."""

from dataclasses import replace
from pathlib import Path

import pytest

from metaq.cluster.operations import BrokerConflict
from metaq.cluster.paths import Paths
from metaq.cluster.zk import ZooKeeperClient
from metaq.config.editing import Action, TopicChange
from metaq.config.slave import Sync
from metaq.errors import ConfigError
from metaq.replication.slave import from_file
from metaq.testing import Coordinator
from tests.cluster.conftest import until, until_async
from tests.cluster.slaves.sites import TOPICS, Sites, same

PATHS = Paths()


async def test_slaves_that_start_first_copy_the_master_when_it_comes(sites: Sites, tree: ZooKeeperClient) -> None:
    slaves = [await sites.slave(number).start() for number in (1, 2)]
    for slave in slaves:
        status = slave.slave.status()
        assert (status.state, status.master) == ("waiting", None)
        assert status.error is not None
        assert status.error.startswith("no master of broker 1 is registered below /meta at ")
    master = await sites.site("master").start()
    await master.put("test", 0, b"a", b"b" * 3000)
    await master.put("oct29", 1, b"c")
    await same(master, *slaves)
    await until(lambda: all(slave.slave.status().state == "current" for slave in slaves))
    assert await tree.children(PATHS.broker(1)) == ["master", "master_config_checksum", "slave1", "slave2"]
    assert await tree.children(PATHS.subscribe("test")) == ["1-m", "1-s1", "1-s2"]
    for number in (1, 2):

        async def is_member(group: str = f"slaves-{number}") -> bool:
            # a slave registers beside its copying, and anew when topics come
            names = await tree.children(PATHS.group_ids(group)) or ()
            nodes = [await tree.get(PATHS.consumer(group, name)) for name in names]
            return [node.data for node in nodes if node is not None] == [b"oct29,test"]

        await until_async(is_member)
        assert await tree.children(PATHS.group(f"slaves-{number}")) == ["ids"]
    for site in (*slaves, master):
        await site.end()
    held = master.files()
    assert sorted(held) == ["oct29-1/00000000000000000000.meta", "test-0/00000000000000000000.meta"]
    assert [slave.files() for slave in slaves] == [held, held]


async def test_a_slave_that_stops_leaves_nothing_in_the_tree(sites: Sites, tree: ZooKeeperClient) -> None:
    master = await sites.site("master").start()
    slave = await sites.slave(1).start()
    await until(lambda: slave.slave.status().state == "current")

    async def is_member() -> bool:
        return bool(await tree.children(PATHS.group_ids("slaves-1")))

    await until_async(is_member)
    await slave.end()
    assert not await is_member()
    assert await tree.children(PATHS.broker(1)) == ["master", "master_config_checksum"]
    assert await tree.children(PATHS.subscribe("test")) == ["1-m"]
    await master.end()
    assert await tree.children(PATHS.subscribe("test")) == []


async def test_a_slave_takes_no_messages(sites: Sites) -> None:
    slave = await sites.slave(2).start()
    peer = await slave.peer()
    await peer.sends(b"put test 0 1 0 7\r\nx")
    await peer.gets(rb"result 500 \d+ 7\r\nthis is slave 2 of broker 1: only its master takes messages")
    assert not list(slave.broker.running.broker.store.all())


async def test_a_master_that_goes_and_comes_back_is_followed_on(sites: Sites) -> None:
    master, slave = await sites.site("master").start(), await sites.slave(1).start()
    await master.put("test", 0, b"one")
    await same(master, slave)
    held = slave.bounds()
    await master.end()
    await until(lambda: slave.slave.status().master is None)
    assert slave.bounds() == held
    await master.start()
    await master.put("test", 0, b"two")
    await same(master, slave)


async def test_a_topic_that_is_added_by_reload_reaches_the_slaves_and_their_files(sites: Sites) -> None:
    master = await sites.site("master").start()
    slaves = [await sites.slave(number).start() for number in (1, 2)]
    await until(lambda: all(slave.slave.status().state == "current" for slave in slaves))
    master.ini.write_text(master.ini.read_text() + "; new\n[topic=new]\nnumPartitions=3\n")
    await master.broker.running.reload()
    await master.put("new", 2, b"first")
    await same(master, *slaves)
    for slave in slaves:
        assert "; new\n[topic=new]\nnumPartitions=3\n" in slave.ini.read_text()
        assert slave.broker.running.config.topic("new").num_partitions == 3


async def test_partitions_that_are_added_at_the_master_are_copied(sites: Sites) -> None:
    master, slave = await sites.site("master").start(), await sites.slave(1).start()
    await until(lambda: slave.slave.status().state == "current")
    text = master.ini.read_text().replace("[topic=oct29]\n", "[topic=oct29]\nnumPartitions=5\n")
    master.ini.write_text(text)
    await master.broker.running.reload()
    await master.put("oct29", 4, b"x")
    await same(master, slave)
    assert slave.broker.running.config.topic("oct29").num_partitions == 5


async def test_a_topic_that_is_dropped_at_the_master_is_no_topic_of_the_slave_and_its_messages_stay(
    sites: Sites,
) -> None:
    master, slave = await sites.site("master").start(), await sites.slave(1).start()
    await master.put("oct29", 0, b"x")
    await same(master, slave)
    await master.broker.running.changes.apply(TopicChange(Action.DROP, "oct29"))
    await until(lambda: not slave.broker.running.config.has_section("oct29"))
    await until(lambda: {each.key.topic for each in slave.slave.status().copying.partitions} == {"test"})
    assert "oct29-0" in slave.bounds()


async def test_a_slave_that_zookeeper_forgot_registers_again_and_copies_on(
    sites: Sites, tree: ZooKeeperClient, own_registry: Coordinator
) -> None:
    master, slave = await sites.site("master").start(), await sites.slave(1).start()
    await master.put("test", 0, b"one")
    await same(master, slave)
    registry = slave.broker.running._registration.registry
    assert isinstance(registry, ZooKeeperClient)
    before = registry.session
    own_registry.expire(*registry.credentials)

    async def is_back() -> bool:
        node = await tree.get(PATHS.broker_address(1, 1))
        members = await tree.children(PATHS.group_ids("slaves-1"))
        return node is not None and node.owner not in (0, before) and len(members or ()) == 1

    await until_async(is_back)
    await master.put("test", 0, b"two")
    await same(master, slave)


async def test_topics_are_taken_over_on_the_first_start_and_all_else_is_the_slaves_own(sites: Sites) -> None:
    slave = await sites.slave(1, topics="[topic=old]\n").start()
    before = slave.ini.read_text()
    master = await sites.site("master").start()
    await master.put("oct29", 0, b"x")
    await same(master, slave)
    assert slave.ini.read_text() == before.replace("[topic=old]\n", TOPICS)


async def test_the_whole_file_is_taken_over_where_that_is_chosen(sites: Sites) -> None:
    slave = await sites.slave(1, Sync.ALL, topics="[topic=old]\n").start()
    master = sites.site("master")
    master.ini.write_bytes(master.ini.read_bytes() + "; 主题\n".encode("gbk"))
    config = master.ini.read_bytes()
    await master.start()
    await master.put("oct29", 0, b"x")
    await same(master, slave)
    assert slave.ini.read_bytes() == config


async def test_without_taking_over_a_topic_that_is_missing_is_named_and_the_others_go_on(sites: Sites) -> None:
    slave = await sites.slave(1, None, topics="[topic=test]\n").start()
    before = slave.ini.read_bytes()
    master = await sites.site("master").start()
    await master.put("oct29", 0, b"x")
    await master.put("test", 1, b"y")
    await until(
        lambda: any("oct29" in str(each.key) and each.error for each in slave.slave.status().copying.partitions)
    )
    await until(lambda: "test-1" in slave.bounds())
    assert slave.ini.read_bytes() == before


async def test_two_slaves_of_one_number_are_told_what_to_do_and_the_first_goes_on(
    sites: Sites, tree: ZooKeeperClient
) -> None:
    first = await sites.slave(1).start()
    second = sites.site("second", first.role)
    with pytest.raises(BrokerConflict, match=r"slave 1 .* give each slave of a master a slaveId of its own"):
        await second.start()
    node = await tree.get(PATHS.broker_address(1, 1))
    assert node is not None
    assert node.data == str(first.broker.running.address).encode()


async def test_two_masters_of_one_number_are_told_what_to_do_and_the_first_goes_on(
    sites: Sites, tree: ZooKeeperClient
) -> None:
    first = await sites.site("master").start()
    with pytest.raises(BrokerConflict, match=r"give each broker a brokerId of its own, or start this one as a slave"):
        await sites.site("second").start()
    node = await tree.get(PATHS.broker_address(1))
    assert node is not None
    assert node.data == str(first.broker.running.address).encode()


async def test_a_slave_of_another_broker_copies_nothing_from_it_and_says_so(
    sites: Sites, tree: ZooKeeperClient
) -> None:
    other = await sites.site("other", brokerId=7).start()
    await other.put("test", 0, b"x")
    await tree.create(PATHS.broker_address(1), str(other.broker.running.address).encode(), ephemeral=True)
    await tree.create(f"{PATHS.subscribe('test')}/1-m", b'{"numParts":2}', ephemeral=True)
    slave = await sites.slave(1).start()
    await until(lambda: "is broker 7, and this slave follows broker 1; set brokerId" in str(slave.slave.status().error))
    assert not slave.bounds()


async def test_a_masters_file_that_nobody_can_read_is_kept_beside_ours(sites: Sites) -> None:
    master = await sites.site("master").start()
    broker = master.broker.running.broker
    broken = broker.config.text + b"[topic=half\n"
    broker.config = replace(broker.config, text=broken)
    slave = await sites.slave(1).start()
    before = slave.ini.read_bytes()
    await until(lambda: "stays as it is" in str(slave.slave.status().error))
    assert slave.ini.read_bytes() == before
    assert (slave.folder / "server.ini.from-master").read_bytes() == broken
    await master.put("test", 0, b"x")
    await same(master, slave)


async def test_a_slave_needs_zookeeper(tmp_path: Path) -> None:
    path = tmp_path / "async_slave.properties"
    path.write_text("slaveId=1\n")
    async with Sites(tmp_path / "sites", "127.0.0.1:1") as sites:
        (tmp_path / "sites").mkdir()
        site = sites.site("slave", lambda: from_file(str(path)))
        site.ini.write_text(site.ini.read_text().replace("zk.zkEnable=true", "zk.zkEnable=false"))
        with pytest.raises(ConfigError, match=r"zk.zkEnable=false: a slave finds its master in ZooKeeper; take that"):
            await site.start()
