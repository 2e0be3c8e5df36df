"""What a slave sees of its master in the tree, and what others see of it."""

import asyncio
from collections.abc import Mapping

from metaq.cluster.master import Master, MasterWatch
from metaq.cluster.paths import Paths
from metaq.cluster.presence import Presence
from metaq.cluster.registry import BrokerRegistration
from metaq.config.model import BrokerConfig, TopicConfig
from metaq.model import BrokerAddress
from tests.cluster.conftest import Ensemble, until, until_async

ADDRESS = BrokerAddress("10.0.0.5", 8123)
PATHS = Paths()


def config(*topics: TopicConfig, checksum: int = 7) -> BrokerConfig:
    return BrokerConfig(broker_id=1, topics=topics, checksum=checksum)


def topic(name: str, partitions: int = 4, *, subscribe: bool = True) -> TopicConfig:
    return TopicConfig(name=name, num_partitions=partitions, accept_subscribe=subscribe)


class Seen(list[Master]):
    """What was told, in order."""

    @property
    def partitions(self) -> Mapping[str, int]:
        return self[-1].partitions

    async def shows(self, address: BrokerAddress | None, partitions: Mapping[str, int]) -> None:
        await until(lambda: bool(self) and (self[-1].address, self[-1].partitions) == (address, partitions))


async def test_a_slave_sees_its_master_come_grow_and_go(ensemble: Ensemble) -> None:
    theirs, ours = await ensemble.connect(), await ensemble.connect()
    seen = Seen()
    watch = MasterWatch(ours, "/meta", 1, seen.append)
    await seen.shows(None, {})
    assert [each.term for each in seen] == [None]
    first = config(topic("a"), topic("hidden", subscribe=False))
    master = BrokerRegistration(theirs, first, ADDRESS)
    await master.register(["a", "hidden"])
    await seen.shows(ADDRESS, {"a": 4})
    await until(lambda: seen[-1].term == (b"7", theirs.session))
    grown = config(topic("a", 6), topic("hidden", subscribe=False), topic("b", 2), checksum=8)
    await master.update(grown, ["a", "b"])
    await seen.shows(ADDRESS, {"a": 6, "b": 2})
    await until(lambda: seen[-1].term == (b"8", theirs.session))
    await master.withdraw()
    await seen.shows(None, {})
    await watch.close()


async def test_a_slave_sees_a_master_that_came_back_with_the_same_file(ensemble: Ensemble) -> None:
    theirs, again, ours = [await ensemble.connect() for _ in range(3)]
    seen = Seen()
    watch = MasterWatch(ours, "/meta", 1, seen.append)
    master = BrokerRegistration(theirs, config(topic("a")), ADDRESS)
    await master.register(["a"])
    await seen.shows(ADDRESS, {"a": 4})
    await until(lambda: seen[-1].term is not None)
    before = seen[-1].term
    await master.withdraw()
    await seen.shows(None, {})
    master = BrokerRegistration(again, config(topic("a")), ADDRESS)
    await master.register(["a"])
    await seen.shows(ADDRESS, {"a": 4})
    await until(lambda: seen[-1].term not in (None, before))
    await watch.close()
    await master.withdraw()


async def test_other_brokers_and_slaves_of_the_same_master_are_not_taken_for_it(ensemble: Ensemble) -> None:
    theirs, ours = await ensemble.connect(), await ensemble.connect()
    other = BrokerRegistration(theirs, BrokerConfig(broker_id=2, topics=(topic("a"),)), ADDRESS)
    slave = BrokerRegistration(theirs, config(topic("a")), ADDRESS, slave_id=3)
    await other.register(["a"])
    await slave.register(["a"])
    seen = Seen()
    watch = MasterWatch(ours, "/meta", 1, seen.append)
    await seen.shows(None, {})
    await watch.close()
    await other.withdraw()
    await slave.withdraw()


async def test_nodes_that_mean_nothing_count_as_none_until_they_change(ensemble: Ensemble) -> None:
    ours = await ensemble.connect()
    await ours.create(PATHS.broker_address(1), b"http://nobody", ephemeral=True)
    await ours.create(f"{PATHS.subscribe('a')}/1-m", b"{", ephemeral=True)
    seen = Seen()
    watch = MasterWatch(ours, "/meta", 1, seen.append)
    await seen.shows(None, {})
    await ours.set(PATHS.broker_address(1), str(ADDRESS).encode())
    await ours.set(f"{PATHS.subscribe('a')}/1-m", b'{"numParts":3}')
    await seen.shows(ADDRESS, {"a": 3})
    await watch.close()


async def test_a_slave_is_a_member_of_its_group_without_owning_anything_until_it_stops(ensemble: Ensemble) -> None:
    ours = await ensemble.connect()
    presence = Presence(ours, "/meta", "meta-slave-group", "meta-slave-group_s1")
    path = PATHS.consumer("meta-slave-group", "meta-slave-group_s1")
    running = asyncio.create_task(presence.run())
    presence.subscribe([])
    presence.subscribe(["test", "oct29"])

    async def names(topics: bytes) -> bool:
        node = await ours.get(path)
        return node is not None and node.data == topics and node.owner == ours.session

    await until_async(lambda: names(b"test,oct29"))
    presence.subscribe(["test", "oct29", "new"])
    await until_async(lambda: names(b"test,oct29,new"))
    presence.subscribe([])
    assert await ours.delete(path)
    await until_async(lambda: names(b"test,oct29,new"))
    assert await ours.children(PATHS.group("meta-slave-group")) == ["ids"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await ours.get(path) is None


async def test_a_slave_is_a_member_again_in_a_new_session(ensemble: Ensemble) -> None:
    ours, look = await ensemble.connect(), await ensemble.connect()
    presence = Presence(ours, "/meta", "g", "g_s1")
    running = asyncio.create_task(presence.run())
    presence.subscribe(["test"])
    path = PATHS.consumer("g", "g_s1")

    async def owner() -> int:
        node = await look.get(path)
        return 0 if node is None else node.owner

    async def is_ours() -> bool:
        return ours.session != 0 and await owner() == ours.session

    await until_async(is_ours)
    before = ours.session
    ensemble.expire(ours)
    await until(lambda: ours.session not in (0, before))
    await until_async(is_ours)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
