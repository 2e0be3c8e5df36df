"""What a slave knows of its copying, as values: for `slave-status`, `metaq brokers`, `stats` and the metrics."""

from dataclasses import dataclass
from enum import Enum

from metaq.model import BrokerAddress, TopicPartition


class State(Enum):
    """What happens with one partition."""

    WAITING = "waiting"  # the master is not connected, or has not been asked yet
    COMPARING = "comparing"  # our last bytes with those the master has there
    COPYING = "copying"  # the master has more
    CURRENT = "current"  # at the master's end, as far as its last answer tells
    REPAIRING = "repairing"  # our log differs: what differs is set aside, and fetched again
    STOPPED = "stopped"  # `error` says why; it is tried again, slowly


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """The copying of one partition.

    `end` is ours, `master_end` the master's as it told last (None: not yet), `lag` the bytes between, at least 0.
    `messages` is about how many that are, by the mean size of those copied since the start (None: none were).
    `seconds`: for how long it has not been at the master's end, 0.0 where it is (None: nothing is known yet).
    `complete`: all was here that the master had when it answered last, in its latest connection.
    `error`: what keeps it from going on; `repaired`: what was found to differ last, and what was done.
    """

    key: TopicPartition
    state: State
    end: int
    master_end: int | None = None
    lag: int | None = None
    messages: int | None = None
    seconds: float | None = None
    error: str | None = None
    repaired: str | None = None
    complete: bool = False


@dataclass(frozen=True, slots=True)
class FollowerStatus:
    """The copying of one master. `master` None: there is none at present; `error`: why it is not connected."""

    master: BrokerAddress | None
    connected: bool
    error: str | None
    partitions: tuple[PartitionStatus, ...]

    @property
    def lag(self) -> int:
        """Bytes that all partitions lack, where that is known."""
        return sum(each.lag or 0 for each in self.partitions)

    @property
    def seconds(self) -> float:
        """For how long the partition that is worst off has not been at the master's end."""
        return max((each.seconds or 0.0 for each in self.partitions), default=0.0)

    @property
    def troubles(self) -> tuple[PartitionStatus, ...]:
        """The partitions that do not go on."""
        return tuple(each for each in self.partitions if each.error is not None)
