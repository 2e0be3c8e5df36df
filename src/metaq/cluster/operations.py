"""What is asked of ZooKeeper and what it answers, as values; and its errors, below RegistryError.

RegistryError
├── NodeExists
├── NoNode           the node, or the parent of one to be created
├── NotEmpty         a node with children cannot be deleted
├── SessionLost      ZooKeeper ended our session, its ephemeral nodes went with it; a new one comes by itself
├── Unreachable      not done within the time allowed; it may still happen
├── RegistryClosed   we closed it
├── BrokerConflict   another broker is registered under our id
└── NameTaken        another session has the name of our consumer
"""

from enum import Enum
from typing import NamedTuple, TypeAlias

from metaq.errors import RegistryError


class State(Enum):
    """Of the session. LOST → CONNECTED is a new session without our ephemeral nodes; all others keep them."""

    CONNECTED = "connected"
    SUSPENDED = "suspended"  # no connection; the session may live on or be over, only a server knows
    LOST = "lost"  # no session, not yet or no more


class Node(NamedTuple):
    """Data (None: null) and the id of the session it lives with (0: persistent)."""

    data: bytes | None
    owner: int


class Create(NamedTuple):
    """Create a node below one that exists. Fails with NodeExists or NoNode."""

    path: str
    data: bytes | None = None
    ephemeral: bool = False


class Set(NamedTuple):
    """Replace the data of a node. Fails with NoNode."""

    path: str
    data: bytes | None


class Delete(NamedTuple):
    """Delete a node. Fails with NoNode or NotEmpty."""

    path: str


class Check(NamedTuple):
    """See whether there is a node. Fails with NoNode."""

    path: str


Operation: TypeAlias = Create | Set | Delete | Check


class NodeExists(RegistryError):
    def __init__(self, path: str) -> None:
        super().__init__(f"node {path} exists")


class NoNode(RegistryError):
    def __init__(self, path: str) -> None:
        super().__init__(f"no node {path}")


class NotEmpty(RegistryError):
    def __init__(self, path: str) -> None:
        super().__init__(f"node {path} has children")


class SessionLost(RegistryError):
    def __init__(self) -> None:
        super().__init__("the ZooKeeper session is over")


class Unreachable(RegistryError):
    def __init__(self, hosts: str, seconds: float) -> None:
        super().__init__(f"no answer from ZooKeeper at {hosts} within {seconds:g} s")


class RegistryClosed(RegistryError):
    def __init__(self) -> None:
        super().__init__("the connection to ZooKeeper is closed")


class BrokerConflict(RegistryError):
    """Two brokers of one id. `what` says it without the remedy."""

    def __init__(self, broker: str, theirs: str, ours: str, *, is_slave: bool = False) -> None:
        remedy = (
            "give each slave of a master a slaveId of its own, in its async_slave.properties"
            if is_slave
            else "give each broker a brokerId of its own, or start this one as a slave"
        )
        self.what = f"broker {broker} is registered already at {theirs}; this broker is at {ours}"
        super().__init__(f"{self.what}; {remedy}")


class NameTaken(RegistryError):
    def __init__(self, consumer: str, theirs: int, ours: int) -> None:
        super().__init__(f"consumer {consumer} is registered already, in session {theirs:#x}; ours is {ours:#x}")
