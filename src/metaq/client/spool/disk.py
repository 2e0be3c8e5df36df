"""The files of one spool: opening is recovering, appending is durable, what was dropped goes. Everything blocks."""

import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from metaq.client.spool.entries import (
    ENTRY,
    MARK_NAME,
    MARK_PLACES,
    entry_size,
    pack_entry,
    pack_mark,
    read_entries,
    read_mark,
    segment_first,
    segment_name,
)
from metaq.errors import CorruptSpool, SpoolError
from metaq.ports import Files

log = logging.getLogger(__name__)

_PIECE: Final = 1 << 20  # bytes read at once
_KEEP: Final = 64 << 10  # bytes a segment may have and stay although all of it was dropped


class SpoolDisk:
    """Entries `mark` to `end`, in segments; used by one thread at a time.

    - `append` writes behind the last entry and syncs; a segment that is large enough is left for a new one, whose name
      is durable before an entry in it is. So only the last segment can be torn, and only behind `end`.
    - The mark is not synced when it moves: after a power loss, entries dropped shortly before may come again. It is
      durable before a segment it has passed is removed, and that removal is durable before the mark moves on.
    - After an error that leaves open what is on the disk, nothing more is appended until the spool is opened again.
    """

    def __init__(self, files: Files, path: str, segment_size: int) -> None:
        """Open the spool in this folder, which is there. Raises CorruptSpool, OSError."""
        self._files = files
        self._path = path
        self._segment_size = segment_size
        self._segments = self._found()  # index of the first entry of each
        self._active: int | None = None  # descriptor of the last segment
        self._tail = 0  # bytes of it that are entries
        self._broken = ""
        self._reading: tuple[int, int] | None = None  # first index and descriptor of the segment being read
        self._mark = files.open(f"{path}/{MARK_NAME}", write=True, create=True)
        try:
            self.mark, self._place = read_mark(files.pread(self._mark, _PIECE, 0))
            if files.size(self._mark) <= MARK_PLACES[-1]:  # take the space now: dropping must work on a full disk
                files.pwrite(self._mark, pack_mark(self.mark), MARK_PLACES[-1])
                self._place = 0
            self._recover()
        except BaseException:
            self.close()
            raise

    # opening

    def _found(self) -> list[int]:
        names = [entry.name for entry in self._files.list(self._path)]
        return sorted(first for name in names if (first := segment_first(name)) is not None)

    def _recover(self) -> None:
        """Find where the entries begin and end, and cut what a crash left behind them.

        What is found is made durable: a process that was killed may have written it without having synced it.
        """
        self._files.sync_dir(self._path)
        while len(self._segments) > 1 and self._segments[1] <= self.mark:
            self._files.remove(self._file(self._segments.pop(0)))  # a crash came between mark and removal
        self.end = self._segments[0] if self._segments else self.mark
        self.mark = max(self.mark, self.end)
        self.size = 0  # bytes of the items from mark to end
        self._next, self._position = self.mark, 0  # index of the entry to be read next, and where it is
        for number, first in enumerate(self._segments):
            if first != self.end:
                path = self._file(self._segments[number - 1])
                raise CorruptSpool(
                    f"{path}: entry {self.end} at {self._tail} is damaged, the next file begins with {first};"
                    " move the folder away to go on without what is in it"
                )
            self._scan(first, is_last=number == len(self._segments) - 1)
        if self._segments and self.end < self.mark:
            # dropped and then lost, which takes a foreign hand; no index may be used twice
            log.warning("%s: %d entries that were dropped are missing", self._path, self.mark - self.end)
            self._remove(len(self._segments))
            self.end = self.mark
        if self.mark == self.end:
            self._position = self._tail  # where the next one will be

    def _scan(self, first: int, *, is_last: bool) -> None:
        path = self._file(first)
        fd = self._files.open(path, write=is_last)
        try:
            self._tail = 0
            for index, position, items in self._runs(fd, first):
                self._count(index, position, items)
            if is_last:
                self._cut(fd, path)
        except BaseException:
            self._files.close(fd)
            raise
        if is_last:
            self._active = fd
        else:
            self._files.close(fd)

    def _runs(self, fd: int, index: int) -> Iterator[tuple[int, int, list[bytes]]]:
        """Yield (index, position, items) of each run of whole entries."""
        position = 0
        while True:
            items, size = self._run(fd, index, position)
            if not items:
                return
            yield index, position, items
            index += len(items)
            position += size

    def _count(self, index: int, position: int, items: list[bytes]) -> None:
        """Take note of a run of entries, and of where the mark is in it."""
        for item in items:
            if index == self.mark:
                self._position = position
            if index >= self.mark:
                self.size += len(item)
            index += 1
            position += ENTRY.size + len(item)
        self.end, self._tail = index, position

    def _cut(self, fd: int, path: str) -> None:
        torn = self._files.size(fd) - self._tail
        if torn:
            log.warning("%s: %d bytes behind entry %d were never acknowledged, cut", path, torn, self.end)
            self._files.truncate(fd, self._tail)
        self._files.fdatasync(fd)

    # appending

    def append(self, items: list[bytes]) -> None:
        """Return once the items are durable. Raises OSError or SpoolError: then none of them is there."""
        if self._broken:
            raise SpoolError(f"{self._path}: nothing can be kept any more: {self._broken}")
        if self._active is None or self._tail >= self._segment_size:
            self._roll()
        assert self._active is not None
        parts = [pack_entry(self.end + number, item) for number, item in enumerate(items)]
        try:
            self._files.pwrite_all(self._active, parts, self._tail)
        except OSError as exc:
            self._take_back(self._active, exc)
            raise
        try:
            self._files.fdatasync(self._active)
        except OSError as exc:
            self._broken = f"not synced: {exc}"  # whether these entries are there, the next opening sees
            raise
        self._tail += sum(map(len, parts))
        self.end += len(items)

    def _take_back(self, fd: int, error: OSError) -> None:
        """Cut the part that was written: a later entry of the same length would bring the ones behind it back."""
        try:
            self._files.truncate(fd, self._tail)
        except OSError:
            self._broken = f"half written: {error}"

    def _roll(self) -> None:
        path = self._file(self.end)
        fd = self._files.open(path, write=True, create=True)
        try:
            self._files.truncate(fd, 0)  # one that was begun before and failed
            self._files.sync_dir(self._path)
        except BaseException:
            self._files.close(fd)
            raise
        if self._active is not None:
            self._files.close(self._active)
        self._active, self._tail = fd, 0
        if self.end not in self._segments[-1:]:
            self._segments.append(self.end)

    # reading

    def read(self) -> list[bytes]:
        """Return the items that follow those returned before, about a MiB of them; [] at the end.

        Raises CorruptSpool, OSError.
        """
        if self._next >= self.end:
            return []
        first = max(first for first in self._segments if first <= self._next)
        if self._reading is None or self._reading[0] != first:
            self._stop_reading()
            if first == self._next:
                self._position = 0
            self._reading = first, self._files.open(self._file(first))
        items, _ = self._run(self._reading[1], self._next, self._position)
        del items[self.end - self._next :]  # never what may not be durable
        if not items:
            raise CorruptSpool(f"{self._file(first)}: entry {self._next} at {self._position} is damaged")
        self._next += len(items)
        self._position += sum(map(len, items)) + ENTRY.size * len(items)
        return items

    def _run(self, fd: int, index: int, position: int) -> tuple[list[bytes], int]:
        """Return the whole entries from `position` on, and their bytes; at least one if there is one."""
        data = self._files.pread(fd, _PIECE, position)
        items, size = read_entries(data, index)
        if not items and len(data) == _PIECE:
            wanted = entry_size(data)
            if _PIECE < wanted <= self._files.size(fd) - position:
                items, size = read_entries(self._files.pread(fd, wanted, position), index)
        return items, size

    # dropping

    def move_mark(self, index: int) -> None:
        """Drop all entries before this index, which have been read; files that hold no others go. Raises OSError."""
        self._files.pwrite(self._mark, pack_mark(index), MARK_PLACES[self._place])
        self._place = (self._place + 1) % len(MARK_PLACES)
        self.mark = index
        done = sum(1 for following in self._segments[1:] if following <= index)
        if index == self.end and self._tail > _KEEP and not self._broken:
            done = len(self._segments)
        if done:
            self._remove(done)

    def _remove(self, number: int) -> None:
        """Remove the first segments, so that no crash brings back what the mark does not cover."""
        self._files.fdatasync(self._mark)
        if number == len(self._segments) and self._active is not None:
            self._files.close(self._active)
            self._active, self._tail = None, 0
        if self._reading is not None and self._reading[0] in self._segments[:number]:
            self._stop_reading()
        while number:
            self._files.remove(self._file(self._segments[0]))
            del self._segments[0]
            number -= 1
        self._files.sync_dir(self._path)

    # closing

    def close(self) -> None:
        """Give back the descriptors. Nothing is synced: all but the mark is."""
        self._stop_reading()
        if self._active is not None:
            self._files.close(self._active)
            self._active = None
        self._files.close(self._mark)

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._files.close(self._reading[1])
            self._reading = None

    def _file(self, first: int) -> str:
        return f"{self._path}/{segment_name(first)}"


def make_durable(files: Files, path: str) -> None:
    """Make a directory and its missing parents so that their names survive a power loss.

    So does the name of the last one that is there: whoever made it may have been killed before it was synced.
    """
    missing = []
    while not files.exists(path):
        missing.append(path)
        path = _parent(path)
    with suppress(PermissionError):  # then it is none of ours
        files.sync_dir(_parent(path))
    for each in reversed(missing):
        files.make_dir(each)
        files.sync_dir(_parent(each))


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"
