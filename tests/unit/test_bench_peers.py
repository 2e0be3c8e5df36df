"""The page beside other systems: targets met and missed, the best of a row, plots, and what of a run may break."""

import asyncio
import re
import time
from pathlib import Path

import pytest

from bench import plots, report, targets
from bench.cases import JAVA, OURS
from bench.clients import Clients
from bench.plan import Plan
from bench.report_peers import rows
from bench.run import chosen
from bench.samples import Sample, Samples
from bench.steps import guarded
from bench.systems import COUNTS, all_systems


def measured(case: str, unit: str = "messages/s", **values: list[float]) -> Samples:
    """Return samples of one case, one a round; names have _ for a blank or a hyphen."""
    samples = Samples({"Machine": "a desk"})
    names = {"redis": "redis-py", "confluent": "confluent-kafka", "nowait": targets.NOWAIT}
    for name, each in values.items():
        for round_, value in enumerate(each):
            samples.add(Sample(case, names.get(name, name), round_, value, unit))
    return samples


def verdicts(samples: Samples) -> dict[str, str]:
    cells = (row.strip("| ").split(" | ") for row in targets.rows(samples))
    return {what: f"{reached} {verdict}" for what, reached, _, verdict in cells}


@pytest.mark.parametrize(
    ("ours", "said"),
    [(1_590.0, "1.59 × (confluent-kafka, 1,000) **missed**"), (1_600.0, "1.60 × (confluent-kafka, 1,000) met")],
)
def test_a_ratio_is_met_or_missed_beside_the_other(ours: float, said: str) -> None:
    samples = measured("peers/P3/100 B", metaq=[ours], confluent=[1000.0], redis=[9999.0])
    assert verdicts(samples) == {"P3: 100 B, send_many beside confluent-kafka": said}


def test_a_ratio_is_the_median_of_those_of_the_rounds() -> None:
    samples = measured("peers/P6/16", metaq=[200.0, 30.0, 6000.0], redis=[100.0, 10.0, 1000.0])
    assert verdicts(samples) == {"P6: 16 partitions, synced, beside the best": "3.00 × (redis-py, 100) met"}


def test_the_java_broker_is_not_one_of_the_other_systems() -> None:
    samples = measured("peers/P2/16", metaq=[130.0], java=[1000.0], redis=[100.0])
    assert verdicts(samples) == {"P2: 50 waiting, beside the best": "1.30 × (redis-py, 100) met"}


@pytest.mark.parametrize(("milliseconds", "said"), [(0.25, "0.25 ms met"), (0.251, "0.26 ms **missed**")])
def test_a_limit_is_rounded_against_us(milliseconds: float, said: str) -> None:
    assert verdicts(measured("peers/P5 p50", "ms", metaq=[milliseconds]))["P5: p50"] == said


def test_less_is_better_for_latencies() -> None:
    samples = measured("peers/P5 p99", "ms", metaq=[2.0], redis=[1.0], confluent=[3.0])
    assert verdicts(samples)["P5: p99 beside the best"] == "2.00 × (redis-py, 1) **missed**"
    (row,) = rows(samples)
    assert row == "| P5 p99, ms | 2.00 | **1.00** | 3.00 |"


@pytest.mark.parametrize(("run", "met"), [("Monday", True), ("Friday", False)])
def test_two_cases_of_ours_are_compared_within_one_run(run: str, met: bool) -> None:
    samples = Samples({})
    samples.add(Sample("peers/P6/16", OURS, 0, 100.0, "messages/s", run="Monday"))
    samples.add(Sample("peers/P6/10000", OURS, 0, 90.0, "messages/s", run=run))
    assert ("P6: 10,000 partitions beside 16" in verdicts(samples)) is met


def test_what_was_not_measured_is_no_target() -> None:
    assert verdicts(measured("peers/P2/16", metaq=[1.0])) == {}


