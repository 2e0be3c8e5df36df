"""The checkpoint: what partition files hold for certain, so that the journal before it is not needed any more.

A text file of JSON lines: a head, then logs and producers in lines of up to 256 (one long line would hold the
interpreter's lock too long), last the CRC-32 of all lines before. Written under a new name, synced, renamed, folder
synced. To change the format: raise VERSION, keep reading the old one.
"""

import json
from dataclasses import dataclass, field
from typing import Final
from zlib import crc32

from metaq.errors import CorruptStore
from metaq.ports import Files
from metaq.store.journal import Mark

VERSION: Final = 1
_PER_LINE: Final = 256


@dataclass(frozen=True, slots=True)
class LogState:
    """One partition as a checkpoint has it: all bytes below `end` are in its files, synced.

    `base` is the first offset of the segment that `end` lies in. Up to `high` the files may hold bytes of a large run
    that was on its way. `epochs` are (term, start offset) pairs.
    """

    id: int
    topic: str
    partition: int
    root: str
    base: int
    end: int
    high: int
    epochs: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class ProducerState:
    """The last batches of one producer in one partition.

    (epoch, sequence, offset, length, messages, first id, time) each; time 0: not known.
    """

    producer: int
    log_id: int
    batches: tuple[tuple[int, int, int, int, int, int, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A durable state. `clean`: the broker stopped in order, the files have the last word (design.md §2, rule 7)."""

    mark: Mark
    clean: bool
    highest_id: int = 0
    next_log_id: int = 1
    boot_id: str = ""
    logs: list[LogState] = field(default_factory=list)
    producers: list[ProducerState] = field(default_factory=list)


def encode(checkpoint: Checkpoint) -> bytes:
    """Return the file's content."""
    head = {
        "version": VERSION,
        "clean": checkpoint.clean,
        "mark": list(checkpoint.mark),
        "highest_id": checkpoint.highest_id,
        "next_log_id": checkpoint.next_log_id,
        "boot_id": checkpoint.boot_id,
    }
    lines = [json.dumps(head)]
    for start in range(0, len(checkpoint.logs), _PER_LINE):
        rows = [
            [log.id, log.topic, log.partition, log.root, log.base, log.end, log.high, list(log.epochs)]
            for log in checkpoint.logs[start : start + _PER_LINE]
        ]
        lines.append(json.dumps({"logs": rows}))
    for start in range(0, len(checkpoint.producers), _PER_LINE):
        batch = [[p.producer, p.log_id, p.batches] for p in checkpoint.producers[start : start + _PER_LINE]]
        lines.append(json.dumps({"producers": batch}))
    text = "".join(line + "\n" for line in lines).encode()
    return text + b'{"crc": %d}\n' % crc32(text)


def decode(data: bytes, path: str) -> Checkpoint:
    """Return the checkpoint in a file's content. Raises CorruptStore if it is not as it was written."""
    cut = data.rfind(b"\n", 0, len(data) - 1) + 1
    try:
        body, last = data[:cut], json.loads(data[cut:])
        if last["crc"] != crc32(body):
            raise CorruptStore(f"{path}: its checksum is not that of its content")
        head, *lines = [json.loads(line) for line in body.splitlines()]
    except (ValueError, KeyError, TypeError) as exc:
        raise CorruptStore(f"{path} is no checkpoint: {exc}") from exc
    if head["version"] != VERSION:
        raise CorruptStore(f"{path}: version {head['version']}, this release reads {VERSION}")
    return Checkpoint(
        mark=Mark(*head["mark"]),
        clean=head["clean"],
        highest_id=head["highest_id"],
        next_log_id=head["next_log_id"],
        boot_id=head["boot_id"],
        logs=[
            LogState(id, topic, partition, root, base, end, high, tuple((epoch, start) for epoch, start in epochs))
            for line in lines
            for id, topic, partition, root, base, end, high, epochs in line.get("logs", ())
        ],
        producers=[
            ProducerState(producer, log_id, tuple((*batch,) for batch in batches))
            for line in lines
            for producer, log_id, batches in line.get("producers", ())
        ],
    )


def load(files: Files, place: str) -> Checkpoint | None:
    """Return the checkpoint of a folder, None if there never was one. Raises CorruptStore."""
    path = f"{place}/checkpoint"
    try:
        data = files.read(path)
    except FileNotFoundError:
        return None
    return decode(data, path)


def save(files: Files, place: str, checkpoint: Checkpoint) -> None:
    """Make `checkpoint` the one of the folder, durably. Blocks. A crash in between leaves the old one."""
    replace_file(files, place, "checkpoint", encode(checkpoint))


def replace_file(files: Files, place: str, name: str, data: bytes, *, like: bool = False) -> None:
    """Write a file whole or not at all, durably. Blocks. `like`: with the mode of the one there is."""
    path = f"{place}/{name}"
    fd = files.open(path + ".new", write=True, create=True)
    try:
        files.truncate(fd, 0)
        files.pwrite(fd, data, 0)
        files.fdatasync(fd)
    finally:
        files.close(fd)
    if like:
        files.make_like(path + ".new", path)
    files.rename(path + ".new", path)
    files.sync_dir(place)
