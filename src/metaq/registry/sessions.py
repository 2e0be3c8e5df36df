"""Sessions: how long they last, who holds them, when they are over (source: SessionTrackerImpl, ExpiryQueue of 3.8).

Pure: told the time, in ms of a clock that only goes forward. A session expires in the tick after its time-out has
passed, so that 10,000 of them cost a look at one set a tick.

Time in which nobody looked at the clock (the process was stopped, the loop was held up) does not count: what clients
sent meanwhile is still unread, and they are as alive as before.
"""

from dataclasses import dataclass
from hmac import compare_digest
from typing import Final, Generic, TypeVar

from metaq.registry.state import Session

W = TypeVar("W")

_IDS_FROM: Final = 40  # bits of the time of start in ms, above 16 that count; the highest byte is 0: of server 0


@dataclass(slots=True, eq=False)
class Live(Generic[W]):
    """A session that is not over: its time-out in ms as last negotiated, and the connection that holds it, if any."""

    id: int
    timeout: int
    holder: W | None
    due: int = 0  # the tick in which it is over


class Sessions(Generic[W]):
    """All sessions. `known` is what is remembered of them beyond a restart; whoever changes it tells us."""

    def __init__(self, known: dict[int, Session], tick: int, now: int) -> None:
        """Take up the sessions that were there before a restart; each has its whole time-out to come back."""
        self._known = known
        self._tick = tick
        self._looked = now
        self._lost = 0
        self._live: dict[int, Live[W]] = {}
        self._due: dict[int, dict[Live[W], None]] = {}
        self._next_id = 0
        for id, session in known.items():
            self.begin(id, session.timeout, None, now)

    def __len__(self) -> int:
        return len(self._live)

    def new_id(self, time: int) -> int:
        """Return an id for a new session; `time` in ms since 1970 keeps ids apart over restarts."""
        if not self._next_id:
            self._next_id = max((time & (1 << _IDS_FROM) - 1) << 16, *self._live, 0) + 1
        self._next_id += 1
        return self._next_id - 1

    def begin(self, id: int, timeout: int, holder: W | None, now: int) -> Live[W]:
        live = self._live[id] = Live(id, timeout, holder)
        self.touch(live, now)
        return live

    def find(self, id: int, password: bytes) -> Live[W] | None:
        """Return a session if it is not over and this is its password."""
        known = self._known.get(id)
        if known is None or not compare_digest(known.password, password):
            return None
        return self._live.get(id)

    def touch(self, live: Live[W], now: int) -> None:
        """Its client was heard of."""
        due = (now - self._lost + live.timeout) // self._tick + 1
        if due != live.due:
            self._forget_due(live)
            live.due = due
            self._due.setdefault(due, {})[live] = None

    def expired(self, now: int) -> list[Live[W]]:
        """Return the sessions that are over now; each is to be ended. Call this once a tick."""
        if now - self._looked > 2 * self._tick:
            self._lost += now - self._looked - self._tick
        self._looked = now
        tick = (now - self._lost) // self._tick
        over = [due for due in self._due if due <= tick]
        return [live for due in sorted(over) for live in self._due[due]]

    def end(self, live: Live[W]) -> None:
        """A session is over: closed or expired."""
        self._forget_due(live)
        self._live.pop(live.id, None)

    def _forget_due(self, live: Live[W]) -> None:
        due = self._due.get(live.due)
        if due is not None:
            due.pop(live, None)
            if not due:
                del self._due[live.due]
