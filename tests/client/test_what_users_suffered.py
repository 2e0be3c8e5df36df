"""What users of 1.4.6.2 reported, each under the number of its thread: none of it happens here."""

import asyncio
import logging
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import metaq.aio
from metaq.aio import Message, NoBroker, RegistryError
from metaq.client.connect import Outside
from metaq.cluster.memory import MemoryRegistry, MemoryTree
from metaq.cluster.paths import Paths
from metaq.cluster.znodes import Position
from metaq.model import BrokerPartition, ClusterPartition, TopicPartition
from metaq.protocol.commands import Get
from tests.client.conftest import QUICK
from tests.client.consuming import Ledger, consumer_of, fill, take
from tests.client.fake_broker import FakeBroker, behave, silence, until
from tests.client.test_cluster import register, withdraw

PATHS = Paths("/meta")
PARTS = [ClusterPartition("t", BrokerPartition(0, n)) for n in range(2)]


class Cluster:
    """A tree in memory, one scripted broker with two partitions, and clients of them."""

    def __init__(self, broker: FakeBroker) -> None:
        self.broker = broker
        self.tree = MemoryTree()
        self.brokers_session = MemoryRegistry(self.tree)
        self.sessions: list[MemoryRegistry] = []
        self.clients: list[metaq.aio.MessageQueue] = []

    async def client(self) -> metaq.aio.MessageQueue:
        client = metaq.aio.connect(
            "zk://anywhere/meta", link=QUICK, timeout=0.5, outside=Outside(session=self._session)
        )
        self.clients.append(await client)
        return client

    def _session(self, _: str) -> MemoryRegistry:
        self.sessions.append(MemoryRegistry(self.tree))
        return self.sessions[-1]

    def names(self) -> list[str]:
        return self.tree.children(PATHS.group_ids("g")) or []


@pytest.fixture(name="cluster")
async def filled_cluster(broker: FakeBroker) -> AsyncIterator[Cluster]:
    made = Cluster(broker)
    await made.brokers_session.connect()
    for partition in (0, 1):
        fill(broker, 20, partition)
    await register(made.brokers_session, broker)
    yield made
    for client in made.clients:
        await client.close()
    await made.brokers_session.close()


async def consume_into(consumer: metaq.aio.Consumer, seen: list[bytes]) -> None:
    async for message in consumer:
        seen.append(message.data)  # noqa: PERF401 - others look at it meanwhile


# 30, 40, 55, 128: where a group starts


async def test_issue_30_a_new_group_may_start_elsewhere_than_at_the_oldest_message(cluster: Cluster) -> None:
    mq = await cluster.client()
    consumer = consumer_of(mq, Ledger(), start="latest")
    waiting = asyncio.ensure_future(take(consumer, 1))
    await until(lambda: len(cluster.broker.of(Get)) >= 2)
    cluster.broker.append(TopicPartition("t", 1), 0, b"new")
    assert await waiting == [b"new"]


async def test_issue_40_start_is_for_groups_without_an_offset_and_a_second_start_goes_on(cluster: Cluster) -> None:
    mq = await cluster.client()
    first = mq.consumer("t", group="g", start="latest")
    await first.join()
    await until(lambda: len(cluster.broker.of(Get)) >= 2)
    await first.close()  # where it began is stored, so what comes meanwhile is not passed over
    cluster.broker.append(TopicPartition("t", 0), 0, b"while nobody was there")
    assert await take(mq.consumer("t", group="g", start="latest"), 1) == [b"while nobody was there"]


async def test_issue_55_a_consumer_may_start_at_the_end_every_time(cluster: Cluster) -> None:
    mq = await cluster.client()
    ledger = Ledger()
    ledger.stored = dict.fromkeys(PARTS, Position(1, 0))
    consumer = consumer_of(mq, ledger, start="latest", ignore_stored=True)
    waiting = asyncio.ensure_future(take(consumer, 1))
    await until(lambda: len(cluster.broker.of(Get)) >= 2)
    cluster.broker.append(TopicPartition("t", 0), 0, b"new")
    assert await waiting == [b"new"]


async def test_issue_128_one_word_says_where_to_start_and_there_is_no_flag_that_turns_it_round(
    cluster: Cluster,
) -> None:
    mq = await cluster.client()
    assert await take(consumer_of(mq, Ledger(), start="earliest"), 1) in ([b"0/0"], [b"1/0"])
    with pytest.raises(metaq.aio.ConfigError, match="start is earliest, latest, stored, an offset or a datetime"):
        consumer_of(mq, Ledger(), start=None)  # type: ignore[arg-type]


