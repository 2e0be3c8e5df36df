"""One partition of a follower: its copy, and what is told of it."""

from collections import deque
from typing import Final

from metaq.model import TopicPartition
from metaq.replication.partition import Copy
from metaq.replication.status import PartitionStatus, State
from metaq.store.log import PartitionLog

_HOT: Final = 1.0  # seconds that a partition counts as in use after its last message
_SHORTEST: Final = 0.001  # seconds between two questions to a Java broker that had nothing


class Course:
    """Where copying stands and how it went. Times are those of the loop, seconds."""

    __slots__ = (
        "behind_since", "busy", "bytes", "checked", "complete", "copy", "delay", "end", "error", "heard", "key",
        "last", "log", "master_end", "messages", "queued", "refused", "repaired", "state", "uncommitted", "wanted",
    )  # fmt: skip

    def __init__(self, key: TopicPartition) -> None:
        self.key = key
        self.copy = Copy()
        self.log: PartitionLog | None = None
        self.end = 0  # of what was appended
        self.state = State.WAITING
        self.error: str | None = None
        self.repaired: str | None = None
        self.master_end: int | None = None
        self.wanted = True  # the master has it still
        self.checked = False  # our end was compared with the master's since the connection began
        self.complete = False  # all was here that the master had when it answered last
        self.busy = False  # being checked now
        self.queued = False  # it is to be asked for, checked, or tried again later
        self.refused = 0  # times in a row that its bytes could not be taken
        self.uncommitted = 0  # bytes appended that are not safe yet
        self.bytes = self.messages = 0  # copied since the start
        self.heard = False  # whether it is at the master's end is known
        self.behind_since = 0.0  # 0: it is at the master's end
        self.last = 0.0  # when the last message came
        self.delay = 0.0  # before a Java broker is asked again

    def is_hot(self, now: float) -> bool:
        """Say whether more is likely to come soon."""
        return now - self.last < _HOT

    def begin(self, now: float, end: int, *, has_records: bool) -> None:
        """Copy from `end` on; our log was checked."""
        self.end = end
        self.copy.start_at(end, is_edge=has_records)
        self.checked = True
        self.complete = False
        self.last = now  # so that the first answer of many partitions does not wait for the slowest
        self.delay = 0.0

    def halt(self, state: State, error: str | None, now: float) -> None:
        """Nothing comes at present; before anything is taken again our end is checked."""
        self.state, self.error = state, error
        self.checked = False
        self.copy.start_at(self.end, is_edge=False)
        self.behind(now)

    def behind(self, now: float) -> None:
        """The master has more, or may have."""
        if not self.behind_since:
            self.behind_since = now

    def current(self) -> None:
        """All is here that the master had when it answered."""
        self.state, self.error, self.refused = State.CURRENT, None, 0
        self.heard = self.complete = True
        self.behind_since = 0.0

    def came(self, now: float) -> None:
        """Data came."""
        self.last, self.delay = now, 0.0
        if self.copy.bulk:
            self.state, self.error = State.COPYING, None
            self.heard = True
            self.complete = False
            self.behind(now)
        else:
            self.current()

    def pause(self, longest: float) -> float:
        """Return how long to leave a Java broker alone that had nothing: longer each time, as long as it is silent."""
        self.delay = min(max(self.delay * 1.25, _SHORTEST), longest)
        return self.delay

    def status(self, now: float) -> PartitionStatus:
        """Return what there is to tell."""
        end = self.log.visible if self.log is not None else self.end
        lag = None if self.master_end is None else max(0, self.master_end - end)
        if lag is None and self.state is State.CURRENT:
            lag = 0
        messages = 0 if lag == 0 else None
        if lag and self.messages:
            messages = max(1, round(lag * self.messages / self.bytes))
        seconds = None  # a partition that never came to be copied is behind, too, if the master has something
        if self.heard or (lag and self.behind_since):
            seconds = now - self.behind_since if self.behind_since else 0.0
        return PartitionStatus(
            self.key, self.state, end, self.master_end, lag, messages, seconds, self.error, self.repaired, self.complete
        )


class Queue:
    """Partitions whose turn comes, each once."""

    def __init__(self) -> None:
        self.waiting: deque[Course] = deque()

    def add(self, course: Course) -> None:
        if not course.queued:
            course.queued = True
            self.waiting.append(course)

    def take(self) -> Course:
        course = self.waiting.popleft()
        course.queued = False
        return course
