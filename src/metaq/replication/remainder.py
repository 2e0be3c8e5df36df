"""What a master that has ended took in its last moment and no slave has fetched: read from its folder.

A Java broker that is told to end by a signal closes its port at once, so it may have acknowledged a message a moment
before that only its own files have.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

from metaq.errors import CorruptMessage, StoreError
from metaq.model import TopicPartition
from metaq.ports import Files, World
from metaq.replication.partition import survey
from metaq.replication.promotion import NotPromoted
from metaq.store.awaiting import in_thread, told
from metaq.store.layout import JAVA_LOCK, FoundPartition, Root, Segment, find_partitions
from metaq.store.log import PartitionLog, segment_name
from metaq.store.store import MessageStore

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
                self._store.append_copied(log, data[:end], base, messages, highest)
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