def test_partitions_are_rows_in_order_of_their_number() -> None:
    samples = Samples({})
    for count in (1024, 16, 10_000, 128):
        samples.add(Sample(f"peers/P6/{count}", OURS, 0, 1.0, "messages/s"))
    assert [row.split(",")[0] for row in rows(samples)] == ["| P6/16", "| P6/128", "| P6/1024", "| P6/10000"]


def test_targets_of_all_parts_stand_before_the_parts(tmp_path: Path) -> None:
    report.write(tmp_path / "benchmarks.md", measured("peers/P2/16", metaq=[1.0], redis=[100.0]))
    report.write(tmp_path / "benchmarks.md", measured("put/synced/16/50x1", metaq=[160.0], java=[100.0]))
    text = (tmp_path / "benchmarks.md").read_text("utf-8")
    assert text.index("## Targets") < text.index(f"## {report.PEERS}") < text.index(f"## {report.BROKERS_PART}")
    assert "| P2: 50 waiting, beside the best | 0.01 × (redis-py, 100) | ≥ 1.2 × | **missed** |" in text
    assert "beside Java 1.4.6.2 | 1.60 × (java, 100) | ≥ 1.5 × | met |" in text


def plan(tmp_path: Path) -> Plan:
    return Plan(
        (),
        (),
        1,
        1.0,
        re.compile(""),
        tmp_path,
        "",
        Clients.quick(()),
        tmp_path / "page.md",
        True,
        time.monotonic() + 60,
    )


async def test_a_step_that_breaks_is_said_and_what_it_measured_is_written(tmp_path: Path) -> None:
    samples, made = Samples({}), plan(tmp_path)

    async def breaks() -> None:
        samples.add(Sample("peers/P1", OURS, 0, 5.0, "messages/s"))
        raise ValueError("no such thing")

    await guarded(made, samples, "round 1, Redis", breaks)
    assert made.broken == ["round 1, Redis: no such thing"]
    assert "| P1, messages/s | 5.00 |" in made.page.read_text("utf-8")


async def test_ctrl_c_ends_a_step(tmp_path: Path) -> None:
    async def interrupted() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await guarded(plan(tmp_path), Samples({}), "step", interrupted)


@pytest.mark.parametrize(
    ("words", "there"), [("all", True), ("redis, kafka", True), ("KAFKA", True), ("nats", False), ("", False)]
)
def test_peers_are_chosen_by_parts_of_their_names(words: str, there: bool) -> None:
    assert chosen("confluent-kafka", words) is there


def test_without_a_zookeeper_the_java_broker_is_left_out() -> None:
    names = [system.name for system in all_systems("")]
    assert "MetaQ (Java)" not in names
    assert names[0] == OURS
    assert [s.name for s in all_systems("127.0.0.1:2181")][1] == "MetaQ (Java)"


def test_plots_are_small_and_the_same_for_the_same_samples(tmp_path: Path) -> None:
    samples = Samples({})
    for name, rate in ((OURS, 3.0), (JAVA, 2.0), ("redis-py", 1.0)):
        samples.add(Sample("peers/P1 p50", name, 0, 1 / rate, "ms"))
        samples.add(Sample("peers/P1 p99", name, 0, 9 / rate, "ms"))
        samples.add(Sample("peers/P1", name, 0, 1e3 * rate, "messages/s"))
        for count in COUNTS:
            samples.add(Sample(f"peers/P6/{count}", name, 0, 1e4 * rate / count, "messages/s"))
    drawn = []
    for place in (tmp_path / "one", tmp_path / "two"):
        samples.write(place / "peers.json")
        plots.draw(place)
        drawn.append({path.name: path.read_bytes() for path in place.glob("*.svg")})
    assert sorted(drawn[0]) == ["latency.svg", "partitions.svg", "produce.svg"]
    assert drawn[0] == drawn[1]
    assert all(len(content) < 150_000 for content in drawn[0].values())
