"""`make bench`: the prototype, ours and the Java broker one after the other, several times, and a table of it."""

import asyncio
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from bench import facts, loads, report
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
from bench.clients import PEERS, Clients, measure_clients, peers_that_are_there
from bench.loads import LoadFailed, Puts
from bench.processes import ServerFailed
from bench.samples import Sample, Samples
from metaq.testing import ZooKeeper

IDLE: Final = 2.0  # seconds before memory is read
SHAKE: Final = Load(50, 20, 0.0)  # what every broker gets before it is measured; Java compiles meanwhile
Failure: Final = (LoadFailed, ServerFailed)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run."""

    brokers: tuple[str, ...]
    rounds: int
    seconds: float  # of each load
    warm: float  # seconds before each load, and three times that before the first
    only: re.Pattern[str]
    folder: Path
    zk: str
    clients: Clients

    def wants(self, case: str) -> bool:
        return self.only.search(case) is not None

    def turn(self, round_: int) -> list[str]:
        """Return the brokers in another order each round."""
        turned = round_ % len(self.brokers)
        return [*self.brokers[turned:], *self.brokers[:turned]]


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
    for round_ in range(plan.rounds):
        for setting in SETTINGS:
            await measure_puts(plan, samples, round_, setting)
        if plan.wants(report.READ_CASE):
            names = [name for name in plan.turn(round_) if name in (OURS, JAVA)]
            await measure_reading(samples, round_, names, plan.folder, plan.zk)
        if plan.wants("start/"):
            await measure_start(plan, samples, round_)
    await measure_clients(plan.clients, samples, plan.wants, plan.folder, plan.zk, say)


@click.command(context_settings={"show_default": True})
@click.option("--rounds", default=3, help="How often every broker has its turn.")
@click.option("--seconds", default=3.0, help="How long each load is measured.")
@click.option("--quick", is_flag=True, help="One round of one second: shows that it runs, not how fast.")
@click.option(
    "--only",
    default="",
    metavar="PATTERN",
    help="Only cases that match, such as put/synced/16/50x1, read, start, consume/100.",
)
@click.option("--brokers", default=",".join(BROKERS), help="Which take part.")
@click.option("--peers", default=",".join(PEERS), help="Which clients consume beside ours, of those that are there.")
@click.option(
    "--write", type=click.Path(path_type=Path), help="Write the tables here, the samples into bench/ beside it."
)
def main(rounds: int, seconds: float, quick: bool, only: str, brokers: str, peers: str, write: Path | None) -> None:
    """Measure metaq beside a prototype of its design, the Java broker 1.4.6.2, and other systems.

    Exit status 1: something could not be measured. A target that is missed is shown, and no failure.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that brokers and folders do not stay behind
    loads.compile_all()
    rounds, seconds = (1, 1.0) if quick else (rounds, seconds)
    there, left_out = peers_that_are_there(peers.split(","))
    clients = Clients.quick(there) if quick else Clients.full(there, rounds)
    names = tuple(name for name in BROKERS if name in brokers.split(","))
    with tempfile.TemporaryDirectory(prefix="metaq-bench-") as place:
        folder = Path(place)
        samples = Samples(facts.gather(sys.argv[1:], folder) | facts.of_peers(there, left_out))
        try:
            with zookeeper_for((*names, *there), folder) as zk:
                plan = Plan(names, rounds, seconds, seconds / 3, re.compile(only), folder, zk, clients)
                asyncio.run(measure(plan, samples))
        finally:  # also when interrupted: what was measured is worth showing
            click.echo(report.text(samples))
    if write is not None:
        report.write(write, samples)
    sys.exit(any(sample.value is None for sample in samples.taken))


@contextmanager
def zookeeper_for(names: tuple[str, ...], folder: Path) -> Iterator[str]:
    """Run a ZooKeeper if Java takes part; yields its address, "" if there is none."""
    if JAVA not in names:
        yield ""
        return
    with ZooKeeper(folder / "zookeeper") as zookeeper:
        yield zookeeper.address


if __name__ == "__main__":
    main()
