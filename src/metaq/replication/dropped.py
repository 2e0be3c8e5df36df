"""Topics that a master has dropped: a slave that takes over its topics moves its copy aside, as the master did."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from metaq.config.model import BrokerConfig
from metaq.config.topics import TopicNames
from metaq.errors import StoreError
from metaq.model import TopicPartition
from metaq.store.awaiting import told
from metaq.store.log import PartitionLog
from metaq.store.store import MessageStore

log = logging.getLogger(__name__)

SURE: Final = 5.0  # seconds between two answers of the master without the topic


class Dropped:
    """Learns from what a master says of its topics which of them it has dropped, and moves their logs aside.

    Only the configuration that the running master sends counts, never that it is away or not registered. It must have
    named the topic since this slave was started, and then not have it in two answers, SURE apart. `accepts` says
    whether our own configuration has a partition: what it has stays. `forget` has the registry forget a topic.
    """

    def __init__(
        self,
        store: MessageStore,
        accepts: Callable[[TopicPartition], bool],
        forget: Callable[[str], Awaitable[None]],
    ) -> None:
        self._store = store
        self._accepts = accepts
        self._forget = forget
        self._named: set[str] = set()
        self._missing: dict[str, float] = {}  # → since when, by the clock of the loop
        self._failed: set[str] = set()  # it was said that they cannot be moved

    @property
    def pending(self) -> bool:
        """Whether the master is to be asked again: something is missing there."""
        return bool(self._missing)

    def learn(self, theirs: BrokerConfig) -> list[str]:
        """Take what the running master says; return the topics that it has dropped for certain."""
        now = asyncio.get_running_loop().time()
        names = [topic.name for topic in theirs.topics]
        admitted = TopicNames(names)
        gone = [topic for topic in self._named if not admitted.accepts(topic)]
        self._missing = {topic: self._missing.get(topic, now) for topic in gone}
        self._named.update(names)
        return [topic for topic, since in self._missing.items() if now - since >= SURE]

    async def move(self, topic: str) -> None:
        """Move what is here of a topic aside, unless our configuration has it; what fails is tried again later."""
        if self._accepts(TopicPartition(topic, 0)):
            return
        logs = [each for each in self._store.all() if each.key.topic == topic]
        try:
            for each in logs:
                await self._move(each)
        except (StoreError, ValueError, OSError) as exc:
            if topic not in self._failed:
                log.warning("topic %s, which the master has dropped, is not moved aside yet: %s", topic, exc)
            self._failed.add(topic)
            return
        for known in (self._named, self._failed):
            known.discard(topic)
        del self._missing[topic]
        if logs:
            log.warning("topic %s: the master has dropped it; what was copied is kept in pymetaq/aside", topic)
        await self._forget(topic)

    async def _move(self, each: PartitionLog) -> None:
        await told(partial(self._store.move_aside, each))
