"""Members of a group, on every kind of registry: each partition has one owner, always, and no other for long."""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence

import pytest

from metaq.cluster.assignment import Strategy
from metaq.cluster.membership import MembershipOptions
from metaq.cluster.operations import Create, Delete, NameTaken, Node
from metaq.cluster.ports import Registry
from metaq.errors import ConfigError, RegistryError
from metaq.model import BrokerPartition, ClusterPartition
from tests.cluster.conftest import Ensemble, until, until_async
from tests.cluster.court import (
    PATHS,
    TOPIC,
    Court,
    Member,
    offer,
    options,
    owners,
    partitions_of,
    settled,
    texts,
)

SOON = 4.5  # seconds; the fallback, five seconds after which members try again, has no part in what passes


async def joined(court: Court, registry: Registry, name: str, *topics: str, sync_time: float = 5.0) -> Member:
    member = Member(court, registry, options(name, *topics, sync_time=sync_time))
    await member.membership.join()
    return member


async def leave(*members: Member) -> None:
    await asyncio.gather(*(member.membership.leave() for member in members))
    assert all(not member.party.has for member in members)


async def nobody_owns(registry: Registry) -> bool:
    return not await owners(registry)


# joining and leaving


async def test_a_member_leaves_the_tree_of_the_original_behind_and_takes_its_own_away(ensemble: Ensemble) -> None:
    broker, ours = await ensemble.connect(), await ensemble.connect()
    await offer(broker, 4)
    member = await joined(Court(), ours, "a")
    assert member.numbers == ["0-0", "0-1", "0-2", "0-3"]
    assert await broker.get(PATHS.consumer("g", "g_a")) == Node(b"meta-test", ours.session)
    assert await owners(broker) == {f"0-{n}": ("g_a", ours.session) for n in range(4)}
    for path in ("", "/ids", "/owners", f"/owners/{TOPIC}"):
        assert await broker.get(PATHS.group("g") + path) == Node(None, 0)
    await leave(member)
    assert await owners(broker) == {}
    assert await broker.children(PATHS.group_ids("g")) == []
    await leave(member)


async def test_a_name_that_is_not_configured_is_made_of_host_process_and_a_unique_part(ensemble: Ensemble) -> None:
    registry = await ensemble.connect()
    made = MembershipOptions(group="g", topics=("u", "t"), host="10.0.0.9", pid=4711, uuid="6f1c")
    member = Member(Court(), registry, made)
    await member.membership.join()
    assert member.membership.name == "g_10.0.0.9-4711-6f1c"
    assert await registry.get(PATHS.consumer("g", "g_10.0.0.9-4711-6f1c")) == Node(b"u,t", registry.session)
    await leave(member)


@pytest.mark.parametrize("strategy", ["default", "consistent"])
async def test_partitions_are_shared_handed_over_and_kept(ensemble: Ensemble, strategy: Strategy) -> None:
    broker = await ensemble.connect()
    await offer(broker, 12)
    court = Court()
    members: list[Member] = []
    for name in "abc":
        member = Member(court, await ensemble.connect(), options(name, strategy=strategy))
        before = {each.options.name: each.membership.owned for each in members}
        await member.membership.join()
        members.append(member)
        await settled(members, texts(12), SOON)
        for each in members[:-1]:  # what stays is never let go of
            kept = before[each.options.name] & each.membership.owned
            assert each.party.told("give").isdisjoint(kept)
    await leave(members[1])
    await settled([members[0], members[2]], texts(12), SOON)
    await leave(members[0], members[2])
    assert court.complaints == []
    assert not any(member.party.told("lose") for member in members)


async def test_members_of_one_session_share_like_others(ensemble: Ensemble) -> None:
    registry = await ensemble.connect()
    await offer(registry, 5)
    court = Court()
    members = [await joined(court, registry, name) for name in "ab"]
    await settled(members, texts(5), SOON)
    await leave(members[0])
    await settled(members[1:], texts(5), SOON)
    await leave(members[1])
    assert court.complaints == []


