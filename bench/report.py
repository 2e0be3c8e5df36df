"""From samples to tables in Markdown, with medians, spread, ratios and misses."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Final

from bench import deaf, partitions, pressure, replication
from bench.cases import (
    BODY_SIZE,
    BROKERS,
    CREATING,
    JAVA,
    LOADS,
    MEMORY_TARGET,
    OURS,
    PROTOTYPE,
    READ_RATE,
    READ_TARGET,
    SETTINGS,
    START_PARTITIONS,
    START_TARGET,
    Load,
    Setting,
    java_target,
)
from bench.report_cells import cell, judged
from bench.report_clients import CONSUMING, REBALANCING, REGISTRY, consuming_rows, rebalance_rows, registry_rows
from bench.report_peers import head as peers_head
from bench.report_peers import rows as peer_rows
from bench.report_peers import start_head
from bench.samples import Samples
from bench.targets import HEAD as TARGETS_HEAD
from bench.targets import rows as target_rows

BARE: Final = "bare C loop"
EXPLANATION: Final = "## What falls short, and why"  # written by hand; a new run keeps it
READ_CASE: Final = "read/1MiB"
MIB: Final = "MiB"
BROKERS_PART: Final = "The broker"
CLIENTS: Final = "Clients and registry"
PEERS: Final = "Beside other systems"
PARTITIONS: Final = "Many partitions"
PRESSURE: Final = "Under pressure"
SLAVES: Final = "Slaves"
PARTS: Final = {  # and the files of their samples
    PEERS: "peers",
    BROKERS_PART: "benchmarks",
    CLIENTS: "clients",
    PARTITIONS: "partitions",
    PRESSURE: "pressure",
    SLAVES: "replication",
}
PRODUCED: Final = tuple(f"peers/P{number}" for number in range(1, 8))
PLOTS: Final = {
    PEERS: ("produce", "latency", "partitions"),
    CLIENTS: ("consume",),
    PRESSURE: ("pressure", "shares", "deaf"),
}  # below the title of a part
TITLE: Final = """\
# Benchmarks

What is compared runs one after the other on one machine, in every round; a cell is the median over the rounds
(least–most), a ratio the median of the ratios of each round. Load and server share the processors. Compare ratios of
one run, not figures of two. The prototype is `bench/prototype.py`: the same design, nothing checked, nothing recovered.
"""
PICTURED: Final = {
    "produce": "Messages per second of producers",
    "latency": "Latency of one message",
    "partitions": "Synced messages per second over the number of partitions",
    "consume": "Messages per second of consumers",
    "pressure": "Acknowledged messages and memory over time, producers faster than the disk",
    "shares": "Messages acknowledged to each of many equal producers",
    "deaf": "Acknowledged messages, a slow reader and memory over time, while others stop reading",
}
TARGETS: Final = f"""\
## Targets

Of the samples below: a ratio is the median of those of the rounds, `≥ 1.2 ×` means 1.2 times the other.

{TARGETS_HEAD}"""
PUTS: Final = f"""\
### Puts

Messages of {BODY_SIZE} bytes, acknowledged per second. `synced/1024/50x20`: synced to disk before every reply, 1,024
partitions in turn, 50 connections with 20 puts in flight each. The partitions exist before, with their files: each
broker was stopped and started again since it made them. `create`: from an empty folder, each partition made meanwhile.

| Case | {" | ".join(BROKERS)} | metaq : prototype | metaq : Java |
|---|---|---|---|---|---|"""
READING: Final = """\
### Reading a backlog

1 GiB of one partition, one connection, one get of 1 MiB in flight, from the memory of the operating system.

| Server | MB/s | : bare C loop |
|---|---|---|"""
SYNCED: Final = """\
| Puts per second, synced, 50 connections with one put each | 16 | 128 | 1,024 | 10,000 |
|---|---|---|---|---|"""
START: Final = f"""\
### Start

