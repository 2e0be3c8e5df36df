"""The registry as its users see it: ZooKeeper (`zk`) or a tree in memory (`memory`)."""

from collections.abc import Callable, Sequence
from typing import Protocol

from metaq.cluster.operations import Node, Operation, State
from metaq.errors import RegistryError

Changed = Callable[[], None]


class Registry(Protocol):
    """A tree of nodes shared with others, and our session in it. Everything happens on the running loop.

    - Operations are repeated over lost connections until they are done, so what was done may be done twice: a create
      may find its own node. Creating ephemeral nodes raises SessionLost when the session it began in is over.
    - `changed` of a read is called at least once when the answer may not hold any longer: the node changed, or the
      connection was lost, so that nobody would tell. One call per read is promised, so read again to hear more. Equal
      callables on one path count once.
    - Writes are unconditional, as all of the original are.
    """

    @property
    def state(self) -> State: ...
    @property
    def session(self) -> int:
        """Return the id of the session, 0 while there is none. Ephemeral nodes of ours have it as their owner."""

    @property
    def session_timeout(self) -> float:
        """Return after how many seconds without a word from us the ensemble ends our session."""

    def on_state(self, callback: Callable[[State], None]) -> Callable[[], None]:
        """Have `callback` called at each change of the state; returns what ends that."""

    async def get(self, path: str, changed: Changed | None = None) -> Node | None:
        """Return the node; None: there is none (`changed` then waits for its creation)."""

    async def exists(self, path: str, changed: Changed | None = None) -> bool: ...
    async def children(self, path: str, changed: Changed | None = None) -> list[str] | None:
        """Return the names of the children, sorted; None: there is no such node (`changed` waits for its creation)."""

    async def create(self, path: str, data: bytes | None = None, *, ephemeral: bool = False) -> None:
        """Create a node and its missing parents (persistent, null data). Raises NodeExists."""

    async def set(self, path: str, data: bytes | None) -> None:
        """Replace the data of a node. Raises NoNode."""

    async def delete(self, path: str) -> bool:
        """Delete a node; False: there was none. Raises NotEmpty."""

    async def ensure(self, path: str) -> None:
        """Create a persistent node and its parents with null data, those that are missing."""

    async def apply(self, operations: Sequence[Operation], *, session: int = 0) -> list[RegistryError | None]:
        """Carry out many operations, each for itself; return what became of each.

        `session`: only in this one, else SessionLost. Repeated in a later one a delete could meet what another made
        there since.

        Those on one path happen in the order given, those on different paths in any order: what needs a parent that
        another creates comes in another call. Made for tens of thousands.
        """