async def test_more_members_than_partitions_stand_by(ensemble: Ensemble) -> None:
    broker = await ensemble.connect()
    await offer(broker, 2)
    court = Court()
    members = [await joined(court, await ensemble.connect(), name) for name in "abc"]
    await settled(members, texts(2), SOON)
    assert members[2].membership.owned == set()
    await leave(members[0])
    await settled(members[1:], texts(2), SOON)
    await leave(*members[1:])


async def test_issue_24_a_handover_takes_as_long_as_the_handlers_and_no_longer(ensemble: Ensemble) -> None:
    broker = await ensemble.connect()
    await offer(broker, 4)
    court = Court()
    first = await joined(court, await ensemble.connect(), "a")
    handling = asyncio.Event()

    async def end_handlers(_: Sequence[ClusterPartition]) -> None:
        await handling.wait()

    first.party.giving = end_handlers
    second = await joined(court, await ensemble.connect(), "b", sync_time=1000.0)
    assert second.membership.owned == set()
    await until(lambda: first.numbers == ["0-0", "0-1"])
    assert {name for name, _ in (await owners(broker)).values()} == {"g_a"}
    handling.set()
    await settled([first, second], texts(4), SOON)
    await leave(first, second)
    assert court.complaints == []


async def test_issue_139_who_has_left_can_join_again(ensemble: Ensemble) -> None:
    broker = await ensemble.connect()
    await offer(broker, 4)
    court = Court()
    members = [await joined(court, await ensemble.connect(), name) for name in "ab"]
    for _ in range(3):
        await settled(members, texts(4), SOON)
        await leave(members[0])
        await settled(members[1:], texts(4), SOON)
        await members[0].membership.join()
    await settled(members, texts(4), SOON)
    await leave(*members)
    assert court.complaints == []


async def test_claims_are_deleted_after_all_is_given_back_and_before_the_member(ensemble: Ensemble) -> None:
    broker, ours = await ensemble.connect(), await ensemble.connect()
    await offer(broker, 3)
    member = await joined(Court(), ours, "a")
    seen: list[str] = []

    async def look(_: Sequence[ClusterPartition]) -> None:
        seen.append(f"{len(await owners(broker))} claims while handlers end")

    async def gone() -> bool:
        names, claims = await broker.children(PATHS.group_ids("g")), await owners(broker)
        assert names or not claims
        return not names

    member.party.giving = look
    leaving = asyncio.create_task(member.membership.leave())
    await until_async(gone)
    await leaving
    assert seen == ["3 claims while handlers end"]


# what changes under a group


async def test_partitions_that_are_added_are_shared_and_those_that_go_are_given_back(ensemble: Ensemble) -> None:
    broker, other = await ensemble.connect(), await ensemble.connect()
    await offer(broker, 2)
    court = Court()
    members = [await joined(court, await ensemble.connect(), name) for name in "ab"]
    await offer(broker, 8)
    await settled(members, texts(8), SOON)
    await offer(other, 3, broker=1)
    await settled(members, {TOPIC: [*texts(8)[TOPIC], "1-0", "1-1", "1-2"]}, SOON)
    await ensemble.close(other)
    await settled(members, texts(8), SOON)
    await ensemble.close(broker)
    await settled(members, {}, SOON)
    await until_async(lambda: nobody_owns(members[0].registry))
    await leave(*members)
    assert court.complaints == []


async def test_a_topic_no_broker_has_yet_is_waited_for(ensemble: Ensemble) -> None:
    member = await joined(Court(), await ensemble.connect(), "a", "later")
    assert member.membership.owned == set()
    broker = await ensemble.connect()
    await offer(broker, 2, "later")
    await settled([member], texts(2, "later"), SOON)
    await leave(member)


async def test_slaves_add_partitions_and_odd_brokers_and_texts_are_left_out(ensemble: Ensemble) -> None:
    broker = await ensemble.connect()
    await offer(broker, 2)
    for name, data in {
        "0-s1": b'{"numParts":3,"broker":"0-s1"}',
        "x-m": b"{}",
        "1-m": b"nonsense",
        "2-m": None,
    }.items():
        await broker.create(f"{PATHS.subscribe(TOPIC)}/{name}", data)
    await broker.create(f"{PATHS.ids}/no-number")
    member = await joined(Court(), await ensemble.connect(), "a")
    assert member.numbers == ["0-0", "0-1", "0-2"]
    await leave(member)


