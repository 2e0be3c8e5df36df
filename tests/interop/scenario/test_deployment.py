"""The deployment that metaq exists for, from its own files: Beijing, and slaves in Hefei and Guangzhou.

All in one story, since each part of it begins where the one before has ended. It is told with a Python broker in
Beijing and with a Java one, with shortened time-outs of ZooKeeper and (`make soak`) with those of the deployment.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Final

import pytest

from metaq import aio
from metaq.cluster.zk import ZooKeeperClient
from metaq.record import walk
from tests.interop.conftest import Judge
from tests.interop.jvm import Command
from tests.interop.scenario.people import FETCH, IN_HAND, SIZE, Consumer, JavaConsumer, Producers, PythonConsumer
from tests.interop.scenario.sites import SHORT, WRITTEN, Deployment, JavaSite, Times, deployed

TOPICS: Final = ("test", "meta-test", "oct29")
ALL: Final = (*TOPICS, "added")
MANY: Final = 144  # messages: three in each partition
FEW: Final = 48
QUICK: Final = pytest.mark.timeout(170)  # a story of many chapters, each of which has a limit of its own
SOAK: Final = (pytest.mark.soak, pytest.mark.timeout(600))


@pytest.fixture(params=["Python", "Java"])
def master(request: pytest.FixtureRequest) -> str:
    """What the broker in Beijing is written in."""
    return str(request.param)


@pytest.fixture(
    params=[pytest.param(SHORT, id="short", marks=QUICK), pytest.param(WRITTEN, id="as-written", marks=SOAK)]
)
async def deployment(
    request: pytest.FixtureRequest, master: str, tmp_path: Path, zk: str, judge: Judge
) -> AsyncIterator[Deployment]:
    times = request.param
    assert isinstance(times, Times)
    with deployed(tmp_path, zk, times, judge if master == "Java" else None) as deployment:
        async with deployment.guests:
            yield deployment
        await deployment.master.kill()


@pytest.fixture
async def mq(deployment: Deployment) -> AsyncIterator[aio.MessageQueue]:
    """The client of Python producers."""
    async with aio.connect(f"zk://{deployment.zk}/meta", session_timeout=deployment.times.session / 1000) as mq:
        yield mq


@pytest.fixture
async def tree(zk: str) -> AsyncIterator[ZooKeeperClient]:
    client = ZooKeeperClient(zk)
    await client.connect()
    yield client
    await client.close()


async def test_the_deployment_lives_through_its_days(story: "Story") -> None:
    await story.slaves_are_started_first_then_the_master()
    await story.both_slaves_have_what_is_published_byte_for_byte()
    await story.while_the_master_is_dead_consumers_go_on_from_slaves()
    await story.the_master_returns()
    await story.a_topic_is_added_by_reload_and_reaches_both_slaves()
    await story.who_asks_for_slave_2_reads_only_from_guangzhou()
    await story.each_message_is_where_its_producer_was_told()
    await story.the_files_of_the_slaves_are_those_of_the_master()


@pytest.mark.soak
@pytest.mark.parametrize("deployment", [SHORT], indirect=True, ids=["short"])
async def test_what_only_a_dead_master_has_is_not_lost(story: "Story") -> None:
    await story.slaves_are_started_first_then_the_master()
    await story.both_slaves_have_what_is_published_byte_for_byte()
    await story.the_master_dies_with_messages_that_no_slave_has()
    await story.the_master_returns()
    await story.each_message_is_where_its_producer_was_told()
    await story.the_files_of_the_slaves_are_those_of_the_master()


@pytest.fixture
async def story(
    deployment: Deployment, mq: aio.MessageQueue, tree: ZooKeeperClient, judge: Judge
) -> AsyncIterator["Story"]:
    yield Story(deployment, mq, tree, judge)
    await deployment.guests.aclose()


class Story:
    """The chapters, in order. The Java consumer and the Python one are each alone in a group."""

    def __init__(self, deployment: Deployment, mq: aio.MessageQueue, tree: ZooKeeperClient, judge: Judge) -> None:
        self.deployment = deployment
        self.master, self.hefei, self.guangzhou = deployment.master, deployment.hefei, deployment.guangzhou
        self.tree = tree
        self.judge = judge
        self.producers = Producers(deployment, judge, mq)
        self.promised = self.producers.promised
        self.python, self.java = PythonConsumer(deployment), JavaConsumer(deployment)

    async def slaves_are_started_first_then_the_master(self) -> None:
        await asyncio.gather(self.hefei.start(), self.guangzhou.start())
        for member in ("1-s1", "1-s2"):
            await self.registered(TOPICS, member)
        assert sorted(await self.tree.children("/meta/brokers/ids/1") or ()) == ["slave1", "slave2"]
        await self.master.start()
        await self.registered(TOPICS, "1-m")

    async def both_slaves_have_what_is_published_byte_for_byte(self) -> None:
        copying = [] if isinstance(self.master, JavaSite) else [a_java_slave(self.deployment, self.judge)]
        *_, java_slaves = await asyncio.gather(
            self.python.join(TOPICS, "python"),
            self.java.join(self.judge, TOPICS, "java"),
            self.producers.from_java("java", TOPICS, MANY),
            self.producers.from_python("python", TOPICS, MANY),
            asyncio.gather(*copying),
        )
        logs = await self.deployment.copied()
        for java_slave in java_slaves:
            await has_everything(java_slave, logs)

    async def while_the_master_is_dead_consumers_go_on_from_slaves(self) -> None:
        """Both sleep while the master still has what they lack; when they wake up it is dead."""
        for consumer in (self.python, self.java):
            await consumer.has(self.promised)
            consumer.sleep()
        await self.producers.from_python("more", TOPICS, 2 * MANY)
        await self.deployment.copied()
        before = [await slave.reads() for slave in self.deployment.slaves]
        await self.master.kill()
        for consumer in (self.python, self.java):
            consumer.wake()
        for consumer in (self.python, self.java):
            await consumer.has(self.promised)
        fetches = 2 * (2 * MANY - IN_HAND) * (SIZE + 20) // FETCH  # at the least, of both
        assert sum([await slave.reads() for slave in self.deployment.slaves]) >= sum(before) + fetches

    async def the_master_dies_with_messages_that_no_slave_has(self) -> None:
        """Consumers have read them, and are ahead of the slaves that they go to."""
        for slave in self.deployment.slaves:
            slave.freeze()
        await self.producers.from_python("alone", TOPICS, MANY)
        for consumer in (self.python, self.java):
            await consumer.has(self.promised)
        await self.master.kill()
        for slave in self.deployment.slaves:
            slave.thaw()
        await self.registered(TOPICS, "1-m", not_any_more=True)

        async def seen_by_slaves() -> bool:
            return all([await slave.misses() > before for slave, before in misses.items()])

        misses = {slave: await slave.misses() for slave in self.deployment.slaves}
        await self.deployment.until(seen_by_slaves)

    async def the_master_returns(self) -> None:
        await self.master.start()
        await self.registered(TOPICS, "1-m")
        await self.producers.from_python("again", TOPICS, FEW)
        await self.deployment.copied()
        for consumer in (self.python, self.java):
            await consumer.has(self.promised)
            await consumer.leave()
            self.was_given_all_in_order(consumer)

    async def a_topic_is_added_by_reload_and_reaches_both_slaves(self) -> None:
        with self.master.home.ini.open("a") as ini:
            ini.write("[topic=added]\nnumPartitions=4\n")
        await self.master.reload()
        for member in ("1-m", "1-s1", "1-s2"):
            await self.registered(["added"], member)
        for slave in self.deployment.slaves:
            text = slave.home.ini.read_text("utf-8")
            assert "[topic=added]" in text
            assert f"hostName={slave.address}\n" in text
        await self.producers.from_python("added", ALL, FEW)
        await self.deployment.copied()

    async def who_asks_for_slave_2_reads_only_from_guangzhou(self) -> None:
        """In Python with `slave:2`, in Java below the slave's own root."""
        fetches = sum(-(-len(log) // FETCH) for log in (await self.deployment.copied()).values())  # at the least
        elsewhere = await self.reads_elsewhere()
        python, java = PythonConsumer(self.deployment), JavaConsumer(self.deployment)
        before = await self.guangzhou.reads()
        await python.join(ALL, "reports", read_from="slave:2")
        await python.has(self.promised)
        assert await self.guangzhou.reads() >= before + fetches
        before = await self.guangzhou.reads()
        await java.join(self.judge, ALL, "reports", read_root="/read-slave2")
        await java.has(self.promised)
        assert await self.guangzhou.reads() >= before + fetches
        assert await self.reads_elsewhere() == elsewhere
        await python.leave()
        await java.leave()

    async def reads_elsewhere(self) -> list[int]:
        """Return how many gets found something, or wait, in Hefei and in Beijing; a Java broker's are left out.

        From a Java broker slaves get the last byte they have again and again, to see that it is still there.
        """
        sites = [self.hefei] if isinstance(self.master, JavaSite) else [self.hefei, self.master]
        return [await site.reads() for site in sites]

    async def each_message_is_where_its_producer_was_told(self) -> None:
        """And nothing else is there."""
        logs = await self.deployment.copied()
        for head, promise in self.promised.items():
            record = next(walk(logs[promise.log][promise.offset :]))
            assert record.body.startswith(head.encode() + b"|")
            assert record.id == promise.id
        assert sum(len(list(walk(log))) for log in logs.values()) == len(self.promised)

    async def the_files_of_the_slaves_are_those_of_the_master(self) -> None:
        sites = (self.master, self.hefei, self.guangzhou)
        await asyncio.gather(*(site.stop() for site in sites))
        of_master, *of_slaves = (site.segments() for site in sites)
        assert of_master
        assert of_slaves == [of_master] * 2

    def was_given_all_in_order(self, consumer: Consumer) -> None:
        """Check what a consumer was given: of each log everything, in order, but for what came again."""
        given: dict[str, list[int]] = {}
        for head in dict.fromkeys(consumer.given):
            promise = self.promised[head]
            given.setdefault(promise.log, []).append(promise.offset)
        assert sum(map(len, given.values())) == len(self.promised)
        for offsets in given.values():
            assert offsets == sorted(offsets)

    async def registered(self, topics: Iterable[str], member: str, *, not_any_more: bool = False) -> None:
        """Wait until consumers are told that this broker has these topics, or that it has none of them any more."""

        async def they_are() -> bool:
            found = [await self.tree.children(f"/meta/brokers/topics-sub/{topic}") or () for topic in topics]
            return all((member in members) != not_any_more for members in found)

        await self.deployment.until(they_are, lambda: (topics, member))


async def a_java_slave(deployment: Deployment, judge: Judge) -> Command:
    """Start what asks as a Java slave does: a Java consumer in a group of its own, that has all partitions.

    1 MiB at once; at a partition's end it comes back after 500 ms at most, as slaveMaxDelayInMills says.
    """
    command = await judge.start(
        "Consume", topic=",".join(TOPICS), group="meta-slave-group-java", max_delay_ms=500, buffer=1 << 20,
        count=2 * MANY, idle_ms=int(deployment.times.patience * 1000),
    )  # fmt: skip
    await command.until("subscribed")
    return command


async def has_everything(copying: Command, logs: Mapping[str, bytes]) -> None:
    """Check that what asked as a Java slave does was given each log from its beginning, in order."""
    given: dict[str, list[tuple[int, str]]] = {}
    for event in (await copying.finish()).of("message"):
        partition = str(event["partition"]).partition("-")[2]
        given.setdefault(f"{event['topic']}-{partition}", []).append((int(event["id"] or 0), str(event["head"])))
    assert given == {
        name: [(record.id, record.body.partition(b"|")[0].decode()) for record in walk(log)]
        for name, log in logs.items()
    }
