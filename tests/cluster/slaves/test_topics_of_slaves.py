"""Topics that are created, enlarged and dropped at a master reach its slave, which takes none by itself."""

from dataclasses import replace

import pytest

from metaq.admin.changing import ChangeError
from metaq.admin.requesting import Asking, TopicRequests
from metaq.cluster.paths import Paths
from metaq.cluster.topic_nodes import Progress
from metaq.cluster.zk import ZooKeeperClient
from metaq.config.editing import Action, TopicChange
from metaq.config.slave import Sync
from metaq.replication import dropped, meeting
from tests.cluster.conftest import DEADLINE, until, until_async
from tests.cluster.slaves.sites import TOPICS, Site, Sites, same


async def test_what_a_command_changes_at_the_master_reaches_its_slave(sites: Sites, tree: ZooKeeperClient) -> None:
    master = await sites.site("master").start()
    slave = await sites.slave(1, sync=Sync.TOPICS).start()
    requests = TopicRequests(tree, "/meta")
    create = TopicChange(Action.CREATE, "orders", {"numPartitions": "3", "deletePolicy": "delete,48"})
    alter = TopicChange(Action.ALTER, "orders", {"numPartitions": "4"})

    async def change(change: TopicChange) -> None:
        results = await requests.ask(change, {1}, Asking(change.action.value, DEADLINE))
        assert results[1].progress is Progress.DONE, results[1].text

    def partitions() -> int:
        config = slave.broker.running.config
        return config.topic("orders").num_partitions if config.has_section("orders") else 0

    assert await requests.takers() == {1}
    with pytest.raises(ChangeError, match="this broker is a slave: change topics at its master"):
        await slave.broker.running.changes.apply(create)
    await change(create)
    await until(lambda: partitions() == 3)
    assert slave.broker.running.config.topic("orders").delete_policy.age == 48 * 3600.0
    await master.put("orders", 2, b"a")
    await change(alter)
    await master.put("orders", 3, b"b")
    await until(lambda: partitions() == 4)
    await same(master, slave)
    await until_async(lambda: registered(tree, "orders", ["1-m", "1-s1"]))
    await change(TopicChange(Action.DROP, "orders"))
    await until(lambda: partitions() == 0)
    await until_async(lambda: registered(tree, "orders", ["1-s1"]))
    assert not [name for name in master.bounds() if name.startswith("orders-")]
    assert sorted(name for name in slave.bounds() if name.startswith("orders-")) == ["orders-2", "orders-3"]
    await change(create)  # a new topic of that name: what the slave has of the old one is set aside
    await master.put("orders", 2, b"a new one")
    await until(lambda: partitions() == 3)
    await until(lambda: slave.bounds().get("orders-2") == master.bounds()["orders-2"])


async def test_a_slave_moves_aside_what_its_master_has_dropped_and_nothing_for_less_than_that(
    sites: Sites, tree: ZooKeeperClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dropped, "SURE", 0.2)
    with_orders = f"{TOPICS}[topic=orders]\n"
    site = sites.site("master", topics=with_orders)
    follower, keeping = sites.slave(1), sites.slave(2, sync=None, topics=with_orders)
    master, slave, keeper = await site.start(), await follower.start(), await keeping.start()
    await master.put("orders", 1, b"a", b"b")
    await master.put("test", 0, b"c")
    await same(master, slave, keeper)
    await master.end()
    await until(lambda: slave.slave.status().master is None)
    await site.start()  # it was away with all its topics: nothing was dropped
    await until(lambda: slave.slave.status().state == "current")
    assert slave.bounds() == master.bounds()
    await master.broker.running.changes.apply(TopicChange(Action.DROP, "orders"))
    await until(lambda: "orders-1" not in slave.bounds())
    await until_async(lambda: registered(tree, "orders", ["1-s2"]))
    assert slave.bounds() == master.bounds()
    assert aside(slave, "orders-1") == aside(master, "orders-1") != {}
    assert caplog.text.count("topic orders: the master has dropped it; what was copied is kept in") == 1
    assert "orders-1" in keeper.bounds()
    await until(lambda: keeper.slave.status().values()["gone"] == ["orders"])
    assert slave.slave.status().values()["gone"] == []


async def test_a_master_that_filters_for_the_group_of_a_slave_is_not_copied_with_holes(
    sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting, "RETRY", 0.1)
    filtering = TOPICS.replace("[topic=test]\n", "[topic=test]\ngroup.slaves-1=com.example.Cheap\n")
    master, slave, other = sites.site("master", topics=filtering), sites.slave(1), sites.slave(2)
    for site in (slave, other, master):
        await site.start()
    await master.put("test", 0, b"a")
    await same(master, other)
    await until(lambda: "filters test for group slaves-1" in str(slave.slave.status().error))
    assert "set another slaveGroup" in str(slave.slave.status().error)
    assert not slave.bounds()
    broker = master.broker.running.broker
    broker.config = replace(broker.config, text=broker.config.text.replace(b"group.slaves-1=com.example.Cheap\n", b""))
    await same(master, slave)


def aside(site: Site, partition: str) -> dict[str, bytes]:
    folder = site.folder / "data" / "pymetaq" / "aside"
    return {path.name: path.read_bytes() for path in folder.glob(f"{partition}@*")}


async def registered(tree: ZooKeeperClient, topic: str, members: list[str]) -> bool:
    return await tree.children(Paths().subscribe(topic)) == members
