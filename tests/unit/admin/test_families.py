"""Metrics of views made by hand, and docs/metrics.md, which names them all."""

import re
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from metaq.admin.families import STATES, Families, exposition
from metaq.admin.views import View
from metaq.broker.broker import PartitionFigures
from metaq.broker.ports import PairFigures
from metaq.broker.stats import Tally
from metaq.broker.stats_text import BrokerState
from metaq.config.broker import parse
from metaq.model import TopicPartition
from metaq.replication.report import partition_values
from metaq.replication.status import PartitionStatus, State

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "metrics.md").read_text("utf-8")
LAGS = [
    PartitionStatus(TopicPartition("a", 0), State.COPYING, 100, 400, lag=300, messages=3, seconds=2.5),
    PartitionStatus(TopicPartition("a", 1), State.COPYING, 100, 200, lag=100, messages=1, seconds=0.5),
    PartitionStatus(TopicPartition("a", 2), State.CURRENT, 100, 100, lag=0, messages=0, seconds=0.0),
    PartitionStatus(TopicPartition("b", 0), State.STOPPED, 0, error="no such topic here"),
    PartitionStatus(TopicPartition('c"\\', 0), State.COPYING, 0, 50, lag=50, seconds=1.0),
]
STATUS = {"state": "stopped", "connected": True, "partitions": [partition_values(each) for each in LAGS]}
PAIR = PairFigures("meta://s:8123", False, 2, 1, 7, 8, False, {"slave-lost": 3})
VIEW = View(
    broker_id=5,
    state=BrokerState(1, 8123, 9.5, 3, 4),
    journal_bytes=11,
    journal_limit=12,
    tallies=[("a", Tally()), ("", Tally())],
    partitions=[PartitionFigures("a", 0, 50, 150, 4, 100), PartitionFigures("a", 1, 0, 0, 0, 0)],
    slave=STATUS,
    pair=PAIR,
)


def samples(partitions: bool = True) -> dict[tuple[str, ...], float]:
    """Return them by name and values of labels."""
    found = Families(VIEW, partitions=partitions).collect()
    return {(s.name, *s.labels.values()): s.value for family in found for s in family.samples}


def test_the_lag_of_a_topic_is_the_sum_and_the_worst_of_its_partitions() -> None:
    found = samples()
    assert (found["metaq_slave_lag_bytes", "a"], found["metaq_slave_lag_max_bytes", "a"]) == (400, 300)
    assert (found["metaq_slave_lag_messages", "a"], found["metaq_slave_lag_max_messages", "a"]) == (4, 3)
    assert found["metaq_slave_lag_seconds", "a"] == 2.5
    assert found["metaq_slave_lag_bytes", 'c"\\'] == 50
    assert found["metaq_slave_troubled_partitions",] == 1
    assert {state: found["metaq_slave_partitions", state] for state in STATES} == {
        **dict.fromkeys(STATES, 0),
        "copying": 3,
        "current": 1,
        "stopped": 1,
    }


def test_what_is_not_known_is_left_out() -> None:
    found = samples()
    assert ("metaq_slave_lag_bytes", "b") not in found
    assert ("metaq_slave_partition_lag_bytes", "b", "0") not in found
    assert ("metaq_slave_lag_messages", 'c"\\') not in found
    assert ("metaq_slave_partition_lag_seconds", 'c"\\', "0") in found


def test_partitions_are_there_only_if_wanted() -> None:
    more = {name for name, *_ in samples()} - {name for name, *_ in samples(partitions=False)}
    assert {name.partition("partition")[0] for name in more} == {"metaq_", "metaq_slave_"}
    assert all("_partition_" in name for name in more)


def test_the_figures_of_a_pair_are_told() -> None:
    found = samples()
    names = ("connected", "unregistered", "behind_partitions", "refused_partitions", "refused_puts_total")
    assert [found[f"metaq_pair_{name}",] for name in (*names, "failed_copies_total")] == [0, 1, 2, 1, 7, 8]
    assert found["metaq_pair_notifications_total", "slave-lost"] == 3


@pytest.mark.parametrize("accept", ["application/openmetrics-text; version=1.0.0", "application/openmetrics-text"])
def test_openmetrics_is_written_as_its_own_parser_reads_it(accept: str) -> None:
    kind, text = exposition(VIEW, accept, partitions=True)
    assert kind.startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
    families = text_string_to_metric_families(text.decode())  # type: ignore[no-untyped-call]
    read = {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}
    made = Families(VIEW, partitions=True).collect()
    assert read == {(s.name, *sorted(s.labels.items())): s.value for family in made for s in family.samples}


def test_every_metric_is_documented_and_no_other() -> None:
    names = {name for name, *_ in samples()}
    rows = " ".join(line for line in TEXT.splitlines() if line.startswith("| `metaq_"))
    rows = rows.replace(
        "`_messages`, `_seconds`", "`metaq_slave_partition_lag_messages` `metaq_slave_partition_lag_seconds`"
    )
    assert set(re.findall(r"`(metaq_\w+)`", rows)) == names
    rules = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)[-1]
    used = set(re.findall(r"metaq_\w+", rules))
    assert "metaq_slave_lag_seconds" in used
    assert used <= names


def test_the_sample_of_a_configuration_is_read() -> None:
    (line,) = re.findall(r"`(metricsAddress=[^`]+)`", TEXT)
    minimal = "[system]\nbrokerId=0\n[zookeeper]\nzk.zkEnable=false\n[topic=t]\n[pymetaq]\n"
    config = parse(f"{minimal}{line}\n".encode(), "server.ini", is_dir=lambda path: False)
    assert config.metrics_address == ("10.0.0.7", 9125)