async def test_members_whose_nodes_are_blank_or_odd_take_part_in_nothing(ensemble: Ensemble) -> None:
    broker = await ensemble.connect()
    await offer(broker, 4)
    for name, data in {"g_null": None, "g_blank": b" ", "g_odd": b"\xff,,", "g_other": b"another-topic"}.items():
        await broker.create(PATHS.consumer("g", name), data, ephemeral=True)
    member = await joined(Court(), await ensemble.connect(), "a")
    assert member.numbers == ["0-0", "0-1", "0-2", "0-3"]
    await leave(member)


async def test_issue_121_members_that_subscribe_different_topics_share_each_among_its_subscribers(
    ensemble: Ensemble,
) -> None:
    broker = await ensemble.connect()
    for topic in "tuv":
        await offer(broker, 6, topic)
    offered = texts(6, "t") | texts(6, "u") | texts(6, "v")
    court = Court()
    subscribed = {"a": ("t", "u"), "b": ("u", "v"), "c": ("v", "t"), "d": ("t", "u", "v")}
    members = [await joined(court, await ensemble.connect(), name, *topics) for name, topics in subscribed.items()]
    await settled(members, offered, SOON)
    for member, topics in zip(members, [("v",), ("t", "v"), (), ("u",)], strict=True):
        member.subscribe(*topics)
        await member.membership.update_topics(topics)
    await settled(members, offered, SOON)
    data = [(await broker.get(PATHS.consumer("g", member.options.name)), member) for member in members]
    assert [node and node.data for node, _ in data] == [b"v", b"t,v", b"", b"u"]
    await leave(*members)
    assert court.complaints == []


# sessions


async def test_a_lost_session_is_followed_by_another_in_which_all_is_claimed_again(ensemble: Ensemble) -> None:
    broker = await ensemble.connect()
    await offer(broker, 4)
    court = Court()
    members = [await joined(court, await ensemble.connect(), name) for name in "ab"]
    await settled(members, texts(4), SOON)
    old = members[0].registry.session
    court.excuse(old)
    ensemble.expire(members[0].registry)
    await until(lambda: bool(members[0].party.told("lose")))
    assert members[0].party.told("lose") == set(partitions_of(2))
    assert members[0].party.told("give") & set(partitions_of(2)) == set()  # nothing is committed
    await until(lambda: members[0].registry.session not in (0, old))
    await settled(members, texts(4))
    await leave(*members)
    assert court.complaints == []


async def test_issue_102_a_group_comes_to_rest_after_any_number_of_failures(ensemble: Ensemble) -> None:
    """The original stops after 7 failed attempts and consumes nothing until the next change."""
    broker = await ensemble.connect()
    await offer(broker, 4)
    stranger = await ensemble.connect()
    await stranger.create(PATHS.owner("g", TOPIC, BrokerPartition(0, 2)), b"g_somebody", ephemeral=True)
    member = await joined(Court(), await ensemble.connect(), "a", sync_time=0.02)
    assert member.numbers == ["0-0", "0-1", "0-3"]
    tries = 0

    async def fail(partitions: Sequence[ClusterPartition]) -> None:
        nonlocal tries
        tries += 1
        if tries < 9:
            raise RegistryError("no offsets")

    member.party.taking = fail
    await ensemble.close(stranger)
    await settled([member], texts(4))
    assert tries == 9
    assert member.party.told("give") == member.party.told("lose") == set()
    await leave(member)


async def test_what_cannot_be_taken_is_released_and_tried_again_without_stopping_the_rest(ensemble: Ensemble) -> None:
    broker = await ensemble.connect()
    await offer(broker, 6)
    member = Member(Court(), await ensemble.connect(), options("a"))
    bad = partitions_of(6)[3]
    mended = False

    async def take(partitions: Sequence[ClusterPartition]) -> None:
        if bad in partitions and not mended:
            raise RegistryError("offset is no number")

    async def released() -> bool:
        return set(await owners(broker)) == {"0-0", "0-1", "0-2", "0-4", "0-5"}

    member.party.taking = take
    await member.membership.join()
    await until(lambda: len(member.membership.owned) == 5)
    await until_async(released)
    mended = True
    await settled([member], texts(6), SOON)
    await leave(member)


