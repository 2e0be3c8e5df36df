"""A slave's view of its master in the tree, kept fresh (reference: SlaveZooKeeper, SlaveConsumerZooKeeper)."""

import logging
from asyncio import gather
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from metaq.cluster.paths import Paths, member
from metaq.cluster.ports import Changed, Registry
from metaq.cluster.watching import Watch
from metaq.cluster.znodes import decode_address, decode_topic
from metaq.model import BrokerAddress

log = logging.getLogger(__name__)

AT_ONCE: Final = 300  # topics read in one go


class Master(NamedTuple):
    """What the tree says of the master of one broker id.

    `address` None: none is registered. `term`: the checksum of its server.ini and the session that wrote it: another
    one whenever the master read its file, be it the same. `partitions`: of the topics it lets others read.
    """

    address: BrokerAddress | None
    term: tuple[bytes | None, int] | None
    partitions: Mapping[str, int]


class MasterWatch:
    """Tells of the master of `broker_id` first and after each change, until closed; several changes may be told as one.

    Costs two reads and one per topic, then only what changed. While ZooKeeper does not answer nothing is told.
    """

    def __init__(self, registry: Registry, root: str, broker_id: int, tell: Callable[[Master], None]) -> None:
        self._registry = registry
        self._paths = Paths(root)
        self._broker_id = broker_id
        self._member = member(broker_id, None)
        self._counts: dict[str, int | None] = {}  # topic → partitions; None: the master has no such topic
        self._stale: set[str] = set()
        self._watch = Watch(f"master of broker {broker_id}", self._read, tell)

    async def close(self) -> None:
        """Stop; nothing is told any more once this returns."""
        await self._watch.close()

    async def _read(self, changed: Changed) -> Master:
        node, checksum, names = await gather(
            self._registry.get(self._paths.broker_address(self._broker_id), changed),
            self._registry.get(self._paths.checksum(self._broker_id), changed),
            self._registry.children(self._paths.topics_sub, changed),
        )
        topics = set(names or ())
        for topic in self._counts.keys() - topics:
            del self._counts[topic]
        self._stale &= topics
        due = sorted((topics - self._counts.keys()) | self._stale)
        for start in range(0, len(due), AT_ONCE):
            await gather(*(self._read_topic(topic, changed) for topic in due[start : start + AT_ONCE]))
        try:
            address = None if node is None else decode_address(node.data)
        except ValueError as exc:
            log.warning("master of broker %d: its node is of no use: %s", self._broker_id, exc)
            address = None
        term = None if checksum is None else (checksum.data, checksum.owner)
        return Master(address, term, {topic: count for topic, count in sorted(self._counts.items()) if count})

    async def _read_topic(self, topic: str, changed: Changed) -> None:
        """Read one topic's node; one that cannot be understood counts as none, until it changes."""
        self._stale.discard(topic)  # before the answer: from then on a change makes it stale again
        path = f"{self._paths.subscribe(topic)}/{self._member}"
        try:
            node = await self._registry.get(path, _Stale(self._stale, topic, changed))
        except BaseException:
            self._stale.add(topic)
            raise
        try:
            self._counts[topic] = None if node is None else decode_topic(node.data).num_parts
        except ValueError as exc:
            log.warning("%s: passed over: %s", path, exc)
            self._counts[topic] = None


@dataclass(frozen=True, slots=True)
class _Stale:
    """Marks a topic to be read again; equal ones count once."""

    stale: set[str]
    topic: str
    changed: Changed

    def __call__(self) -> None:
        self.stale.add(self.topic)
        self.changed()

    def __hash__(self) -> int:
        return hash(self.topic)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Stale) and self.stale is other.stale and self.topic == other.topic
