"""A broker in the tree: what 1.4.6.2 would leave there, and that it stays there."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import pytest

from metaq.cluster.announcement import Announcement, Identity, Visible
from metaq.cluster.operations import BrokerConflict, Node, NodeExists, State
from metaq.cluster.paths import Paths
from metaq.cluster.ports import Registry
from metaq.cluster.registry import BrokerRegistration, NoRegistry
from metaq.config.model import BrokerConfig, TopicConfig
from metaq.model import BrokerAddress
from tests.cluster.conftest import Ensemble, until, until_async

MASTER = BrokerAddress("10.0.0.5", 8123)
SLAVE = BrokerAddress("10.0.0.6", 8123)
URL = b"meta://10.0.0.5:8123"


def topic(name: str, partitions: int = 4, *, publish: bool = True, subscribe: bool = True) -> TopicConfig:
    return TopicConfig(name=name, num_partitions=partitions, accept_publish=publish, accept_subscribe=subscribe)


def config(*topics: TopicConfig, checksum: int = 3421780262) -> BrokerConfig:
    return BrokerConfig(broker_id=0, topics=topics or (topic("meta-test"),), checksum=checksum)


async def registered(
    registry: Registry, what: BrokerConfig, topics: Iterable[str] = ("meta-test",)
) -> BrokerRegistration:
    broker = BrokerRegistration(registry, what, MASTER)
    await broker.register(topics)
    return broker


async def tree(registry: Registry, path: str = "") -> dict[str, Node]:
    """Return all nodes below /meta, by their path."""
    path = path or "/meta"
    node = await registry.get(path)
    if node is None:
        return {}
    found = {path: node}
    for name in await registry.children(path) or ():
        found |= await tree(registry, f"{path}/{name}")
    return found


async def test_a_master_and_its_slave_leave_the_documented_tree(ensemble: Ensemble) -> None:
    ours, theirs = await ensemble.connect(), await ensemble.connect()
    master = await registered(ours, config())
    slave = BrokerRegistration(theirs, config(), SLAVE, slave_id=1)
    await slave.register(["meta-test"])
    m, s = ours.session, theirs.session
    assert await tree(ours) == {
        "/meta": Node(None, 0),
        "/meta/brokers": Node(None, 0),
        "/meta/brokers/ids": Node(None, 0),
        "/meta/brokers/ids/0": Node(URL, 0),
        "/meta/brokers/ids/0/master": Node(URL, m),
        "/meta/brokers/ids/0/slave1": Node(b"meta://10.0.0.6:8123", s),
        "/meta/brokers/ids/0/master_config_checksum": Node(b"3421780262", m),
        "/meta/brokers/topics": Node(None, 0),
        "/meta/brokers/topics/meta-test": Node(None, 0),
        "/meta/brokers/topics/meta-test/0-m": Node(b"4", m),
        "/meta/brokers/topics/meta-test/0-s1": Node(b"4", s),
        "/meta/brokers/topics-pub": Node(None, 0),
        "/meta/brokers/topics-pub/meta-test": Node(None, 0),
        "/meta/brokers/topics-pub/meta-test/0-m": Node(b'{"numParts":4,"broker":"0-m"}', m),
        "/meta/brokers/topics-pub/meta-test/0-s1": Node(b'{"numParts":4,"broker":"0-s1"}', s),
        "/meta/brokers/topics-sub": Node(None, 0),
        "/meta/brokers/topics-sub/meta-test": Node(None, 0),
        "/meta/brokers/topics-sub/meta-test/0-m": Node(b'{"numParts":4,"broker":"0-m"}', m),
        "/meta/brokers/topics-sub/meta-test/0-s1": Node(b'{"numParts":4,"broker":"0-s1"}', s),
    }
    await master.withdraw()
    await slave.withdraw()


async def test_topics_are_announced_for_what_they_accept(ensemble: Ensemble) -> None:
    registry = await ensemble.connect()
    what = config(topic("in", publish=True, subscribe=False), topic("out", publish=False), topic("old*", 2))
    broker = await registered(registry, what, ["in", "out", "old*", "on-disk"])
    assert await registry.children("/meta/brokers/topics") == ["in", "old*", "on-disk", "out"]
    assert await registry.children("/meta/brokers/topics-pub") == ["in", "old*", "on-disk"]
    assert await registry.children("/meta/brokers/topics-sub") == ["old*", "on-disk", "out"]
    assert (await tree(registry))["/meta/brokers/topics/on-disk/0-m"].data == b"1"
    await broker.withdraw()


async def test_the_legacy_node_is_null_under_a_slave_and_goes_or_is_emptied_with_the_master(ensemble: Ensemble) -> None:
    ours, theirs = await ensemble.connect(), await ensemble.connect()
    slave = BrokerRegistration(theirs, config(), SLAVE, slave_id=1)
    await slave.register([])
    assert await theirs.get("/meta/brokers/ids/0") == Node(None, 0)
    master = await registered(ours, config())
    assert await theirs.get("/meta/brokers/ids/0") == Node(URL, 0)
    await master.withdraw()
    assert await theirs.get("/meta/brokers/ids/0") == Node(b"", 0)
    assert await theirs.children("/meta/brokers/ids/0") == ["slave1"]
    await slave.withdraw()
    assert await theirs.get("/meta/brokers/ids/0") == Node(b"", 0)
    await master.register([])
    await master.withdraw()
    assert await theirs.get("/meta/brokers/ids/0") is None


async def test_a_crashed_master_leaves_its_url_in_the_legacy_node(ensemble: Ensemble) -> None:
    ours, theirs = await ensemble.connect(), await ensemble.connect()
    await registered(ours, config())
    await ensemble.close(ours)
    assert await theirs.get("/meta/brokers/ids/0") == Node(URL, 0)
    assert await theirs.children("/meta/brokers/ids/0") == []


async def test_withdrawing_goes_broker_checksum_legacy_topics(ensemble: Ensemble) -> None:
    ours, theirs = await ensemble.connect(), await ensemble.connect()
    broker = await registered(ours, config())
    seen: list[str] = []
    watched = [
        "brokers/ids/0/master",
        "brokers/ids/0/master_config_checksum",
        "brokers/ids/0",
        "brokers/topics/meta-test/0-m",
        "brokers/topics-pub/meta-test/0-m",
        "brokers/topics-sub/meta-test/0-m",
    ]
    for path in watched:
        assert await theirs.exists(f"/meta/{path}", partial(seen.append, path))
    await broker.withdraw()
    await until(lambda: len(seen) == len(watched))
    assert seen == watched
    assert ours.state is State.CONNECTED
    assert sorted(await tree(theirs)) == [
        "/meta", "/meta/brokers", "/meta/brokers/ids", "/meta/brokers/topics", "/meta/brokers/topics-pub",
        "/meta/brokers/topics-pub/meta-test", "/meta/brokers/topics-sub", "/meta/brokers/topics-sub/meta-test",
        "/meta/brokers/topics/meta-test",
    ]  # fmt: skip


async def test_who_never_registered_writes_and_withdraws_nothing(ensemble: Ensemble) -> None:
    ours, theirs = await ensemble.connect(), await ensemble.connect()
    master = await registered(ours, config())
    before = await tree(ours)
    twin = BrokerRegistration(theirs, config(topic("meta-test", 9), checksum=1), MASTER)
    await twin.add_topic("other")
    twin.topic_appeared("another")
    await twin.update(config(topic("meta-test", 8), checksum=2), ["meta-test"])
    await twin.withdraw()
    assert await tree(ours) == before
    await master.withdraw()


async def test_everything_is_registered_again_after_the_session_expired(ensemble: Ensemble) -> None:
    ours, theirs = await ensemble.connect(), await ensemble.connect()
    broker = await registered(ours, config())
    await broker.add_topic("dynamic")
    before, old = await tree(ours), ours.session
    ensemble.expire(ours)
    await until(lambda: ours.session not in (0, old))

    async def is_back() -> bool:
        now = {path: Node(node.data, min(node.owner, 1)) for path, node in (await tree(theirs)).items()}
        return now == {path: Node(node.data, min(node.owner, 1)) for path, node in before.items()}

    await until_async(is_back)
    assert {node.owner for node in (await tree(theirs)).values()} == {0, ours.session}
    await broker.withdraw()


async def test_a_broker_that_has_withdrawn_stays_away_in_a_new_session(ensemble: Ensemble) -> None:
    ours, theirs = await ensemble.connect(), await ensemble.connect()
    broker = await registered(ours, config())
    await broker.withdraw()
    before, old = await tree(theirs), ours.session
    ensemble.expire(ours)
    await until(lambda: ours.session not in (0, old))
    await broker.add_topic("dynamic")
    await broker.update(config(topic("meta-test", 8), checksum=2), ["meta-test"])
    assert await tree(theirs) == before
    await broker.register(["meta-test"])
    assert await theirs.get("/meta/brokers/ids/0/master") == Node(URL, ours.session)
    await broker.withdraw()


async def test_another_broker_under_our_id_is_an_error_that_names_both(ensemble: Ensemble) -> None:
    ours, theirs = await ensemble.connect(), await ensemble.connect()
    other = BrokerRegistration(theirs, config(), BrokerAddress("10.0.0.9", 8123))
    await other.register(["meta-test"])
    before = await tree(theirs)
    broker = BrokerRegistration(ours, config(), MASTER)
    with pytest.raises(BrokerConflict, match=r"broker 0 is .* meta://10\.0\.0\.9:8123; .* meta://10\.0\.0\.5:8123"):
        await broker.register(["meta-test"])
    await broker.withdraw()
    assert await tree(theirs) == before
    await other.withdraw()
    await broker.register(["meta-test"])
    assert await theirs.get("/meta/brokers/ids/0/master") == Node(URL, ours.session)
    await broker.withdraw()


async def test_nodes_of_our_own_earlier_session_are_replaced(ensemble: Ensemble) -> None:
    crashed, ours = await ensemble.connect(), await ensemble.connect()
    left = Announcement(crashed, Paths(), Identity(0, None, MASTER))
    await left.begin()
    await left.announce(1, 0)
    await left.publish({"meta-test": Visible(2, publish=True, subscribe=True), "gone": Visible(2, True, True)})
    broker = await registered(ours, config(topic("meta-test", 4)))
    found = await tree(ours)
    assert found["/meta/brokers/ids/0/master"] == Node(URL, ours.session)
    assert found["/meta/brokers/ids/0/master_config_checksum"] == Node(b"3421780262", ours.session)
    assert found["/meta/brokers/topics/meta-test/0-m"] == Node(b"4", ours.session)
    assert found["/meta/brokers/topics-sub/meta-test/0-m"] == Node(b'{"numParts":4,"broker":"0-m"}', ours.session)
    ensemble.expire(crashed)
    assert await tree(ours) == {path: node for path, node in found.items() if not path.endswith("gone/0-m")}
    await broker.withdraw()


async def test_a_topic_is_added_while_running_and_only_once(ensemble: Ensemble) -> None:
    registry = await ensemble.connect()
    broker = await registered(registry, config())
    await broker.add_topic("new")
    assert (await tree(registry))["/meta/brokers/topics-pub/new/0-m"].data == b'{"numParts":1,"broker":"0-m"}'
    told: list[bool] = []
    assert await registry.exists("/meta/brokers/topics/new/0-m", partial(told.append, True))
    await broker.add_topic("new")
    broker.topic_appeared("new")
    broker.topic_appeared("later")
    await until_async(partial(registry.exists, "/meta/brokers/topics-sub/later/0-m"))
    assert told == []
    await broker.withdraw()


async def test_a_reload_touches_only_topics_that_look_different(ensemble: Ensemble) -> None:
    registry = await ensemble.connect()
    topics = (topic("grows"), topic("closes"), topic("stays"), topic("removed", 3))
    names = [each.name for each in topics]
    broker = await registered(registry, config(*topics), names)
    told: list[str] = []
    for name in names:
        for section in ("topics", "topics-pub", "topics-sub"):
            path = f"{section}/{name}"
            assert await registry.exists(f"/meta/brokers/{path}/0-m", partial(told.append, path))
    changed = (topic("grows", 6), topic("closes", publish=False), replace(topic("stays"), delete_when="0 0 1 * * ?"))
    await broker.update(config(*changed, checksum=7), [*names[:3], "new"])
    await until(lambda: len(told) >= 7)
    grown = ["topics-pub/grows", "topics-sub/grows", "topics/grows"]
    assert sorted(told) == [
        "topics-pub/closes",
        *grown[:1],
        "topics-pub/removed",
        *grown[1:2],
        "topics-sub/removed",
        grown[2],
        "topics/removed",
    ]
    found = await tree(registry)
    assert found["/meta/brokers/ids/0/master_config_checksum"].data == b"7"
    assert found["/meta/brokers/topics-sub/grows/0-m"].data == b'{"numParts":6,"broker":"0-m"}'
    assert "/meta/brokers/topics-pub/closes/0-m" not in found
    assert found["/meta/brokers/topics/removed/0-m"].data == b"1"
    assert found["/meta/brokers/topics/new/0-m"].data == b"1"
    await broker.update(config(topic("closes"), checksum=7), [])
    assert (await tree(registry))["/meta/brokers/topics-pub/closes/0-m"].data == b'{"numParts":4,"broker":"0-m"}'
    await broker.withdraw()


async def test_a_reload_writes_the_checksum_even_if_it_is_the_same_and_before_the_topics(ensemble: Ensemble) -> None:
    ours, theirs = await ensemble.connect(), await ensemble.connect()
    broker = await registered(ours, config())
    seen: list[str] = []
    await theirs.get("/meta/brokers/ids/0/master_config_checksum", partial(seen.append, "checksum"))
    await theirs.get("/meta/brokers/topics/meta-test/0-m", partial(seen.append, "topic"))
    await broker.update(config(topic("meta-test", 5)), ["meta-test"])
    await until(lambda: len(seen) == 2)
    assert seen == ["checksum", "topic"]
    await broker.withdraw()


async def test_what_a_synchronous_slave_of_1_4_6_2_destroys_is_made_again(ensemble: Ensemble) -> None:
    ours, slave = await ensemble.connect(), await ensemble.connect()
    broker = await registered(ours, config())
    before = await tree(ours)
    for section in ("topics", "topics-pub", "topics-sub"):
        assert await slave.delete(f"/meta/brokers/{section}/meta-test/0-m")

    async def is_whole() -> bool:
        return await tree(slave) == before

    await until_async(is_whole)
    await slave.set("/meta/brokers/ids/0/master_config_checksum", b"1")
    await until_async(is_whole)
    assert await slave.delete("/meta/brokers/ids/0/master")
    await until_async(is_whole)
    await broker.withdraw()


async def test_what_another_broker_has_taken_over_is_not_withdrawn(
    ensemble: Ensemble, caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = await ensemble.connect(), await ensemble.connect()
    broker = await registered(ours, config())
    usurper = b"meta://10.0.0.9:8123"
    while True:
        await theirs.delete("/meta/brokers/ids/0/master")
        try:
            await theirs.create("/meta/brokers/ids/0/master", usurper, ephemeral=True)
            break
        except NodeExists:
            continue
    await until(lambda: "registered already at meta://10.0.0.9:8123" in caplog.text)
    before = await tree(theirs)
    await broker.withdraw()
    assert await tree(theirs) == before
    assert before["/meta/brokers/ids/0/master"] == Node(usurper, theirs.session)


async def test_two_processes_with_one_url_do_not_fight_at_full_speed(
    ensemble: Ensemble, caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = await ensemble.connect(), await ensemble.connect()
    one, other = await registered(ours, config()), await registered(theirs, config())
    await until(lambda: "once a second" in caplog.text)
    await one.withdraw()
    await until_async(lambda: owns(theirs, "/meta/brokers/topics/meta-test/0-m"))
    await other.withdraw()


async def owns(registry: Registry, path: str) -> bool:
    node = await registry.get(path)
    return node is not None and node.owner == registry.session


async def test_a_loss_nobody_watches_is_found_by_the_next_audit(ensemble: Ensemble) -> None:
    ours, slave = await ensemble.connect(), await ensemble.connect()
    broker = BrokerRegistration(ours, config(), MASTER, audit_interval=0.05)
    await broker.register(f"t{n}" for n in range(100))
    assert await slave.delete("/meta/brokers/topics-sub/t99/0-m")
    await until_async(partial(slave.exists, "/meta/brokers/topics-sub/t99/0-m"))
    await broker.withdraw()


async def test_an_underscore_in_the_host_is_warned_of(ensemble: Ensemble, caplog: pytest.LogCaptureFixture) -> None:
    registry = await ensemble.connect()
    broker = BrokerRegistration(registry, config(), BrokerAddress("my_host", 8123))
    await broker.register([])
    assert "my_host" in caplog.text
    await broker.withdraw()


async def test_thousands_of_topics_are_registered_and_withdrawn(ensemble: Ensemble) -> None:
    registry = await ensemble.connect()
    broker = BrokerRegistration(registry, config(), MASTER)
    await broker.register(f"t{n}" for n in range(1000))
    assert len(await registry.children("/meta/brokers/topics-sub") or ()) == 1000
    assert await registry.exists("/meta/brokers/topics-pub/t999/0-m")
    await broker.withdraw()
    assert await registry.children("/meta/brokers/topics/t999") == []


async def test_without_zookeeper_registering_does_nothing() -> None:
    nobody = NoRegistry()
    await nobody.register(["t"])
    await nobody.add_topic("t")
    nobody.topic_appeared("t")
    await nobody.update(config(), [])
    await nobody.withdraw()
