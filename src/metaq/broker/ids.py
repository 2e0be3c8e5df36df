"""Message ids: ordered by time, unique on their broker, positive.

    One id, 63 bits and a sign (reference: IdWorker), most significant bit first:
      63             22         12          0
      | milliseconds | worker   | sequence  |
        since ID_EPOCH_MS, 0…1023,   0…4095 in one millisecond of one worker
                        the broker's id

The original counts milliseconds of a clock that starts with the machine, so its ids are negative and repeat after a
reboot. Ours come from the wall clock; readers must take any 64-bit number, since a log may hold both kinds.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from metaq.errors import ConfigError
from metaq.ports import Clock
from metaq.record import ID_EPOCH_MS, ID_TIME_SHIFT, id_time_ms

MAX_WORKER: Final = 1023

_WORKER_SHIFT: Final = 12
_PER_MS: Final = 1 << _WORKER_SHIFT
_NEXT_MS: Final = 1 << ID_TIME_SHIFT

# Ids of the last 49 days that 63 bits can name (September 2080) set no floor: after one of them, found in a damaged or
# foreign log, there would soon be no id left to give. They cannot collide with ours before that time.
_HIGHEST_FLOOR: Final = ((1 << 41) - (1 << 32)) << ID_TIME_SHIFT


class IdParts(NamedTuple):
    """What an id is made of. `time_ms`: milliseconds since 1970 on the clock of the broker that gave it."""

    time_ms: int
    worker_id: int
    sequence: int


def compose(parts: IdParts) -> int:
    """Return the id made of these parts; negative for times before ID_EPOCH_MS, as the original's are."""
    return (parts.time_ms - ID_EPOCH_MS) << ID_TIME_SHIFT | parts.worker_id << _WORKER_SHIFT | parts.sequence


def decompose(id: int) -> IdParts:
    """Return the parts of any 64-bit id. For ids of the original `time_ms` counts from the start of its machine."""
    return IdParts(id_time_ms(id), id >> _WORKER_SHIFT & MAX_WORKER, id & _PER_MS - 1)


class IdAllocator:
    """Gives the ids of one broker.

    Every id is above all that were given or seen before: when the clock was set back, or more than 4096 ids were
    asked for in one millisecond, the ids run ahead of the clock until it catches up; nothing ever waits.
    """

    __slots__ = ("_end", "_next", "_time", "_until", "_worker")

    def __init__(self, worker_id: int, clock: Clock, highest: int = 0) -> None:
        """`worker_id` is the broker's id, `highest` the highest message id found in its log (any 64-bit number)."""
        if not 0 <= worker_id <= MAX_WORKER:
            raise ConfigError(
                f"broker id {worker_id} does not fit into message ids, which have room for 0…{MAX_WORKER}"
            )
        self._time = clock.time
        self._worker = worker_id << _WORKER_SHIFT
        self._next = self._worker  # what is given next, if it lies below _end
        self._end = self._worker + _PER_MS  # the id after the last one of this worker in the millisecond of _next
        self._until = 0.0  # the clock when that millisecond is over, in seconds: spares the arithmetic until then
        self.seen(max(highest, 0))  # 0 itself means "never sent" to clients

    def take(self, count: int) -> Sequence[int]:
        """Return `count` (>= 0) ascending ids; consecutive ones (a range) as long as one millisecond has as many."""
        now = self._time()
        if now >= self._until:
            self._follow(now)
        first = self._next
        end = first + count
        if end <= self._end:
            self._next = end
            return range(first, end) if count != 1 else (first,)  # a tuple is made faster: 0.04 us against 0.10
        return self._take_beyond(count)

    def seen(self, id: int) -> None:
        """Give only ids above this one from now on: it is in the log already, from an earlier run or a master."""
        if self._next <= id < _HIGHEST_FLOOR:
            first = id & ~(_NEXT_MS - 1) | self._worker  # this worker's first id in that millisecond
            if id >= first + _PER_MS - 1:
                first += _NEXT_MS
            self._enter(first)
            self._next = max(first, id + 1)

    def _follow(self, now: float) -> None:
        """Go on to the millisecond of the clock, unless the ids are ahead of it."""
        first = (int(now * 1000.0) - ID_EPOCH_MS) << ID_TIME_SHIFT | self._worker
        if first > self._next:
            self._enter(first)

    def _enter(self, first: int) -> None:
        """Give ids of the millisecond whose first one of this worker is `first`."""
        self._next = first
        self._end = first + _PER_MS
        self._until = ((first >> ID_TIME_SHIFT) + ID_EPOCH_MS + 1) / 1000.0

    def _take_beyond(self, count: int) -> Sequence[int]:
        """Continue in milliseconds that the clock has not reached yet."""
        if count <= _PER_MS:  # a batch that fits into one millisecond is kept whole
            first = self._end - _PER_MS + _NEXT_MS
            self._enter(first)
            self._next = first + count
            return range(first, self._next)
        ids: list[int] = []
        while len(ids) < count:
            if self._next == self._end:
                self._enter(self._end - _PER_MS + _NEXT_MS)
            end = min(self._end, self._next + count - len(ids))
            ids.extend(range(self._next, end))
            self._next = end
        return ids
