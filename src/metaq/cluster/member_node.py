"""The node that says that one consumer is a member of its group, and what it subscribes."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from metaq.cluster.operations import Create, Delete, NameTaken, NodeExists, NoNode, Operation
from metaq.cluster.paths import parent
from metaq.cluster.ports import Registry
from metaq.cluster.znodes import encode_topics
from metaq.errors import RegistryError

log = logging.getLogger(__name__)

_TRIES: Final = 5  # to write a node that somebody keeps changing


class MemberNode:
    """Our node below `ids`. `changed` is called when it may be gone or another's.

    A node of our name that lives with another session is not ours: it is a dead predecessor's and goes soon, or two
    consumers have one id. The original takes it for its own.
    """

    def __init__(self, registry: Registry, path: str, changed: Callable[[], None]) -> None:
        self._registry = registry
        self._path = path
        self._name = path.rpartition("/")[2]
        self._changed = changed
        self._session = 0  # in which the node is ours
        self._data = b""
        self._rival = 0  # session
        self.retry_at = 0.0  # loop time at which a rival must be gone

    async def announce(self, session: int, topics: Iterable[str]) -> bool:
        """Make the node say these topics; return whether it is ours. If not, `changed` or `retry_at` say when to ask.

        Raises SessionLost if our session is another by now; NameTaken when a rival had the name for as long as a dead
        one could.
        """
        data = encode_topics(topics)
        if self._session == session and self._data == data:
            return True
        for _ in range(_TRIES):
            await self._registry.ensure(parent(self._path))
            await self._apply(session, [Create(self._path, data, ephemeral=True)])
            self._session, self._data = session, data  # before we look: from here on `changed` may say otherwise
            node = await self._registry.get(self._path, self._hear_change)
            if node is not None and node.owner == session and node.data == data:
                self._rival = 0
                return True
            self._session = 0
            if node is None:
                continue
            if node.owner not in (0, session):
                return self._wait_for(node.owner, session)
            if node.owner == 0:
                log.warning("%s ends with no session: somebody's tool left it; removing it", self._path)
            # both at once, so that nobody sees the group without us; it is how others learn of new topics
            await self._apply(session, [Delete(self._path), Create(self._path, data, ephemeral=True)])
        raise RegistryError(f"{self._path} keeps changing")

    async def withdraw(self, session: int) -> None:
        """Delete the node if it is ours. Raises SessionLost as `announce`."""
        self._session = 0
        node = await self._registry.get(self._path)
        if node is not None and node.owner == session:
            await self._apply(session, [Delete(self._path)])

    async def _apply(self, session: int, operations: list[Operation]) -> None:
        for error in await self._registry.apply(operations, session=session):
            if error is not None and not isinstance(error, NodeExists | NoNode):
                raise error

    def _wait_for(self, rival: int, session: int) -> bool:
        now = asyncio.get_running_loop().time()
        if self._rival != rival:
            log.warning(
                "%s lives in session %#x, ours is %#x: waiting for the end of a predecessor", self._path, rival, session
            )
            self._rival = rival
        elif now >= self.retry_at:
            self.retry_at = now + self._registry.session_timeout
            raise NameTaken(self._name, rival, session)
        else:
            return False
        self.retry_at = now + self._registry.session_timeout
        return False

    def _hear_change(self) -> None:
        self._session = 0
        self._changed()
