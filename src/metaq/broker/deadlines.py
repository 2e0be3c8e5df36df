"""When waits end: one timer for all of them, however many there are."""

from heapq import heappop, heappush
from typing import Final, Protocol

from metaq.ports import Scheduler, Timer

_AT_ONCE: Final = 256  # told in one turn of the loop: some 2 ms
_LONG: Final = 1000  # ms
_FINE: Final = 8  # ms, to which the ends of shorter waits are rounded up
_COARSE: Final = 250  # ms, for longer ones: so the waits of a minute have some 400 different ends


class Waiting(Protocol):
    """Whose time ends."""

    def expire(self) -> None: ...


class Deadlines:
    """Tells those who wait that their time is up: never before, and 1/4 s later at most while the loop has time."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._groups: dict[int, dict[Waiting, None]] = {}  # ms of the loop's clock → whose time ends then
        self._order: list[int] = []  # a heap of the keys of _groups
        self._timer: Timer | None = None  # for the first of them

    def __len__(self) -> int:
        """Return how many wait."""
        return sum(map(len, self._groups.values()))

    def end_of(self, wait: int) -> int:
        """Return when a wait of so many ms that begins now ends: what `add` and `remove` take."""
        grain = _FINE if wait < _LONG else _COARSE
        return (int(self._scheduler.time() * 1000) + 1 + wait) // grain * grain + grain

    def add(self, waiting: Waiting, end: int) -> None:
        """Have `expire` called at the end, or soon if that is past."""
        group = self._groups.get(end)
        if group is None:
            group = self._groups[end] = {}
            heappush(self._order, end)
            if self._order[0] == end:
                self._arm()
        group[waiting] = None

    def remove(self, waiting: Waiting, end: int) -> None:
        """Call that off; fine if it was called."""
        group = self._groups.get(end)
        if group is not None:
            group.pop(waiting, None)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0.0, self._order[0] / 1000 - self._scheduler.time())
        self._timer = self._scheduler.call_later(delay, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self._scheduler.time() * 1000 + 1  # a timer may fire a rounding error early, again and again
        told: list[Waiting] = []
        while self._order and len(told) < _AT_ONCE:
            group = self._groups[self._order[0]]
            if not group:  # all of them got what they waited for
                del self._groups[heappop(self._order)]
            elif self._order[0] > now:
                break
            else:
                told.append(next(iter(group)))
                del group[told[-1]]
        if self._order:
            self._arm()
        for waiting in told:
            waiting.expire()
