"""Changes of topics at a broker that serves: the file, what is in force, and where a dropped topic's messages are."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import metaq.aio
from metaq.admin.changing import ChangeError
from metaq.aio import Refused
from metaq.config.editing import Action, TopicChange
from metaq.errors import ConfigError, StoreError
from metaq.model import TopicPartition
from metaq.store.log import Gate, PartitionLog
from tests.embedding import Serving, configured, serving, settings


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Serving]:
    async with serving(configured(tmp_path, settings(tmp_path, topics="[topic=test]\n"))) as running:
        yield running


def connect(broker: Serving) -> metaq.aio.MessageQueue:
    return metaq.aio.connect(f"metaq://127.0.0.1:{broker.port}")


async def create(broker: Serving, topic: str, **settings: str) -> str:
    return (await broker.running.changes.apply(TopicChange(Action.CREATE, topic, settings))).text


async def alter(broker: Serving, topic: str, **settings: str) -> str:
    return (await broker.running.changes.apply(TopicChange(Action.ALTER, topic, settings))).text


async def drop(broker: Serving, topic: str) -> str:
    return (await broker.running.changes.apply(TopicChange(Action.DROP, topic))).text


async def send(broker: Serving, topic: str, count: int = 3, partition: int = 0) -> None:
    async with connect(broker) as mq:
        await mq.producer(topic).send_many([b"%d" % n for n in range(count)], partition=partition)


def ini(broker: Serving) -> str:
    return Path(broker.config.path).read_text()


def kept(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "data" / "pymetaq" / "aside").iterdir())


async def test_a_topic_is_created_enlarged_and_set_while_the_broker_serves(broker: Serving) -> None:
    before = ini(broker)
    with pytest.raises(Refused, match="do not accept topic orders"):
        await send(broker, "orders")
    assert (
        await create(broker, "orders", numPartitions="2", stat="true") == "topic orders is created; it has 2 partitions"
    )
    assert ini(broker) == f"{before}[topic=orders]\nnumPartitions=2\nstat=true\n"
    await send(broker, "orders", partition=1)
    with pytest.raises(Refused, match="wrong partition 2"):
        await send(broker, "orders", partition=2)
    assert await alter(broker, "orders", numPartitions="3") == "topic orders is changed; it has 3 partitions"
    await send(broker, "orders", partition=2)
    await alter(broker, "orders", acceptPublish="false", stat="")
    made = broker.running.config.topic("orders")
    assert (made.num_partitions, made.stat, made.accept_publish) == (3, False, False)


async def test_the_retention_of_a_new_topic_and_of_a_changed_one_is_in_force_at_once(broker: Serving) -> None:
    await create(broker, "orders", numPartitions="1", deletePolicy="delete,1")
    await send(broker, "orders")
    log = broker.running.broker.store.get(TopicPartition("orders", 0))
    assert log is not None
    assert log.config.delete_policy.age == 3600.0
    await alter(broker, "orders", deletePolicy="archive,2", deleteWhen="0 30 * * * ?")
    assert (log.config.delete_policy.action, log.config.delete_policy.age) == ("archive", 7200.0)
    assert log.config.delete_when == "0 30 * * * ?"


async def test_a_dropped_topic_is_refused_and_its_messages_are_kept(broker: Serving, tmp_path: Path) -> None:
    before = ini(broker)
    await create(broker, "orders", numPartitions="2")
    await send(broker, "orders", count=100)
    await send(broker, "orders", count=50, partition=1)
    await broker.running.broker.store.housekeeping.checkpoint()
    stored = {n: (tmp_path / "data" / f"orders-{n}" / f"{0:020}.meta").read_bytes() for n in (0, 1)}
    await send(broker, "orders", count=1)  # is in the journal alone
    changed = await broker.running.changes.apply(TopicChange(Action.DROP, "orders"))
    place = f"{tmp_path}/data/pymetaq/aside/orders-*"
    assert changed.kept == place
    assert changed.text == f"topic orders is dropped; its messages are kept in {place}"
    assert ini(broker) == before
    with pytest.raises(Refused, match="do not accept topic orders"):
        await send(broker, "orders")
    await broker.running.broker.store.housekeeping.checkpoint()
    assert kept(tmp_path) == ["orders-0@0.1.cut", "orders-1@0.1.cut"]
    first, second = ((tmp_path / "data" / "pymetaq" / "aside" / name).read_bytes() for name in kept(tmp_path))
    assert (first[: len(stored[0])], len(first) - len(stored[0]), second) == (stored[0], 21, stored[1])


async def test_a_topic_of_the_same_name_begins_anew(broker: Serving, tmp_path: Path) -> None:
    await create(broker, "orders", numPartitions="2")
    await send(broker, "orders")
    await drop(broker, "orders")
    await create(broker, "orders", numPartitions="1")
    await send(broker, "orders", count=1)
    async with connect(broker) as mq:
        assert [(message.data, message.offset) async for message in mq.browse("orders")] == [(b"0", 0)]
    assert (
        await drop(broker, "orders")
        == f"topic orders is dropped; its messages are kept in {tmp_path}/data/pymetaq/aside/orders-*"
    )
    await create(broker, "orders", numPartitions="1")
    assert await drop(broker, "orders") == "topic orders is dropped; it had no messages"


async def test_who_sends_while_a_topic_is_dropped_is_refused_and_what_was_acknowledged_is_kept(
    broker: Serving, tmp_path: Path
) -> None:
    await create(broker, "orders", numPartitions="1")
    acknowledged = 0

    async def press() -> None:
        nonlocal acknowledged
        async with connect(broker) as mq:
            producer = mq.producer("orders")
            while True:
                await producer.send_many([bytes(480)] * 20, partition=0)
                acknowledged += 20

    pressing = [asyncio.ensure_future(press()) for _ in range(4)]
    while acknowledged < 400:
        await asyncio.sleep(0)
    await drop(broker, "orders")
    for ended in await asyncio.gather(*pressing, return_exceptions=True):
        assert isinstance(ended, Refused)
    await broker.running.broker.store.housekeeping.checkpoint()
    (name,) = kept(tmp_path)
    assert (tmp_path / "data" / "pymetaq" / "aside" / name).stat().st_size >= acknowledged * 500


async def test_messages_of_an_earlier_topic_stay_readable(broker: Serving) -> None:
    await create(broker, "orders", numPartitions="4")
    await send(broker, "orders", partition=3)
    path = Path(broker.config.path)
    path.write_text(ini(broker).split("[topic=orders]")[0])
    await broker.running.reload()
    with pytest.raises(
        ChangeError, match="topic orders cannot have 3 partitions: there are messages of it in partition 3"
    ):
        await create(broker, "orders", numPartitions="3")
    assert await create(broker, "orders", numPartitions="4") == "topic orders is created; it has 4 partitions"


async def test_the_file_keeps_its_mode_and_a_link_to_it_stays_one(broker: Serving, tmp_path: Path) -> None:
    path = Path(broker.config.path)
    real = tmp_path / "real.ini"
    path.rename(real)
    path.symlink_to(real)
    real.chmod(0o640)
    await create(broker, "orders", numPartitions="1")
    assert path.is_symlink()
    assert "[topic=orders]" in real.read_text()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


async def test_a_file_that_cannot_be_written_is_named_and_nothing_is_moved(broker: Serving, tmp_path: Path) -> None:
    await create(broker, "orders", numPartitions="1")
    await send(broker, "orders")
    before = ini(broker)
    os.mkdir(f"{broker.config.path}.new")
    for change in (create(broker, "more", numPartitions="1"), drop(broker, "orders")):
        with pytest.raises(ConfigError, match=r"/server.ini cannot be written: Is a directory"):
            await change
    assert ini(broker) == before
    await send(broker, "orders")
    assert kept(tmp_path) == []


async def test_a_file_that_the_broker_cannot_take_is_put_back(broker: Serving, tmp_path: Path) -> None:
    before = ini(broker)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        await create(broker, "orders", numPartitions="1", dataPath=f"{tmp_path}/file")
    assert ini(broker) == before
    assert broker.running.config.text == before.encode()
    await create(broker, "orders", numPartitions="1")
    await send(broker, "orders")


def fail_after(broker: Serving, count: int) -> None:
    """Have the disk fail when so many logs are moved."""
    store = broker.running.broker.store
    move, left = store.move_aside, count

    def move_aside(log: PartitionLog, gate: Gate) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            gate(StoreError("no space"))
        else:
            move(log, gate)

    store.move_aside = move_aside


async def test_a_drop_that_can_move_nothing_leaves_the_topic_as_it_was(broker: Serving) -> None:
    await create(broker, "orders", numPartitions="3")
    await send(broker, "orders")
    broker.running.broker.close_partitions("orders", 2, 2)
    fail_after(broker, 0)
    before = ini(broker)
    with pytest.raises(ChangeError, match="topic orders is not dropped, its messages cannot be moved: no space"):
        await drop(broker, "orders")
    assert ini(broker) == before
    await send(broker, "orders")
    with pytest.raises(Refused, match="closed"):
        await send(broker, "orders", partition=2)


async def test_a_drop_that_stops_halfway_leaves_the_topic_closed_and_can_be_repeated(
    broker: Serving, tmp_path: Path
) -> None:
    await create(broker, "orders", numPartitions="2")
    await send(broker, "orders")
    await send(broker, "orders", partition=1)
    store = broker.running.broker.store
    move = store.move_aside
    fail_after(broker, 1)
    with pytest.raises(
        ChangeError, match=r"orders is closed but not dropped: 1 of 2 partitions are kept in .*no space"
    ):
        await drop(broker, "orders")
    for partition in (0, 1):
        with pytest.raises(Refused, match="closed"):
            await send(broker, "orders", partition=partition)
    store.move_aside = move
    assert (await drop(broker, "orders")).startswith("topic orders is dropped; its messages are kept in ")
    await store.housekeeping.checkpoint()
    assert kept(tmp_path) == ["orders-0@0.1.cut", "orders-1@0.1.cut"]


async def test_a_file_that_cannot_be_written_any_more_leaves_the_topic_closed(broker: Serving) -> None:
    await create(broker, "orders", numPartitions="1")
    await send(broker, "orders")
    store = broker.running.broker.store
    move = store.move_aside

    def move_aside(log: PartitionLog, gate: Gate) -> None:
        os.mkdir(f"{broker.config.path}.new")
        move(log, gate)

    store.move_aside = move_aside
    with pytest.raises(ChangeError, match=r"closed but not dropped: all messages are kept in .* cannot be written"):
        await drop(broker, "orders")
    os.rmdir(f"{broker.config.path}.new")
    assert await drop(broker, "orders") == "topic orders is dropped; it had no messages"


async def test_a_broker_that_takes_its_topics_from_another_says_so(broker: Serving) -> None:
    before = ini(broker)
    broker.running.changes.refuse("this broker is a slave")
    with pytest.raises(ChangeError, match="this broker is a slave"):
        await create(broker, "orders", numPartitions="1")
    assert ini(broker) == before


async def test_two_changes_at_once_are_made_one_after_the_other(broker: Serving) -> None:
    done = await asyncio.gather(
        create(broker, "orders", numPartitions="1"),
        create(broker, "orders", numPartitions="2"),
        create(broker, "returns", numPartitions="3"),
        broker.running.reload(),
        return_exceptions=True,
    )
    assert [type(each) for each in done[:3]] == [str, ConfigError, str]
    assert [topic.name for topic in broker.running.config.topics] == ["test", "orders", "returns"]
