"""What stands where on disk, and what of it is ours: data paths, partition folders, segments (storage.md §1, §5)."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

from metaq.errors import CorruptStore
from metaq.model import TopicPartition
from metaq.ports import Files
from metaq.store.log import segment_name

log = logging.getLogger(__name__)

OURS: Final = "pymetaq"  # our folder in dataLogPath: journal, checkpoint, aside
JAVA_LOCK: Final = "redo.in-use--see-metaq-doctor"  # in transactions/: a Java broker refuses to start on this name


class Root(NamedTuple):
    """A data path. `marker` is what journal and checkpoint call it: "" for that of [system], so it may be moved."""

    marker: str
    path: str


class Place(NamedTuple):
    """Where a broker keeps everything: `log_path` is its dataLogPath; of `roots` that of [system] comes first."""

    log_path: str
    roots: tuple[Root, ...]

    @property
    def own(self) -> str:
        """Our folder: journal, checkpoint, aside."""
        return f"{self.log_path}/{OURS}"

    def root_of(self, data_path: str) -> Root:
        """Return the root of a topic's data path."""
        return next(root for root in self.roots if root.path == data_path)


class Segment(NamedTuple):
    """A segment file: first offset, bytes, and its name if that is not written as we write it (`7.meta`)."""

    base: int
    size: int
    misnamed: str = ""

    @property
    def end(self) -> int:
        return self.base + self.size


@dataclass(slots=True)
class FoundPartition:
    """A partition folder with its segments, by offset."""

    key: TopicPartition
    root: Root
    directory: str
    segments: list[Segment]

    @property
    def bases(self) -> list[int]:
        return [segment.base for segment in self.segments]

    @property
    def end(self) -> int:
        return self.segments[-1].end if self.segments else 0

    def holes(self) -> dict[int, int]:
        """Return {base: end} of the segments that do not reach the next one. Raises CorruptStore if two overlap."""
        holes = {}
        for first, second in pairwise(self.segments):
            if first.end > second.base:
                raise CorruptStore(
                    f"{self.directory}: {segment_name(first.base)} ends at {first.end},"
                    f" behind the beginning of {segment_name(second.base)}"
                )
            if first.end < second.base:
                log.error(
                    "%s: bytes %d to %d are missing; readers are sent past them", self.key, first.end, second.base
                )
                holes[first.base] = first.end
        return holes


def find_partitions(
    files: Files, roots: Sequence[Root], homes: Mapping[TopicPartition, str]
) -> dict[TopicPartition, FoundPartition]:
    """Return the partitions in all data paths. Changes nothing. Raises CorruptStore as `find_segments` does.

    Of a partition found twice the copy in its home (`homes` has the marker of its root) is taken, else the first.
    """
    found: dict[TopicPartition, FoundPartition] = {}
    for root in roots:
        for entry in files.list(root.path):
            if entry.name in (OURS, "transactions"):
                continue
            directory = f"{root.path}/{entry.name}"
            key = _key_of(entry.name) if entry.is_dir else None
            if key is None:
                log.warning("%s is no partition folder, left alone", directory)
                continue
            known = found.get(key)
            if known is not None and homes.get(key) != root.marker:
                log.warning("%s: partition %s is taken from %s, not from here", directory, key, known.root.path)
                continue
            if known is not None:
                log.warning("%s: partition %s is taken from %s, not from here", known.directory, key, root.path)
            found[key] = FoundPartition(key, root, directory, find_segments(files, directory))
    return found


def _key_of(name: str) -> TopicPartition | None:
    """Return the partition that a folder of this name holds, None if it holds none."""
    topic, dash, number = name.rpartition("-")
    if not dash or not topic or not (number.isascii() and number.isdigit()):
        return None
    key = TopicPartition(topic, int(number))
    return key if str(key) == name else None  # `orders-007` is another way to write `orders-7`


def find_segments(files: Files, directory: str) -> list[Segment]:
    """Return the segments of a partition folder, by offset. Names that are no offset are left alone.

    Raises CorruptStore if two files claim the same offset (`7.meta` beside the one of 20 digits).
    """
    found: dict[int, Segment] = {}
    for entry in files.list(directory):
        stem, _, suffix = entry.name.rpartition(".")
        if suffix != "meta" or entry.is_dir:
            continue
        if not (stem.isascii() and stem.isdigit()) or int(stem) >= 1 << 63:
            log.warning("%s/%s is no segment, left alone", directory, entry.name)
            continue
        base = int(stem)
        if base in found:
            raise CorruptStore(f"{directory}: two files begin at offset {base}, {entry.name} is one of them")
        found[base] = Segment(base, entry.size, "" if entry.name == segment_name(base) else entry.name)
    return sorted(found.values())
