"""The tree in memory, with sessions that can be suspended and expired at will: for embedding and for simulations.

Deterministic: everything happens on the running loop, in an order that depends on the calls and on `delay` alone.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import NoReturn, TypeVar

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
    Set,
    State,
)
from metaq.cluster.paths import parent
from metaq.cluster.ports import Changed
from metaq.errors import RegistryError

T = TypeVar("T")


@dataclass(slots=True)
class _Znode:
    data: bytes | None = None
    owner: int = 0
    children: set[str] = field(default_factory=set)


class MemoryTree:
    """What an ensemble holds. `log` lists all changes in order: (verb, path), verbs create, set and delete."""

    def __init__(self) -> None:
        self.log: list[tuple[str, str]] = []
        self._nodes: dict[str, _Znode] = {"/": _Znode()}
        self._node_watches: dict[str, dict[tuple[object, Changed], None]] = {}
        self._child_watches: dict[str, dict[tuple[object, Changed], None]] = {}
        self._sessions = 0

    def new_session(self) -> int:
        self._sessions += 1
        return self._sessions

    def end_session(self, session: int) -> None:
        """Delete the ephemeral nodes of a session; 0 is none."""
        for path in [path for path, node in self._nodes.items() if session and node.owner == session]:
            self.apply(Delete(path), session)

    def node(self, path: str) -> Node | None:
        found = self._nodes.get(path)
        return None if found is None else Node(found.data, found.owner)

    def children(self, path: str) -> list[str] | None:
        found = self._nodes.get(path)
        return None if found is None else sorted(found.children)

    def watch_node(self, path: str, watcher: object, changed: Changed) -> None:
        """Call `changed` once, soon after the node is created, set or deleted."""
        self._node_watches.setdefault(path, {})[watcher, changed] = None

    def watch_children(self, path: str, watcher: object, changed: Changed) -> None:
        """Call `changed` once, soon after a child of the node comes or goes, or the node itself goes."""
        self._child_watches.setdefault(path, {})[watcher, changed] = None

    def drop(self, watcher: object) -> None:
        """Forget the watches of one client, whose connection is lost; each is called, so that it looks again."""
        for watches in (*self._node_watches.values(), *self._child_watches.values()):
            for key in [key for key in watches if key[0] is watcher]:
                del watches[key]
                asyncio.get_running_loop().call_soon(key[1])

    def apply(self, operation: Operation, session: int) -> None:
        """Carry out one operation; raises NodeExists, NoNode or NotEmpty and has then changed nothing."""
        if isinstance(operation, Create):
            self._create(operation, session)
        elif isinstance(operation, Delete):
            self._delete(operation.path)
        elif isinstance(operation, Check):
            self._find(operation.path)
        else:
            self._find(operation.path).data = operation.data
            self._changed("set", operation.path)

    def _find(self, path: str) -> _Znode:
        found = self._nodes.get(path)
        if found is None:
            raise NoNode(path)
        return found

    def _create(self, operation: Create, session: int) -> None:
        path = operation.path
        if path in self._nodes:
            raise NodeExists(path)
        above = self._nodes.get(parent(path))
        if above is None:
            raise NoNode(path)
        if above.owner:
            raise RegistryError(f"{path}: ephemeral nodes have no children")
        above.children.add(path.rpartition("/")[2])
        self._nodes[path] = _Znode(operation.data, session if operation.ephemeral else 0)
        self._changed("create", path)

    def _delete(self, path: str) -> None:
        if self._find(path).children:
            raise NotEmpty(path)
        del self._nodes[path]
        self._nodes[parent(path)].children.discard(path.rpartition("/")[2])
        self._changed("delete", path)

    def _changed(self, verb: str, path: str) -> None:
        self.log.append((verb, path))
        told = self._node_watches.pop(path, {})
        if verb != "set":
            told = told | self._child_watches.pop(parent(path), {})
        if verb == "delete":
            told = told | self._child_watches.pop(path, {})
        for _, changed in told:
            asyncio.get_running_loop().call_soon(changed)


def _raise(error: RegistryError) -> NoReturn:
    raise error


class MemoryRegistry:
    """A Registry (see `ports`): one session with a MemoryTree.

    `delay` returns how many seconds the way to the tree, or back, takes this time. `session_timeout`: seconds; only
    said to whoever asks, since `expire` alone ends sessions.
    """

    def __init__(
        self, tree: MemoryTree, *, delay: Callable[[], float] = lambda: 0.0, session_timeout: float = 30.0
    ) -> None:
        self._tree = tree
        self._delay = delay
        self._session_timeout = session_timeout
        self._state = State.LOST
        self._session = 0  # as we know it
        self._alive = 0  # as the tree knows it
        self._link = 0  # counts connections, so that an answer can be lost with its connection
        self._closed = False
        self._connected = asyncio.Event()
        self._order = asyncio.Lock()  # a session's operations happen in the order they were asked for
        self._listeners = StateListeners()

    @property
    def state(self) -> State:
        return self._state

    @property
    def session(self) -> int:
        return self._session

    @property
    def session_timeout(self) -> float:
        return self._session_timeout

    def on_state(self, callback: Callable[[State], None]) -> Callable[[], None]:
        """Have `callback` called on the loop at each change; returns what ends that."""
        return self._listeners.add(callback)

    async def connect(self, timeout: float = 30.0) -> None:
        """Begin a session."""
        await asyncio.sleep(self._delay())
        self.resume()

    async def close(self) -> None:
        """End the session; its ephemeral nodes go."""
        if not self._closed:
            self._closed = True
            self._tree.end_session(self._alive)
            self._alive = 0
            self._drop_link()
            self._connected.set()
            self._enter(State.LOST)

    def suspend(self) -> None:
        """Cut the connection; the session lives on."""
        self._drop_link()
        self._connected.clear()
        self._enter(State.SUSPENDED)

    def resume(self) -> None:
        """Be connected again: in the same session, or in a new one if it is over by now."""
        if self._alive == 0:
            if self._session:
                self._enter(State.LOST)
            self._alive = self._tree.new_session()
        self._session = self._alive
        self._connected.set()
        self._enter(State.CONNECTED)

    def expire(self) -> None:
        """Have the tree end the session. Who is connected learns of it at once and begins a new one soon."""
        self._tree.end_session(self._alive)
        self._alive = 0
        if self._state is State.CONNECTED:
            self._drop_link()
            self._connected.clear()
            self._enter(State.LOST)
            asyncio.get_running_loop().call_later(self._delay(), self._begin_again)

    async def get(self, path: str, changed: Changed | None = None) -> Node | None:
        def read() -> Node | None:
            if changed is not None:
                self._tree.watch_node(path, self, changed)
            return self._tree.node(path)

        return await self._perform(read)

    async def exists(self, path: str, changed: Changed | None = None) -> bool:
        return await self.get(path, changed) is not None

    async def children(self, path: str, changed: Changed | None = None) -> list[str] | None:
        def read() -> list[str] | None:
            names = self._tree.children(path)
            if changed is not None:
                watch = self._tree.watch_node if names is None else self._tree.watch_children
                watch(path, self, changed)
            return names

        return await self._perform(read)

    async def create(self, path: str, data: bytes | None = None, *, ephemeral: bool = False) -> None:
        while True:
            try:
                await self._do(Create(path, data, ephemeral))
                return
            except NoNode:
                await self.ensure(parent(path))

    async def set(self, path: str, data: bytes | None) -> None:
        await self._perform(lambda: self._tree.apply(Set(path, data), 0))

    async def delete(self, path: str) -> bool:
        try:
            await self._do(Delete(path))
        except NoNode:
            return False
        return True

    async def ensure(self, path: str) -> None:
        if not await self.exists(path):
            with suppress(NodeExists):
                await self.create(path)

    async def apply(self, operations: Sequence[Operation], *, session: int = 0) -> list[RegistryError | None]:
        bound = session != 0 or any(isinstance(each, Create) and each.ephemeral for each in operations)
        return await self._perform(lambda: [self._attempt(each) for each in operations], bound=bound, session=session)

    def _attempt(self, operation: Operation) -> RegistryError | None:
        try:
            self._tree.apply(operation, self._alive)
        except RegistryError as exc:
            return exc
        return None

    async def _do(self, operation: Operation) -> None:
        bound = isinstance(operation, Create) and operation.ephemeral
        await self._perform(lambda: self._tree.apply(operation, self._alive), bound=bound)

    async def _perform(self, work: Callable[[], T], *, bound: bool = False, session: int = 0) -> T:
        """Do something at the tree and come back; if the connection is lost on either way, do it again."""
        while True:
            await self._connected.wait()
            if self._closed:
                raise RegistryClosed()
            session = session or self._session
            if bound and session != self._session:
                raise SessionLost()
            link = self._link
            async with self._order:
                await asyncio.sleep(self._delay())
                if link != self._link:
                    continue
                answer = self._outcome(work)
            await asyncio.sleep(self._delay())
            if link == self._link:
                return answer()

    def _outcome(self, work: Callable[[], T]) -> Callable[[], T]:
        try:
            result = work()
        except RegistryError as exc:
            return partial(_raise, exc)
        return lambda: result

    def _drop_link(self) -> None:
        self._link += 1
        self._tree.drop(self)

    def _begin_again(self) -> None:
        if self._state is State.LOST and not self._closed:
            self.resume()

    def _enter(self, state: State) -> None:
        if state is State.LOST:
            self._session = 0
        if state is not self._state:
            self._state = state
            for listener in self._listeners.now():
                asyncio.get_running_loop().call_soon(listener, state)
