"""What is seen of a broker as metrics: names, units and labels of docs/metrics.md. Needs the extra `metrics`.

Names are Prometheus' way: base units, `_total` for what only grows. Of topics without statistics of their own
(`stat=false`) all is counted together, under topic="".
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from metaq._version import __version__
from metaq.admin.views import View
from metaq.broker.ports import PairFigures
from metaq.broker.stats import Tally
from metaq.broker.stats_text import PartitionState

Values = Mapping[str, Any]  # one partition of `slave-status`
Row = tuple[Sequence[str], float]

TOPIC: Final = ("topic",)
PARTITION: Final = ("topic", "partition")
COUNTED: Final[Sequence[tuple[str, str, Callable[[Tally], int]]]] = (
    ("puts", "Messages that producers sent, refused ones too", lambda tally: tally.puts),
    ("put_failures", "Puts that were answered with an error, but for closed partitions", lambda t: t.put_failures),
    ("copied_messages", "Messages that this broker, a slave, copied from its master", lambda tally: tally.copied),
    ("message_bytes", "Bytes of the bodies of messages that were put or copied", lambda tally: tally.bytes),
    ("gets", "Gets of consumers, each partition of a question for many counted", lambda tally: tally.gets),
    ("get_misses", "Gets that found nothing at their offset", lambda tally: tally.misses),
    ("offset_queries", "Questions for an offset, gets outside of the log counted", lambda tally: tally.offsets),
)
STORED: Final[Sequence[tuple[str, str, Callable[[PartitionState], int]]]] = (
    ("partitions", "Partitions that have a log", lambda partition: 1),
    ("stored_messages", "Messages stored, of those before the start the ones recovery counted", lambda p: p.messages),
    ("stored_bytes", "Bytes on disk, of all segments", lambda partition: partition.bytes),
)
STATES: Final = ("waiting", "comparing", "copying", "current", "repairing", "stopped")


class Families(Collector):
    """The metrics of a view. `partitions`: of each partition, too."""

    def __init__(self, view: View, *, partitions: bool) -> None:
        self._view = view
        self._partitions = partitions

    def collect(self) -> Iterator[Metric]:
        """Yield them all."""
        view = self._view
        yield from _broker(view)
        yield from _topics(view)
        if self._partitions:
            yield from _ends(view.partitions)
        if view.slave is not None:
            copied: list[Values] = view.slave["partitions"]  # type: ignore[assignment]  # JSON has no types
            yield from _slave(view.slave, copied)
            if self._partitions:
                yield from _lags(copied)
        if view.pair is not None:
            yield from _pair(view.pair)


def exposition(view: View, accept: str, *, partitions: bool) -> tuple[str, bytes]:
    """Return type and text of the metrics, in the form that an `Accept` header asks for. Takes long, needs no loop."""
    encode, kind = choose_encoder(accept)
    return kind, encode(Families(view, partitions=partitions))


def gauge(name: str, text: str, rows: Iterable[Row], labels: Sequence[str] = ()) -> Metric:
    """Return a family of what goes up and down."""
    family = GaugeMetricFamily(f"metaq_{name}", f"{text}.", labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


def counter(name: str, text: str, rows: Iterable[Row], labels: Sequence[str] = ()) -> Metric:
    """Return a family of what only grows, until the broker starts again; its samples end in `_total`."""
    family = CounterMetricFamily(f"metaq_{name}", f"{text}.", labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


def one(number: float) -> list[Row]:
    """Return the rows of a family without labels."""
    return [((), number)]


def _broker(view: View) -> Iterator[Metric]:
    state = view.state
    labels = ("version", "protocol", "broker_id")
    values = (__version__, state.version, str(view.broker_id))
    yield gauge("broker_info", "The broker", [(values, 1)], labels)
    yield gauge("uptime_seconds", "Time since the start", one(state.uptime))
    yield gauge("connections", "Open connections", one(state.connections))
    yield gauge("threads", "Threads of the process", one(state.threads))
    yield gauge("journal_bytes", "Bytes of journal that wait for a checkpoint", one(view.journal_bytes))
    yield gauge("journal_limit_bytes", "Bytes of journal at which a checkpoint is made", one(view.journal_limit))


def _topics(view: View) -> Iterator[Metric]:
    for name, text, counted in COUNTED:
        yield counter(name, text, [((topic,), counted(tally)) for topic, tally in view.tallies], TOPIC)
    for name, text, stored in STORED:
        sums: Counter[str] = Counter()
        for partition in view.partitions:
            sums[partition.topic] += stored(partition)
        yield gauge(name, text, _by_topic(sums), TOPIC)


def _ends(partitions: Sequence[PartitionState]) -> Iterator[Metric]:
    keys = [(each.topic, str(each.partition)) for each in partitions]
    starts = [each.min_offset for each in partitions]
    yield gauge("partition_start_offset_bytes", "Where the log begins", zip(keys, starts, strict=True), PARTITION)
    ends = [each.end for each in partitions]
    yield gauge("partition_end_offset_bytes", "Where readers must wait", zip(keys, ends, strict=True), PARTITION)


def _slave(status: Mapping[str, object], partitions: Sequence[Values]) -> Iterator[Metric]:
    state = str(status["state"])
    yield gauge("slave_connected", "1 if there is a connection to the master", one(bool(status["connected"])))
    states = [((each,), float(each == state)) for each in STATES]
    yield gauge("slave_state", "1 for the state of the partition that is farthest behind", states, ("state",))
    counts = Counter(each["state"] for each in partitions)
    yield gauge("slave_partitions", "Partitions by state", [((s,), counts[s]) for s in STATES], ("state",))
    troubled = sum(bool(each["error"]) for each in partitions)
    yield gauge("slave_troubled_partitions", "Partitions that do not go on", one(troubled))
    for unit in ("bytes", "messages"):
        lags = _lags_of(partitions, unit)
        sums: Counter[str] = Counter()
        for (topic, _), lag in lags:
            sums[topic] += lag
        text = f"{unit.capitalize()} that the master has and this slave lacks"
        yield gauge(f"slave_lag_{unit}", f"{text}, all partitions together", _by_topic(sums), TOPIC)
        yield gauge(f"slave_lag_max_{unit}", f"{text}, of the partition with the most", _highest(lags), TOPIC)
    text = "For how long the slave has not been at the master's end, of the partition with the longest time"
    yield gauge("slave_lag_seconds", text, _highest(_lags_of(partitions, "seconds")), TOPIC)


def _lags(partitions: Sequence[Values]) -> Iterator[Metric]:
    for unit in ("bytes", "messages", "seconds"):
        rows = _lags_of(partitions, unit)
        yield gauge(f"slave_partition_lag_{unit}", f"Lag of the partition, in {unit}", rows, PARTITION)


def _lags_of(partitions: Iterable[Values], unit: str) -> list[tuple[tuple[str, str], Any]]:
    """Return the lag of each partition of which it is known."""
    found = [((each["topic"], str(each["partition"])), each["lag"][unit]) for each in partitions]
    return [(key, lag) for key, lag in found if lag is not None]


def _highest(lags: Iterable[tuple[tuple[str, str], Any]]) -> Iterator[Row]:
    most: dict[str, float] = {}
    for (topic, _), lag in lags:
        most[topic] = max(lag, most.get(topic, 0))
    return _by_topic(most)


def _by_topic(numbers: Mapping[str, float]) -> Iterator[Row]:
    return (((topic,), number) for topic, number in sorted(numbers.items()))


def _pair(pair: PairFigures) -> Iterator[Metric]:
    yield gauge("pair_connected", "1 if there is a connection to the slave", one(pair.connected))
    yield gauge(
        "pair_unregistered", "1 if the broker left ZooKeeper, its slave not being well", one(not pair.registered)
    )
    yield gauge("pair_behind_partitions", "Partitions that the slave may lack something of", one(pair.behind))
    yield gauge("pair_refused_partitions", "Partitions that only the slave refuses", one(pair.refused))
    yield counter("pair_refused_puts", "Puts refused, as they could not be copied", one(pair.puts_refused))
    yield counter("pair_failed_copies", "Copies that failed", one(pair.failed_copies))
    events = [((event,), count) for event, count in pair.events.items()]
    yield counter("pair_notifications", "What people were told of the pair", events, ("event",))
