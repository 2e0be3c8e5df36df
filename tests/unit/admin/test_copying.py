"""Carrying a group's offsets to another root, on a tree in memory."""

from collections.abc import AsyncIterator

import pytest

from metaq.admin.copying import Copy, Copying
from metaq.admin.groups import GroupError
from metaq.client.offsets import ZooKeeperOffsets
from metaq.cluster.memory import MemoryRegistry, MemoryTree
from metaq.cluster.znodes import Position
from metaq.model import BrokerPartition, ClusterPartition

ONE, OTHER = (ClusterPartition(topic, BrokerPartition(1, 0)) for topic in ("t", "u"))
SLAVE = "/read-slave2/meta"


@pytest.fixture
async def registry() -> AsyncIterator[MemoryRegistry]:
    """Below /meta group g is at 100 and 200; below the slave's root it has been at 7."""
    made = MemoryRegistry(MemoryTree())
    await made.connect()
    await ZooKeeperOffsets(made).save("g", {ONE: Position(-5, 100), OTHER: Position(6, 200)})
    await ZooKeeperOffsets(made, SLAVE).save("g", {ONE: Position(1, 7)})
    await made.create(f"{SLAVE}/brokers/ids/1/master", b"meta://10.0.0.1:8123", ephemeral=True)
    yield made
    await made.close()


async def test_offsets_and_message_ids_are_carried_over(registry: MemoryRegistry) -> None:
    copying = Copying(registry, "/meta", "read-slave2/meta/")
    copies = await copying.plan("g")
    assert copies == [Copy(ONE, Position(1, 7), Position(-5, 100)), Copy(OTHER, None, Position(6, 200))]
    assert await ZooKeeperOffsets(registry, SLAVE).stored("g") == {ONE: Position(1, 7)}
    await copying.apply("g", copies)
    assert await ZooKeeperOffsets(registry, SLAVE).stored("g") == await ZooKeeperOffsets(registry).stored("g")
    assert await copying.members("g") == []


async def test_one_topic_is_carried_over_alone(registry: MemoryRegistry) -> None:
    copying = Copying(registry, "/meta", SLAVE)
    assert [copy.place for copy in await copying.plan("g", "u")] == [OTHER]
    with pytest.raises(GroupError, match=r"group g has nothing of topic v stored below /meta; there are g"):
        await copying.plan("g", "v")


@pytest.mark.parametrize(
    ("source", "target", "group", "problem"),
    [
        ("/meta", "meta/", "g", "group g is to be copied from /meta to itself"),
        ("/meta", "/read-slav2/meta", "g", "no broker is registered below /read-slav2/meta"),
        ("/meta", SLAVE, "h", "group h has nothing stored below /meta; there are g"),
        ("/", SLAVE, "g", "group g has nothing stored below /; there are none"),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    registry: MemoryRegistry, source: str, target: str, group: str, problem: str
) -> None:
    with pytest.raises(GroupError, match=problem):
        await Copying(registry, source, target).plan(group)


async def test_members_there_must_have_ended_and_those_here_are_named(registry: MemoryRegistry) -> None:
    copying = Copying(registry, "/meta", SLAVE)
    await registry.create(f"{SLAVE}/consumers/g/owners/t/1-0", b"g_a", ephemeral=True)
    await registry.create("/meta/consumers/g/ids/g_b", b"t", ephemeral=True)
    with pytest.raises(GroupError, match=f"t 1-0 is owned by g_a below {SLAVE}: end the members of group g there"):
        await copying.plan("g")
    assert len(await copying.plan("g", force=True)) == 2
    assert await copying.members("g") == ["g_b"]
