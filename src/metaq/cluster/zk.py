"""The session with ZooKeeper: kazoo behind an asyncio face. The only importer of kazoo.

kazoo runs threads of its own and calls back on them; nothing here blocks there. Whatever it says (answers, states,
watches) is put into one queue and handled on the loop in that order.
"""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from kazoo import exceptions as kazoo_errors  # type: ignore[import-untyped]
from kazoo.client import KazooClient, KazooState  # type: ignore[import-untyped]
from kazoo.handlers.threading import SequentialThreadingHandler  # type: ignore[import-untyped]
from kazoo.protocol import serialization  # type: ignore[import-untyped]
from kazoo.retry import KazooRetry  # type: ignore[import-untyped]
from kazoo.security import OPEN_ACL_UNSAFE  # type: ignore[import-untyped]

from metaq.cluster.batches import carry_out
from metaq.cluster.listening import StateListeners
from metaq.cluster.operations import (
    Check,
    Create,
    Delete,
    Node,
    NodeExists,
    NoNode,
    NotEmpty,
    Operation,
    RegistryClosed,
    SessionLost,
    State,
    Unreachable,
)
from metaq.cluster.paths import parent
from metaq.cluster.ports import Changed
from metaq.cluster.requests import Request, Trigger
from metaq.errors import ConfigError, RegistryError

log = logging.getLogger(__name__)

REQUESTS_AT_ONCE: Final = 128  # requests; fewer than the bell's pair of sockets holds bytes (see NeverBlockingHandler)
_CLOSE_TIME: Final = 5.0  # seconds; a thread that is still dialling ends by itself later
_RETRY_PAUSE: Final = 0.02  # seconds; doubles up to _LONGEST_PAUSE
_LONGEST_PAUSE: Final = 1.0
_STATES: Final = {
    KazooState.CONNECTED: State.CONNECTED,
    KazooState.SUSPENDED: State.SUSPENDED,
    KazooState.LOST: State.LOST,
}
_ERRORS: Final = {
    kazoo_errors.NodeExistsError: NodeExists,
    kazoo_errors.NoNodeError: NoNode,
    kazoo_errors.NotEmptyError: NotEmpty,
}
_LOST_LINK: Final = (
    kazoo_errors.ConnectionLoss,
    kazoo_errors.ConnectionClosedError,
    kazoo_errors.SessionExpiredError,
    kazoo_errors.OperationTimeoutError,
)


