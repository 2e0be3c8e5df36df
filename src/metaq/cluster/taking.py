"""The broker's side of changes of topics that a command asks for: takes requests while it serves, and answers each."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from metaq.cluster.operations import NodeExists, NoNode, RegistryClosed, State
from metaq.cluster.ports import Registry
from metaq.cluster.topic_nodes import (
    Progress,
    TopicPaths,
    TopicRequest,
    TopicResult,
    decode_request,
    decode_result,
    encode_result,
)
from metaq.config.editing import TopicChange
from metaq.errors import RegistryError

log = logging.getLogger(__name__)

_PAUSE: Final = 0.1  # seconds before trying again what failed; doubles up to _LONGEST_PAUSE
_LONGEST_PAUSE: Final = 10.0
_LEAVE_TIME: Final = 1.0  # seconds to say that no more is taken; else the session's end says it

Carry = Callable[[TopicChange], Awaitable[TopicResult]]


class RequestTaker:
    """Takes the requests that name a broker, one at a time, in the order of their names.

    `apply` makes a change; `judge` says, by what server.ini holds, what became of one that an earlier process of this
    broker began: no change is ever begun twice. Both answer with a final result and raise nothing.
    """

    def __init__(self, registry: Registry, root: str, broker_id: int, process: str, apply: Carry, judge: Carry) -> None:
        """`process`: a name that no earlier process of this broker had."""
        self._registry = registry
        self._paths = TopicPaths(root)
        self._broker_id = broker_id
        self._process = process
        self._apply = apply
        self._judge = judge
        self._wake = asyncio.Event()
        self._results: dict[str, TopicResult] = {}  # of requests carried out here
        self._settled: set[str] = set()  # requests of which nothing is to be done any more

    async def run(self) -> None:
        """Take requests until cancelled, whatever happens to ZooKeeper."""
        stop_listening = self._registry.on_state(self._hear_state)
        pause = _PAUSE
        try:
            while True:
                self._wake.clear()
                try:
                    await self._announce()
                    await self._look()
                except RegistryClosed:
                    return
                except RegistryError as exc:
                    log.warning("broker %d: takes no changes of topics at present: %s", self._broker_id, exc)
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _LONGEST_PAUSE)
                    continue
                pause = _PAUSE
                await self._wake.wait()
        finally:
            stop_listening()

    async def leave(self) -> None:
        """Say that this broker takes no more requests; `run` must have ended."""
        with suppress(RegistryError, TimeoutError):
            async with asyncio.timeout(_LEAVE_TIME):
                await self._registry.delete(self._paths.broker(self._broker_id))

    def _hear_state(self, state: State) -> None:
        if state is State.CONNECTED:
            self._wake.set()

    async def _announce(self) -> None:
        """Have our node in the tree, in this session."""
        path = self._paths.broker(self._broker_id)
        await self._registry.ensure(self._paths.brokers)
        while True:
            node = await self._registry.get(path, self._wake.set)
            if node is not None:
                if node.owner == self._registry.session:
                    return
                await self._registry.delete(path)
            with suppress(NodeExists):
                await self._registry.create(path, ephemeral=True)
                return

    async def _look(self) -> None:
        await self._registry.ensure(self._paths.requests)
        names = await self._registry.children(self._paths.requests, self._wake.set) or []
        self._settled &= set(names)
        for name in sorted(set(names) - self._settled):
            if await self._settle(name):
                self._settled.add(name)
                self._results.pop(name, None)

    async def _settle(self, name: str) -> bool:
        """Carry out a request if that is due; return True: nothing is to be done for it any more."""
        node = await self._registry.get(self._paths.request(name))
        if node is None:
            return True
        try:
            request = decode_request(node.data)
        except ValueError as exc:
            log.warning("broker %d: request %s is ignored: %s", self._broker_id, name, exc)
            return True
        if self._broker_id not in request.brokers:
            return True
        path = self._paths.result(name, self._broker_id)
        if name not in self._results:
            result = await self._carry_out(name, path, request)
            if result is None:
                return True
            self._results[name] = result
        with suppress(NoNode):  # its command went away meanwhile
            await self._registry.set(path, encode_result(self._results[name]))
        return True

    async def _carry_out(self, name: str, path: str, request: TopicRequest) -> TopicResult | None:
        """Return what became of a request; None: it is not for us to begin, or ended already."""
        asking = await self._registry.get(self._paths.asking)
        if asking is not None and asking.data == name.encode():
            with suppress(NodeExists):
                await self._registry.create(path, encode_result(TopicResult(Progress.APPLYING, process=self._process)))
        node = await self._registry.get(path)
        try:
            begun = None if node is None else decode_result(node.data)
        except ValueError:
            begun = None
        if begun is None or begun.is_final:
            return None
        log.info("broker %d: request %s: %s", self._broker_id, name, request.change)
        return await (self._apply if begun.process == self._process else self._judge)(request.change)
