"""Opening is recovering: from checkpoint, journal and files to the ends that are true (design.md §2, rules 1-9).

Two passes over the journal, so that nothing is changed before all of it was understood: `Survey` computes where every
partition ends, `Replay` writes what the files lack. Memory stays bounded; both work on one round at a time.
"""

import logging
import struct
from dataclasses import dataclass, field
from typing import Final

from metaq.errors import CorruptStore
from metaq.model import TopicPartition
from metaq.store.checkpoint import Checkpoint, LogState
from metaq.store.entries import Create, Cut, Drop, Entry, Epoch, Extent, Intent, Roll, Run, unpack
from metaq.store.partition_files import PartitionFiles, Piece
from metaq.store.producers import ProducerTable
from metaq.store.replay import JournalReader, Round

log = logging.getLogger(__name__)

_REPLAY_MEMORY: Final = 64 << 20


@dataclass(slots=True)
class Recovered:
    """One partition as journal and checkpoint tell it: bytes below `end` are true, up to `high` there may be leavings."""

    id: int
    key: TopicPartition
    root: str
    base: int
    end: int
    high: int
    kept: int  # below it the files held everything when the checkpoint was made, or do since a cut
    bases: set[int] = field(default_factory=set)  # segments that the journal began
    epochs: list[tuple[int, int]] = field(default_factory=list)
    extents: list[Extent] = field(default_factory=list)  # large runs that the files must hold

    @classmethod
    def of(cls, state: LogState) -> "Recovered":
        key = TopicPartition(state.topic, state.partition)
        return cls(
            state.id, key, state.root, state.base, state.end, state.high, state.end, {state.base}, list(state.epochs)
        )


class Survey:
    """The first pass: what is true after the last round. Changes nothing on disk."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.logs = {state.id: Recovered.of(state) for state in checkpoint.logs}
        self.producers = ProducerTable(checkpoint.producers)
        self.dropped: dict[TopicPartition, str] = {}  # with their root
        self.next_log_id = checkpoint.next_log_id
        self.highest_id = checkpoint.highest_id
        self.sequence = checkpoint.mark.sequence

    def run(self, reader: JournalReader) -> None:
        """Read the whole journal. Raises CorruptStore."""
        for round_ in reader.rounds():
            self.highest_id = max(self.highest_id, round_.highest_id)
            for entry in entries_of(round_):
                self._take(entry, round_.sequence)
            self.sequence = round_.sequence

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
                state.base = base
                state.bases.add(base)
            case Cut(_, to):
                state.end = to
                state.kept = min(state.kept, to)
                state.bases = {base for base in state.bases if base <= to}
                state.base = max(state.bases, default=state.base)
                state.epochs = [pair for pair in state.epochs if pair[1] < to]
                state.extents = [extent for extent in state.extents if extent.offset + extent.length <= to]
            case Drop():
                del self.logs[state.id]
                self.dropped[state.key] = state.root
            case Intent(_, end):
                state.high = max(state.high, end)
            case Epoch(_, epoch, start):
                state.epochs.append((epoch, start))

    def _create(self, entry: Create) -> None:
        self.next_log_id = max(self.next_log_id, entry.log_id + 1)
        if entry.log_id not in self.logs:
            key = TopicPartition(entry.topic, entry.partition)
            base = entry.base
            self.logs[entry.log_id] = Recovered(entry.log_id, key, entry.root, base, base, base, base, {base})

    def _run(self, state: Recovered, entry: Run | Extent, sequence: int) -> None:
        if entry.offset != state.end:
            raise CorruptStore(
                f"round {sequence} of the journal continues partition {state.key} at {entry.offset},"
                f" but it ends at {state.end}"
            )
        length = len(entry.data) if isinstance(entry, Run) else entry.length
        state.end += length
        if isinstance(entry, Extent):
            state.kept = state.end
            state.extents.append(entry)
        state.high = max(state.high, state.end)
        state.base = entry.base
        state.bases.add(entry.base)
        if entry.stamp is not None:
            self.producers.note(entry.stamp, state.id, entry.offset, length)


class Replay:
    """The second pass: writes the runs that the files lack, in large pieces. `directories` maps log ids to folders."""

    def __init__(self, files: PartitionFiles, survey: Survey, directories: dict[int, str]) -> None:
        self._files = files
        self._survey = survey
        self._directories = directories
        self._pieces: dict[tuple[int, int], list[Piece]] = {}
        self._size = 0

    def run(self, reader: JournalReader) -> None:
        """Write every run of the journal that survived: those of dropped partitions and behind cuts did not."""
        for round_ in reader.rounds():
            for entry in entries_of(round_):
                if isinstance(entry, Run):
                    self._add(entry)
            if self._size > _REPLAY_MEMORY:
                self._write()
        self._write()

    def _add(self, run: Run) -> None:
        state = self._survey.logs.get(run.log_id)
        if state is None or run.base not in state.bases:
            return
        data = bytes(run.data[: max(0, state.end - run.offset)])
        if not data:
            return
        pieces = self._pieces.setdefault((run.log_id, run.base), [])
        position = run.offset - run.base
        if pieces and pieces[-1].position + sum(map(len, pieces[-1].parts)) == position and len(pieces[-1].parts) < 64:
            pieces[-1].parts.append(data)
        else:
            pieces.append(Piece(self._directories[run.log_id], run.base, position, [data]))
        self._size += len(data)

    def _write(self) -> None:
        for pieces in self._pieces.values():
            for piece in pieces:
                self._files.write(piece)
        self._pieces.clear()
        self._size = 0


def entries_of(round_: Round) -> list[Entry]:
    """Return the entries of a round. Raises CorruptStore: the CRC was right, so it was written wrong."""
    try:
        return list(unpack(round_.payload))
    except (struct.error, ValueError) as exc:
        raise CorruptStore(f"round {round_.sequence} of the journal cannot be read: {exc}") from exc
