"""What is written down of the registry, and the port to where it is written.

A change is enough to make it again: after the same changes in the same order the tree and the sessions are the same.
Only what succeeded is a change. ACLs in it are those that the node got: `auth` entries are resolved already.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple, Protocol, TypeAlias

from metaq.registry.requests import Op, Request


class Internal(IntEnum):
    """Changes that no request type stands for. None of these numbers is that of an Op."""

    START = -1  # the server has started: the first zxid of its epoch. Nothing else changes
    BEGIN_SESSION = -10
    END_SESSION = -12  # closed or expired; its ephemeral nodes are deleted


class Begin(NamedTuple):
    """Of BEGIN_SESSION: its time-out in ms and the 16 bytes that prove whose it is."""

    timeout: int
    password: bytes


class Nothing(NamedTuple):
    """Of START and END_SESSION."""


Content: TypeAlias = Request | Begin | Nothing


class Change(NamedTuple):
    """One change: its zxid (epoch << 32 | counter; growing, with gaps), ms since 1970, the session that made it.

    `op` and `request`: CREATE, CREATE2, CREATE_CONTAINER with Create; DELETE with Delete (session 0: a container that
    was empty); SET_DATA with SetData; SET_ACL with SetAcl; MULTI with Multi of these and of Check, all of which
    succeeded; and Internal ones. Of BEGIN_SESSION and END_SESSION, `session` is the one that begins or ends.
    """

    zxid: int
    time: int
    session: int
    op: Op | Internal
    request: Content


class Log(Protocol):
    """Where changes become durable, in the order in which they were appended."""

    def append(self, change: Change) -> None:
        """Take a change that the state in memory holds already. Never waits, never fails."""

    def commit(self, done: Callable[[], None]) -> None:
        """Call `done` on the loop once everything appended before is durable; never from within this call.

        In this moment the state in memory is exactly what was appended, so that a snapshot may begin here. Calls of
        `done` come in the order of their commits. After a failure no `done` is called again; whoever opened the log
        is told of it.
        """


class NoLog:
    """Keeps nothing: what is done is as good as durable, at the next turn of the loop."""

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._call_soon = call_soon

    def append(self, change: Change) -> None: ...

    def commit(self, done: Callable[[], None]) -> None:
        self._call_soon(done)
