"""One partition in memory: where its segments begin, its tail, its ends. Files and journal: `mover` and `rounds`.

Offsets are byte positions in the partition. Between them, from the oldest byte to the newest:

    bases[0] … in partition files … moved … tail, journaled … visible … handed to the journal or pending … end
    (first)                                                   (readers stop here)                          (next put)

Readers stop earlier, at `confirmed`, where another broker must have a message before anybody sees it.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import Final, Protocol

from metaq.config.model import TopicConfig
from metaq.model import TopicPartition

EVERYTHING: Final = 1 << 63  # beyond every offset


class Gate(Protocol):
    """Told once, with the error or None, when what it waits for is safe or lost.

    It is told in the middle of things: it may send a reply, but not append, commit or read.
    """

    def __call__(self, error: Exception | None, /) -> None: ...


class Watcher(Protocol):
    """Somebody who waits for a log to move. As a gate it may send, and it may read, but not append or commit."""

    def woken(self, nth: int) -> None:
        """Hear that it moved, as the nth of those told now, from 0: with thousands, the later ones may take turns."""


class Countdown:
    """A gate of several: passes on once all have been told, with the first error."""

    __slots__ = ("_count", "_error", "_then")

    def __init__(self, then: Gate, count: int) -> None:
        self._then = then
        self._count = count
        self._error: Exception | None = None

    def __call__(self, error: Exception | None) -> None:
        self._error = self._error or error
        self._count -= 1
        if not self._count:
            self._then(self._error)


def tell(gates: Iterable[Gate], error: Exception | None) -> None:
    """Tell several."""
    for gate in gates:
        gate(error)


class PartitionLog:
    """The state of one partition. `id` is the journal's name for it, new for each incarnation of the topic."""

    __slots__ = (
        "announced", "bases", "config", "confirmed", "cuts", "directory", "durable", "end", "epochs", "held",
        "held_gates", "holes", "id", "key", "limit", "listed", "messages", "moved", "pending", "roll_at", "root",
        "sync", "sync_at", "tail_runs", "tail_starts", "threshold", "visible", "watchers",
    )  # fmt: skip

    def __init__(self, id: int, key: TopicPartition, directory: str, root: str, config: TopicConfig) -> None:
        self.id = id
        self.key = key
        self.directory = directory
        self.root = root
        self.config = config
        self.messages = 0  # appended since the start
        self.bases = [0]
        self.end = self.visible = self.moved = 0
        self.confirmed = EVERYTHING  # what another broker has, where there is one that must have all
        self.limit = 0  # bytes of a segment
        self.roll_at = 0  # an append at or beyond it needs a look first: a new segment is due, or the log is held
        self.pending: list[bytes | memoryview] = []
        self.tail_starts: list[int] = []
        self.tail_runs: list[bytes | memoryview] = []
        self.announced = False  # the journal or the checkpoint knows the id
        self.held = False  # a large run is on its way into the partition file
        self.held_gates: list[Gate] = []
        self.cuts = 0
        self.durable = 0  # where the segment begins that was the active one at the last checkpoint, or a later cut
        self.holes: dict[int, int] = {}  # base → end of the segments behind which bytes are missing
        self.listed = False  # the mover knows that there is a tail
        self.set_threshold(config.unflush_threshold)
        self.epochs: list[tuple[int, int]] = []
        self.watchers: dict[Watcher, None] | None = None  # those told of the next move; None while there are none

    @property
    def start(self) -> int:
        """The first offset that can be read."""
        return self.bases[0]

    @property
    def base(self) -> int:
        """The first offset of the active segment."""
        return self.bases[-1]

    @property
    def readable(self) -> int:
        """Where readers stop: what is below is safe here, and copied where it must be."""
        visible, confirmed = self.visible, self.confirmed
        return visible if visible <= confirmed else max(confirmed, self.bases[0])

    @property
    def size(self) -> int:
        """Bytes that can be read."""
        return self.readable - self.bases[0]

    def restore(self, bases: list[int], holes: dict[int, int], end: int) -> None:
        """Set what recovery found: all of it in the files."""
        self.bases = bases
        self.holes = holes
        self.end = self.visible = self.moved = end
        self.set_limit(self.limit)

    def set_limit(self, limit: int) -> None:
        """Set the size from which on a segment is left for the next one."""
        self.limit = limit
        self.roll_at = -1 if self.held else self.bases[-1] + max(limit, 1)

    def configure(self, config: TopicConfig) -> None:
        """Take the settings of a reloaded file."""
        self.config = config
        self.set_threshold(config.unflush_threshold)

    def set_threshold(self, threshold: int) -> None:
        """Set how many messages may be acknowledged before they are synced: none, or so many."""
        self.threshold = threshold
        self.sync = threshold <= 0
        self.sync_at = -1 if self.sync else self.messages + threshold

    def segment_of(self, offset: int) -> tuple[int, int]:
        """Return (base, end) of the segment that holds a readable offset; the active one ends at `visible`.

        In a hole, `end` is not above the offset: readers go on with the next segment.
        """
        index = bisect_right(self.bases, offset) - 1
        base = self.bases[index]
        end = self.bases[index + 1] if index + 1 < len(self.bases) else self.visible
        if self.holes:
            end = self.holes.get(base, end)
        return base, min(end, self.visible)

    def base_of(self, offset: int) -> int:
        """Return the first offset of the segment that holds, or is to hold, what is appended at `offset`."""
        bases = self.bases
        return bases[-1] if offset >= bases[-1] else bases[bisect_right(bases, offset) - 1]

    def after_hole(self, offset: int) -> int:
        """Return the first offset behind the hole that `offset` lies in."""
        return self.bases[bisect_right(self.bases, offset)]

    def extend_tail(self, offset: int, run: bytes | memoryview) -> None:
        """Add a run that is journaled: from here on readers see it."""
        self.tail_starts.append(offset)
        self.tail_runs.append(run)
        self.visible = offset + len(run)

    def slice_tail(self, offset: int, end: int) -> list[memoryview | bytes]:
        """Return the bytes [offset, end) of the tail, without copying; offset is not below `moved`."""
        if offset >= end:
            return []
        starts = self.tail_starts
        first = bisect_right(starts, offset) - 1
        parts: list[memoryview | bytes] = [*self.tail_runs[first : bisect_left(starts, end, first)]]
        last = starts[first + len(parts) - 1]
        if last + len(parts[-1]) > end:
            parts[-1] = memoryview(parts[-1])[: end - last]
        if offset > starts[first]:
            parts[0] = memoryview(parts[0])[offset - starts[first] :]
        return parts

    def forget_moved(self, end: int) -> int:
        """Drop the tail below `end`, which the files hold now; return its bytes."""
        count = bisect_right(self.tail_starts, end - 1)
        gone = sum(map(len, self.tail_runs[:count]))
        del self.tail_starts[:count], self.tail_runs[:count]
        self.moved = end
        return gone

    def cut_back(self, to: int) -> int:
        """End at `to`; return the bytes of tail that went."""
        self.cuts += 1
        gone = 0
        while self.tail_starts and self.tail_starts[-1] + len(self.tail_runs[-1]) > to:
            start, run = self.tail_starts.pop(), self.tail_runs.pop()
            gone += len(run)
            if start < to:
                self.extend_tail(start, run[: to - start])
                gone -= to - start
        while len(self.bases) > 1 and self.bases[-1] > to:
            self.bases.pop()
        self.end = self.visible = to
        self.moved = min(self.moved, to)
        self.durable = min(self.durable, to)
        self.epochs = [pair for pair in self.epochs if pair[1] < to]
        self.set_limit(self.limit)
        return gone

    def undo(self) -> None:
        """Forget all that is not visible: it could not be written."""
        self.pending.clear()
        self.end = self.visible
        while len(self.bases) > 1 and self.bases[-1] > self.visible:
            self.bases.pop()
        self.set_limit(self.limit)

    def wake(self) -> None:
        """Tell those who wait at the end of the log that it moved, or is gone. None of them is told a second time."""
        watchers, self.watchers = self.watchers, None
        for nth, watcher in enumerate(watchers or ()):
            watcher.woken(nth)


def segment_name(base: int) -> str:
    """Return the file name of a segment: 20 ASCII digits and `.meta` (reference: MessageStore.nameFromOffset)."""
    return f"{base:020d}.meta"
