"""A slave as a member of its group: an id, and neither owners nor offsets (reference: SlaveConsumerZooKeeper)."""

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from metaq.cluster.member_node import MemberNode
from metaq.cluster.operations import RegistryClosed, State
from metaq.cluster.paths import Paths
from metaq.cluster.ports import Registry
from metaq.errors import RegistryError

log = logging.getLogger(__name__)

_PAUSE: Final = 1.0  # seconds before trying again what failed
_WITHDRAW_TIME: Final = 5.0  # seconds


class Presence:
    """Keeps `<root>/consumers/<group>/ids/<name>` there while `run` runs, in each new session, for the latest topics.

    Others who look at the group see who reads from the master, as of a Java slave. Nothing else of the group is
    touched, so any number of slaves may have one group.
    """

    def __init__(self, registry: Registry, root: str, group: str, name: str) -> None:
        self._registry = registry
        self._wake = asyncio.Event()
        self._node = MemberNode(registry, Paths(root).consumer(group, name), self._wake.set)
        self._topics: tuple[str, ...] = ()

    def subscribe(self, topics: Iterable[str]) -> None:
        """Have the node name these topics soon. None at all: it stays as it is."""
        self._topics = tuple(topics) or self._topics
        self._wake.set()

    async def run(self) -> None:
        """Keep the node until cancelled; then take it away."""
        stop_listening = self._registry.on_state(self._hear_state)
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._announce()
        finally:
            stop_listening()
            with suppress(RegistryError, TimeoutError):
                async with asyncio.timeout(_WITHDRAW_TIME):
                    await self._node.withdraw(self._registry.session)

    async def _announce(self) -> None:
        session = self._registry.session
        if not session or not self._topics:
            return  # a new session, or new topics, wake us
        try:
            ours = await self._node.announce(session, self._topics)
        except RegistryClosed:
            return
        except RegistryError as exc:
            log.warning("not registered as a consumer of the master, trying again in %g s: %s", _PAUSE, exc)
            ours = False
        if not ours:
            await asyncio.sleep(_PAUSE)
            self._wake.set()

    def _hear_state(self, state: State) -> None:
        if state is State.CONNECTED:
            self._wake.set()