With {START_PARTITIONS:,} partitions on disk: time from the start of the process until it serves, and resident memory
when it idles.

| Case | Broker | Value |
|---|---|---|"""


def put_case(setting: Setting, load: Load) -> str:
    return f"put/{setting.name}/{load.name}"


def creating_case(setting: Setting) -> str:
    return f"create/{setting.name}/{CREATING.name}"


def put_rows(samples: Samples) -> Iterator[str]:
    for setting in SETTINGS:
        for load in LOADS:
            yield from put_row(samples, put_case(setting, load), load.target, java_target(setting, load))
    for setting in SETTINGS:
        yield from put_row(samples, creating_case(setting), 0.0, 0.0)


def put_row(samples: Samples, case: str, target: float, java_target: float) -> Iterator[str]:
    if case not in samples.cases():
        return
    ours = judged(samples.ratio(case, OURS, PROTOTYPE), target)
    java = judged(samples.ratio(case, OURS, JAVA), java_target)
    cells = " | ".join(cell(samples, case, broker) for broker in BROKERS)
    yield f"| {case.removeprefix('put/')} | {cells} | {ours} | {java} |"


def synced_rows(samples: Samples) -> Iterator[str]:
    """Yield the rates of the two brokers over partitions."""
    for name in (JAVA, OURS):
        cells = (samples.values(f"put/synced/{count}/50x1", name).values() for count in (16, 128, 1024, 10_000))
        texts = [f"{median(each):,.0f}" if each else "-" for each in cells]
        if any(text != "-" for text in texts):
            yield f"| {'MetaQ 1.4.6.2' if name == JAVA else name} | {' | '.join(texts)} |"


def read_rows(samples: Samples) -> Iterator[str]:
    if READ_CASE not in samples.cases():
        return
    for broker in (BARE, OURS, JAVA):
        ratio = samples.ratio(READ_CASE, broker, BARE)
        rates = samples.values(READ_CASE, broker).values()
        fast = bool(rates) and median(rates) * 1e6 >= READ_RATE
        verdict = judged(ratio, READ_TARGET if broker == OURS and not fast else 0.0)
        yield f"| {broker} | {cell(samples, READ_CASE, broker)} | {verdict} |"


def start_rows(samples: Samples) -> Iterator[str]:
    for case in (c for c in samples.cases() if c.startswith("start/")):
        target = MEMORY_TARGET if samples.unit(case) == MIB else START_TARGET
        for broker, values in samples.by_broker(case).items():
            missed = broker == OURS and median(values) > target
            verdict = f" **misses {target:g}**" if missed else ""
            yield f"| {case} | {broker} | {cell(samples, case, broker)} {samples.unit(case)}{verdict} |"
        for broker in (OURS, JAVA):
            if note := not samples.values(case, broker) and samples.note(case, broker):
                yield f"| {case} | {broker} | failed: {note} |"


def table(head: str, rows: Iterable[str], origin: str = "") -> list[str]:
    """Return a table below its head, and when it was measured; nothing if it has no rows."""
    body = list(rows)
    return ["", head, *body, *(["", origin] if origin else [])] if body else []


def origin(samples: Samples, *groups: str) -> str:
    """Say when, and at which commit, the cases that begin so were measured: by runs, if there are several."""
    runs: dict[str, list[str]] = {}
    for sample in samples.taken:
        if sample.case.startswith(groups):
            cases = runs.setdefault(sample.run or samples.run, [])
            cases += [sample.case] * (sample.case not in cases)
    if len(runs) < 2:
        return "".join(f"Measured {run}." for run in runs if run)
    newest = samples.run
    parts = [f"{', '.join(runs[run])} {run}" for run in runs if run != newest]
    return f"Measured {newest}; of earlier runs: {'; '.join(parts)}."


def tables(samples: Samples) -> list[str]:
    """Return all tables for which there are samples."""
    lines = []
    for head, rows, groups in (
        (peers_head(samples), peer_rows(samples), PRODUCED),
        (start_head(samples), peer_rows(samples, start=True), ("peers/P8",)),
        (PUTS, put_rows(samples), ("put/", "create/")),
        (READING, read_rows(samples), (READ_CASE,)),
        (START, start_rows(samples), ("start/",)),
        (CONSUMING, consuming_rows(samples), ("consume/",)),
        (REGISTRY, registry_rows(samples), ("registry/",)),
        (REBALANCING, rebalance_rows(samples), ("rebalance/",)),
        (partitions.head(samples), partitions.rows(samples), ("partitions/synced/", "partitions/unsynced/")),
        (partitions.READING, partitions.reading_rows(samples), ("partitions/",)),
        (pressure.HEAD, pressure.rows(samples), ("pressure/",)),
        (deaf.HEAD, deaf.rows(samples), ("deaf/",)),
        (replication.HEAD, replication.rows(samples), (replication.GROUP,)),
    ):
        lines += table(head, rows, origin(samples, *groups))
    return lines


def text(samples: Samples) -> str:
    """Return the facts of one run and its tables."""
    return "\n".join([*(f"- {name}: {value}" for name, value in samples.facts.items()), *tables(samples)]) + "\n"


def part_of(case: str) -> str:
    """Return in which part of the page a case is."""
    first = case.partition("/")[0]
    parts = {"peers": PEERS, "partitions": PARTITIONS, "pressure": PRESSURE, "deaf": PRESSURE, "replication": SLAVES}
    parts |= dict.fromkeys(("consume", "registry", "rebalance"), CLIENTS)
    return parts.get(first, BROKERS_PART)


def write(page: Path, samples: Samples) -> None:
    """Write the page; cases that were not measured now stay as they are in bench/ beside it."""
    folder = page.parent / "bench"
    texts = []
    everything = Samples({})
    for part, name in PARTS.items():
        place = folder / f"{name}.json"
        mine = Samples(samples.facts, [each for each in samples.taken if part_of(each.case) == part])
        if mine.taken:
            (mine.with_older(Samples.read(place)) if place.exists() else mine).write(place)
        if place.exists():
            found = Samples.read(place)
            everything.taken += found.taken
            texts.append(f"## {part}\n\n{pictures(folder, part)}{text(found)}")
    goals = "\n".join(table(TARGETS, target_rows(everything)))
    write_beside(page.with_name("partitions.md"), everything)
    page.write_text("\n".join([TITLE, *([f"{goals}\n"] if goals else []), *texts]) + explanation(page), "utf-8")


def write_beside(page: Path, samples: Samples) -> None:
    """Put the tables into the page that explains partitions, where it is there: between its marks."""
    if not page.exists():
        return
    text = page.read_text("utf-8")
    speed = table(partitions.SPEED, partitions.speed_rows(samples))
    for mark, lines in (("speed", speed), ("puts", table(SYNCED, synced_rows(samples)))):
        start, end = text.find(f"<!-- {mark} -->"), text.find(f"<!-- end of {mark} -->")
        if lines and 0 <= start < end:
            text = f"{text[:start]}<!-- {mark} -->\n" + "\n".join(lines) + f"\n\n{text[end:]}"
    page.write_text(text, "utf-8")


def pictures(folder: Path, part: str) -> str:
    """Return the plots of a part that are there, as Markdown."""
    there = [name for name in PLOTS.get(part, ()) if (folder / f"{name}.svg").exists()]
    return "".join(f"![{PICTURED[name]}](bench/{name}.svg)\n\n" for name in there)


def explanation(page: Path) -> str:
    """Return what somebody wrote below the tables of the page that is there, from its heading on; "" if nothing."""
    text = page.read_text("utf-8") if page.exists() else ""
    start = text.find(EXPLANATION)
    return "" if start < 0 else "\n" + text[start:]
