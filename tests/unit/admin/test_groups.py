"""Groups as an operator sees them, on a tree in memory and a log that says what the test wants."""

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import pytest

from metaq.admin.groups import GroupError, Groups, Part
from metaq.client.offsets import MemoryOffsets, ZooKeeperOffsets
from metaq.cluster.memory import MemoryRegistry, MemoryTree
from metaq.cluster.znodes import Position
from metaq.errors import ConfigError, LinkClosed
from metaq.model import BrokerPartition, ClusterPartition

GROUP = "/meta/consumers/g"
SINCE = datetime(2026, 1, 31, 12)


def place(broker_id: int, number: int, topic: str = "t") -> ClusterPartition:
    return ClusterPartition(topic, BrokerPartition(broker_id, number))


@dataclass
class FakeLog:
    """Broker 0 has t-0 from 100 to 1000 and t-1, which is empty; broker 1 is registered and silent."""

    text: str = "STATS\r\nt part 0 min_offset 100 max_offset 1000\r\nEND\r\n"
    topics: Mapping[str, list[str]] = field(default_factory=lambda: {"t": ["0-0", "0-1"]})
    ids: tuple[int, ...] = (0, 1)

    async def brokers(self) -> Mapping[int, str]:
        return {broker_id: f"meta://10.0.0.{broker_id}:8123" for broker_id in self.ids}

    async def partitions(self, topic: str) -> list[str]:
        return self.topics.get(topic, [])

    async def stats_text(self, broker: int, item: str = "") -> bytes:
        assert item == "offsets"
        if broker == 1:
            raise LinkClosed("10.0.0.1:8123: refused")
        return self.text.encode()

    async def offset_at(self, topic: str, partition: BrokerPartition, since: datetime) -> int:
        assert since == SINCE
        return 500 + partition.partition


@pytest.fixture
async def registry() -> AsyncIterator[MemoryRegistry]:
    made = MemoryRegistry(MemoryTree())
    await made.connect()
    yield made
    await made.close()


@pytest.fixture
def log() -> FakeLog:
    return FakeLog()


@pytest.fixture
def groups(registry: MemoryRegistry, log: FakeLog) -> Groups:
    return Groups(registry, "/meta", ZooKeeperOffsets(registry), log)


async def parts(groups: Groups) -> dict[str, Part]:
    return {str(part.place): part for part in (await groups.group("g")).parts}


async def test_a_group_is_its_members_their_partitions_and_what_is_stored(
    groups: Groups, registry: MemoryRegistry
) -> None:
    await registry.create(f"{GROUP}/ids/g_a", b"t,u", ephemeral=True)
    await registry.create(f"{GROUP}/ids/g_b", b"", ephemeral=True)
    await registry.create(f"{GROUP}/owners/t/0-0", b"g_a", ephemeral=True)
    await registry.create(f"{GROUP}/owners/t/0-1", None)
    await registry.create(f"{GROUP}/offsets/t/0-0", b"-9-400")
    found = await groups.group("g")
    assert found.members == {"g_a": ["t", "u"], "g_b": []}
    assert found.topics == ["t", "u"]
    assert [(str(p.place), p.owner, p.stored, p.bounds, p.lag, p.note) for p in found.parts] == [
        ("t 0-0", "g_a", Position(-9, 400), (100, 1000), 600, ""),
        ("t 0-1", None, None, (0, 0), None, "nothing stored"),
    ]
    assert found.lag == 600
    assert [(each.name, each.lag) for each in await groups.all()] == [("g", 600)]


@pytest.mark.parametrize(
    ("data", "lag", "note"),
    [
        (b"7-1000", 0, ""),
        (b"99", 900, "1 bytes were deleted before they were read"),
        (b"7-1001", 0, "stored offset is behind the end of the log"),
        (b"gar\xffbage", None, r"stored text means nothing: 'gar\\xffbage'"),
        (b"", None, "stored text means nothing: ''"),
        (None, None, "nothing stored"),
    ],
)
async def test_what_is_odd_about_a_stored_offset_is_said(
    groups: Groups, registry: MemoryRegistry, data: bytes | None, lag: int | None, note: str
) -> None:
    await registry.create(f"{GROUP}/ids/g_a", b"t", ephemeral=True)
    await registry.create(f"{GROUP}/offsets/t/0-0", data)
    part = (await parts(groups))["t 0-0"]
    assert (part.lag, part.note) == (lag, note)


async def test_a_broker_that_is_away_leaves_its_partitions_without_an_end(
    groups: Groups, registry: MemoryRegistry
) -> None:
    await registry.create(f"{GROUP}/offsets/t/0-0", b"1-900")
    await registry.create(f"{GROUP}/offsets/t/1-0", b"1-7")
    await registry.create(f"{GROUP}/offsets/t/2-0", b"1-7")
    found = await parts(groups)
    assert (found["t 1-0"].lag, found["t 1-0"].note) == (None, "broker 1 does not answer: 10.0.0.1:8123: refused")
    assert (found["t 2-0"].lag, found["t 2-0"].note) == (None, "broker 2 does not answer: it is not registered")
    assert (await groups.group("g")).lag == 100


async def test_a_group_nobody_knows_is_refused_with_those_there_are(groups: Groups, registry: MemoryRegistry) -> None:
    await registry.ensure(f"{GROUP}/ids")
    for asking in (groups.group("G"), groups.plan("G", "t", None, "latest")):
        with pytest.raises(GroupError, match="there is no group G; there are g"):
            await asking
    with pytest.raises(GroupError, match="group g has nothing of topic t; it has none"):
        await groups.group("g", "t")


