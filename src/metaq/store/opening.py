"""Opening a store: lock, checkpoint, journal, files; which of them has the last word, and what is cut.

The order is that of the rules in design.md §2. Nothing is written before everything was read and found to fit.
"""

import logging
from dataclasses import dataclass, field
from enum import Enum
from zlib import crc32

from metaq.errors import CorruptStore, ForeignBytes
from metaq.model import TopicPartition
from metaq.ports import Files
from metaq.record import scan
from metaq.store import checkpoint as checkpoints
from metaq.store.aside import Aside
from metaq.store.checkpoint import Checkpoint, LogState
from metaq.store.entries import Extent
from metaq.store.journal import Mark
from metaq.store.layout import FoundPartition, Place, Root, Segment, find_partitions, find_segments
from metaq.store.log import segment_name
from metaq.store.partition_files import PartitionFiles
from metaq.store.producers import ProducerTable
from metaq.store.recovery import Recovered, Replay, Survey
from metaq.store.replay import FoundFile, JournalReader, find_files, live_files

log = logging.getLogger(__name__)

_CHUNK = 8 << 20


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
    """One partition, true to its last byte, all of it in the files below `end`; `durable` is what the checkpoint covers."""

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
        self._writer = writer

    def run(self) -> Opened:
        """Recover. Raises CorruptStore, ForeignBytes, StoreError, OSError; then nothing was changed."""
        found = find_files(self._files, f"{self._place}/journal")
        checkpoint = checkpoints.load(self._files, f"{self._place}/checkpoint")
        if checkpoint is None and any(file.header for file in found):
            raise CorruptStore(f"{self._place} has a journal but no checkpoint")
        on_disk = find_partitions(self._files, self._roots)
        if checkpoint is None or checkpoint.clean:
            return self._open_clean(checkpoint, found, on_disk)
        return self._open_unclean(checkpoint, found, on_disk)

    def roots_by_marker(self) -> dict[str, Root]:
        return {root.marker: root for root in reversed(self._roots)}

    # -- after a clean stop, or the first time: the files have the last word

    def _open_clean(
        self, before: Checkpoint | None, found: list[FoundFile], on_disk: dict[TopicPartition, FoundPartition]
    ) -> Opened:
        known = {TopicPartition(s.topic, s.partition): s for s in before.logs} if before else {}
        next_id = before.next_log_id if before else 1
        logs = []
        for key, partition in on_disk.items():
            state = known.get(key)
            opened = self._accept(partition, state, state.id if state else next_id)
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
            producers=before.producers if before else [],
        )
        producers = ProducerTable(unclean.producers)
        return Opened(unclean, [], found, generation, sequence, next_id, highest, producers, logs)

    def _accept(self, partition: FoundPartition, state: LogState | None, log_id: int) -> OpenedLog:
        """Take what a folder holds. What another broker appended is checked record by record; a torn tail is cut."""
        holes = partition.holes()
        end = partition.end
        if state is None or state.end != end:
            end = self._check_last(partition, state)
        bases = partition.bases or [state.end if state else 0]
        if state is not None and end < state.end:
            log.warning("%s ended at %d when it was closed, now at %d", partition.key, state.end, end)
        epochs = list(state.epochs) if state else []
        return OpenedLog(log_id, partition.key, partition.root, partition.directory, bases, holes, end, end, epochs)

    def _check_last(self, partition: FoundPartition, state: LogState | None) -> int:
        if not partition.segments:
            return state.end if state else 0
        last = partition.segments[-1]
        start = state.end - last.base if state and last.base <= state.end <= last.end else 0
        good = self._scan(f"{partition.directory}/{segment_name(last.base)}", start, last.size)
        if good < last.size:
            self._cut(partition.directory, last.base, good)
        return last.base + good

    def _scan(self, path: str, position: int, size: int) -> int:
        """Return the end of the last whole record at or after `position`, itself a record's beginning."""
        fd = self._files.open(path)
        want = _CHUNK
        try:
            while position < size:
                data = self._files.pread(fd, min(want, size - position), position)
                whole = scan(data)
                position += whole
                if whole == 0:
                    if want >= size - position:
                        break
                    want *= 4  # a record larger than the piece, or the end
                else:
                    want = _CHUNK
        finally:
            self._files.close(fd)
        return position

    # -- after a crash: checkpoint and journal have it

    def _open_unclean(
        self, before: Checkpoint, found: list[FoundFile], on_disk: dict[TopicPartition, FoundPartition]
    ) -> Opened:
        live = live_files(found, before.mark)
        free = [file for file in found if file not in live]
        survey = Survey(before)
        survey.run(JournalReader(self._files, live, before.mark))
        same_boot = _boot_of(live, before) == self._boot_id
        self._check_files(survey, on_disk, same_boot)
        self._make_durable(live)
        for state in survey.logs.values():
            self._cut_beyond(state, on_disk.pop(state.key, None))
        for partition in on_disk.values():
            self._remove_leavings(partition, survey)
        self._replay(survey, live, before.mark)
        durable = {state.id: state.end for state in before.logs}
        logs = [self._opened(state, min(durable.get(state.id, 0), state.end)) for state in survey.logs.values()]
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

    def _check_files(self, survey: Survey, on_disk: dict[TopicPartition, FoundPartition], same_boot: bool) -> None:
        """Refuse what cannot be: durable bytes that are missing, bytes that somebody else wrote."""
        foreign = []
        states = {state.key: state for state in survey.logs.values()}
        for state in states.values():
            partition = on_disk.get(state.key)
            end = partition.end if partition else 0
            needed = min(state.kept, state.end)
            if end < needed and needed > state.base:
                where = partition.directory if partition else str(state.key)
                raise CorruptStore(f"{where}: bytes up to {needed} were on disk, its files end at {end}")
        for partition in on_disk.values():
            known = states.get(partition.key)
            high = known.high if known else 0
            if partition.end > high and partition.key not in survey.dropped and partition.segments[-1].size:
                foreign.append(f"{partition.directory}/{segment_name(partition.segments[-1].base)}")
        if foreign and same_boot and self._foreign is Foreign.REFUSE:
            raise ForeignBytes(
                f"{', '.join(foreign)}: longer than the journal of this broker knows; something else wrote there since the"
                f" crash. Either `metaq doctor --keep-journal` (the surplus is set aside) or `metaq doctor --keep-files`"
                f" (the journal is given up)"
            )

    def _make_durable(self, live: list[FoundFile]) -> None:
        """No reader may see what a power loss could still take (rule 4)."""
        for file in live:
            fd = self._files.open(file.path, write=True)
            self._files.fdatasync(fd)
            self._files.close(fd)
        self._files.sync_dir(f"{self._place}/journal")

    def _cut_beyond(self, state: Recovered, partition: FoundPartition | None) -> None:
        """Cut what lies beyond the end, keeping it aside (rule 3)."""
        if partition is None:
            return
        for segment in reversed(partition.segments):
            if segment.base > state.end or (
                segment.base == state.end and segment.size and segment.base not in state.bases
            ):
                self._cut(partition.directory, segment.base, 0)
                self._files.remove(f"{partition.directory}/{segment_name(segment.base)}")
            elif segment.end > state.end:
                self._cut(partition.directory, segment.base, state.end - segment.base)
        self._files.sync_dir(partition.directory)

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

    def _remove_leavings(self, partition: FoundPartition, survey: Survey) -> None:
        """A folder that the journal does not know: dropped, or of a partition whose beginning a power loss took."""
        if partition.key not in survey.dropped:
            for segment in partition.segments:
                self._cut(partition.directory, segment.base, 0)
        self._writer.remove_folder(partition.directory)

    def _replay(self, survey: Survey, live: list[FoundFile], mark: Mark) -> None:
        roots = self.roots_by_marker()
        directories = {}
        for state in survey.logs.values():
            if state.root not in roots:
                raise CorruptStore(
                    f"partition {state.key} lies in {state.root}, which no topic's dataPath names any more"
                )
            directories[state.id] = f"{roots[state.root].path}/{state.key}"
        Replay(self._writer, survey, directories).run(JournalReader(self._files, live, mark))
        for state in survey.logs.values():
            for extent in state.extents:
                self._check_extent(directories[state.id], extent)

    def _check_extent(self, directory: str, extent: Extent) -> None:
        path = f"{directory}/{segment_name(extent.base)}"
        fd = self._files.open(path)
        data = self._files.pread(fd, extent.length, extent.offset - extent.base)
        self._files.close(fd)
        if len(data) < extent.length or crc32(data) != extent.crc:
            raise CorruptStore(
                f"{path}: {extent.length} bytes at offset {extent.offset} are not those that were synced there"
            )

    def _opened(self, state: Recovered, durable: int) -> OpenedLog:
        root = self.roots_by_marker()[state.root]
        directory = f"{root.path}/{state.key}"
        segments: list[Segment] = []
        holes: dict[int, int] = {}
        if self._files.exists(directory):
            again = FoundPartition(state.key, root, directory, find_segments(self._files, directory))
            segments, holes = again.segments, again.holes()
        bases = sorted({segment.base for segment in segments} | {state.base})
        return OpenedLog(state.id, state.key, root, directory, bases, holes, state.end, durable, state.epochs)


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


def _next_generation(found: list[FoundFile], checkpoint: Checkpoint | None) -> int:
    generations = [file.header.generation for file in found if file.header]
    return 1 + max([checkpoint.mark.generation if checkpoint else 0, *generations])


def _boot_of(live: list[FoundFile], checkpoint: Checkpoint) -> bytes:
    header = live[-1].header if live else None
    return header.boot_id if header else bytes.fromhex(checkpoint.boot_id)
