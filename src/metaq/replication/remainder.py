"""What a master that has ended took in its last moment and no slave has fetched: read from its folder.

A Java broker that is told to end by a signal closes its port at once, so it may have acknowledged a message a moment
before that only its own files have. One of ours that was stopped in order also says which batches producers sent last.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

from metaq.errors import CorruptMessage, CorruptStore, StoreError
from metaq.model import TopicPartition
from metaq.ports import Files, World
from metaq.replication.partition import survey
from metaq.replication.promotion import NotPromoted
from metaq.store.awaiting import in_thread, told
from metaq.store.checkpoint import load
from metaq.store.entries import Batch, Stamp
from metaq.store.layout import JAVA_LOCK, OURS, FoundPartition, Root, Segment, find_partitions
from metaq.store.log import PartitionLog, segment_name
from metaq.store.store import MessageStore

log_ = logging.getLogger(__name__)

_COMPARED: Final = 4096  # bytes before our end that must be the same there
_PIECE: Final = 1 << 20  # bytes read in one go, more where a record is larger


class _Ours(NamedTuple):
    """Where a log of ours ends, and what stands before."""

    end: int
    tail: bytes


class Remainder:
    """Takes over what the data paths `folders` of another broker have behind the ends of our logs.

    `accepts` says whether our configuration has a partition.
    """

    def __init__(
        self, store: MessageStore, world: World, accepts: Callable[[TopicPartition], bool], folders: Sequence[str]
    ) -> None:
        self._store = store
        self._world = world
        self._accepts = accepts
        self._folders = folders
        self._batches: Mapping[TopicPartition, Sequence[Batch]] = {}

    async def take(self) -> int:
        """Append it; return how many messages that were, all of them safe.

        Raises NotPromoted if these are no folders of our master, or its broker is not done with them; StoreError or
        OSError. Then some of it may have been appended, all of it the master's.
        """
        await _safe(self._store, 0)
        logs = [log for log in self._store.all() if log.end > log.start]
        ours = {log.key: _Ours(log.end, await self._store.read_last(log, _COMPARED)) for log in logs}
        work = await in_thread(self._world, "metaq-sync", lambda: find_rest(self._world.files, self._folders, ours))
        for found, _ in work:
            if not self._accepts(found.key):
                raise NotPromoted(f"{found.directory} has messages, and our server.ini has no {found.key}")
        ends = {found.key: found.end for found, _ in work}
        self._batches = await in_thread(
            self._world, "metaq-sync", lambda: find_batches(self._world.files, self._folders, ends)
        )
        return sum([await self._copy(found, start) for found, start in work])

    async def _copy(self, found: FoundPartition, start: int) -> int:
        """Append what a partition has from an offset on; return the number of messages."""
        log = self._store.get(found.key) or self._store.create(found.key, start)
        copied = 0
        for segment in found.segments:
            if segment.end > log.end:
                copied += await self._copy_segment(log, found, segment)
        return copied

    async def _copy_segment(self, log: PartitionLog, found: FoundPartition, segment: Segment) -> int:
        files, path = self._world.files, f"{found.directory}/{segment.misnamed or segment_name(segment.base)}"
        copied, size = 0, _PIECE
        while (rest := segment.end - log.end) > 0:
            read = partial(read_at, files, path, log.end - segment.base, min(rest, size))
            data = await in_thread(self._world, "metaq-sync", read)
            try:
                end, messages, highest = survey(data)
                broken = "" if end else f"a record at {log.end} is cut"
            except CorruptMessage as exc:
                broken, (end, messages, highest) = str(exc.args[0]), exc.args[1]
            if end:
                base = segment.base if segment.base in (log.base, log.end) else log.base
                self._append(log, base, data[:end], (messages, highest))
                await _safe(self._store, end)
                copied += messages
            elif size < rest and len(data) == size:
                size *= 4
                continue
            if broken:
                if segment is not found.segments[-1]:
                    raise StoreError(f"{path}: {broken}")
                break  # the end of a log whose broker was killed
        return copied

    def _append(self, log: PartitionLog, base: int, records: bytes, holds: tuple[int, int]) -> None:
        """Append records, with the stamps of the batches that end in them; `holds`: how many, and their highest id."""
        start = log.end
        self._store.append_copied(log, records, base, *holds)
        for batch in self._batches.get(log.key, ()):
            if start < batch.offset + batch.length <= log.end:
                self._store.stamp_copied(log, batch._replace(log_id=log.id))


def find_batches(
    files: Files, folders: Sequence[str], ends: Mapping[TopicPartition, int]
) -> dict[TopicPartition, list[Batch]]:
    """Return the batches of partitions, in order, that a broker of ours which was stopped in order remembers. Blocks.

    None of one whose log does not end where that broker left it: another one wrote there.
    """
    found: dict[TopicPartition, list[Batch]] = {}
    for folder in folders:
        for key, end, batch in _remembered(files, folder):
            if ends.get(key) == end:
                found.setdefault(key, []).append(batch)
    for batches in found.values():
        batches.sort(key=lambda batch: batch.offset)
    return found


def _remembered(files: Files, folder: str) -> Iterator[tuple[TopicPartition, int, Batch]]:
    """Yield (partition, end of its log, batch) of a clean checkpoint."""
    try:
        checkpoint = load(files, f"{folder}/{OURS}/checkpoint")
    except CorruptStore as exc:
        log_.warning("%s: what producers sent last is not known: %s", folder, exc)
        return
    if checkpoint is None or not checkpoint.clean:
        return
    logs = {state.id: state for state in checkpoint.logs}
    for sent in checkpoint.producers:
        state = logs.get(sent.log_id)
        if state is None:
            continue
        key = TopicPartition(state.topic, state.partition)
        for epoch, sequence, offset, length, count, first_id, _ in sent.batches:
            stamp = Stamp(sent.producer, epoch, sequence)
            yield key, state.end, Batch(sent.log_id, offset, length, count, first_id, stamp)


def find_rest(
    files: Files, folders: Sequence[str], ours: Mapping[TopicPartition, _Ours]
) -> list[tuple[FoundPartition, int]]:
    """Return the partitions that have more than we, each with the offset from which on. Blocks. As `Remainder.take`."""
    for folder in folders:
        if files.exists(f"{folder}/transactions/{JAVA_LOCK}"):
            raise NotPromoted(f"{folder} is in use by a broker of ours, or was when that was killed: start and stop it")
    found = find_partitions(files, [Root("", folder) for folder in folders], {})
    for key, log in ours.items():
        there = found.get(key)
        if there is None or not there.segments:
            raise NotPromoted(f"{' and '.join(folders)}: no messages of {key}, of which this slave has some")
        _check(files, there, log)
    if not ours:
        raise NotPromoted(f"this slave has no messages yet by which {' and '.join(folders)} could be known")
    rest = []
    for key, there in found.items():
        start = ours[key].end if key in ours else there.segments[0].base if there.segments else 0
        if there.end > start:
            rest.append((there, start))
    return rest


def _check(files: Files, there: FoundPartition, ours: _Ours) -> None:
    """Raise NotPromoted unless what stands before our end stands there, too."""
    start = ours.end - len(ours.tail)
    for segment in there.segments:
        if segment.base <= start < segment.end:
            path = f"{there.directory}/{segment.misnamed or segment_name(segment.base)}"
            theirs = read_at(files, path, start - segment.base, min(len(ours.tail), segment.end - start))
            if theirs == ours.tail:
                return
    raise NotPromoted(
        f"{there.directory}: what stands there before {ours.end}, where this slave's log ends, is not the same"
    )


def read_at(files: Files, path: str, position: int, size: int) -> bytes:
    """Return bytes of a file. Blocks."""
    fd = files.open(path)
    try:
        return files.pread(fd, size, position)
    finally:
        files.close(fd)


async def _safe(store: MessageStore, size: int) -> None:
    """Return when all that was appended is safe; `size` bytes of it were appended just now."""
    await told(lambda gate: store.commit(gate, size))
