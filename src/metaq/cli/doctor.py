"""`metaq doctor`: what state the files of a broker are in, and the ways out where it refuses to start on them."""

import asyncio
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import click

from metaq.app import real_world
from metaq.cli.commands import json_option
from metaq.cli.home import find_home, looks_like_home
from metaq.cli.output import emit, note, say
from metaq.cli.tables import table
from metaq.config.broker import load
from metaq.config.model import BrokerConfig
from metaq.errors import CorruptStore, StoreError, StoreLocked
from metaq.files import OsFiles
from metaq.ports import Files
from metaq.store import doctor as store
from metaq.store.doctor import Report
from metaq.store.layout import find_partitions
from metaq.store.store import place_of

_STATES: Final = {
    store.NEW: "no metaq broker has used this folder yet",
    store.IN_USE: "a broker has this folder open",
    store.CLEAN: "stopped cleanly; any broker may open it, also one of 1.4.6.2",
    store.UNCLEAN: "not stopped cleanly; start metaq on it and stop it, a broker of 1.4.6.2 refuses it until then",
}


@dataclass(frozen=True, slots=True)
class Topic:
    """What the partition folders of a topic hold, in bytes."""

    topic: str
    partitions: int
    segments: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a way out will do, and to what: `loss` is what readers will miss, `foreign` the files that have grown."""

    keep: str
    loss: str
    steps: tuple[str, ...]
    foreign: tuple[str, ...]


@click.command()
@click.argument("path", required=False)
@click.option("--keep-files", is_flag=True, help="Give the journal up: partition files have the last word.")
@click.option(
    "--keep-journal", is_flag=True, help="Cut what else grew in partition files: the journal has the last word."
)
@click.option("--yes", is_flag=True, help="Do it without asking.")
@json_option
def doctor(path: str | None, keep_files: bool, keep_journal: bool, yes: bool, as_json: bool) -> None:
    """Say what state a broker's files are in, and mend what only a person can decide.

    PATH: its server.ini, its home, or its dataLogPath; without it, the home as for `metaq server`. With one of the
    --keep options, for a folder on which metaq refuses to start because something else wrote there: shows what it will
    do, asks, and does it. What is given up is moved to `pymetaq/aside`, not deleted.
    """
    if keep_files and keep_journal:
        raise click.UsageError("--keep-files and --keep-journal exclude each other: either has the last word")
    if keep_files or keep_journal:
        config = config_at(path, may_guess=False)
        mend(config, plan_for(config, "files" if keep_files else "journal"), yes, as_json)
        return
    if yes:
        raise click.UsageError("--yes belongs to --keep-files or --keep-journal")
    config = config_at(path, may_guess=True)
    show(config, store.examine(config, OsFiles()), as_json)


def config_at(path: str | None, *, may_guess: bool) -> BrokerConfig:
    """Return the configuration by which files are found. Raises as `load`; UsageError, ConfigError, OSError.

    Of a dataLogPath alone it can only be guessed that it is the one dataPath too.
    """
    if path is None:
        return load(str(find_home(os.environ.get("METAQ_HOME")).ini))
    path = os.path.abspath(path)
    os.stat(path)
    if not os.path.isdir(path):
        return load(path)
    if looks_like_home(Path(path)):
        return load(os.path.join(path, "conf", "server.ini"))
    if not may_guess:
        raise click.UsageError(f"{path} is a folder; name the broker's server.ini or its home, which tell all folders")
    return BrokerConfig(broker_id=0, data_path=path, data_log_path=path)


def show(config: BrokerConfig, report: Report, as_json: bool) -> None:
    """Print what was found."""
    topics = list(sum_up(OsFiles(), config))
    if as_json:
        emit({"path": config.data_log_path, **asdict(report), "topics": [asdict(topic) for topic in topics]})
        return
    say(f"{config.data_log_path}: {_STATES[report.state]}")
    say(f"journal: {report.journal_bytes:,} bytes in {report.journal_files} files may be needed")
    say(f"aside: {report.aside_bytes:,} bytes in {report.aside_files} files, cut off by recoveries or given up")
    say(f"a broker of 1.4.6.2 is {'' if report.java_locked_out else 'not '}locked out")
    if topics:
        rows = [(t.topic, t.partitions, t.segments, f"{t.bytes:,}") for t in topics]
        table(["topic", "partitions", "segments", "bytes"], rows)


def sum_up(files: Files, config: BrokerConfig) -> Iterator[Topic]:
    """Yield what each topic has in all data paths, by name. Raises CorruptStore, OSError."""
    roots = [root for root in place_of(config).roots if files.exists(root.path)]
    found: dict[str, Topic] = {}
    for key, partition in sorted(find_partitions(files, roots, {}).items()):
        before = found.get(key.topic, Topic(key.topic, 0, 0, 0))
        found[key.topic] = Topic(
            key.topic,
            before.partitions + 1,
            before.segments + len(partition.segments),
            before.bytes + sum(segment.size for segment in partition.segments),
        )
    yield from found.values()


def plan_for(config: BrokerConfig, keep: str) -> Plan:
    """Return what `--keep-files` or `--keep-journal` will do. Changes nothing. Raises StoreError, OSError."""
    report = store.examine(config, OsFiles())
    if report.state == store.IN_USE:
        raise StoreLocked(f"{config.data_log_path} is in use by another broker; stop it first")
    if report.state == store.NEW or (report.state == store.CLEAN and not report.java_locked_out):
        raise StoreError(f"{config.data_log_path}: nothing to decide here: {_STATES[report.state]}")
    aside = f"{place_of(config).own}/aside"
    if keep == "files":
        try:
            foreign = store.foreign(config, OsFiles())
        except CorruptStore as exc:
            note(f"the journal cannot be read, so it is not known which files have grown: {exc}")
            foreign = []
        moved = f"move the journal, {report.journal_files} files with {report.journal_bytes:,} bytes, to {aside}"
        unlock = "let any broker start, metaq or 1.4.6.2, which goes by the partition files alone"
        loss = "messages that stand in the journal and not in the partition files yet"
        forget = "forget which batches producers have sent: one that is sent again afterwards is stored twice"
        return Plan(keep, loss, (moved, forget, unlock), tuple(foreign))
    cut = f"cut partition files where the journal says that they end, and keep what is cut in {aside}"
    write = "write into them what only the journal has, and leave the folder as after an orderly stop"
    return Plan(
        keep,
        "what was written to these files behind the journal",
        (cut, write),
        tuple(store.foreign(config, OsFiles())),
    )


def mend(config: BrokerConfig, plan: Plan, yes: bool, as_json: bool) -> None:
    """Show the plan, have it confirmed, carry it out and say what it has done."""
    tell = note if as_json else say
    tell(f"{config.data_log_path}: {_STATES[store.UNCLEAN]}")
    tell("longer than the journal knows:" if plan.foreign else "no partition file is longer than the journal knows")
    for path in plan.foreign:
        tell(f"  {path}")
    tell(f"--keep-{plan.keep} will")
    for step in plan.steps:
        tell(f"  - {step}")
    tell(f"readers will miss: {plan.loss}")
    if not yes:
        confirm()
    report = store.keep_files(config, OsFiles()) if plan.keep == "files" else asyncio.run(_keep_journal(config))
    if as_json:
        emit({"path": config.data_log_path, **asdict(report)})
        return
    say("done" if report.done else "done; nothing had to be set aside")
    for path in report.done:
        say(f"kept: {path}")
    say(f"{config.data_log_path}: {_STATES[report.state]}")


def confirm() -> None:
    """Ask on a terminal; elsewhere only --yes will do. Raises UsageError, Abort."""
    if not sys.stdin.isatty():
        raise click.UsageError("nothing was changed; say --yes to do it")
    click.confirm("Do it?", abort=True, err=True)


async def _keep_journal(config: BrokerConfig) -> Report:
    return await store.keep_journal(config, real_world())
