"""Reads: from the tail in memory, from the page cache on the loop, from the disk in a thread (design.md §3)."""

from collections.abc import Callable
from typing import NamedTuple

from metaq.errors import NothingAtOffset, OffsetMoved
from metaq.ports import Files, Worker
from metaq.record import HEADER_SIZE
from metaq.store.log import PartitionLog, segment_name

Buffer = bytes | bytearray | memoryview
Parts = list[Buffer]


class Cold(NamedTuple):
    """A read that must wait for the disk; hand it to `read_cold`."""

    directory: str
    base: int
    position: int
    size: int
    rest: Parts  # what follows, from the tail
    most: int = 0  # bytes that are read instead of `size` where the first record is as long

    @property
    def takes(self) -> int:
        """The most bytes that it may bring."""
        return max(self.size, self.most) + sum(map(len, self.rest))


class _Pin:
    """The reads of one segment that are in the thread. `doomed`: the segment goes away, the last of them closes it."""

    __slots__ = ("count", "doomed", "to_close")

    def __init__(self) -> None:
        self.count = 0
        self.doomed = False
        self.to_close: set[int] = set()


class Reader:
    """Reads partition logs. Keeps a bounded number of segment files open; those in use by the thread stay.

    The thread may be hundreds of reads ahead of the loop. So it hands over a few files that it opened, and closes those
    beyond at once.
    """

    def __init__(self, files: Files, worker: Worker, limit: int) -> None:
        self._files = files
        self._worker = worker
        self._limit = limit
        self._most_ahead = max(1, limit // 4)
        self._handed = 0  # files that the thread opened and left open; only the thread counts
        self._taken = 0  # those of them that the loop has heard of; only the loop counts
        self._open: dict[tuple[str, int], int] = {}  # least recently used first
        self._pins: dict[tuple[str, int], _Pin] = {}

    def slice(self, log: PartitionLog, offset: int, max_size: int, limit: int | None = None) -> Parts | Cold:
        """Return readable bytes from `offset` on, at most `max_size`, never across a segment's end (reference: `get`).

        Raises OffsetMoved below the first offset, NothingAtOffset at or beyond the end. No record boundaries are
        looked for: any offset is served, the last record may be cut, as in the original. `limit`: an end other than
        that of readers, at most `visible`; for who copies.
        """
        if limit is None:
            limit = log.readable
        if offset < log.bases[0]:
            raise OffsetMoved(log.bases[0])
        if offset >= limit:
            raise NothingAtOffset(offset)
        if log.tail_starts and offset == log.tail_starts[-1] >= log.bases[-1] and limit == log.visible:
            run = log.tail_runs[-1]  # who reads on as messages come wants the last run only
            return [run if len(run) <= max_size else memoryview(run)[:max_size]]
        base, end = log.segment_of(offset)
        if offset >= end:
            raise OffsetMoved(log.after_hole(offset))
        end = min(end, limit, offset + max_size)
        if offset >= log.moved:
            return list(log.slice_tail(offset, end))
        size = min(end, log.moved) - offset
        rest: Parts = list(log.slice_tail(log.moved, end)) if end > log.moved else []
        return self._from_file(Cold(log.directory, base, offset - base, size, rest))

    def slice_first(self, log: PartitionLog, offset: int, least: int, most: int) -> Parts | Cold:
        """Return what `slice` does of `least` bytes, or more: the first record whole, if that is in `most` bytes.

        The offset need not be where a record begins: what stands there instead of a length brings `most` bytes at most.
        """
        found = self.slice(log, offset, least)
        if not isinstance(found, Cold):
            need = _first(found[0], most)
            return found if need <= sum(map(len, found)) else self.slice(log, offset, need)
        if found.rest:
            return found  # the first record ends before the tail
        end = min(log.segment_of(offset)[1], log.readable, log.moved, offset + most)
        return found._replace(most=end - offset)

    def _from_file(self, want: Cold) -> Parts | Cold:
        name = (want.directory, want.base)
        fd = self._open.pop(name, None)
        if fd is None:
            return want
        self._open[name] = fd
        data = self._files.pread_cached(fd, want.size, want.position)
        if data is None or len(data) < want.size:
            return want
        return [data, *want.rest]

    def read_cold(self, want: Cold, done: Callable[[Parts | None, BaseException | None], None]) -> None:
        """Read in the thread; `done(parts, error)` on the loop. FileNotFoundError: retention was faster.

        Fewer bytes than wanted come back where the log was cut meanwhile.
        """
        name = (want.directory, want.base)
        fd = self._open.get(name)
        pin = self._pins.setdefault(name, _Pin())
        pin.count += 1

        def work() -> tuple[int | None, bytes]:
            if fd is not None:
                return fd, self._read(fd, want)
            return self._open_and_read(want)

        def finish(result: tuple[int | None, bytes] | None, error: BaseException | None) -> None:
            used = None if result is None else result[0]
            self._taken += fd is None and used is not None
            self._unpin(name, pin, used)
            if result is None:
                done(None, error)
                return
            data = result[1]
            done([data, *want.rest] if len(data) >= want.size else [data], None)

        self._worker.submit(work, finish)

    def _read(self, fd: int, want: Cold) -> bytes:
        data = self._files.pread(fd, want.size, want.position)
        need = _first(data, want.most)
        return data if need <= len(data) else self._files.pread(fd, need, want.position)

    def _open_and_read(self, want: Cold) -> tuple[int | None, bytes]:
        """Return what is wanted and the file opened for it, None if it is closed again. In the thread."""
        opened = self._files.open(f"{want.directory}/{segment_name(want.base)}")
        keep = False
        try:
            data = self._read(opened, want)
            keep = self._handed - self._taken < self._most_ahead
        finally:
            if not keep:
                self._files.close(opened)
        self._handed += keep
        return (opened if keep else None), data

    def forget(self, directory: str, base: int) -> None:
        """Close a segment that is going away, now or when the thread is done with it; its name may come again."""
        name = (directory, base)
        fd = self._open.pop(name, None)
        pin = self._pins.pop(name, None)
        if pin is not None:
            pin.doomed = True
            if fd is not None:
                pin.to_close.add(fd)
        elif fd is not None:
            self._files.close(fd)

    def close(self) -> None:
        """Close all files; the worker has ended, what it read last may still be on its way to the loop."""
        for name in {*self._open, *self._pins}:
            self.forget(*name)

    def _unpin(self, name: tuple[str, int], pin: _Pin, fd: int | None) -> None:
        """A read has ended; `fd` is the file it used, None if that is closed."""
        pin.count -= 1
        if pin.doomed:
            if fd is not None:
                pin.to_close.add(fd)
            if not pin.count:
                for each in pin.to_close:
                    self._files.close(each)
            return
        if not pin.count:
            del self._pins[name]
        if fd is not None:
            self._keep(name, fd)

    def _keep(self, name: tuple[str, int], fd: int) -> None:
        known = self._open.pop(name, None)
        if known is not None and known != fd:
            self._files.close(fd)
            fd = known
        self._open[name] = fd
        if len(self._open) > self._limit:
            self._evict()

    def _evict(self) -> None:
        for name in self._open:
            if name not in self._pins:
                self._files.close(self._open.pop(name))
                return


def _first(data: Buffer, most: int) -> int:
    """Return how long the record is that data begins with, at most `most`; if it is none, any number up to that."""
    return min(HEADER_SIZE + int.from_bytes(data[:4], "big", signed=True), most)
