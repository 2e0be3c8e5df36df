"""Opening a store: lock, checkpoint, journal, files; which of them has the last word, and what is cut.

The order is that of the rules in design.md §2. Nothing is written before everything was read and found to fit.
"""

import logging
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from typing import Final

from metaq.errors import CorruptStore, ForeignBytes
from metaq.model import TopicPartition
from metaq.ports import Files
from metaq.record import crc32
from metaq.store import checkpoint as checkpoints
from metaq.store.aside import Aside
from metaq.store.checkpoint import Checkpoint, LogState, ProducerState
from metaq.store.entries import Extent
from metaq.store.journal import Mark
from metaq.store.layout import FoundPartition, Place, Root, Segment, find_partitions, find_segments
from metaq.store.log import segment_name
from metaq.store.partition_files import PartitionFiles
from metaq.store.producers import ProducerTable
from metaq.store.recovery import CUT_EXTENT, Recovered, Replay, Survey
from metaq.store.replay import FoundFile, JournalReader, find_files, live_files
from metaq.store.scanning import whole_records

log = logging.getLogger(__name__)

UNKNOWN_BOOT: Final = bytes(16)  # the system does not tell when it was started


class Foreign(Enum):
    """What to do with bytes that grew behind our journal (rule 8): refuse, or cut them aside (`metaq doctor`)."""

    REFUSE = "refuse"
    CUT = "cut"


@dataclass(slots=True)
class Opened:
    """What a store starts from. `live` and `free` are the journal files found; `checkpoint` is the one in force now."""

    checkpoint: Checkpoint
    live: list[FoundFile]
    free: list[FoundFile]
    generation: int
    sequence: int
    next_log_id: int
    highest_id: int
    producers: ProducerTable
    logs: list["OpenedLog"] = field(default_factory=list)


@dataclass(slots=True)
class OpenedLog:
    """One partition, all of it in its files.

    At `durable` the segment begins that the checkpoint has as active, or the partition was cut below that since.
    """

    id: int
    key: TopicPartition
    root: Root
    directory: str
    bases: list[int]
    holes: dict[int, int]
    end: int
    durable: int
    epochs: list[tuple[int, int]]