async def test_a_claim_that_somebody_takes_away_is_lost_at_once_and_claimed_again(ensemble: Ensemble) -> None:
    """A confused Java member may delete any owner node: it looks at none of them first."""
    broker = await ensemble.connect()
    await offer(broker, 3)
    member = await joined(Court(), await ensemble.connect(), "a", sync_time=1000.0)
    path = PATHS.owner("g", TOPIC, BrokerPartition(0, 1))
    await broker.apply([Delete(path), Create(path, b"g_java", ephemeral=True)])
    await until(lambda: member.numbers == ["0-0", "0-2"])
    assert member.party.told("lose") == {partitions_of(2)[1]}
    await broker.delete(path)
    await settled([member], texts(3), SOON)
    await leave(member)


async def test_a_members_node_that_somebody_deletes_is_written_again(ensemble: Ensemble) -> None:
    broker = await ensemble.connect()
    await offer(broker, 4)
    court = Court()
    members = [await joined(court, await ensemble.connect(), name) for name in "ab"]
    await settled(members, texts(4), SOON)
    path = PATHS.consumer("g", "g_a")
    await broker.delete(path)
    await until_async(lambda: broker.exists(path))
    await settled(members, texts(4), SOON)
    await leave(*members)


# names


async def test_issue_106_a_member_waits_for_the_end_of_a_predecessor_of_its_name(
    ensemble: Ensemble, caplog: pytest.LogCaptureFixture
) -> None:
    broker, old, new = await ensemble.connect(), await ensemble.connect(), await ensemble.connect()
    await offer(broker, 4)
    court = Court()
    predecessor = await joined(court, old, "a")
    successor = Member(court, new, options("a"))
    joining = asyncio.create_task(successor.membership.join())
    await until(lambda: f"lives in session {old.session:#x}, ours is {new.session:#x}" in caplog.text)
    assert predecessor.membership.owned == set(partitions_of(4))
    await leave(predecessor)
    await joining
    await settled([successor], texts(4), SOON)
    await leave(successor)
    assert court.complaints == []


async def test_issue_106_two_living_consumers_of_one_name_are_told_so_and_only_one_consumes(
    ensemble: Ensemble,
) -> None:
    broker, one, two = [await ensemble.connect(session_timeout=2.0) for _ in range(3)]
    await offer(broker, 4)
    court = Court()
    first = await joined(court, one, "a")
    second = Member(court, two, options("a"))
    with pytest.raises(NameTaken, match=f"{one.session:#x}; ours is {two.session:#x}"):
        await second.membership.join()
    assert first.membership.owned == set(partitions_of(4))
    assert second.party.calls == []
    await leave(first)
    await second.membership.join()
    await settled([second], texts(4), SOON)
    await leave(second)
    assert court.complaints == []


async def test_one_client_has_no_two_consumers_of_one_name(ensemble: Ensemble) -> None:
    registry = await ensemble.connect()
    court = Court()
    first = await joined(court, registry, "a")
    second = Member(court, registry, options("a"))
    with pytest.raises(ConfigError, match="ids/g_a is another consumer of this client"):
        await second.membership.join()
    await leave(first)
    await second.membership.join()
    await leave(second)


