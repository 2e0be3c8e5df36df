"""What stands where on disk, and what of it is ours: data paths, partition folders, segments (storage.md §1, §5)."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
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
    """Where a broker keeps everything: `log_path` is its dataLogPath, `roots` its data paths, that of [system] first."""

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
    """A segment file: first offset and bytes."""

    base: int
    size: int

    @property
    def end(self) -> int:
        return self.base + self.size


@dataclass(slots=True)
class FoundPartition:
    """A partition folder with its segments, by offset. `holes` has, for a segment before a hole, base → end."""

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
        for first, second in zip(self.segments, self.segments[1:], strict=False):
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


def find_partitions(files: Files, roots: Sequence[Root]) -> dict[TopicPartition, FoundPartition]:
    """Return the partitions in all data paths. A partition found twice is taken from the root that comes first."""
    found: dict[TopicPartition, FoundPartition] = {}
    for root in roots:
        for entry in files.list(root.path):
            topic, dash, number = entry.name.rpartition("-")
            if entry.name in (OURS, "transactions"):
                continue
            if not entry.is_dir or not dash or not topic or not (number.isascii() and number.isdigit()):
                log.warning("%s/%s is not ours, left alone", root.path, entry.name)
                continue
            key = TopicPartition(topic, int(number))
            directory = f"{root.path}/{entry.name}"
            if str(key) != entry.name:
                log.warning("%s: another way to write partition %s, left alone", directory, key)
            elif key in found:
                log.warning(
                    "%s: partition %s is taken from %s, this copy is left alone", directory, key, found[key].root.path
                )
            else:
                found[key] = FoundPartition(key, root, directory, find_segments(files, directory))
    return found


def find_segments(files: Files, directory: str) -> list[Segment]:
    """Return the segments of a partition folder, by offset. Names that are no number are left alone."""
    segments = []
    for entry in files.list(directory):
        stem, _, suffix = entry.name.rpartition(".")
        if suffix != "meta" or entry.is_dir:
            continue
        if not (stem.isascii() and stem.isdigit()):
            log.warning("%s/%s is not ours, left alone", directory, entry.name)
            continue
        if entry.name != segment_name(int(stem)):
            files.rename(f"{directory}/{entry.name}", f"{directory}/{segment_name(int(stem))}")
        segments.append(Segment(int(stem), entry.size))
    return sorted(segments)
