"""Opening is recovering: from checkpoint, journal and files to the ends that are true (design.md §2, rules 1-9).

Two passes over the journal, so that nothing is changed before all of it was understood: `Survey` computes where every
partition ends, `Replay` writes what the files lack. Memory stays bounded; both work on one round at a time.
"""

import logging
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from metaq.errors import CorruptStore
from metaq.model import TopicPartition
from metaq.record import HEADER
from metaq.store.checkpoint import Checkpoint, LogState
from metaq.store.entries import Batch, Create, Cut, Drop, Entry, Epoch, Extent, Intent, Roll, Run, unpack
from metaq.store.partition_files import PartitionFiles, Piece
from metaq.store.producers import ProducerTable
from metaq.store.replay import JournalReader, Round

log = logging.getLogger(__name__)

CUT_EXTENT: Final = -1  # instead of the CRC of a large run that was cut
_REPLAY_MEMORY: Final = 64 << 20


@dataclass(slots=True)
class Recovered:
    """One partition as journal and checkpoint tell it: bytes below `end` are true, up to `high` there may be leavings.

    Of its segments those that began at or below `floor` are as the checkpoint knew them, those in `began` came since;
    others are leavings. `kept`: below it the files held everything when the checkpoint was made.
    """

    id: int
    key: TopicPartition
    root: str
    floor: int
    end: int
    high: int
    kept: int
    began: set[int] = field(default_factory=set)
    cuts: list[int] = field(default_factory=list)  # where the journal cut it, in order
    trimmed: bool = False  # its files may have been cut by a process that ended before it synced that
    epochs: list[tuple[int, int]] = field(default_factory=list)
    extents: list[Extent] = field(default_factory=list)  # large runs that the files must hold

    @classmethod
    def of(cls, state: LogState) -> "Recovered":
        key = TopicPartition(state.topic, state.partition)
        return cls(state.id, key, state.root, state.base, state.end, state.high, state.end, epochs=list(state.epochs))

    def is_true(self, base: int) -> bool:
        """Say whether a segment that begins at `base` belongs to the partition."""
        return base <= self.floor or (base in self.began and base <= self.end)

    def base_of(self, bases: Iterable[int]) -> int:
        """Return the first offset of the active segment, `bases` being those on disk."""
        found = [base for base in (*bases, *self.began) if self.is_true(base)]
        return max(found, default=self.floor)