class Opening:
    """Recovers one store directory. Blocks; used once."""

    def __init__(
        self, files: Files, writer: PartitionFiles, place: Place, boot_id: bytes, foreign: Foreign = Foreign.REFUSE
    ) -> None:
        self._files = files
        self._place = place.own
        self._roots = place.roots
        self._boot_id = boot_id
        self._foreign = foreign
        self._aside = Aside(files, f"{place.own}/aside")
        self._aside_before: set[str] = set()  # partitions of which something was cut off in an earlier recovery
        self._writer = writer

    def run(self) -> Opened:
        """Recover. Raises CorruptStore, ForeignBytes, StoreError, OSError.

        CorruptStore and ForeignBytes are raised before anything was changed.
        """
        found = find_files(self._files, f"{self._place}/journal")
        checkpoint = checkpoints.load(self._files, f"{self._place}/checkpoint")
        if checkpoint is None and any(file.header for file in found):
            raise CorruptStore(f"{self._place} has a journal but no checkpoint")
        if checkpoint is None or checkpoint.clean:
            return self._open_clean(checkpoint, found)
        return self._open_unclean(checkpoint, found)

    def roots_by_marker(self) -> dict[str, Root]:
        return {root.marker: root for root in reversed(self._roots)}

    # -- after a clean stop, or the first time: the files have the last word

    def _open_clean(self, before: Checkpoint | None, found: list[FoundFile]) -> Opened:
        known = {TopicPartition(s.topic, s.partition): s for s in before.logs} if before else {}
        on_disk = find_partitions(self._files, self._roots, {key: state.root for key, state in known.items()})
        holes = {key: partition.holes() for key, partition in on_disk.items()}
        next_id = before.next_log_id if before else 1
        logs = []
        for key, partition in on_disk.items():
            state = known.get(key)
            opened = self._accept(partition, holes[key], state, state.id if state else next_id)
            next_id += state is None
            logs.append(opened)
        for key in known.keys() - on_disk.keys():
            log.warning("partition %s is gone since the last stop", key)
        generation = _next_generation(found, before)
        sequence = before.mark.sequence if before else 0
        highest = before.highest_id if before else 0
        unclean = Checkpoint(
            mark=Mark(generation, 0, 0, sequence, 0),
            clean=False,
            highest_id=highest,
            next_log_id=next_id,
            boot_id=self._boot_id.hex(),
            logs=[_state_of(opened) for opened in logs],
            producers=_still_true(before, logs) if before else [],
        )
        producers = ProducerTable(unclean.producers)
        return Opened(unclean, [], found, generation, sequence, next_id, highest, producers, logs)

    def _accept(
        self, partition: FoundPartition, holes: dict[int, int], state: LogState | None, log_id: int
    ) -> OpenedLog:
        """Take what a folder holds. What another broker appended is checked record by record; a torn tail is cut."""
        self._name_as_we_do(partition)
        end = partition.end
        if state is None or state.end != end:
            end = self._check_last(partition, state)
            self._sync(partition, state.end if state else 0)
        bases = partition.bases or [state.end if state else 0]
        if state is not None and end < state.end:
            log.warning("%s ended at %d when it was closed, now at %d", partition.key, state.end, end)
        epochs = list(state.epochs) if state else []
        return OpenedLog(
            log_id, partition.key, partition.root, partition.directory, bases, holes, end, bases[-1], epochs
        )

    def _check_last(self, partition: FoundPartition, state: LogState | None) -> int:
        if not partition.segments:
            return state.end if state else 0
        last = partition.segments[-1]
        start = state.end - last.base if state and last.base <= state.end <= last.end else 0
        good = whole_records(self._files, f"{partition.directory}/{segment_name(last.base)}", start, last.size)
        if good < last.size:
            self._cut(partition.directory, last.base, good)
        return last.base + good

    def _sync(self, partition: FoundPartition, known: int) -> None:
        """Sync what stands beyond `known`: another broker need not have done it, and our checkpoint vouches for it.

        That the folder itself has its name is certain: the data paths were synced when the store began to open.
        """
        for segment in partition.segments:
            if segment.end > known:
                self._sync_file(f"{partition.directory}/{segment_name(segment.base)}")
        self._files.sync_dir(partition.directory)

    def _sync_file(self, path: str) -> None:
        fd = self._files.open(path, write=True)
        try:
            self._files.fdatasync(fd)
        finally:
            self._files.close(fd)

    def _name_as_we_do(self, partition: FoundPartition) -> None:
        """Give segments the name we open them by; the original takes both."""
        misnamed = [segment for segment in partition.segments if segment.misnamed]
        for segment in misnamed:
            self._files.rename(
                f"{partition.directory}/{segment.misnamed}", f"{partition.directory}/{segment_name(segment.base)}"
            )
        if misnamed:
            self._files.sync_dir(partition.directory)

    # -- after a crash: checkpoint and journal have it

    def _open_unclean(self, before: Checkpoint, found: list[FoundFile]) -> Opened:
        live = live_files(found, before.mark)
        free = [file for file in found if file not in live]
        survey = Survey(before)
        survey.run(JournalReader(self._files, live, before.mark))
        states = {state.key: state for state in survey.logs.values()}
        directories = self._directories(survey)
        on_disk = find_partitions(self._files, self._roots, {key: state.root for key, state in states.items()})
        for key, state in states.items():
            self._check_kept(state, on_disk.get(key), directories[state.id])
        if self._foreign is Foreign.REFUSE and _boot_of(live, before) == self._boot_id != UNKNOWN_BOOT:
            _check_foreign(survey, on_disk)
        self._make_durable(live)
        self._aside_before = self._aside.partitions()
        for key, partition in on_disk.items():
            self._clear(partition, states.get(key), key in survey.dropped)
        self._writer.recovering = True
        Replay(self._writer, survey, directories).run(JournalReader(self._files, live, before.mark))
        self._writer.recovering = False
        logs = [self._opened(state) for state in survey.logs.values()]
        generation = _next_generation(found, before)
        return Opened(
            before,
            live,
            free,
            generation,
            survey.sequence,
            survey.next_log_id,
            survey.highest_id,
            survey.producers,
            logs,
        )

    def _directories(self, survey: Survey) -> dict[int, str]:
        """Return the folder of each log. Raises CorruptStore if a data path is named nowhere any more."""
        roots = self.roots_by_marker()
        for state in survey.logs.values():
            if state.root not in roots:
                raise CorruptStore(
                    f"partition {state.key} lies in {state.root}, which no topic's dataPath names any more"
                )
        return {state.id: f"{roots[state.root].path}/{state.key}" for state in survey.logs.values()}

    def _check_kept(self, state: Recovered, partition: FoundPartition | None, directory: str) -> None:
        """Refuse if bytes that were on disk are missing or changed."""
        if partition is None or partition.directory != directory:
            segments = []
        else:
            segments = [segment for segment in partition.segments if state.is_true(segment.base)]
        needed = min(state.kept, state.end)
        end = max((segment.end for segment in segments if segment.base < needed), default=0)
        if end < needed and needed > state.floor:
            raise CorruptStore(f"{directory}: bytes up to offset {needed} were on disk, its files end at {end}")
        for extent in state.extents:
            self._check_extent(directory, extent)
        for first, second in pairwise(segments):
            if first.end > second.base and second.base <= state.floor and second.base not in state.began:
                raise CorruptStore(
                    f"{directory}: {segment_name(first.base)} ends at {first.end},"
                    f" behind the beginning of {segment_name(second.base)}"
                )

    def _check_extent(self, directory: str, extent: Extent) -> None:
        path = f"{directory}/{segment_name(extent.base)}"
        try:
            fd = self._files.open(path)
        except FileNotFoundError as exc:
            raise CorruptStore(f"{path} is missing; {extent.length} bytes at {extent.offset} were on disk") from exc
        try:
            data = self._files.pread(fd, extent.length, extent.offset - extent.base)
        finally:
            self._files.close(fd)
        if len(data) < extent.length or extent.crc not in (CUT_EXTENT, crc32(data)):
            raise CorruptStore(
                f"{path}: {extent.length} bytes at offset {extent.offset} are not those that were synced there"
            )

    def _make_durable(self, live: list[FoundFile]) -> None:
        """No reader may see what a power loss could still take (rule 4)."""
        for file in live:
            self._sync_file(file.path)
        self._files.sync_dir(f"{self._place}/journal")

    def _clear(self, partition: FoundPartition, state: Recovered | None, dropped: bool) -> None:
        """Leave in a folder what checkpoint and journal know; keep aside what else is there (rule 3)."""
        if dropped and (state is None or not state.extents):
            self._aside.move(partition.directory)  # it was perhaps on its way there
            self._writer.remove_folder(partition.directory)  # also if there is a new one, all of it in the journal
        elif state is None:
            self._remove_leavings(partition)
        elif partition.root.marker == state.root:
            self._cut_beyond(partition, state)

    def _cut_beyond(self, partition: FoundPartition, state: Recovered) -> None:
        """Remove the segments that are none, and cut the others at the next one's beginning or the partition's end."""
        self._name_as_we_do(partition)
        true = [segment for segment in partition.segments if state.is_true(segment.base)]
        bases = sorted({segment.base for segment in true} | {base for base in state.began if state.is_true(base)})
        ends = dict(zip(bases, [*bases[1:], state.end], strict=False))  # none if no file is there
        removed = False
        for segment in reversed(partition.segments):
            if segment not in true:
                self._remove(partition.directory, segment.base)
                removed = True
            elif segment.end > ends[segment.base]:
                self._cut(partition.directory, segment.base, ends[segment.base] - segment.base)
            elif state.trimmed and segment.end >= state.floor:
                self._sync_file(f"{partition.directory}/{segment_name(segment.base)}")
        # only where a name went, or may have gone in a process that was killed: thousands would hold up the start
        if removed or state.trimmed or str(partition.key) in self._aside_before:
            self._files.sync_dir(partition.directory)

    def _remove(self, directory: str, base: int) -> None:
        """Remove a segment; that it was there is kept aside, also if it was empty."""
        self._aside.keep(directory, base, 0)
        self._files.remove(f"{directory}/{segment_name(base)}")

    def _cut(self, directory: str, base: int, position: int) -> None:
        path = f"{directory}/{segment_name(base)}"
        fd = self._files.open(path, write=True)
        try:
            if self._files.size(fd) > position:
                self._aside.keep(directory, base, position)
                self._files.truncate(fd, position)
                self._files.fdatasync(fd)
        finally:
            self._files.close(fd)

    def _remove_leavings(self, partition: FoundPartition) -> None:
        """A folder that the journal does not know: of a partition whose beginning a power loss took."""
        self._name_as_we_do(partition)
        for segment in partition.segments:
            self._remove(partition.directory, segment.base)
        self._files.sync_dir(partition.directory)
        if not self._files.list(partition.directory):
            self._files.remove_dir(partition.directory)

    def _opened(self, state: Recovered) -> OpenedLog:
        root = self.roots_by_marker()[state.root]
        directory = f"{root.path}/{state.key}"
        segments: list[Segment] = []
        holes: dict[int, int] = {}
        if self._files.exists(directory):
            again = FoundPartition(state.key, root, directory, find_segments(self._files, directory))
            segments, holes = again.segments, again.holes()
        bases = [segment.base for segment in segments]
        bases = sorted({*bases, state.base_of(bases)})
        return OpenedLog(state.id, state.key, root, directory, bases, holes, state.end, state.floor, state.epochs)


