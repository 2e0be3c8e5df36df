"""One member of a group at moments that real time does not meet: silence, cuts at every step, hundred at once."""

import asyncio
from collections.abc import Sequence

import pytest

from metaq.cluster.lease import Lease
from metaq.cluster.memory import MemoryRegistry, MemoryTree
from metaq.cluster.operations import Node, RegistryClosed
from metaq.cluster.ports import Changed
from metaq.errors import RegistryError
from metaq.model import ClusterPartition
from tests.cluster.court import PATHS, Court, Member, offer, options, owners, partitions_of, settled, texts
from tests.simulation.world import World

TIMEOUT = 30.0  # seconds a session lives without a word
FOREVER = 1e6  # seconds


class Slowness:
    """How long the way to the tree, or back, takes at present."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds


class Counting(MemoryRegistry):
    """Notes what is read."""

    def __init__(self, reads: list[str], tree: MemoryTree) -> None:
        super().__init__(tree, delay=Slowness(0.001))
        self._reads = reads
        self.looks = 0  # at the session: nothing is done without

    @property
    def session(self) -> int:
        self.looks += 1
        return super().session

    async def get(self, path: str, changed: Changed | None = None) -> Node | None:
        self._reads.append(path)
        return await super().get(path, changed)


class Scene:
    """A topic of four partitions, and members of one group; none tries again by itself."""

    def __init__(self) -> None:
        self.tree = MemoryTree()
        self.court = Court()
        self.broker = MemoryRegistry(self.tree)

    async def offer(self, count: int = 4) -> None:
        await self.broker.connect()
        await offer(self.broker, count)

    async def registry(self, slowness: Slowness | None = None) -> MemoryRegistry:
        registry = MemoryRegistry(self.tree, delay=slowness or Slowness(), session_timeout=TIMEOUT)
        await registry.connect()
        return registry

    def member(self, registry: MemoryRegistry, name: str) -> Member:
        return Member(self.court, registry, options(name, sync_time=FOREVER))

    async def joined(self, name: str, slowness: Slowness | None = None) -> tuple[Member, MemoryRegistry]:
        registry = await self.registry(slowness)
        member = self.member(registry, name)
        await member.membership.join()
        return member, registry


def test_issue_108_a_cut_of_less_than_two_thirds_of_the_session_disturbs_nobody() -> None:
    async def main() -> None:
        scene = Scene()
        await scene.offer()
        member, registry = await scene.joined("a")
        for _ in range(5):
            registry.suspend()
            await asyncio.sleep(TIMEOUT * 0.45)  # questions come every sixth of the session's time
            assert member.membership.sure
            registry.resume()
            await asyncio.sleep(1.0)
        assert [verb for verb, _ in member.party.calls] == ["take"]
        await member.membership.leave()

    with World(1) as world:
        world.run(main())


@pytest.mark.parametrize("noticed", [True, False], ids=["cut", "silent"])
def test_issue_119_after_two_thirds_of_the_session_in_silence_all_is_let_go_and_taken_again_when_it_lived(
    noticed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        scene = Scene()
        await scene.offer()
        slowness = Slowness()
        member, registry = await scene.joined("a", slowness)
        session = registry.session
        if noticed:
            registry.suspend()
        else:
            slowness.seconds = TIMEOUT  # answers come too late; nobody says that the connection is dead
        begun = asyncio.get_running_loop().time()
        while member.party.has:
            await asyncio.sleep(0.1)
        assert not member.membership.sure
        assert TIMEOUT / 2 - 1 <= asyncio.get_running_loop().time() - begun <= TIMEOUT * 2 / 3 + 1
        assert len(await owners(scene.broker)) == 4
        slowness.seconds = 0.0
        if noticed:
            registry.resume()
        await settled([member], texts(4), 100.0)
        assert registry.session == session
        assert [verb for verb, _ in member.party.calls] == ["take", "lose", "take"]
        await member.membership.leave()

    with World(1) as world:
        world.run(main())
    assert "no answer from ZooKeeper for too long, letting go of 4 partitions" in caplog.text


def test_a_loop_that_was_held_up_is_given_time_to_ask_before_anything_is_let_go() -> None:
    async def main(world: World) -> None:
        scene = Scene()
        await scene.offer()
        member, registry = await scene.joined("a")
        for _ in range(3):  # handlers that block the loop for minutes
            await asyncio.sleep(0.5)
            world.loop.hold_up(300.0)
            await asyncio.sleep(5.0)
            assert member.membership.sure
        assert [verb for verb, _ in member.party.calls] == ["take"]
        registry.suspend()
        world.loop.hold_up(300.0)
        await asyncio.sleep(2.0)
        assert member.party.has == set()
        await member.membership.leave()

    with World(1) as world:
        world.run(main(world))


def test_joining_without_zookeeper_ends_in_time_and_leaves_nothing_behind() -> None:
    async def main() -> None:
        scene = Scene()
        await scene.offer()
        registry = await scene.registry()
        member = scene.member(registry, "a")
        registry.suspend()
        begun = asyncio.get_running_loop().time()
        with pytest.raises(RegistryError, match="g_a: not a member after 30 s"):
            await member.membership.join()
        assert asyncio.get_running_loop().time() - begun < 33.0
        registry.resume()
        await asyncio.sleep(100.0)
        assert scene.tree.children(PATHS.group_ids("g")) is None
        assert member.party.calls == []
        await member.membership.join()  # the next time it works
        await settled([member], texts(4), 1.0)
        await member.membership.leave()

    with World(1) as world:
        world.run(main())


def test_leaving_without_zookeeper_is_quick_and_commits_nothing_after_that() -> None:
    async def main() -> None:
        scene = Scene()
        await scene.offer()
        member, registry = await scene.joined("a")

        async def commit(_: Sequence[ClusterPartition]) -> None:
            await registry.set("/offsets", b"")  # waits for the connection

        member.party.giving = commit
        registry.suspend()
        begun = asyncio.get_running_loop().time()
        await member.membership.leave()
        assert asyncio.get_running_loop().time() - begun < 2.0
        assert member.party.has == set()
        assert member.membership.owned == set()
        registry.resume()
        await asyncio.sleep(10.0)
        assert len(await owners(scene.broker)) == 4  # they go with the session
        await registry.close()
        assert await owners(scene.broker) == {}

    with World(1) as world:
        world.run(main())


def test_issue_129_leaving_that_is_called_off_ends_everything_at_once() -> None:
    async def main() -> None:
        scene = Scene()
        await scene.offer()
        member, _ = await scene.joined("a")
        never = asyncio.Event()

        async def hang(_: Sequence[ClusterPartition]) -> None:
            await never.wait()

        member.party.giving = hang
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(7.0):
                await member.membership.leave()
        assert member.party.has == set()
        assert member.party.told("lose") == set(partitions_of(4))
        assert [task for task in asyncio.all_tasks() if "g_a" in task.get_name() or "lease" in task.get_name()] == []
        await member.membership.leave()

    with World(1) as world:
        world.run(main())


def test_a_registry_that_is_closed_under_a_member_ends_it() -> None:
    async def main() -> None:
        scene = Scene()
        await scene.offer()
        member, registry = await scene.joined("a")
        await registry.close()
        await asyncio.sleep(0.1)
        assert member.party.told("lose") == set(partitions_of(4))
        for wish in (member.membership.update_topics(["other"]), member.membership.join()):
            with pytest.raises(RegistryClosed):
                await wish
        await member.membership.leave()

    with World(1) as world:
        world.run(main())


def test_an_offset_store_that_is_slow_and_fails_keeps_nobody_busy() -> None:
    async def main() -> None:
        scene = Scene()
        await scene.offer()
        registry = Counting([], scene.tree)
        await registry.connect()
        member = scene.member(registry, "a")

        async def fail(_: Sequence[ClusterPartition]) -> None:
            await asyncio.sleep(20.0)
            raise RegistryError("no offsets")

        member.party.taking = fail
        joining = asyncio.create_task(member.membership.join())
        await asyncio.sleep(300.0)
        assert 10 <= len(member.party.calls) <= 60
        assert registry.looks <= 40 * len(member.party.calls)
        joining.cancel()
        await asyncio.gather(joining, return_exceptions=True)

    with World(1) as world:
        world.run(main())


def test_leaving_while_joining_takes_back_what_was_begun() -> None:
    async def main(steps: int) -> None:
        scene = Scene()
        await scene.offer()
        registry = await scene.registry(Slowness(0.05))
        member = scene.member(registry, "a")
        joining = asyncio.create_task(member.membership.join())
        await asyncio.sleep(steps * 0.05)
        joining.cancel()
        await asyncio.gather(joining, return_exceptions=True)
        assert member.party.has == set()
        assert await owners(scene.broker) == {}
        assert scene.tree.children(PATHS.group_ids("g")) in (None, [])
        await registry.close()

    for steps in range(40):
        with World(1) as world:
            world.run(main(steps))


def test_whatever_moment_a_session_ends_in_while_leaving_the_successors_claims_stay() -> None:
    async def main(steps: int) -> None:
        scene = Scene()
        await scene.offer()
        slowness = Slowness()
        first, registry = await scene.joined("a", slowness)
        slowness.seconds = 0.1
        leaving = asyncio.create_task(first.membership.leave())
        await asyncio.sleep(steps * 0.05)
        registry.suspend()
        first.party.die()
        registry.expire()
        second, other = await scene.joined("b")
        await settled([second], texts(4), 1.0)
        registry.resume()
        await leaving
        await asyncio.sleep(10.0)
        assert second.party.told("lose") == set()
        assert await owners(scene.broker) == {f"0-{n}": ("g_b", other.session) for n in range(4)}
        assert scene.tree.children(PATHS.group_ids("g")) == ["g_b"]
        await second.membership.leave()

    for steps in range(30):
        with World(1) as world:
            world.run(main(steps))


def test_whatever_moment_the_connection_is_cut_in_a_handover_comes_to_its_end() -> None:
    async def main(steps: int) -> None:
        scene = Scene()
        await scene.offer()
        slow = Slowness()
        first, registry = await scene.joined("a", slow)
        other = await scene.registry(Slowness(0.1))
        slow.seconds = 0.1
        second = scene.member(other, "b")
        joining = asyncio.create_task(second.membership.join())
        await asyncio.sleep(steps * 0.05)
        for each in (registry, other):
            each.suspend()
            each.resume()
        await joining
        await settled([first, second], texts(4), 10.0)
        await asyncio.gather(first.membership.leave(), second.membership.leave())
        assert scene.court.complaints == []
        assert await owners(scene.broker) == {}

    for steps in range(40):
        with World(1) as world:
            world.run(main(steps))


def test_a_hundred_members_that_join_at_once_read_each_other_once_and_take_their_share_in_seconds() -> None:
    async def main() -> None:
        scene = Scene()
        await scene.offer(1024)
        reads: list[str] = []
        begun = asyncio.get_running_loop().time()
        members = []
        for n in range(100):
            registry = Counting(reads, scene.tree)
            await registry.connect()
            members.append(scene.member(registry, f"{n:02}"))
        await asyncio.gather(*(member.membership.join() for member in members))
        await settled(members, texts(1024), 5.0)
        assert asyncio.get_running_loop().time() - begun < 5.0
        assert len([path for path in reads if "/ids/" in path]) <= 100 * 100 + 2 * 100
        assert len([path for path in reads if "/owners/" in path]) <= 4 * 1024
        reads.clear()
        await members[0].membership.leave()
        await settled(members[1:], texts(1024), 2.0)
        assert len([path for path in reads if "/ids/" in path]) <= 100
        assert scene.court.complaints == []
        await asyncio.gather(*(member.membership.leave() for member in members))

    with World(1) as world:
        world.run(main())


def test_a_lease_is_sure_from_the_first_answer_on_and_in_each_session_anew() -> None:
    async def main() -> None:
        told: list[str] = []
        registry = MemoryRegistry(MemoryTree(), session_timeout=TIMEOUT)
        lease = Lease(registry, "/", lambda: told.append("lapsed"), lambda: told.append("renewed"))
        sure = [lease.sure]
        await registry.connect()
        await asyncio.sleep(0.1)
        sure.append(lease.sure)
        registry.expire()
        sure.append(lease.sure)
        await asyncio.sleep(0.1)
        sure.append(lease.sure)
        await registry.close()
        sure.append(lease.sure)
        assert sure == [False, True, False, True, False]
        assert told == ["renewed", "renewed"]
        await lease.close()

    with World(1) as world:
        world.run(main())
