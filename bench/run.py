"""`make bench`: ours, the Java broker and other systems one after the other, several times, and a page of it."""

import asyncio
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from bench import facts, loads, plots, report
from bench.backlog import measure_reading
from bench.brokers import Running, running
from bench.cases import (
    BROKERS,
    CREATING,
    CREATING_FROM,
    JAVA,
    LOADS,
    OURS,
    SETTINGS,
    START_PARTITIONS,
    Load,
    Setting,
)
from bench.clients import PEERS, Clients, Measure, measure_backlogs, measure_registry_and_groups, peers_that_are_there
from bench.loads import LoadFailed, Puts
from bench.processes import ServerFailed
from bench.producing import CASES, GROUP, Session, measure_producing
from bench.samples import Sample, Samples
from bench.systems import COUNTS, System, all_systems, compile_java
from metaq.testing import ZooKeeper
from tests.interop import jvm

IDLE: Final = 2.0  # seconds before memory is read
SHAKE: Final = Load(50, 20, 0.0)  # what every broker gets before it is measured; Java compiles meanwhile
Failure: Final = (LoadFailed, ServerFailed)
PAGE: Final = Path("docs/benchmarks.md")
QUICK_PAGE: Final = loads.BUILD / "quick" / "benchmarks.md"
MINUTES: Final = 25.0
QUICK_MINUTES: Final = 6.0
RARELY: Final = 10_000  # partitions, from which on only the first round has a setting: the Java broker takes a minute


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run."""

    brokers: tuple[str, ...]
    systems: tuple[System, ...]
    rounds: int
    seconds: float  # of each load
    only: re.Pattern[str]
    folder: Path
    zk: str
    clients: Clients
    page: Path
    quick: bool
    ends: float  # of the monotonic clock: nothing is begun after it
    left: list[str] = field(default_factory=list)  # what was not begun, or broke

    @property
    def warm(self) -> float:
        """Seconds before each load, and three times that before the first."""
        return self.seconds / 3

    def wants(self, case: str) -> bool:
        return self.only.search(case) is not None

    def late(self) -> bool:
        return time.monotonic() > self.ends

    def turn(self, round_: int) -> list[str]:
        """Return the brokers in another order each round."""
        turned = round_ % len(self.brokers) if self.brokers else 0
        return [*self.brokers[turned:], *self.brokers[:turned]]

    def systems_in_turn(self, round_: int) -> list[System]:
        turned = round_ % len(self.systems) if self.systems else 0
        return [*self.systems[turned:], *self.systems[:turned]]

    def settings(self, round_: int) -> list[Setting]:
        return [each for each in SETTINGS if each.partitions < RARELY or not (round_ or self.quick)]


async def measure_puts(plan: Plan, samples: Samples, round_: int, setting: Setting) -> None:
    wanted = [load for load in LOADS if plan.wants(report.put_case(setting, load))]
    creating = setting.partitions >= CREATING_FROM and plan.wants(report.creating_case(setting))
    if not wanted and not creating:
        return
    for name in plan.turn(round_):
        say(f"round {round_ + 1}: {name}, {setting.name}")
        folder = plan.folder / f"{name}-puts"
        todo = [report.creating_case(setting)] * creating + [report.put_case(setting, load) for load in wanted]
        try:
            async with running(name, folder, setting, plan.zk) as broker:
                if creating:
                    puts = await loads.put(broker.port, CREATING, setting.partitions, plan.seconds, 0)
                    samples.add(put_sample(todo.pop(0), name, round_, puts))
                await loads.put_each(broker.port, setting.partitions)
            # a broker may make the files of new partitions later: stopped in order it has, and creating is not measured
            async with running(name, folder, setting, plan.zk) as broker:
                await loads.put(broker.port, SHAKE, setting.partitions, 3 * plan.warm, 0)
                for load in wanted:
                    puts = await loads.put(broker.port, load, setting.partitions, plan.seconds, plan.warm)
                    samples.add(put_sample(todo.pop(0), name, round_, puts))
        except Failure as exc:
            for case in todo:
                samples.add(Sample(case, name, round_, None, "messages/s", one_line(exc)))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if plan.late():
            return


def put_sample(case: str, broker: str, round_: int, puts: Puts) -> Sample:
    say(f"  {case}: {puts.rate:,.0f}/s, p50 {puts.p50_ms} ms, p99 {puts.p99_ms} ms")
    return Sample(case, broker, round_, puts.rate, "messages/s", f"p50 {puts.p50_ms} ms, p99 {puts.p99_ms} ms")


async def measure_start(plan: Plan, samples: Samples, round_: int) -> None:
    """Fill a folder with partitions, stop, start; for ours also after SIGKILL."""
    setting = Setting(synced=False, partitions=START_PARTITIONS)
    for name in (n for n in plan.turn(round_) if n in (OURS, JAVA)):
        say(f"round {round_ + 1}: {name}, start with {START_PARTITIONS:,} partitions")
        folder = plan.folder / f"{name}-start"

        def add(case: str, value: float, unit: str, name: str = name) -> None:
            say(f"  start/{case}: {value:,.2f} {unit}")
            samples.add(Sample(f"start/{case}", name, round_, value, unit))

        try:
            async with running(name, folder, setting, plan.zk) as broker:
                await loads.put_each(broker.port, START_PARTITIONS, times=10)
            async with running(name, folder, setting, plan.zk) as broker:
                add("after a clean stop", broker.seconds, "s")
                await asyncio.sleep(IDLE)
                add("memory, idle", broker.memory(), report.MIB)
                if name == OURS:
                    await loads.put_each(broker.port, START_PARTITIONS)
                    await kill(broker)
            if name == OURS:
                async with running(name, folder, setting, plan.zk) as broker:
                    add("after SIGKILL", broker.seconds, "s")
        except Failure as exc:
            samples.add(Sample("start/after a clean stop", name, round_, None, "s", one_line(exc)))
        finally:
            shutil.rmtree(folder, ignore_errors=True)


async def kill(broker: Running) -> None:
    broker.process.kill()
    await broker.process.wait()


def one_line(error: Exception) -> str:
    return " ".join(str(error).split()).replace("|", "/")[-160:]


def say(words: str) -> None:
    click.echo(words, err=True)


async def measure(plan: Plan, samples: Samples) -> None:
    """Measure round by round what is wanted; what has been measured is written after each step."""
    for round_ in range(plan.rounds):
        for name, step in steps(plan, samples, round_):
            if plan.late():
                plan.left.append(f"round {round_ + 1}, {name}: the time was over")
                continue
            await guarded(plan, samples, f"round {round_ + 1}, {name}", step)


def steps(plan: Plan, samples: Samples, round_: int) -> Iterator[tuple[str, Callable[[], Awaitable[None]]]]:
    """Yield the steps of a round that are wanted, by name."""
    steering = Measure(plan.wants, say, plan.late)
    session = Session(plan.folder, plan.seconds, plan.wants, say, plan.late, COUNTS[: 3 if plan.quick else 4])
    for system in plan.systems_in_turn(round_) if any(plan.wants(f"{GROUP}{case}") for case in CASES) else ():
        yield system.name, partial(measure_producing, session, samples, round_, system)
    if not round_ and plan.wants("consume/"):
        yield "consuming", partial(measure_backlogs, plan.clients, samples, steering, plan.folder, plan.zk)
    for setting in plan.settings(round_) if plan.brokers else ():
        if not any(map(plan.wants, (report.creating_case(setting), *(report.put_case(setting, x) for x in LOADS)))):
            continue
        yield f"puts {setting.name}", partial(measure_puts, plan, samples, round_, setting)
    for name in report.MODULES.values():
        module = report.measured_by(name)
        if not round_ and plan.wants(f"{name}/") and hasattr(module, "measure"):
            yield name, partial(measure_module, plan, samples, name, module)
    if plan.wants(report.READ_CASE) and plan.brokers:
        names = [name for name in plan.turn(round_) if name in (OURS, JAVA)]
        yield "reading", partial(measure_reading, samples, round_, names, plan.folder, plan.zk)
    if plan.wants("start/"):
        yield "start", partial(measure_start, plan, samples, round_)
    if plan.wants("registry/") or plan.wants("rebalance/"):
        yield (
            "registry and groups",
            partial(measure_registry_and_groups, plan.clients, samples, steering, plan.folder, round_),
        )


async def measure_module(plan: Plan, samples: Samples, name: str, module: Any) -> None:
    """Have a module measure its own cases."""
    say(f"{name}")
    folder = plan.folder / name
    folder.mkdir(exist_ok=True)
    if name == "partitions":
        counts = (16, 1024) if plan.quick else module.COUNTS
        measure = module.Measure(folder, plan.seconds, plan.warm, counts, reading=not plan.quick)
        await module.measure(measure, samples, 0)
    else:
        await module.measure(samples, 0, folder, plan.seconds, say)


async def guarded(plan: Plan, samples: Samples, name: str, step: Callable[[], Awaitable[None]]) -> None:
    """Carry out one step; one that breaks is said, and the next follows. Write what there is."""
    count = len(samples.taken)
    try:
        await step()
    except Exception as exc:  # noqa: BLE001 - whatever broke one step, the others are worth measuring
        say(f"*** {name}: {one_line(exc) or type(exc).__name__}")
        plan.left.append(f"{name}: {one_line(exc) or type(exc).__name__}")
    if len(samples.taken) > count:
        report.write(plan.page, samples)


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
    nothing was measured stay as they are. Exit status 1: something that is installed could not be measured. A target
    that is missed is shown, and no failure; what is not installed is left out, and said.
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
    sys.exit(bool(plan.left) or any(sample.value is None for sample in samples.taken))


def finish(plan: Plan, samples: Samples) -> None:
    """Print the tables and write the page with its plots."""
    if plan.left:
        samples.facts["Not measured"] = "; ".join(plan.left)
    click.echo(report.text(samples))
    if not samples.taken:
        return
    report.write(plan.page, samples)
    try:
        plots.draw(plan.page.parent / "bench")
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
