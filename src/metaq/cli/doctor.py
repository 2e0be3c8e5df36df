"""`metaq doctor`: what state the files of a broker are in, and whose they are at present. Changes nothing."""

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Final

import click

from metaq.cli.commands import json_option
from metaq.cli.output import emit, say, table
from metaq.config.broker import load
from metaq.files import OsFiles
from metaq.ports import Files
from metaq.store import checkpoint as checkpoints
from metaq.store.checkpoint import Checkpoint
from metaq.store.layout import JAVA_LOCK, OURS, Place, Root
from metaq.store.log import segment_name
from metaq.store.replay import find_files, live_files
from metaq.store.store import place_of

_STATES: Final = {
    "new": "no metaq broker has used this folder yet",
    "in use": "a broker has this folder open",
    "clean": "stopped cleanly; any broker may open it, also one of 1.4.6.2",
    "unclean": "not stopped cleanly; start metaq on it and stop it, a broker of 1.4.6.2 refuses it until then",
}


@dataclass(frozen=True, slots=True)
class Topic:
    """What the partition folders of a topic hold, in bytes."""

    topic: str
    partitions: int
    segments: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Findings:
    """What there is. `journal_live` counts the files whose content may still be needed; sizes are bytes."""

    path: str
    state: str
    journal_files: int
    journal_live: int
    journal_bytes: int
    aside_files: int
    aside_bytes: int
    java_locked_out: bool
    topics: tuple[Topic, ...]


@click.command()
@click.argument("path")
@json_option
def doctor(path: str, as_json: bool) -> None:
    """Say what state a broker's files are in. PATH: its server.ini, or its dataLogPath."""
    findings = examine(OsFiles(), place_at(path))
    if as_json:
        emit(asdict(findings))
        return
    say(f"{findings.path}: {_STATES[findings.state]}")
    live = f"{findings.journal_live} of {findings.journal_files} files may be needed"
    say(f"journal: {findings.journal_bytes:,} bytes, {live}")
    say(f"aside: {findings.aside_files} files, {findings.aside_bytes:,} bytes, cut off by earlier recoveries")
    say(f"a broker of 1.4.6.2 is {'' if findings.java_locked_out else 'not '}locked out")
    if findings.topics:
        rows = [(t.topic, t.partitions, t.segments, f"{t.bytes:,}") for t in findings.topics]
        table(["topic", "partitions", "segments", "bytes"], rows)


def place_at(path: str) -> Place:
    """Return where files lie, by a server.ini or a dataLogPath that is the dataPath too. Raises as `load`; OSError."""
    path = os.path.abspath(path)
    os.stat(path)
    return Place(path, (Root("", path),)) if os.path.isdir(path) else place_of(load(path))


def examine(files: Files, place: Place) -> Findings:
    """Look at everything. Raises CorruptStore if the checkpoint cannot be read, OSError."""
    checkpoint = checkpoints.load(files, f"{place.own}/checkpoint")
    journal = find_files(files, f"{place.own}/journal") if files.exists(f"{place.own}/journal") else []
    live = live_files(journal, checkpoint.mark) if checkpoint is not None and not checkpoint.clean else []
    aside = files.list(f"{place.own}/aside") if files.exists(f"{place.own}/aside") else []
    return Findings(
        path=place.log_path,
        state=state_of(files, place, checkpoint),
        journal_files=len(journal),
        journal_live=len(live),
        journal_bytes=sum(file.size for file in journal),
        aside_files=len(aside),
        aside_bytes=sum(entry.size for entry in aside),
        java_locked_out=files.exists(f"{place.log_path}/transactions/{JAVA_LOCK}"),
        topics=tuple(sum_up(files, place)),
    )


def state_of(files: Files, place: Place, checkpoint: Checkpoint | None) -> str:
    """Return the key of _STATES that describes a folder."""
    if files.exists(place.log_path):
        try:
            files.close(files.lock_dir(place.log_path))
        except BlockingIOError:
            return "in use"
    if checkpoint is None:
        return "new"
    return "clean" if checkpoint.clean else "unclean"


def sum_up(files: Files, place: Place) -> Iterator[Topic]:
    """Yield what each topic has in all data paths, by name."""
    partitions: dict[str, list[int]] = {}
    for root in place.roots:
        for entry in files.list(root.path) if files.exists(root.path) else ():
            topic, _, number = entry.name.rpartition("-")
            if entry.is_dir and entry.name not in (OURS, "transactions") and topic and number.isdecimal():
                sizes = [e.size for e in files.list(f"{root.path}/{entry.name}") if is_segment(e.name)]
                figures = partitions.setdefault(topic, [0, 0, 0])
                figures[:] = figures[0] + 1, figures[1] + len(sizes), figures[2] + sum(sizes)
    for topic, (count, segments, size) in sorted(partitions.items()):
        yield Topic(topic, count, segments, size)


def is_segment(name: str) -> bool:
    """Return whether a file of a partition folder is one of its segments."""
    stem = name.removesuffix(".meta")
    return stem.isdecimal() and name == segment_name(int(stem))
