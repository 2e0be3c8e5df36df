"""Groups of Java and Python members: they divide partitions alike, hand them over, and never consume one twice."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from metaq import aio
from metaq.client.offsets import ZooKeeperOffsets
from metaq.cluster.assignment import Strategy, assign, sort_texts
from metaq.cluster.zk import ZooKeeperClient
from metaq.model import ClusterPartition
from tests.cluster.conftest import until, until_async
from tests.cluster.court import Court, Member, options, owners
from tests.conftest import COORDINATORS
from tests.embedding import Serving, configured, serving, settings
from tests.interop.conftest import SHORT_PAUSE_MS, Brokers, Judge
from tests.interop.groups import HANGING, JAVA, SESSION, TOPIC, Group, left, live, produce

LONG: Final = 12.0  # seconds of a session that nobody waits for who was told to leave


def broker_of(zk: str, folder: Path, partitions: int = 4) -> AbstractAsyncContextManager[Serving]:
    links = {"zk.zkEnable": "true", "zk.zkConnect": zk, "zk.zkSyncTimeMs": SHORT_PAUSE_MS}
    system = {"numPartitions": partitions}
    return serving(configured(folder, settings(folder, system, zookeeper=links)))


@asynccontextmanager
async def session(zk: str) -> AsyncIterator[ZooKeeperClient]:
    client = ZooKeeperClient(zk, session_timeout=SESSION)
    await client.connect()
    try:
        yield client
    finally:
        await client.close()


async def test_java_and_python_divide_alike(tmp_path: Path, judge: Judge) -> None:
    chance = random.Random(5)
    alphabet = ["a", "b", "-", "0", "9", "ü", "漢", "\uff5e", "\U0001f600"]
    strategies: tuple[Strategy, ...] = ("default", "consistent")
    cases = []
    for _ in range(60):
        members = sort_texts("".join(chance.choices(alphabet, k=6)) for _ in range(chance.randrange(1, 9)))
        counts = [chance.randrange(1, 40) for _ in range(chance.randrange(1, 5))]
        partitions = sort_texts(f"{broker}-{n}" for broker, count in enumerate(counts) for n in range(count))
        cases.append((chance.choice(strategies), members, partitions))
    path = tmp_path / "divisions.txt"
    path.write_text("".join(f"{s}\t{','.join(members)}\t{','.join(parts)}\n" for s, members, parts in cases), "utf-8")
    said = await judge("Assign", file=path, server="none")
    assert said.done["cases"] == len(cases)
    found = {(event["case"], event["consumer"]): event["partitions"] for event in said.of("share")}
    expected: dict[tuple[object, object], object] = {}
    for index, (strategy, members, partitions) in enumerate(cases):
        division = assign(strategy, members, partitions)
        expected |= {(index, name): ",".join(sort_texts(division.get(name, ()))) for name in members}
    assert found == expected


@pytest.mark.parametrize("coordinator", COORDINATORS, indirect=True)
async def test_a_java_consumer_and_a_member_of_ours_share_and_hand_over_partitions_with_their_offsets(
    zk: str, judge: Judge, tmp_path: Path
) -> None:
    async with broker_of(zk, tmp_path), session(zk) as client, session(zk) as ours:
        produced = await judge("Produce", topic=TOPIC, count=40, size=50)
        assert len(produced.of("sent")) == 40
        store = ZooKeeperOffsets(client)
        started: dict[ClusterPartition, int] = {}
        member = Member(Court(), ours, options("p", TOPIC))

        async def start(partitions: Sequence[ClusterPartition]) -> None:
            """Learn where Java stopped, as a consumer does."""
            for each, position in (await store.load("g", partitions)).items():
                started[each] = position.offset

        async def owned(**expected: str) -> None:
            """Wait until the tree says that these members own the partitions of these numbers."""
            wanted = {f"0-{n}": f"g_{name}" for name, numbers in expected.items() for n in numbers}

            found: dict[str, str] = {}

            async def so() -> bool:
                nonlocal found
                found = {text: name for text, (name, _) in (await owners(client, TOPIC)).items()}
                return found == wanted

            try:
                await until_async(so)
            except TimeoutError:
                raise AssertionError(f"they own {found}, not {wanted}") from None

        member.party.taking = start
        java = await judge.start("Consume", id="j", **JAVA)
        for _ in range(40):
            await java.until("message")
        await owned(j="0123")
        await member.membership.join()
        await owned(j="01", p="23")
        await until(lambda: member.numbers == ["0-2", "0-3"])
        ends = {f"0-{n}": sum(70 for event in java.seen if event.get("partition") == f"0-{n}") for n in (2, 3)}
        assert {str(each.partition): offset for each, offset in started.items()} == ends
        await member.membership.leave()
        await owned(j="0123")
        await member.membership.join()
        await owned(j="01", p="23")
        await java.java.kill()
        await owned(p="0123")
        other = await judge.start("Consume", id="a", **{**JAVA, "zk_session_ms": int(LONG * 1000)})
        await other.until("subscribed")  # a process may take its time to start
        await owned(a="01", p="23")
        await until(lambda: member.numbers == ["0-2", "0-3"])
        begun = time.monotonic()
        in_order = await left(other.java, HANGING)
        await other.java.kill()
        await owned(p="0123")
        assert not in_order or time.monotonic() - begun < LONG  # it was not waited for
        await member.membership.leave()
        await owned()


async def mixed_group(zk: str, judge: Judge, folder: Path, *, seed: int, seconds: float) -> None:
    async with session(zk) as client:

        async def nobody_owns() -> bool:
            return not await owners(client, TOPIC)

        group = Group(judge, folder, zk, client)
        stop = asyncio.Event()
        producing = asyncio.create_task(produce(zk, stop))
        try:
            for kind in ("java", "python", "java", "python"):
                await group.start(kind)
            await live(group, random.Random(seed), seconds)
            stop.set()
            sent = await producing
            await until(lambda: group.heads() >= set(sent))
            in_order = True
            for runner in list(group.running):
                await group.at_rest()
                in_order = await group.remove(runner) and in_order
            await until_async(nobody_owns)
            intrusions = group.intrusions(0.5 + group.longest_gap)
            assert [each for each in intrusions if each.startswith("g_python")] == []
            assert len(intrusions) <= 3, intrusions  # a Java member may still hand out one that it has fetched
            stored = await ZooKeeperOffsets(client).stored("g")
            said = await judge("Offsets", topic=TOPIC, group="g")
            assert {str(key.partition): (p.message_id, p.offset) for key, p in stored.items()} == {
                event["partition"]: (event["message_id"], event["offset"]) for event in said.of("offset")
            }
            async with aio.connect(f"zk://{zk}/meta") as mq:
                ends = {key: (await mq.offsets(TOPIC, str(key.partition)))[1] for key in stored}
            assert all(position.offset <= ends[key] for key, position in stored.items())
            assert not in_order or {key: position.offset for key, position in stored.items()} == ends
        finally:
            producing.cancel()
            await asyncio.gather(producing, return_exceptions=True)
            await group.end()


@pytest.mark.parametrize("coordinator", COORDINATORS, indirect=True)
@pytest.mark.timeout(120)
async def test_issue_102_every_message_is_handled_while_java_and_python_members_come_go_and_die(
    zk: str, judge: Judge, tmp_path: Path
) -> None:
    async with broker_of(zk, tmp_path, partitions=6):
        await mixed_group(zk, judge, tmp_path, seed=1, seconds=20.0)


@pytest.mark.soak
@pytest.mark.parametrize("coordinator", COORDINATORS, indirect=True)
@pytest.mark.parametrize("seed", [2, 3])
async def test_issue_102_the_same_for_two_minutes_with_a_java_broker_beside_ours(
    zk: str, judge: Judge, java_broker: Brokers, tmp_path: Path, seed: int
) -> None:
    await java_broker()
    async with broker_of(zk, tmp_path, partitions=6):
        await mixed_group(zk, judge, tmp_path, seed=seed, seconds=120.0)
