"""All that the registry remembers: nodes, sessions, the last zxid. What a snapshot holds and changes are made to.

A snapshot writes `zxid`, each of `sessions` and each of `tree.nodes`; `State.restored` makes the same state of them.
"""

from collections.abc import Iterable
from typing import NamedTuple, Self

from metaq.registry.changes import Begin, Change, Internal, Nothing
from metaq.registry.requests import Multi, Op
from metaq.registry.tree import Moment, Refusal, Tree, Znode


class Session(NamedTuple):
    """What is remembered of a session: its time-out in ms and its password (16 bytes)."""

    timeout: int
    password: bytes


class State:
    """The nodes, the sessions by id, and the zxid of the last change."""

    def __init__(self, tree: Tree, sessions: dict[int, Session], zxid: int) -> None:
        self.tree = tree
        self.sessions = sessions
        self.zxid = zxid

    @classmethod
    def fresh(cls) -> Self:
        """Return the state of a registry that nobody has used."""
        return cls(Tree.fresh(), {}, 0)

    @classmethod
    def restored(cls, zxid: int, sessions: Iterable[tuple[int, Session]], nodes: Iterable[tuple[str, Znode]]) -> Self:
        """Return the state that a snapshot holds; nodes in any order, with or without their children.

        Raises ValueError if a node has no parent.
        """
        return cls(Tree.restored(nodes), dict(sessions), zxid)

    def replay(self, change: Change) -> None:
        """Make a change again that was made to such a state before. Raises Refusal if it does not fit this one."""
        moment = Moment(change.zxid, change.time, change.session)
        match change.op, change.request:
            case Internal.START, _:
                pass
            case Internal.BEGIN_SESSION, Begin(timeout, password):
                self.sessions[change.session] = Session(timeout, password)
            case Internal.END_SESSION, _:
                self.sessions.pop(change.session, None)
                self.tree.end_session(change.session, moment)
            case Op.MULTI, Multi(operations):
                done, results = self.tree.apply_all(operations, moment)
                if not done:
                    raise Refusal(next(each for each in results if isinstance(each, int) and each))
            case Op() as op, request if not isinstance(request, Begin | Nothing):
                self.tree.apply(op, request, moment)
        self.zxid = change.zxid
        self.tree.events.clear()  # nobody watches yet