async def test_issue_104_an_offset_beyond_the_end_is_settled_once_and_said_once(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    mq = await cluster.client()
    ledger = Ledger()
    ledger.stored = {PARTS[0]: Position(1, 1 << 40), PARTS[1]: Position(1, 0)}
    seen: list[bytes] = []
    task = asyncio.ensure_future(consume_into(consumer_of(mq, ledger), seen))
    await until(lambda: len(seen) == 40)
    await until(lambda: len(cluster.broker.of(Get)) > 10)
    assert [r.getMessage() for r in caplog.records if "not in the log" in r.getMessage()] == [
        f"t 0-0: offset {1 << 40} of group g is not in the log, 0 to 470; going on at 0"
    ]
    task.cancel()


# 70, 113: backlog


async def test_issues_70_and_113_the_backlog_is_one_call_and_never_negative(cluster: Cluster) -> None:
    mq = await cluster.client()
    consumer = consumer_of(mq, Ledger())
    await take(consumer, 40)
    lag = await consumer.lag()
    assert set(lag) == set(PARTS)
    assert all(0 <= each <= 25 for each in lag.values())
    cluster.broker.logs[TopicPartition("t", 0)].clear()  # the broker has lost its log
    assert all(each >= 0 for each in (await consumer.lag()).values())


# 38, 99, 111: messages that fail


async def test_issue_38_a_message_is_handled_again_alone(cluster: Cluster) -> None:
    mq = await cluster.client()
    handled: list[bytes] = []

    async def handle(message: Message) -> None:
        handled.append(message.data)
        if handled.count(b"0/7") == 1 and message.data == b"0/7":
            raise ValueError("roll this one back")

    consumer = consumer_of(mq, Ledger())
    running = asyncio.ensure_future(consumer.run(handle))
    await until(lambda: len(handled) == 41)
    assert [handled.count(data) for data in (b"0/6", b"0/7", b"0/8")] == [1, 2, 1]
    await consumer.close()
    await running


async def test_issues_99_and_111_one_message_that_keeps_failing_holds_up_no_other(
    cluster: Cluster, tmp_path: Path
) -> None:
    mq = await cluster.client()
    kept: list[bytes] = []
    bad = {b"0/0": 99, b"0/1": 3, b"0/2": 99, b"0/3": 3}

    async def handle(message: Message) -> None:
        bad[message.data] = bad.get(message.data, 0) - 1
        if bad[message.data] >= 0:
            raise ValueError("not now")
        kept.append(message.data)

    consumer = consumer_of(mq, Ledger(), retries=0, recover_path=str(tmp_path))
    running = asyncio.ensure_future(consumer.run(handle))
    await until(lambda: len(kept) == 38)  # 36 at once, two out of the store, past the two that fail for ever
    assert {b"0/1", b"0/3"} <= set(kept)
    await consumer.close()
    await running


# 71, 106, 131: who is who


async def test_issues_71_and_106_consumers_made_at_the_same_time_have_names_of_their_own(cluster: Cluster) -> None:
    clients = [await cluster.client() for _ in range(3)]
    consumers = [consumer_of(mq, Ledger()) for mq in clients for _ in range(3)]
    await asyncio.gather(*(consumer.join() for consumer in consumers))
    assert len(cluster.names()) == 9
    assert all(f"-{os.getpid()}-" in name for name in cluster.names())


async def test_issue_131_every_group_gets_every_message(cluster: Cluster) -> None:
    mq = await cluster.client()
    for group in ("a", "b"):
        assert len(set(await take(consumer_of(mq, Ledger(), "t", group), 40))) == 40


# 24, 102, 121: partitions without an owner


async def test_issue_102_however_long_it_takes_to_get_a_partition_it_is_consumed_in_the_end(cluster: Cluster) -> None:
    other = MemoryRegistry(cluster.tree)
    await other.connect()
    await other.create(PATHS.consumer("g", "g_java"), b"t", ephemeral=True)
    for part in PARTS:
        await other.create(PATHS.owner("g", *part), b"g_java", ephemeral=True)
    mq = await cluster.client()
    seen: list[bytes] = []
    task = asyncio.ensure_future(consume_into(consumer_of(mq, Ledger(), sync_time=0.02), seen))
    await until(lambda: len(cluster.names()) == 2)
    await asyncio.sleep(0.02 * 10)  # more tries than the seven after which the original gives up
    assert not seen
    await other.close()
    await until(lambda: len(seen) == 40)
    task.cancel()


async def test_issue_24_a_member_that_joins_gets_its_share_and_what_stays_is_not_interrupted(cluster: Cluster) -> None:
    first = consumer_of(await cluster.client(), Ledger())
    await first.join()
    await until(lambda: len(first.partitions) == 2)
    before = dict(first._share.streams)
    second = consumer_of(await cluster.client(), Ledger())
    await second.join()
    await until(lambda: len(first.partitions) == len(second.partitions) == 1)
    [stays] = first.partitions
    assert first._share.streams[stays] is before[stays]
    await second.close()
    await until(lambda: len(first.partitions) == 2)
    assert first._share.streams[stays] is before[stays]


async def test_issue_121_members_with_different_topics_leave_no_partition_without_an_owner(cluster: Cluster) -> None:
    await cluster.broker.stop()
    await cluster.broker.start()
    for partition in (0, 1):
        fill(cluster.broker, 5, partition, "u")
    await register_topic(cluster, "u")
    one, two = await cluster.client(), await cluster.client()
    seen: list[bytes] = []
    tasks = [
        asyncio.ensure_future(consume_into(consumer_of(mq, Ledger(), topics), seen))
        for mq, topics in ((one, ["t"]), (two, ["t", "u"]))
    ]
    await until(lambda: len(seen) >= 50)
    owners = {topic: cluster.tree.children(PATHS.owners("g", topic)) for topic in ("t", "u")}  # every partition has one
    assert owners == {"t": ["0-0", "0-1"], "u": ["0-0", "0-1"]}
    for task in tasks:
        task.cancel()


async def register_topic(cluster: Cluster, topic: str) -> None:
    await withdraw(cluster.brokers_session, cluster.broker)
    await register(cluster.brokers_session, cluster.broker)
    path = f"{PATHS.subscribe(topic)}/0-m"
    await cluster.brokers_session.create(path, b'{"numParts":2,"broker":"0-m"}', ephemeral=True)


# 108, 119, 129, 139: the network


async def test_issues_108_and_119_after_time_outs_and_a_lost_session_consuming_goes_on(cluster: Cluster) -> None:
    mq = await cluster.client()
    seen: list[bytes] = []
    ledger = Ledger()
    task = asyncio.ensure_future(consume_into(consumer_of(mq, ledger, timeout=0.05, commit_every=0.01), seen))
    await until(lambda: len(seen) == 40)
    cluster.broker.always(Get, silence)
    gets = len(cluster.broker.of(Get))
    await until(lambda: len(cluster.broker.of(Get)) > gets + 4)
    cluster.broker.always(Get, behave)
    cluster.sessions[0].expire()
    await cluster.broker.stop()
    await cluster.broker.start()
    await until(lambda: len(cluster.names()) == 1)
    cluster.broker.append(TopicPartition("t", 0), 0, b"after all that")
    await until(lambda: b"after all that" in seen)
    task.cancel()


async def test_issue_129_closing_ends_all_tasks_and_threads_also_without_network(cluster: Cluster) -> None:
    before = threading.enumerate()
    mq = await cluster.client()
    consumer = consumer_of(mq, Ledger(), timeout=60.0)
    await take(consumer, 1)
    cluster.broker.always(Get, silence)
    cluster.sessions[0].suspend()
    async with asyncio.timeout(5.0):
        await consumer.close()
    cluster.sessions[0].resume()
    await mq.close()
    names = {task.get_name() for task in asyncio.all_tasks() if not task.done()}
    assert not [name for name in names if name.startswith(("fetch", "commit", "join", "handler", "recover"))]
    assert threads_since(before) == set()


def threads_since(before: list[threading.Thread]) -> set[str]:
    """Return the names of threads that have begun since; the loop's own ones are left out."""
    names = {thread.name for thread in threading.enumerate() if thread not in before}
    return {name for name in names if not name.startswith("asyncio_")}


async def test_issue_139_after_a_close_another_consumer_of_the_same_client_goes_on(cluster: Cluster) -> None:
    mq = await cluster.client()
    ledger = Ledger()
    first = consumer_of(mq, ledger)
    got = await take(first, 15)
    await first.close()
    rest = await take(consumer_of(mq, ledger), 40 - len(got) + 1)
    assert set(got) | set(rest) == {b"%d/%d" % (p, n) for p in (0, 1) for n in range(20)}


# 31, 63, 95: being a library


async def test_issue_31_a_python_consumer_is_a_member_as_any_other(cluster: Cluster) -> None:
    mq = await cluster.client()
    consumer = mq.consumer("t", group="g")
    await take(consumer, 40)
    await consumer.commit()
    [name] = cluster.names()
    for part in PARTS:
        owner = cluster.tree.node(PATHS.owner("g", *part))
        stored = cluster.tree.node(PATHS.offset("g", *part))
        assert owner is not None
        assert owner.data == name.encode()
        assert stored is not None
        assert stored.data is not None
        assert stored.data.split(b"-")[0].isdigit()


async def test_issue_63_a_client_that_could_not_be_opened_leaves_nothing_behind() -> None:
    tasks = len(asyncio.all_tasks())
    before = threading.enumerate()
    for url, error in (("zk://127.0.0.1:1/meta", RegistryError), ("metaq://127.0.0.1:1", NoBroker)):
        with pytest.raises(error):
            await metaq.aio.connect(url, connect_timeout=0.1)
    await until(lambda: threads_since(before) == set() and len(asyncio.all_tasks()) == tasks)


def test_issue_95_the_library_configures_no_logging() -> None:
    code = (
        "import logging, metaq, metaq.aio, metaq.sync\n"
        "found = [n for n, l in logging.root.manager.loggerDict.items()"
        " if n.startswith('metaq') and isinstance(l, logging.Logger) and (l.handlers or l.level)]\n"
        "assert not logging.root.handlers and not found, found\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
    assert not logging.getLogger("metaq").handlers
