"""Topics that are created, enlarged and dropped at a master reach its slave, which takes none by itself."""

import pytest

from metaq.admin.changing import ChangeError
from metaq.admin.requesting import Asking, TopicRequests
from metaq.cluster.paths import Paths
from metaq.cluster.topic_nodes import Progress
from metaq.cluster.zk import ZooKeeperClient
from metaq.config.editing import Action, TopicChange
from metaq.config.slave import Sync
from tests.cluster.conftest import DEADLINE, until, until_async
from tests.cluster.slaves.sites import Sites, same


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


async def registered(tree: ZooKeeperClient, topic: str, members: list[str]) -> bool:
    return await tree.children(Paths().subscribe(topic)) == members
