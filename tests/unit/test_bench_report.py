"""The tables of the benchmark: medians, ratios within a round, and misses that cannot be overlooked."""

from pathlib import Path

import pytest

from bench import report
from bench.cases import JAVA, LOADS, OURS, PROTOTYPE, SETTINGS, ZOOKEEPER
from bench.peers.driver import Job
from bench.samples import Sample, Samples

CASE = report.put_case(SETTINGS[0], LOADS[0])  # 50 x 1, which has to reach 0.75 of the prototype


def measured(case: str, **rates: list[float | None]) -> Samples:
    """Return samples of one case, one value a round for each broker; None is a failure."""
    samples = Samples({"Machine": "a desk"})
    for broker, values in rates.items():
        for round_, value in enumerate(values):
            samples.add(Sample(case, broker, round_, value, "messages/s", "" if value else "it does not serve"))
    return samples


def row(samples: Samples) -> str:
    (line,) = [line for line in report.text(samples).splitlines() if line.startswith("| unsynced/16/50x1 ")]
    return line


def test_a_row_has_medians_spread_and_ratios() -> None:
    samples = measured(CASE, prototype=[1000.0, 3000.0, 2000.0], metaq=[900.0, 2700.0, 1800.0], java=[600.0] * 3)
    expected = "2,000 (1,000–3,000) | 1,800 (900–2,700) | 600 (600–600) | 0.90 | 3.00 |"
    assert row(samples) == f"| unsynced/16/50x1 | {expected}"


def test_a_ratio_compares_what_ran_in_the_same_round() -> None:
    samples = measured(CASE, prototype=[1000.0, 100.0, 10.0], metaq=[500.0, 50.0, 500.0])
    assert samples.ratio(CASE, OURS, PROTOTYPE) == 0.5


def test_a_round_in_which_one_failed_has_no_ratio() -> None:
    samples = measured(CASE, prototype=[1000.0, 100.0], metaq=[None, 50.0])
    assert samples.ratio(CASE, OURS, PROTOTYPE) == 0.5
    assert samples.ratio(CASE, OURS, JAVA) is None


@pytest.mark.parametrize(("ours", "shown"), [(749.0, "| **0.74, misses 0.75** |"), (750.0, "| 0.75 |")])
def test_a_miss_stands_out(ours: float, shown: str) -> None:
    assert shown in row(measured(CASE, prototype=[1000.0], metaq=[ours], java=[1.0]))


def test_a_broker_slower_than_java_stands_out() -> None:
    assert row(measured(CASE, prototype=[100.0], metaq=[90.0], java=[100.0])).endswith(
        "| 0.90 | **0.90, misses 1.0** |"
    )


def test_a_cell_without_value_says_why() -> None:
    assert "| failed: it does not serve |" in row(measured(CASE, prototype=[100.0], metaq=[90.0], java=[None]))


@pytest.mark.parametrize(("ours", "missed"), [(650.0, True), (710.0, False)])
def test_reading_is_measured_by_the_bare_loop(ours: float, missed: bool) -> None:
    samples = Samples({})
    samples.add(Sample(report.READ_CASE, report.BARE, 0, 1000.0, "MB/s"))
    samples.add(Sample(report.READ_CASE, OURS, 0, ours, "MB/s"))
    assert ("misses 0.7" in report.text(samples)) is missed


def test_reading_a_gigabyte_a_second_is_enough() -> None:
    samples = Samples({})
    samples.add(Sample(report.READ_CASE, report.BARE, 0, 9000.0, "MB/s"))
    samples.add(Sample(report.READ_CASE, OURS, 0, 1001.0, "MB/s"))
    assert "misses" not in report.text(samples)


@pytest.mark.parametrize(("seconds", "missed"), [(2.9, False), (3.1, True)])
def test_a_slow_start_stands_out(seconds: float, missed: bool) -> None:
    samples = measured("start/after SIGKILL", metaq=[seconds])
    assert ("misses 3" in report.text(samples)) is missed


def test_samples_survive_writing_and_reading(tmp_path: Path) -> None:
    samples = measured(CASE, prototype=[1.0, None])
    samples.write(tmp_path / "bench" / "samples.json")
    assert Samples.read(tmp_path / "bench" / "samples.json") == samples


