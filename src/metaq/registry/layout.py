"""The files in a registry's folder: logs by number, snapshots by the sequence of the last round in them.

Both get their names when they are whole: what ends in `.new` was being written when a process ended, and is void.
"""

import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from metaq.ports import Files

log = logging.getLogger(__name__)

_LOG: Final = ".log"
_SNAPSHOT: Final = ".snapshot"
NEXT: Final = "next.new"
SPARE: Final = "spare.new"
SNAPSHOT: Final = "snapshot.new"


@dataclass(slots=True)
class Found:
    """What is there. Paths: logs by number, snapshots by sequence, both in order, and what is void."""

    logs: dict[int, str] = field(default_factory=dict)
    snapshots: dict[int, str] = field(default_factory=dict)
    void: list[str] = field(default_factory=list)


def make_place(files: Files, place: str) -> None:
    """Create the folder and its missing parents, durably; also what a process made that ended before it synced it."""
    files.make_dir(place)
    names = place.split("/")
    for depth in range(1, len(names) + 1):
        with suppress(PermissionError):  # a parent that we may not read was there before
            files.sync_dir("/".join(names[:depth]) or "/")


def log_path(place: str, number: int) -> str:
    return f"{place}/{number:020}{_LOG}"


def snapshot_path(place: str, sequence: int) -> str:
    return f"{place}/{sequence:020}{_SNAPSHOT}"


def look(files: Files, place: str) -> Found:
    """Return the files of the folder that are ours; others are left alone."""
    found = Found()
    for entry in files.list(place):
        stem, dot, suffix = entry.name.partition(".")
        path = f"{place}/{entry.name}"
        if entry.name in (NEXT, SPARE, SNAPSHOT):
            found.void.append(path)
        elif len(stem) == 20 and stem.isascii() and stem.isdigit() and not entry.is_dir:
            if dot + suffix == _LOG:
                found.logs[int(stem)] = path
            elif dot + suffix == _SNAPSHOT:
                found.snapshots[int(stem)] = path
    return found


def remove(files: Files, paths: list[str]) -> None:
    """Remove files that are not needed any more. One that cannot be removed is named in a warning; it does no harm."""
    for path in paths:
        try:
            files.remove(path)
        except OSError as exc:
            log.warning("%s is not needed any more and cannot be removed: %s", path, exc)