class Survey:
    """The first pass: what is true after the last round. Changes nothing on disk."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.logs = {state.id: Recovered.of(state) for state in checkpoint.logs}
        self.producers = ProducerTable(checkpoint.producers)
        self.dropped: set[TopicPartition] = set()
        self.next_log_id = checkpoint.next_log_id
        self.highest_id = checkpoint.highest_id
        self.sequence = checkpoint.mark.sequence

    def run(self, reader: JournalReader) -> None:
        """Read the whole journal. Raises CorruptStore."""
        for round_ in reader.rounds():
            self.highest_id = max(self.highest_id, round_.highest_id)
            for entry in entries_of(round_):
                if type(entry) is not Run or not self._continues(entry):
                    self._take(entry, round_.sequence)
            self.sequence = round_.sequence
        for state in self.logs.values():
            state.high = max(state.high, state.end)

    def _continues(self, run: Run) -> bool:
        """Take a run that is like nearly all: without a stamp, at the end of a segment that is known."""
        log_id, base, offset, data, stamp = run
        state = self.logs.get(log_id)
        if state is None or offset != state.end or stamp is not None:
            return False
        if base > state.floor and base not in state.began:
            return False
        state.end = offset + len(data)
        return True

    def _take(self, entry: Entry, sequence: int) -> None:
        if isinstance(entry, Create):
            self._create(entry)
            return
        state = self.logs.get(entry.log_id)
        if state is None:
            raise CorruptStore(
                f"round {sequence} of the journal names partition number {entry.log_id}, which was never begun"
            )
        match entry:
            case Run() | Extent():
                self._run(state, entry, sequence)
            case Roll(_, base):
                state.began.add(base)
            case Cut(_, to):
                self._cut(state, to)
            case Drop():
                del self.logs[state.id]
                self.producers.forget_log(state.id)
                self.dropped.add(state.key)
            case Intent(_, end):
                state.high = max(state.high, end)
                state.trimmed = True  # if the large run failed
            case Epoch(_, epoch, start):
                state.epochs.append((epoch, start))
            case Batch():
                self.producers.note(entry)

    def _create(self, entry: Create) -> None:
        self.next_log_id = max(self.next_log_id, entry.log_id + 1)
        if entry.log_id not in self.logs:
            key = TopicPartition(entry.topic, entry.partition)
            base = entry.base
            self.logs[entry.log_id] = Recovered(entry.log_id, key, entry.root, base, base, base, base)

    def _cut(self, state: Recovered, to: int) -> None:
        state.cuts.append(to)
        state.trimmed = True
        state.high = max(state.high, state.end)
        state.end = to
        state.floor = min(state.floor, to)
        state.kept = min(state.kept, to)
        state.began = {base for base in state.began if base <= to}
        state.epochs = [pair for pair in state.epochs if pair[1] < to]
        state.extents = [_cut_extent(extent, to) for extent in state.extents if extent.offset < to]
        self.producers.cut(state.id, to)

    def _run(self, state: Recovered, entry: Run | Extent, sequence: int) -> None:
        if entry.offset != state.end:
            raise CorruptStore(
                f"round {sequence} of the journal continues partition {state.key} at {entry.offset},"
                f" but it ends at {state.end}"
            )
        length = len(entry.data) if isinstance(entry, Run) else entry.length
        state.end += length
        if isinstance(entry, Extent):
            state.extents.append(entry)
        if entry.base > state.floor:
            state.began.add(entry.base)
        if entry.stamp is not None:
            first_id = HEADER.unpack_from(entry.data)[2] if isinstance(entry, Run) else 0
            self.producers.note(Batch(state.id, entry.offset, length, 0, first_id, entry.stamp))


class Replay:
    """The second pass: writes the runs that the files lack, in large pieces. `directories` maps log ids to folders."""

    def __init__(self, files: PartitionFiles, survey: Survey, directories: dict[int, str]) -> None:
        self._files = files
        self._directories = directories
        self._limits = {state.id: _limits(state) for state in survey.logs.values()}
        self._pieces: list[Piece] = []
        self._open: dict[int, tuple[int, int, list[bytes]]] = {}  # by log: base and end of its last piece, its parts
        self._size = 0

    def run(self, reader: JournalReader) -> None:
        """Write every run of the journal that survived: those of dropped partitions and behind cuts did not."""
        for round_ in reader.rounds():
            for entry in entries_of(round_):
                if isinstance(entry, Run):
                    self._add(entry)
                elif isinstance(entry, Cut) and entry.log_id in self._limits:
                    self._limits[entry.log_id].pop()
            if self._size > _REPLAY_MEMORY:
                self._write()
        self._write()

    def _add(self, run: Run) -> None:
        log_id, base, offset, whole, _ = run
        limits = self._limits.get(log_id)
        if limits is None or offset >= limits[-1]:
            return
        data = bytes(whole[: limits[-1] - offset])
        last = self._open.get(log_id)
        if last is not None and last[0] == base and last[1] == offset:
            parts = last[2]
            parts.append(data)
        else:
            parts = [data]
            self._pieces.append(Piece(self._directories[log_id], base, offset - base, parts))
        self._open[log_id] = (base, offset + len(data), parts)
        self._size += len(data)

    def _write(self) -> None:
        for piece in self._pieces:
            self._files.write(piece)
        self._pieces.clear()
        self._open.clear()
        self._size = 0


def _cut_extent(extent: Extent, to: int) -> Extent:
    """Return what is left of a large run; its CRC is void if that is not all."""
    left = to - extent.offset
    return extent if left >= extent.length else extent._replace(length=left, crc=CUT_EXTENT)


def _limits(state: Recovered) -> list[int]:
    """Return, last first, up to which offset the runs between two cuts survived all later cuts, and the end."""
    limits = [state.end]
    for to in reversed(state.cuts):
        limits.append(min(to, limits[-1]) if len(limits) > 1 else to)
    return limits


def entries_of(round_: Round) -> list[Entry]:
    """Return the entries of a round. Raises CorruptStore: the CRC was right, so it was written wrong."""
    try:
        return list(unpack(round_.payload))
    except (struct.error, ValueError) as exc:
        raise CorruptStore(f"round {round_.sequence} of the journal cannot be read: {exc}") from exc