def foreign_files(survey: Survey, on_disk: dict[TopicPartition, FoundPartition]) -> list[str]:
    """Name the files with bytes that neither this broker nor a power loss can have put there (rule 8)."""
    high = {state.key: state.high for state in survey.logs.values()}
    return [
        f"{partition.directory}/{segment_name(partition.segments[-1].base)}"
        for key, partition in on_disk.items()
        if key not in survey.dropped and partition.end > high.get(key, 0) and any(s.size for s in partition.segments)
    ]


def _check_foreign(survey: Survey, on_disk: dict[TopicPartition, FoundPartition]) -> None:
    foreign = foreign_files(survey, on_disk)
    if foreign:
        raise ForeignBytes(
            f"{', '.join(foreign)}: longer than the journal of this broker knows; something else wrote there since"
            " the crash. Either `metaq doctor --keep-journal` (the surplus is set aside) or"
            " `metaq doctor --keep-files` (the journal is given up)"
        )


def _state_of(opened: OpenedLog) -> LogState:
    return LogState(
        opened.id,
        opened.key.topic,
        opened.key.partition,
        opened.root.marker,
        opened.bases[-1],
        opened.end,
        opened.end,
        tuple(opened.epochs),
    )


def _still_true(before: Checkpoint, logs: list[OpenedLog]) -> list[ProducerState]:
    """Return the producers' batches that still tell what is stored: none if another broker wrote meanwhile.

    It may have stored a batch that its producer sent again, but knows no stamps.
    """
    ends = {state.id: state.end for state in before.logs}
    if before.producers and any(ends.get(opened.id) != opened.end for opened in logs):
        log.warning("another broker wrote since the last stop: what producers sent before it is not known any more")
        return []
    found = {opened.id for opened in logs}
    return [state for state in before.producers if state.log_id in found]


def _next_generation(found: list[FoundFile], checkpoint: Checkpoint | None) -> int:
    generations = [file.header.generation for file in found if file.header]
    return 1 + max([checkpoint.mark.generation if checkpoint else 0, *generations])


def _boot_of(live: list[FoundFile], checkpoint: Checkpoint) -> bytes:
    header = live[-1].header if live else None
    return header.boot_id if header else bytes.fromhex(checkpoint.boot_id)
