"""What clients see of the tree."""

import pytest

from metaq.cluster.directory import Directory, Replicas
from metaq.cluster.operations import RegistryClosed, Unreachable
from metaq.cluster.ports import Registry
from metaq.cluster.registry import BrokerRegistration
from metaq.cluster.znodes import Member
from metaq.config.model import BrokerConfig, TopicConfig
from metaq.model import BrokerAddress, BrokerPartition
from tests.cluster.conftest import Ensemble, until, until_async


def address(last: int) -> BrokerAddress:
    return BrokerAddress(f"10.0.0.{last}", 8123)


async def broker(
    registry: Registry, broker_id: int, partitions: int, *, slave_id: int | None = None, publish: bool = True
) -> BrokerRegistration:
    topic = TopicConfig(name="t", num_partitions=partitions, accept_publish=publish)
    config = BrokerConfig(broker_id=broker_id, topics=(topic,))
    made = BrokerRegistration(registry, config, address(broker_id * 10 + (slave_id or 0)), slave_id=slave_id)
    await made.register(["t"])
    return made


def partitions(broker_id: int, count: int) -> list[BrokerPartition]:
    return [BrokerPartition(broker_id, n) for n in range(count)]


async def test_masters_slaves_and_partitions_are_found(ensemble: Ensemble) -> None:
    ours, theirs = await ensemble.connect(), await ensemble.connect()
    brokers = [await broker(ours, 10, 12), await broker(ours, 2, 3), await broker(ours, 2, 4, slave_id=1)]
    directory = Directory(theirs)
    await directory.open(10.0)
    assert list(await directory.brokers()) == [2, 10]
    assert await directory.replicas() == {
        2: Replicas(address(20), {1: address(21)}),
        10: Replicas(address(100)),
    }
    assert await directory.masters("t") == {2: address(20), 10: address(100)}
    assert await directory.writable("t") == await directory.all_writable("t") == partitions(2, 3) + partitions(10, 12)
    assert await directory.readers("t") == {Member(2, None): 3, Member(2, 1): 4, Member(10, None): 12}
    assert await directory.readable("t") == partitions(2, 4) + partitions(10, 12)
    assert await directory.writable("unknown") == await directory.readable("unknown") == []
    await directory.close()
    for each in brokers:
        await each.withdraw()


async def test_an_empty_tree_is_an_empty_cluster_and_nothing_is_written_to_it(ensemble: Ensemble) -> None:
    registry = await ensemble.connect()
    directory = Directory(registry, "meta/")
    await directory.open(10.0)
    assert await directory.brokers() == {}
    assert await directory.writable("t") == []
    assert not await registry.exists("/meta")
    await directory.close()


async def test_changes_are_told_and_answers_are_fresh_then(ensemble: Ensemble) -> None:
    ours, theirs = await ensemble.connect(), await ensemble.connect()
    told: list[bool] = []
    directory = Directory(theirs, changed=lambda: told.append(True))
    assert await directory.writable("t") == []
    assert await directory.readable("t") == []
    seen = len(told)
    one = await broker(ours, 1, 2)
    await until(lambda: len(told) > seen)

    async def grown(count: int) -> bool:
        return await directory.writable("t") == await directory.readable("t") == partitions(1, count)

    await until_async(lambda: grown(2))
    topic = TopicConfig(name="t", num_partitions=5)
    await one.update(BrokerConfig(broker_id=1, topics=(topic,)), ["t"])
    await until_async(lambda: grown(5))
    await one.withdraw()
    await until_async(lambda: grown(0))
    assert await directory.brokers() == {}
    await directory.close()


async def test_a_broker_that_takes_no_messages_is_only_readable(ensemble: Ensemble) -> None:
    registry = await ensemble.connect()
    made = await broker(registry, 1, 2, publish=False)
    directory = Directory(registry)
    assert await directory.writable("t") == []
    assert await directory.masters("t") == {}
    assert await directory.readable("t") == partitions(1, 2)
    await directory.close()
    await made.withdraw()


async def test_it_sees_a_broker_again_after_its_session_expired(ensemble: Ensemble) -> None:
    ours, theirs = await ensemble.connect(), await ensemble.connect()
    one = await broker(ours, 1, 2)
    directory = Directory(theirs)
    assert await directory.writable("t") == partitions(1, 2)
    ensemble.expire(theirs)
    await one.withdraw()

    async def is_gone() -> bool:
        return await directory.writable("t") == [] and await directory.brokers() == {}

    await until_async(is_gone)
    await one.register(["t"])

    async def is_back() -> bool:
        return await directory.writable("t") == partitions(1, 2)

    await until_async(is_back)
    await directory.close()
    await one.withdraw()


async def test_what_makes_no_sense_in_the_tree_is_left_out_with_one_warning(
    ensemble: Ensemble, caplog: pytest.LogCaptureFixture
) -> None:
    registry = await ensemble.connect()
    for path, data in {
        "/meta/brokers/ids/rubbish/master": b"meta://10.0.0.1:1",
        "/meta/brokers/ids/1/master": b"meta://10.0.0.1:8123",
        "/meta/brokers/ids/1/slavex": b"meta://10.0.0.1:8123",
        "/meta/brokers/ids/1/slave2": b" ",
        "/meta/brokers/ids/1/slave3": b"meta://10.0.0.3:8123",
        "/meta/brokers/ids/2/master": b"http://",
        "/meta/brokers/ids/3/master": None,
        "/meta/brokers/topics-pub/t/1-m": b' {"broker":"x", "more": [1], "numParts": 2 }',
        "/meta/brokers/topics-pub/t/1-s3": b'{"numParts":9,"broker":"1-s3"}',
        "/meta/brokers/topics-pub/t/2-m": b'{"numParts":2,"broker":"2-m"}',
        "/meta/brokers/topics-pub/t/3-m": b"4",
        "/meta/brokers/topics-pub/t/4-m": b'{"numParts":-1}',
        "/meta/brokers/topics-pub/t/5": b'{"numParts":1}',
        "/meta/brokers/topics-sub/t/1-m": b"{",
        "/meta/brokers/topics-sub/t/1-s3": b'{"numParts":1,"broker":"1-s3"}',
    }.items():
        await registry.create(path, data)
    directory = Directory(registry)
    assert await directory.replicas() == {
        1: Replicas(BrokerAddress("10.0.0.1", 8123), {3: BrokerAddress("10.0.0.3", 8123)})
    }
    assert await directory.writable("t") == partitions(1, 2)
    assert await directory.readable("t") == partitions(1, 1)
    warned = [record.getMessage() for record in caplog.records if record.name == "metaq.cluster.directory"]
    assert len(warned) == len(set(warned)) == 5
    await registry.set("/meta/brokers/topics-sub/t/1-m", b'{"numParts":3}')

    async def is_mended() -> bool:
        return await directory.readable("t") == partitions(1, 3)

    await until_async(is_mended)
    await directory.close()


async def test_opening_gives_up_in_time_when_nobody_answers(ensemble: Ensemble) -> None:
    registry = await ensemble.connect()
    ensemble.expire(registry)
    directory = Directory(registry)
    with pytest.raises(Unreachable, match="0 s"):
        await directory.open(0)
    await directory.close()


async def test_a_closed_registry_is_an_error_for_the_first_question(ensemble: Ensemble) -> None:
    registry = await ensemble.connect()
    await ensemble.close(registry)
    directory = Directory(registry)
    with pytest.raises(RegistryClosed):
        await directory.brokers()
    await directory.close()