def test_what_was_written_by_hand_below_the_tables_is_kept(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    assert report.explanation(page) == ""
    page.write_text(f"# Benchmarks\n\n| old |\n\n{report.EXPLANATION}\n\nThe disk.\n", "utf-8")
    assert report.explanation(page) == f"\n{report.EXPLANATION}\n\nThe disk.\n"


def consumed(**rates: float) -> Samples:
    """Return samples of pairs: ours reached 1,000 beside each."""
    samples = Samples({"Machine": "a desk"})
    for turn, (name, rate) in enumerate(rates.items()):
        samples.add(Sample("consume/100 B", OURS, turn, 1000.0, "messages/s"))
        samples.add(Sample("consume/100 B", name.replace("_", " "), turn, rate, "messages/s"))
    return samples


def test_only_the_best_peer_as_it_comes_and_java_are_targets() -> None:
    lines = report.text(consumed(slow=100.0, fast=900.0, fast_tuned=5000.0, java=1250.0)).splitlines()
    rows = [line for line in lines if line.startswith("| 100 B")]
    assert rows == [
        "| 100 B | slow | 100 | 1,000 | 10.00 |",
        "| 100 B | fast (the best) | 900 | 1,000 | **1.11, misses 1.2** |",
        "| 100 B | fast tuned | 5,000 | 1,000 | 0.20 |",
        "| 100 B | Java 1.4.6.2 | 1,250 | 1,000 | 0.80 |",
        "| 100 B | **metaq** | 1,000 (1,000–1,000) | | |",
    ]


def test_a_peer_that_failed_says_why_and_is_not_the_best() -> None:
    samples = consumed(slow=100.0)
    samples.add(Sample("consume/100 B", "broken", 9, None, "messages/s", "it does not serve"))
    page = report.text(samples)
    assert "| 100 B | broken | failed: it does not serve | – | – |" in page
    assert "slow (the best)" in page


@pytest.mark.parametrize(("rate", "missed"), [(19_999.0, True), (20_000.0, False)])
def test_too_few_writes_of_the_registry_stand_out(rate: float, missed: bool) -> None:
    samples = Samples({})
    samples.add(Sample("registry/writes, 1 connections", OURS, 0, rate, "writes/s"))
    samples.add(Sample("registry/writes, 1 connections", ZOOKEEPER, 0, 10_000.0, "writes/s"))
    assert ("misses 20,000" in report.text(samples)) is missed


@pytest.mark.parametrize("name", [OURS, ZOOKEEPER])
@pytest.mark.parametrize(("seconds", "missed"), [(4.9, False), (5.1, True)])
def test_a_slow_rebalance_stands_out_on_either_registry(name: str, seconds: float, missed: bool) -> None:
    samples = Samples({})
    samples.add(Sample("rebalance/50 of 100 leave", name, 0, seconds, "s"))
    assert ("**misses 5**" in report.text(samples)) is missed


def test_a_part_that_was_not_measured_keeps_its_samples(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    first = measured(CASE, prototype=[1000.0], metaq=[900.0], java=[1.0])
    report.write(page, first)
    page.write_text(page.read_text("utf-8") + f"\n{report.EXPLANATION}\n\nThe disk.\n", "utf-8")
    report.write(page, Samples({"Machine": "another"}, consumed(slow=100.0).taken))
    text = page.read_text("utf-8")
    assert text.index("- Machine: a desk") < text.index("unsynced/16/50x1") < text.index("- Machine: another")
    assert "| 100 B | slow (the best) |" in text
    assert text.endswith(f"\n{report.EXPLANATION}\n\nThe disk.\n")


def test_a_case_measured_again_replaces_what_there_was_of_it_and_the_table_says_when(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    before, after = ({"Date": day, "metaq": f"commit {day}"} for day in ("Monday", "Friday"))
    other = report.put_case(SETTINGS[0], LOADS[1])
    old = [*measured(CASE, metaq=[900.0, 800.0]).taken, *measured(other, metaq=[500.0]).taken]
    report.write(page, Samples(before, old))
    assert "Measured Monday, commit Monday." in page.read_text("utf-8")
    report.write(page, Samples(after, measured(CASE, metaq=[700.0]).taken))
    report.write(page, Samples(after, measured(CASE, metaq=[700.0, 600.0]).taken))  # as it does after each step
    text = page.read_text("utf-8")
    assert f"Measured Friday, commit Friday; of earlier runs: {other} Monday, commit Monday." in text
    assert "650 (600–700)" in text
    assert "500" in text
    assert "800" not in text


def test_the_page_of_partitions_has_its_tables_between_marks(tmp_path: Path) -> None:
    page = tmp_path / "partitions.md"
    page.write_text(
        "Before.\n\n<!-- puts -->\nold\n<!-- end of puts -->\n\n<!-- speed -->\nkept\n<!-- end of speed -->\n"
    )
    report.write(tmp_path / "benchmarks.md", measured("put/synced/16/50x1", metaq=[160.0], java=[100.0]))
    text = page.read_text("utf-8")
    assert "| metaq | 160 | - | - | - |\n\n<!-- end of puts -->" in text
    assert "old" not in text
    assert text.startswith("Before.")
    assert text.endswith("<!-- speed -->\nkept\n<!-- end of speed -->\n")


@pytest.mark.parametrize("mixed", [False, True])
def test_a_backlog_is_the_same_every_time_and_as_large_as_it_says(mixed: bool) -> None:
    job = Job("fill", "127.0.0.1:1", "t", 1234, 100, 4, mixed)
    bodies = [body for batch in job.bodies() for body in batch]
    assert bodies == [body for _, batch in job.parts() for body in batch]
    assert len(bodies) == 1234
    assert {len(body) for body in bodies} <= (set(range(50, 151)) if mixed else {100})
