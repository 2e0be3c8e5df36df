"""`make bench`: ours, the Java broker and other systems one after the other, several times, and a page of it."""

import asyncio
import re
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from bench import deaf, facts, loads, plots, pressure, pressure_plots, report
from bench.cases import BROKERS, JAVA, OURS
from bench.clients import PEERS, Clients, peers_that_are_there
from bench.plan import Plan, one_line, say
from bench.samples import Samples
from bench.steps import measure
from bench.systems import System, all_systems, compile_java
from metaq.testing import ZooKeeper
from tests.interop import jvm

PAGE: Final = Path("docs/benchmarks.md")
QUICK_PAGE: Final = loads.BUILD / "quick" / "benchmarks.md"
MINUTES: Final = 55.0
QUICK_MINUTES: Final = 7.0


@click.command(context_settings={"show_default": True})
@click.option("--rounds", default=3, help="How often everything has its turn.")
@click.option("--seconds", default=1.0, help="How long each load is measured.")
@click.option(
    "--minutes", type=float, help=f"Begin nothing after so long.  [default: {MINUTES:g}; --quick: {QUICK_MINUTES:g}]"
)
@click.option("--quick", is_flag=True, help="One round of half a second: shows that it runs, not how fast.")
@click.option(
    "--only",
    default="",
    metavar="PATTERN",
    help="Only cases that match, such as peers/P6, consume/100, put/synced/16/50x1, partitions, read, start, registry.",
)
@click.option("--brokers", default=f"{OURS},{JAVA}", help=f"Which of {','.join(BROKERS)} the raw loads are put on.")
@click.option(
    "--peers", default="all", help="Which systems and clients take part, by parts of their names: kafka,redis"
)
@click.option(
    "--write",
    type=click.Path(path_type=Path),
    help=f"The page; samples and plots go into bench/ beside it.  [default: {PAGE}; --quick: build/bench/quick]",
)
def main(
    rounds: int,
    seconds: float,
    minutes: float | None,
    quick: bool,
    only: str,
    brokers: str,
    peers: str,
    write: Path | None,
) -> None:
    """Measure metaq beside the Java broker 1.4.6.2 and other systems, and write a page of it.

    What was measured is written after each step, so that a run that is interrupted keeps it; parts of the page of which
    nothing was measured stay as they are. A case that is measured again replaces what there was of it; below each table
    stands when and at which commit its cases were measured. Exit status 1: ours broke, or a step of the benchmark. A
    target that is missed, another system that breaks or is not installed, and what there was no time for are said, and
    no failure.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that brokers and folders do not stay behind
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # for servers with a file for each partition
    loads.compile_all()
    rounds, seconds = (1, min(seconds, 0.5)) if quick else (rounds, seconds)
    ends = time.monotonic() + 60 * (minutes or (QUICK_MINUTES if quick else MINUTES))
    page = write or (QUICK_PAGE if quick else PAGE)
    page.parent.mkdir(parents=True, exist_ok=True)
    names = tuple(name for name in BROKERS if name in brokers.split(","))
    with tempfile.TemporaryDirectory(prefix="metaq-bench-") as place, zookeeper_for(names, Path(place)) as zk:
        systems, left_out = systems_that_are_there(zk, peers)
        there, also_left_out = peers_that_are_there([name for name in PEERS if chosen(name, peers)])
        clients = Clients.quick(there) if quick else Clients.full(there, rounds)
        facts_ = facts.gather(sys.argv[1:], Path(place)) | facts.of_peers(there, systems, left_out | also_left_out)
        samples = Samples(facts_)
        plan = Plan(names, systems, rounds, seconds, re.compile(only), Path(place), zk, clients, page, quick, ends)
        try:
            asyncio.run(measure(plan, samples))
        finally:  # also when interrupted: what was measured is worth showing
            finish(plan, samples)
    sys.exit(bool(plan.broken) or any(s.value is None and s.broker.startswith(OURS) for s in samples.taken))


def finish(plan: Plan, samples: Samples) -> None:
    """Print the tables and write the page with its plots."""
    if plan.left:
        samples.facts["No time for"] = "; ".join(plan.left)
    if plan.broken:
        samples.facts["Broken"] = "; ".join(plan.broken)
    click.echo(report.text(samples))
    if not samples.taken:
        return
    report.write(plan.page, samples)
    folder = plan.page.parent / "bench"
    try:
        plots.draw(folder)
        if (folder / pressure.COURSES).exists():
            pressure_plots.draw(folder)
        if (folder / deaf.COURSES).exists():
            pressure_plots.draw_deaf(folder)
    except ImportError as exc:
        say(f"*** no plots: {exc}")
    report.write(plan.page, samples)  # again: it shows the plots that are there now
    say(f"written: {plan.page}")


def chosen(name: str, peers: str) -> bool:
    return peers == "all" or any(word.strip().lower() in name.lower() for word in peers.split(",") if word.strip())


def systems_that_are_there(zk: str, peers: str) -> tuple[tuple[System, ...], dict[str, str]]:
    """Return the systems that can be measured here, ours always, and why others cannot. Compiles what is in Java."""
    found, left_out = [], {}
    for system in all_systems(zk):
        if system.name != OURS and not any(chosen(n, peers) for n in (system.name, *(c.name for c in system.clients))):
            continue
        why = system.missing()
        try:
            compile_java([client.java for client in system.clients if client.java and not why])
        except (RuntimeError, OSError) as exc:
            why = one_line(exc)
        if not why and not system.those_there():
            why = f"no Python module {system.clients[0].module}"
        if why:
            left_out[system.name] = why
        else:
            found.append(system)
    return tuple(found), left_out


@contextmanager
def zookeeper_for(names: tuple[str, ...], folder: Path) -> Iterator[str]:
    """Run a ZooKeeper if Java takes part and can; yields its address, "" if there is none."""
    if JAVA not in names or not ZooKeeper.available() or jvm.missing():
        yield ""
        return
    with ZooKeeper(folder / "zookeeper") as zookeeper:
        yield zookeeper.address


if __name__ == "__main__":
    main()