async def test_members_with_odd_topics_do_not_keep_others_from_being_shown(
    groups: Groups, registry: MemoryRegistry
) -> None:
    await registry.create(f"{GROUP}/ids/g_a", b"t,,a b,\xff/..", ephemeral=True)
    await registry.create(f"{GROUP}/owners/t/no-partition", b"g_a")
    assert list(await parts(groups)) == ["t 0-0", "t 0-1"]


@pytest.mark.parametrize(
    ("to", "targets"),
    [("earliest", [100, 0]), ("latest", [1000, 0]), (SINCE, [500, 501])],
)
async def test_a_group_is_moved_in_all_partitions(
    groups: Groups, registry: MemoryRegistry, to: object, targets: list[int]
) -> None:
    await registry.create(f"{GROUP}/offsets/t/0-0", b"garbage")
    moves = await groups.plan("g", "t", None, to)  # type: ignore[arg-type]
    assert [(str(m.place), m.stored, m.to) for m in moves] == [
        ("t 0-0", "garbage", targets[0]),
        ("t 0-1", None, targets[1]),
    ]
    assert await ZooKeeperOffsets(registry).texts("g") == {place(0, 0): b"garbage"}, "a plan changes nothing"
    await groups.apply("g", moves)
    assert await ZooKeeperOffsets(registry).texts("g") == {
        place(0, n): b"-1-%d" % target for n, target in enumerate(targets)
    }


@pytest.mark.parametrize("offset", [100, 1000])
async def test_one_partition_is_moved_to_an_offset_within_its_log(
    groups: Groups, registry: MemoryRegistry, offset: int
) -> None:
    await registry.ensure(f"{GROUP}/ids")
    assert [(m.place, m.to) for m in await groups.plan("g", "t", "0-0", offset)] == [(place(0, 0), offset)]


@pytest.mark.parametrize(
    ("partition", "to", "message"),
    [
        ("0-0", 99, "t 0-0: 99 is outside of the log, 100-1000"),
        ("0-0", 1001, "t 0-0: 1001 is outside of the log, 100-1000"),
        ("0-7", "latest", "there is no partition 0-7 of topic t; there are 0-0, 0-1, 1-0"),
        ("1-0", "latest", "t 1-0: broker 1 does not answer: 10.0.0.1:8123: refused; nothing was changed"),
        (None, "latest", "t 1-0: broker 1 does not answer: 10.0.0.1:8123: refused; nothing was changed"),
        ("0", "latest", "0 is a partition of which broker? There are 0, 1"),
    ],
)
async def test_a_move_that_cannot_be_is_refused(
    groups: Groups, registry: MemoryRegistry, partition: str | None, to: object, message: str
) -> None:
    await registry.create(f"{GROUP}/offsets/t/1-0", b"1-7")
    with pytest.raises(GroupError, match=re.escape(message)):
        await groups.plan("g", "t", partition, to)  # type: ignore[arg-type]


async def test_names_that_cannot_be_are_refused_also_with_force(groups: Groups, registry: MemoryRegistry) -> None:
    with pytest.raises(ConfigError, match=r"group '\.\.'"):
        await groups.plan("..", "t", None, "latest", force=True)
    with pytest.raises(GroupError, match="'a b': "):
        await groups.plan("g", "a b", None, "latest", force=True)
    with pytest.raises(GroupError, match="topic u has no partitions"):
        await groups.plan("g", "u", None, "latest", force=True)
    with pytest.raises(ConfigError, match="'x-y' is no partition"):
        await groups.plan("g", "t", "x-y", "latest", force=True)


async def test_a_number_alone_is_a_partition_of_the_only_broker(
    groups: Groups, registry: MemoryRegistry, log: FakeLog
) -> None:
    log.ids = (0,)
    await registry.ensure(f"{GROUP}/ids")
    assert [m.place for m in await groups.plan("g", "t", "1", "latest")] == [place(0, 1)]


async def test_partitions_that_members_own_are_moved_by_force_only(groups: Groups, registry: MemoryRegistry) -> None:
    await registry.create(f"{GROUP}/owners/t/0-1", b"g_a", ephemeral=True)
    with pytest.raises(GroupError, match="t 0-1 is owned by g_a, 1 of 2 are owned: end the members of group g first"):
        await groups.plan("g", "t", None, "latest")
    assert len(await groups.plan("g", "t", "0-0", "latest")) == 1
    assert len(await groups.plan("g", "t", None, "latest", force=True)) == 2


async def test_a_group_that_is_still_to_come_is_put_somewhere_by_force_only(
    groups: Groups, registry: MemoryRegistry
) -> None:
    with pytest.raises(GroupError, match="there is no group new; there are none"):
        await groups.plan("new", "t", None, "latest")
    await groups.apply("new", await groups.plan("new", "t", None, "latest", force=True))
    assert await groups.names() == ["new"]


async def test_without_zookeeper_groups_are_what_a_store_has(log: FakeLog) -> None:
    store = MemoryOffsets()
    await store.save("g", {place(0, 0): Position(1, 400)})
    groups = Groups(None, "", store, log)
    found = await groups.group("g")
    assert (found.members, found.lag, len(found.parts)) == ({}, 600, 2)
    await groups.apply("g", await groups.plan("g", "t", "0-0", "latest"))
    assert await store.stored("g") == {place(0, 0): Position(-1, 1000)}
