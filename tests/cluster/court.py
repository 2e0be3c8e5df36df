"""Members of groups that consume nothing, and who watches that no partition is consumed twice."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from metaq.cluster.assignment import Strategy, assign, sort_texts
from metaq.cluster.membership import Membership, MembershipOptions
from metaq.cluster.operations import Create, Delete
from metaq.cluster.paths import Paths
from metaq.cluster.ports import Registry
from metaq.cluster.znodes import TopicBroker, decode_partition, encode_topic
from metaq.model import BrokerPartition, ClusterPartition

TOPIC = "meta-test"
PATHS = Paths()


class Court:
    """Sees every taking and letting go of the members of one group; complains when two have one partition.

    A member whose session was ended without its knowing may be excused: it goes on until it hears of it.
    """

    def __init__(self) -> None:
        self.complaints: list[str] = []
        self._having: dict[ClusterPartition, list[Party]] = {}
        self._excused: set[int] = set()

    def excuse(self, session: int) -> None:
        self._excused.add(session)

    def takes(self, party: "Party", partition: ClusterPartition) -> None:
        having = self._having.setdefault(partition, [])
        for other in having:
            if other.session not in self._excused:
                self.complaints.append(f"{party} takes {partition}, which {other} has")
        having.append(party)

    def lets_go(self, party: "Party", partition: ClusterPartition) -> None:
        self._having[partition].remove(party)


class Party:
    """A Holder. `taking` and `giving`, where they are set, are awaited before and may raise."""

    def __init__(self, court: Court, registry: Registry, name: str) -> None:
        self.name = name
        self.has: set[ClusterPartition] = set()
        self.calls: list[tuple[str, tuple[ClusterPartition, ...]]] = []
        self.taking: Callable[[Sequence[ClusterPartition]], Awaitable[None]] | None = None
        self.giving: Callable[[Sequence[ClusterPartition]], Awaitable[None]] | None = None
        self.session = 0
        self.dead = False
        self._court = court
        self._registry = registry
        self._under_way: set[ClusterPartition] = set()

    def __repr__(self) -> str:
        return f"{self.name} ({self.session:#x})"

    async def take(self, partitions: Sequence[ClusterPartition]) -> None:
        self._begin("take", partitions)
        try:
            if self.taking is not None:
                await self.taking(partitions)
            self.session = self._registry.session
            for each in partitions:
                self._court.takes(self, each)
                self.has.add(each)
        finally:
            self._under_way.difference_update(partitions)

    async def give(self, partitions: Sequence[ClusterPartition]) -> None:
        self._begin("give", partitions)
        try:
            if self.giving is not None:
                await self.giving(partitions)
        finally:
            self._under_way.difference_update(partitions)
            self._let_go(partitions)

    def lose(self, partitions: Sequence[ClusterPartition]) -> None:
        self.calls.append(("lose", tuple(partitions)))
        self._let_go(partitions)

    def die(self) -> None:
        """Consume nothing any more, without anybody having asked for that."""
        self._let_go(self.has)
        self.dead = True

    def _begin(self, verb: str, partitions: Sequence[ClusterPartition]) -> None:
        assert self._under_way.isdisjoint(partitions), f"{self} is asked to {verb} what it is busy with"
        assert self.dead or (self.has.isdisjoint if verb == "take" else self.has.issuperset)(partitions)
        self._under_way.update(partitions)
        self.calls.append((verb, tuple(partitions)))

    def _let_go(self, partitions: Collection[ClusterPartition]) -> None:
        for each in self.has & set(partitions):
            self._court.lets_go(self, each)
            self.has.discard(each)

    def told(self, verb: str) -> set[ClusterPartition]:
        """Return all partitions that came with calls of one kind."""
        return {each for called, partitions in self.calls if called == verb for each in partitions}


class Member:
    """One Membership with its Party."""

    def __init__(self, court: Court, registry: Registry, options: MembershipOptions) -> None:
        self.registry = registry
        self.options = options
        self.party = Party(court, registry, options.name)
        self.membership = Membership(registry, self.party, options)

    def subscribe(self, *topics: str) -> None:
        """Note what is to be its share from now on."""
        self.options = replace(self.options, topics=topics)

    @property
    def numbers(self) -> list[str]:
        """Return the texts of what it owns, sorted."""
        return list(sort_texts(str(each.partition) for each in self.membership.owned))


def options(
    name: str, *topics: str, strategy: Strategy = "default", sync_time: float = 5.0, timeout: float = 30.0
) -> MembershipOptions:
    return MembershipOptions(
        group="g",
        topics=topics or (TOPIC,),
        consumer_id=name,
        strategy=strategy,
        sync_time=sync_time,
        timeout=timeout,
    )


def partitions_of(count: int, topic: str = TOPIC, broker: int = 0) -> list[ClusterPartition]:
    return [ClusterPartition(topic, BrokerPartition(broker, n)) for n in range(count)]


def texts(count: int, topic: str = TOPIC) -> dict[str, list[str]]:
    """Return what `offer` offers as `settled` wants to know it."""
    return {topic: [str(each.partition) for each in partitions_of(count)]}


async def offer(registry: Registry, count: int, topic: str = TOPIC, broker: int = 0) -> None:
    """Have a broker offer a topic to consumers, or with another number of partitions than before."""
    path = f"{PATHS.subscribe(topic)}/{broker}-m"
    await registry.ensure(PATHS.subscribe(topic))
    data = encode_topic(TopicBroker(count, f"{broker}-m"))
    await registry.apply([Delete(path), Create(path, data, ephemeral=True)])


async def owners(registry: Registry, topic: str = TOPIC, group: str = "g") -> dict[str, tuple[str, int]]:
    """Return who owns what as the tree has it: name and session by the text of the partition."""
    path = PATHS.owners(group, topic)
    found = {}
    for text in await registry.children(path) or ():
        node = await registry.get(f"{path}/{text}")
        if node is not None:
            found[text] = ((node.data or b"").decode(errors="replace"), node.owner)
    return found


def as_assigned(members: Iterable[Member], offered: Mapping[str, Iterable[str]]) -> bool:
    """Tell whether each member has exactly its share of the partitions that are offered by topic."""
    everyone = list(members)
    for member in everyone:
        share = set()
        for topic in member.options.topics:
            consumers = sort_texts(each.options.name for each in everyone if topic in each.options.topics)
            division = assign(member.options.strategy, consumers, sort_texts(offered.get(topic, ())))
            for text in division.get(member.options.name, ()):
                partition = decode_partition(text)
                assert partition is not None
                share.add(ClusterPartition(topic, partition))
        if member.membership.owned != share or member.party.has != share:
            return False
    return True


async def settled(members: Iterable[Member], offered: Mapping[str, Iterable[str]], deadline: float = 10.0) -> float:
    """Wait until each member has its share; return the seconds it took. AssertionError with who has what."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    everyone = list(members)
    while not as_assigned(everyone, offered):
        if loop.time() > begun + deadline:
            raise AssertionError({each.options.name: each.numbers for each in everyone})
        await asyncio.sleep(0.01)
    return loop.time() - begun
