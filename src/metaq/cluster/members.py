"""Who is in a group and what each member subscribes, as every member sees it."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial

from metaq.cluster.assignment import Strategy, assign, sort_texts
from metaq.cluster.directory import Directory
from metaq.cluster.paths import Paths
from metaq.cluster.ports import Registry
from metaq.cluster.znodes import Member, decode_partition, decode_topics
from metaq.model import BrokerPartition, ClusterPartition


class Group:
    """The members of one group, kept up to date by watches. `changed` is called when they may be others than before.

    A member's node is read once and then watched: 1.4.6.2 reads all of them at every event.
    """

    def __init__(self, registry: Registry, paths: Paths, group: str, changed: Callable[[], None]) -> None:
        self._registry = registry
        self._path = paths.group_ids(group)
        self._changed = changed
        self._topics: dict[str, list[str]] = {}
        self._doubted: set[str] = set()  # of these the node is another, or gone
        self._stale = True

    async def members(self) -> Mapping[str, list[str]]:
        """Return the topics of each member by the name of its node; of blank or odd data, topics that nobody has."""
        while self._stale:
            self._stale = False
            doubted, self._doubted = self._doubted, set()
            try:
                await self._read(doubted)
            except BaseException:
                self._stale = True
                self._doubted |= doubted
                raise
        return self._topics

    async def _read(self, doubted: set[str]) -> None:
        names = await self._registry.children(self._path, self._list_again) or ()
        fresh = [name for name in names if name not in self._topics or name in doubted]
        read = await asyncio.gather(
            *(self._registry.get(f"{self._path}/{name}", partial(self._doubt, name)) for name in fresh)
        )
        found = {name: decode_topics(node.data) for name, node in zip(fresh, read, strict=True) if node is not None}
        self._topics = {name: self._topics[name] for name in names if name not in fresh} | found

    def _list_again(self) -> None:
        self._stale = True
        self._changed()

    def _doubt(self, name: str) -> None:
        self._doubted.add(name)
        self._list_again()


async def share(
    directory: Directory, members: Mapping[str, list[str]], name: str, topics: Iterable[str], strategy: Strategy
) -> frozenset[ClusterPartition]:
    """Return what the member of this name is to own of these topics."""
    found: list[ClusterPartition] = []
    wanted = list(topics)
    for topic, brokers in zip(wanted, await asyncio.gather(*map(directory.readers, wanted)), strict=True):
        consumers = sort_texts(each for each, subscribed in members.items() if topic in subscribed)
        partitions = _texts(frozenset(brokers.items()))
        for text in assign(strategy, consumers, partitions).get(name, ()):
            partition = decode_partition(text)
            assert partition is not None
            found.append(ClusterPartition(topic, partition))
    return frozenset(found)


@lru_cache(64)
def _texts(brokers: frozenset[tuple[Member, int]]) -> tuple[str, ...]:
    """Return the partitions that these masters and slaves have, each once, in the order in which they are divided."""
    return sort_texts(str(BrokerPartition(each.broker_id, n)) for each, count in brokers for n in range(count))