@pytest.mark.parametrize("named", [b"nobody", b"g_a", None], ids=["a stranger", "ourselves", "nobody"])
async def test_an_owner_that_ends_with_no_session_is_reported_and_removed(
    ensemble: Ensemble, named: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    broker = await ensemble.connect()
    await offer(broker, 3)
    await broker.create(PATHS.owner("g", TOPIC, BrokerPartition(0, 1)), named)
    court = Court()
    members = [Member(court, await ensemble.connect(), options(name, sync_time=1000.0)) for name in "ab"]
    await asyncio.gather(*(member.membership.join() for member in members))
    await settled(members, texts(3), SOON)
    assert "ends with no session; removing it" in caplog.text
    assert await broker.children(f"{PATHS.ours}/leftovers") == []
    await leave(*members)
    assert court.complaints == []


async def test_an_owner_that_ends_with_no_session_but_names_one_who_lives_is_left_to_him(
    ensemble: Ensemble, caplog: pytest.LogCaptureFixture
) -> None:
    broker, java = await ensemble.connect(), await ensemble.connect()
    await offer(broker, 2)
    path = PATHS.owner("g", TOPIC, BrokerPartition(0, 0))
    await java.create(PATHS.consumer("g", "g_java"), b"another-topic", ephemeral=True)
    await java.create(path, b"g_java")
    member = await joined(Court(), await ensemble.connect(), "a", sync_time=0.02)
    assert member.numbers == ["0-1"]
    assert "names g_java, ends with no session" in caplog.text
    await ensemble.close(java)
    await settled([member], texts(2))
    await leave(member)


@pytest.mark.parametrize("group", ["", " ", *(f"a{c}b" for c in "~!#$%^&*()+=`'\",;/?[]<>.: ")])
def test_a_group_that_java_members_refuse_is_refused(group: str) -> None:
    with pytest.raises(ConfigError, match="group"):
        MembershipOptions(group=group, topics=("t",), consumer_id="a")


@pytest.mark.parametrize("topic", ["", " ", "a,b", "a/b"])
async def test_a_topic_that_cannot_stand_in_a_members_node_is_refused(ensemble: Ensemble, topic: str) -> None:
    with pytest.raises(ConfigError, match="topic"):
        options("a", topic)
    member = Member(Court(), await ensemble.connect(), options("a"))
    with pytest.raises(ConfigError, match="topic"):
        await member.membership.update_topics(["fine", topic])


def test_a_consumer_id_must_be_there_or_be_made_and_be_no_path() -> None:
    for consumer_id in ("", " ", "a/b"):
        with pytest.raises(ConfigError, match="consumer id"):
            MembershipOptions(group="g", topics=("t",), consumer_id=consumer_id)
    with pytest.raises(ConfigError, match="host, pid and uuid"):
        MembershipOptions(group="g", topics=("t",))
    with pytest.raises(ConfigError, match="no strategy 'best'; there are default, consistent"):
        MembershipOptions(group="g", topics=("t",), consumer_id="a", strategy="best")  # type: ignore[arg-type]


# chance


async def test_at_random_no_partition_has_two_owners_and_in_the_end_each_has_its_share(ensemble: Ensemble) -> None:
    """Members join, leave and lose their sessions while brokers change; the simulation does more, and longer."""
    chance = random.Random(1)
    broker = await ensemble.connect()
    count = 8
    await offer(broker, count)
    court = Court()
    numbers = itertools.count()
    members: list[Member] = []

    async def join() -> None:
        member = Member(court, await ensemble.connect(), options(f"m{next(numbers)}", sync_time=1000.0))
        await member.membership.join()
        members.append(member)

    async def part() -> None:
        if len(members) > 1:
            await leave(members.pop(chance.randrange(len(members))))

    async def expire() -> None:
        registry = chance.choice(members).registry
        court.excuse(registry.session)
        ensemble.expire(registry)

    async def change() -> None:
        nonlocal count
        count = chance.randrange(3, 20)
        await offer(broker, count)

    await join()
    acts: list[Callable[[], Awaitable[None]]] = [join, join, part, part, expire, change]
    for _ in range(25):
        await chance.choice(acts)()
        await asyncio.sleep(chance.choice((0.0, 0.0, 0.02)))
    await settled(members, texts(count))
    assert await owners(broker) == {
        str(each.partition): (member.options.name, member.registry.session)
        for member in members
        for each in member.membership.owned
    }
    assert court.complaints == []
    await leave(*members)


@pytest.mark.soak
@pytest.mark.parametrize("strategy", ["default", "consistent"])
async def test_a_hundred_members_share_a_thousand_partitions(ensemble: Ensemble, strategy: Strategy) -> None:
    """Each with a session of its own, all in one process; the simulation counts what they read."""
    broker = await ensemble.connect()
    await offer(broker, 1024)
    court = Court()
    registries = [await ensemble.connect(30.0) for _ in range(100)]
    members = [Member(court, each, options(f"{n:02}", strategy=strategy)) for n, each in enumerate(registries)]
    await asyncio.gather(*(member.membership.join() for member in members))
    await settled(members, texts(1024))
    await leave(*members[:50])
    await settled(members[50:], texts(1024))
    await leave(*members[50:])
    assert court.complaints == []