class _QuietLog(logging.LoggerAdapter[logging.Logger]):
    """kazoo's log at level debug: what matters of it is reported by State and by errors."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        super().log(min(level, logging.DEBUG), msg, *args, **kwargs)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, kwargs


class _Bell(socket.socket):
    """Wakes kazoo's thread, and never waits for it."""

    def send(self, data: Any, flags: int = 0) -> int:
        try:
            return super().send(data, flags | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return len(data)  # it is full: who reads it wakes all the same


class NeverBlockingHandler(SequentialThreadingHandler):  # type: ignore[misc]
    """kazoo's threads, rung by a bell that cannot block.

    kazoo sends its thread one byte per request over a pair of sockets that holds a few hundred, and takes none back
    for the requests it gives up with a connection. A few of those, and the next request would stand still for ever,
    with the loop. There are never more requests than bytes in a full pair, so none is left lying.
    """

    def create_socket_pair(self) -> tuple[socket.socket, socket.socket]:
        reading, writing = socket.socketpair()
        return reading, _Bell(fileno=writing.detach())


class ZooKeeperClient:
    """A Registry (see `ports`) on a real ensemble.

    `hosts`: as ZooKeeper clients take it, `host:port,host:port/chroot`. `patience`: seconds an operation is tried for
    while there is no connection, then Unreachable; None: for ever, as the original does (reference: zkclient).
    """

    def __init__(self, hosts: str, *, session_timeout: float = 30.0, patience: float | None = None) -> None:
        self._hosts = hosts
        self._session_timeout = session_timeout
        self._patience = patience
        self._state = State.LOST
        self._session = 0
        self._password = b""
        self._listeners = StateListeners()
        self._kazoo: Any = None
        self._closed = False
        self._calls: deque[Callable[[], object]] = deque()
        self._awake = False
        self._requests: dict[Request, None] = {}

    @property
    def state(self) -> State:
        return self._state

    @property
    def session(self) -> int:
        return self._session

    @property
    def session_timeout(self) -> float:
        return self._session_timeout

    @property
    def credentials(self) -> tuple[int, bytes]:
        """Return id and password of the session: who has them can take it over, or end it."""
        return self._session, self._password

    def on_state(self, callback: Callable[[State], None]) -> Callable[[], None]:
        """Have `callback` called on the loop at each change; returns what ends that."""
        return self._listeners.add(callback)

    async def connect(self, timeout: float = 30.0) -> None:
        """Return when there is a session. Raises Unreachable after `timeout` seconds, ConfigError for bad hosts.

        The last part of a chroot is created where it is missing.
        """
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(REQUESTS_AT_ONCE)
        self._connected = asyncio.Event()
        try:
            self._kazoo = KazooClient(
                self._hosts,
                timeout=self._session_timeout,
                handler=NeverBlockingHandler(),
                logger=_QuietLog(log, {}),
                connection_retry=KazooRetry(max_tries=-1, delay=0.05, max_delay=_LONGEST_PAUSE),
            )
        except ValueError as exc:
            raise ConfigError(f"zk.zkConnect={self._hosts}: {exc}") from exc
        self._hurry(min(max(self._session_timeout / 6, 1.0), 5.0))
        self._kazoo.add_listener(self._hear_state)
        self._kazoo.start_async()
        try:
            async with asyncio.timeout(timeout):
                await self._connected.wait()
                if self._kazoo.chroot:
                    await self.ensure("/")
        except TimeoutError as exc:
            await self.close()
            raise Unreachable(self._hosts, timeout) from exc
        except BaseException:
            await self.close()
            raise

    def _hurry(self, limit: float) -> None:
        """Have kazoo wait at most `limit` seconds for the answer to its first packet, and note the time-out granted.

        A server that is starting may accept a connection and never answer on it. kazoo waits a whole session time-out,
        so that the session is over by then: of 60 reconnections during restarts two took 30 s.
        """
        connection = self._kazoo._connection
        greet = connection._invoke  # "used during connection establishment only"

        def greet_soon(timeout: float, request: Any, xid: Any = None) -> Any:
            answer = greet(min(timeout, limit), request, xid)
            if isinstance(answer, tuple) and answer[0].time_out > 0:  # 0: that session is over
                self._session_timeout = answer[0].time_out / 1000
            return answer

        connection._invoke = greet_soon

    async def close(self) -> None:
        """End the session, and with it our ephemeral nodes. Who still waits for an answer gets RegistryClosed."""
        if self._closed or self._kazoo is None:
            return
        self._closed = True
        self._connected.set()
        stopping = self._loop.run_in_executor(None, self._stop)
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIME):
                await asyncio.shield(stopping)
        self._enter(State.LOST, 0, b"")
        for request in list(self._requests):
            request.finish(None, RegistryClosed())
        self._requests.clear()

    async def get(self, path: str, changed: Changed | None = None) -> Node | None:
        found = await self._read(path, lambda trigger: self._kazoo.get_async(path, trigger), changed)
        return None if found is None else Node(found[0], found[1].ephemeralOwner)

    async def exists(self, path: str, changed: Changed | None = None) -> bool:
        trigger = self._trigger(changed)
        return await self._perform(path, lambda: self._kazoo.exists_async(path, trigger)) is not None

    async def children(self, path: str, changed: Changed | None = None) -> list[str] | None:
        found = await self._read(path, lambda trigger: self._kazoo.get_children_async(path, trigger), changed)
        return None if found is None else sorted(found)

    async def create(self, path: str, data: bytes | None = None, *, ephemeral: bool = False) -> None:
        while True:
            try:
                await self._perform(
                    path, lambda: self._kazoo.create_async(path, data, ephemeral=ephemeral), bound=ephemeral
                )
                return
            except NoNode:
                if path == "/":
                    raise
                await self.ensure(parent(path))

    async def set(self, path: str, data: bytes | None) -> None:
        await self._perform(path, lambda: self._kazoo.set_async(path, data))

    async def delete(self, path: str) -> bool:
        try:
            await self._perform(path, lambda: self._kazoo.delete_async(path))
        except NoNode:
            return False
        return True

    async def ensure(self, path: str) -> None:
        if not await self.exists(path):
            with suppress(NodeExists):
                await self.create(path)

    async def apply(self, operations: Sequence[Operation], *, session: int = 0) -> list[RegistryError | None]:
        together, single = partial(self._together, session=session), partial(self._single, session=session)
        return await carry_out(operations, together, single)

    async def _single(self, operation: Operation, session: int) -> None:
        path, bound = operation.path, session != 0
        if isinstance(operation, Create):
            data, ephemeral = operation.data, operation.ephemeral
            start = partial(self._kazoo.create_async, path, data, ephemeral=ephemeral)
            await self._perform(path, start, bound=ephemeral or bound, session=session)
        elif isinstance(operation, Delete):
            await self._perform(path, partial(self._kazoo.delete_async, path), bound=bound, session=session)
        elif isinstance(operation, Check):
            if not await self.exists(path):
                raise NoNode(path)
        else:
            start = partial(self._kazoo.set_async, path, operation.data)
            await self._perform(path, start, bound=bound, session=session)

    async def _together(self, operations: Sequence[Operation], session: int) -> bool:
        """Carry out all as one transaction, or none: False."""
        bound = session != 0 or any(isinstance(each, Create) and each.ephemeral for each in operations)

        def start() -> Any:
            transaction = self._kazoo.transaction()
            transaction.operations.extend(map(self._wire, operations))  # its own methods refuse null data
            return transaction.commit_async()

        results = await self._perform(operations[0].path, start, bound=bound, session=session)
        return not any(isinstance(result, Exception) for result in results)

    def _wire(self, operation: Operation) -> Any:
        path = f"{self._kazoo.chroot}{operation.path}"
        if isinstance(operation, Create):
            return serialization.Create(path, operation.data, OPEN_ACL_UNSAFE, int(operation.ephemeral))
        if isinstance(operation, Delete):
            return serialization.Delete(path, -1)
        if isinstance(operation, Check):
            return serialization.CheckVersion(path, -1)
        return serialization.SetData(path, operation.data, -1)

    async def _read(self, path: str, start: Callable[[Trigger | None], Any], changed: Changed | None) -> Any:
        """Return the answer, or None if there is no such node; then `changed` waits for it."""
        trigger = self._trigger(changed)
        while True:
            try:
                return await self._perform(path, lambda: start(trigger))
            except NoNode:
                if changed is None or not await self.exists(path, changed):
                    return None

    def _trigger(self, changed: Changed | None) -> Trigger | None:
        return None if changed is None else Trigger(self._post, changed)

    async def _perform(self, path: str, start: Callable[[], Any], *, bound: bool = False, session: int = 0) -> Any:
        """Ask until answered. `bound`: only in `session` (0: the one in which it began), else SessionLost."""
        pause = _RETRY_PAUSE
        try:
            async with asyncio.timeout(self._patience):
                while True:
                    await self._wait_connected()
                    session = session or self._session
                    if bound and session != self._session:
                        raise SessionLost()
                    try:
                        return await self._submit(start)
                    except _LOST_LINK as exc:
                        log.debug("%s: trying again: %s", path, type(exc).__name__)
                        # kazoo's answer may be here before its news that the connection is gone
                        await asyncio.sleep(pause)
                        pause = min(pause * 2, _LONGEST_PAUSE)
        except TimeoutError as exc:
            raise Unreachable(self._hosts, self._patience or 0) from exc
        except kazoo_errors.KazooException as exc:
            known = _ERRORS.get(type(exc))
            raise (known(path) if known else RegistryError(f"{path}: {type(exc).__name__} {exc}".rstrip())) from exc

    async def _wait_connected(self) -> None:
        if self._kazoo is not None and not self._closed:
            await self._connected.wait()
        if self._kazoo is None or self._closed:
            raise RegistryClosed()

    async def _submit(self, start: Callable[[], Any]) -> Any:
        await self._slots.acquire()
        request = Request(self._slots)
        if self._closed:
            request.finish(None, RegistryClosed())
        else:
            self._requests[request] = None
            start().rawlink(partial(self._hear_answer, request))
        return await request.future

    # on kazoo's threads

    def _hear_answer(self, request: Request, result: Any) -> None:
        self._post(partial(self._answered, request, result.value, result.exception))

    def _hear_state(self, state: Any) -> None:
        session, password = self._kazoo.client_id or (0, b"")
        self._post(partial(self._enter, _STATES[state], session, password))

    def _post(self, call: Callable[[], object]) -> None:
        """Have something called on the loop, in order; one wake-up for all that come before it runs."""
        self._calls.append(call)
        if not self._awake:
            self._awake = True
            with suppress(RuntimeError):  # the loop is closed: nobody is left to hear it
                self._loop.call_soon_threadsafe(self._drain)

    def _stop(self) -> None:
        try:
            self._kazoo.stop()
            self._kazoo.close()
        except Exception:
            log.debug("kazoo did not stop in order", exc_info=True)

    # on the loop

    def _drain(self) -> None:
        self._awake = False  # before looking: what is appended from here on wakes us again
        while self._calls:
            self._calls.popleft()()

    def _answered(self, request: Request, value: object, error: BaseException | None) -> None:
        self._requests.pop(request, None)
        request.finish(value, error)

    def _enter(self, state: State, session: int, password: bytes) -> None:
        if state is State.CONNECTED:
            self._session, self._password = session, password
            self._connected.set()
        elif not self._closed:
            self._connected.clear()
        if state is State.LOST:
            self._session = 0
            # kazoo forgets requests that come while it gives up a session
            for request in list(self._requests):
                self._answered(request, None, kazoo_errors.SessionExpiredError())
        if state is not self._state:
            self._state = state
            log.log(*_STATE_LOG[state], self._hosts)
            for listener in self._listeners.now():
                listener(state)


_STATE_LOG: Final = {
    State.CONNECTED: (logging.INFO, "connected to ZooKeeper at %s"),
    State.SUSPENDED: (logging.WARNING, "no connection to ZooKeeper at %s, trying again"),
    State.LOST: (logging.INFO, "the session with ZooKeeper at %s is over"),
}
