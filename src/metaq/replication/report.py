"""How far a slave is, as people and scripts are told; pure (reference: SubscribeHandler.getStatus)."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from metaq.model import BrokerAddress
from metaq.replication.status import FollowerStatus, PartitionStatus, State


@dataclass(slots=True)
class Total:
    """What is said of all partitions together, added up one by one: a loop that has others can stop in between.

    `messages` None: of some partition that lacks something it is not known; `error`: the first one's that has one.
    """

    bytes: int = 0
    messages: int | None = 0
    seconds: float = 0.0
    states: set[State] = field(default_factory=set)
    error: str | None = None

    def add(self, each: PartitionStatus) -> None:
        """Add one partition."""
        self.bytes += each.lag or 0
        self.seconds = max(self.seconds, each.seconds or 0.0)
        self.states.add(each.state)
        if each.lag:
            lacking = None if self.messages is None or each.messages is None else self.messages + each.messages
            self.messages = lacking
        if each.error and self.error is None:
            self.error = f"{each.key}: {each.error}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlaveStatus:
    """An asynchronous slave, its partitions by topic and number, and `total`, what these come to.

    `problem`: why nothing is copied; `config_problem`: why the master's topics are not taken over; `gone`: topics that
    have logs here and that the master does not offer.
    """

    broker_id: int
    slave_id: int
    group: str
    running: bool
    master: BrokerAddress | None
    problem: str | None
    config_problem: str | None
    copying: FollowerStatus
    total: Total
    gone: tuple[str, ...] = ()

    @property
    def error(self) -> str | None:
        """What stands in the way of all, else of the first partition that does not go on."""
        if self.problem or self.copying.error:
            return self.problem or self.copying.error
        return self.total.error or self.config_problem

    @property
    def state(self) -> str:
        """One word for all: of its partitions the one farthest from being current."""
        if self.problem or not self.copying.connected:
            return State.WAITING.value
        order = (State.STOPPED, State.REPAIRING, State.WAITING, State.COMPARING, State.COPYING)
        return next((state.value for state in order if state in self.total.states), State.CURRENT.value)

    @property
    def _lag(self) -> tuple[int | None, int | None, float | None]:
        """What all partitions lack: bytes, messages, seconds; None: not known, as before the first master was met."""
        if not self.copying.partitions and not self.copying.connected:
            return None, None, None
        return self.total.bytes, self.total.messages, round(self.total.seconds, 3)

    def summary(self) -> list[str]:
        """Return the lines that `stats` has more on a slave: key, blank, value."""
        error = self.error
        lag, messages, seconds = self._lag
        return [
            f"slave_id {self.slave_id}",
            f"slave_master {self.master or 'none'}",
            f"slave_state {self.state}",
            f"slave_lag_bytes {'unknown' if lag is None else lag}",
            f"slave_lag_messages {'unknown' if messages is None else messages}",
            f"slave_lag_seconds {'unknown' if seconds is None else format(seconds, '.3f')}",
            *([f"slave_error {_one_line(error)}"] if error else []),
        ]

    def values(self) -> dict[str, object]:
        """Return all of it for scripts but the partitions: for these, see `partition_values`."""
        lag, messages, seconds = self._lag
        return {
            "broker_id": self.broker_id,
            "slave_id": self.slave_id,
            "group": self.group,
            "running": self.running,
            "state": self.state,
            "master": None if self.master is None else str(self.master),
            "connected": self.copying.connected,
            "lag": {"bytes": lag, "messages": messages, "seconds": seconds},
            "error": self.error,
            "config_error": self.config_problem,
            "gone": list(self.gone),
        }


def original_lines(values: Mapping[str, object]) -> Iterator[str]:
    """Yield the lines that 1.4.6.2 prints, from what `slave-status` answers: `key:value`, topics indented."""
    if not values["running"]:
        yield "Subscriber handler:stop"
        return
    partitions = values["partitions"]
    assert isinstance(partitions, list)
    going = [each for each in partitions if not each["error"]]
    well = bool(values["connected"]) and len(going) == len(partitions)
    yield "Subscriber handler:running"
    yield f"Replicate partitions:{len(partitions)}"
    yield "Replicate topic partitions detail:"
    for topic, count in sorted(Counter(each["topic"] for each in partitions).items()):
        yield f"    {topic}:{count}"
    yield f"Replicate requests:{len(going) if values['connected'] else 0}"
    yield f"Replicate runner:{'running' if values['connected'] else 'stop'}"
    yield f"Replicate status:{'yes' if well else 'no'}"


def partition_values(each: PartitionStatus) -> dict[str, object]:
    """Return what scripts get of one partition."""
    return {
        "topic": each.key.topic,
        "partition": each.key.partition,
        "state": each.state.value,
        "end": each.end,
        "master_end": each.master_end,
        "lag": {
            "bytes": each.lag,
            "messages": each.messages,
            "seconds": None if each.seconds is None else round(each.seconds, 3),
        },
        "error": each.error,
        "repaired": each.repaired,
    }


def partition_line(each: PartitionStatus) -> str:
    """Return what `stats slave` says of one partition."""
    known = {"master_end": each.master_end, "lag_bytes": each.lag, "lag_messages": each.messages}
    words = " ".join(f"{key} {'unknown' if value is None else value}" for key, value in known.items())
    seconds = "unknown" if each.seconds is None else f"{each.seconds:.3f}"
    error = f" error {_one_line(each.error)}" if each.error else ""
    where = f"{each.key.topic} part {each.key.partition}"
    return f"{where} state {each.state.value} end {each.end} {words} lag_seconds {seconds}{error}"


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())
