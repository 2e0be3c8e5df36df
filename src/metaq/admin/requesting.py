"""The command's side of changes of topics: asks all masters of a cluster, and waits for what becomes of it."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from metaq.cluster.operations import NodeExists, NotEmpty
from metaq.cluster.ports import Registry
from metaq.cluster.topic_nodes import (
    Progress,
    TopicPaths,
    TopicRequest,
    TopicResult,
    decode_result,
    encode_request,
    encode_result,
)
from metaq.config.editing import TopicChange
from metaq.errors import MetaqError, RegistryError

_CLEAN_UP: Final = 5.0  # seconds

NOT_BEGUN: Final = "it did not answer in time and will not make the change"
STILL_AT_IT: Final = "it has begun and is not done yet; its log will tell"


class AlreadyAsking(MetaqError):
    """Another command changes topics of this cluster at present."""


@dataclass(frozen=True, slots=True)
class Asking:
    """How a change is asked for. `name`: of the request, new each time; later ones sort behind. `timeout`: seconds."""

    name: str
    timeout: float


class TopicRequests:
    """Asks brokers for changes of topics, by nodes below one root of a registry."""

    def __init__(self, registry: Registry, root: str) -> None:
        self._registry = registry
        self._paths = TopicPaths(root)

    async def takers(self) -> set[int]:
        """Return the ids of the masters that take such requests."""
        names = await self._registry.children(self._paths.brokers) or []
        return {int(name) for name in names if name.isascii() and name.isdigit()}

    async def ask(self, change: TopicChange, brokers: Collection[int], asking: Asking) -> Mapping[int, TopicResult]:
        """Have brokers make a change; return what became of it at each, after `timeout` seconds at the latest.

        Then it is decided: one that has not begun until then does not make the change later either. Raises
        AlreadyAsking, and RegistryError if ZooKeeper fails; brokers may have made it then.
        """
        name = asking.name
        async with self._alone(name):
            await self._clean_up()
            await self._registry.create(
                self._paths.request(name), encode_request(TopicRequest(change, frozenset(brokers)))
            )
            with suppress(TimeoutError):
                async with asyncio.timeout(asking.timeout):
                    await self._all_final(name, brokers)
            return {broker_id: await self._outcome(name, broker_id) for broker_id in sorted(brokers)}

    @asynccontextmanager
    async def _alone(self, name: str) -> AsyncIterator[None]:
        """Be the only command that is at it; take the request away at the end."""
        await self._registry.ensure(self._paths.requests)
        try:
            await self._registry.create(self._paths.asking, name.encode(), ephemeral=True)
        except NodeExists:
            node = await self._registry.get(self._paths.asking)
            if node is None or node.owner != self._registry.session:  # ours: made twice, over a lost connection
                raise AlreadyAsking(
                    "another command changes topics of this cluster at present; try again when it has ended "
                    f"(if it was killed, ZooKeeper forgets it in {self._registry.session_timeout:g} s or so)"
                ) from None
        try:
            yield
        finally:
            with suppress(RegistryError, TimeoutError):
                async with asyncio.timeout(_CLEAN_UP):
                    await self._registry.delete(self._paths.asking)  # from here on nobody begins any more
                    await self._remove(name)

    async def _clean_up(self) -> None:
        """Remove what commands left that were killed: nobody begins those any more."""
        for name in await self._registry.children(self._paths.requests) or []:
            with suppress(NotEmpty):  # a broker that is still at it may tell its result just now
                await self._remove(name)

    async def _remove(self, name: str) -> None:
        path = self._paths.request(name)
        for child in await self._registry.children(path) or []:
            await self._registry.delete(f"{path}/{child}")
        await self._registry.delete(path)

    async def _all_final(self, name: str, brokers: Collection[int]) -> None:
        waiting = set(brokers)
        changed = asyncio.Event()
        while waiting:
            changed.clear()
            for broker_id in sorted(waiting):
                result = await self._result(name, broker_id, changed)
                if result is not None and result.is_final:
                    waiting.discard(broker_id)
            if waiting:
                await changed.wait()

    async def _result(self, name: str, broker_id: int, changed: asyncio.Event | None = None) -> TopicResult | None:
        node = await self._registry.get(self._paths.result(name, broker_id), None if changed is None else changed.set)
        if node is None:
            return None
        try:
            return decode_result(node.data)
        except ValueError as exc:
            return TopicResult(Progress.FAILED, f"its answer makes no sense: {exc}")

    async def _outcome(self, name: str, broker_id: int) -> TopicResult:
        """Return what is decided; decide it, where the broker has not begun."""
        withdrawn = TopicResult(Progress.WITHDRAWN, NOT_BEGUN)
        result = await self._result(name, broker_id)
        if result is None:
            try:
                await self._registry.create(self._paths.result(name, broker_id), encode_result(withdrawn))
            except NodeExists:
                result = await self._result(name, broker_id)
        if result is None:
            return withdrawn
        return result if result.is_final else TopicResult(Progress.APPLYING, STILL_AT_IT)
