"""A durable queue of bytes on the disk of this machine, for one event loop."""

import asyncio
import errno
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Self, TypeVar

from metaq.client.spool.disk import SpoolDisk, make_durable
from metaq.errors import ConfigError, SpoolError, SpoolFull
from metaq.ports import Files, Worker

T = TypeVar("T")

log = logging.getLogger(__name__)

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolLimits:
    """How much one spool holds, and the bytes after which a new file is begun."""

    count: int = 500_000  # items; as the original
    size: int = 1 << 30  # bytes of items
    segment: int = 4 << 20

    def __post_init__(self) -> None:
        for name in ("count", "size", "segment"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is at least 1, not {getattr(self, name)!r}")


DEFAULT_LIMITS: Final = SpoolLimits()


class Spool:
    """Items are appended at one end, looked at and dropped at the other.

    What `append` has returned for survives the end of the process and of the machine, in order. What was dropped
    shortly before may come again then. Appends that come while others are synced are synced together. A folder belongs
    to one spool at a time: see SpoolFolder.
    """

    def __init__(self, key: str, disk: SpoolDisk, worker: Worker, limits: SpoolLimits) -> None:
        self.key = key
        self.limits = limits
        self._disk = disk
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self._count = disk.end - disk.mark
        self._size = disk.size
        self._ready: deque[bytes] = deque()  # the first of those on disk, read already
        self._unread = self._count  # those on disk behind them
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []  # to be written next
        self._is_writing = False
        self._mark = disk.mark
        self._reading: asyncio.Future[None] | None = None
        self._marking: asyncio.Future[None] | None = None
        self._closing: asyncio.Future[None] | None = None

    @classmethod
    async def open(
        cls, path: str, files: Files, worker: Worker, limits: SpoolLimits = DEFAULT_LIMITS, *, key: str = ""
    ) -> Self:
        """Open the spool in a folder, which is made if need be. Raises CorruptSpool, SpoolError."""

        def work() -> SpoolDisk:
            make_durable(files, path)
            return SpoolDisk(files, path, limits.segment)

        return cls(key, await in_worker(worker, work, path, undo=SpoolDisk.close), worker, limits)

    @property
    def count(self) -> int:
        """How many items wait, those that are not on disk yet included."""
        return self._count

    @property
    def size(self) -> int:
        """How many bytes they have."""
        return self._size

    @property
    def is_closed(self) -> bool:
        """Whether it takes nothing any more."""
        return self._closing is not None

    # appending

    def has_room(self, count: int = 1, size: int = 0) -> bool:
        """Say whether so many items of so many bytes together would be taken."""
        return self._count + count <= self.limits.count and self._size + size <= self.limits.size

    async def append(self, item: bytes) -> None:
        """Append an item and return once it is durable. Raises SpoolFull or SpoolError: then it was not taken."""
        await self.append_nowait(item)

    def append_nowait(self, item: bytes, *, beyond: bool = False) -> asyncio.Future[None]:
        """Append an item and return the future of its being durable; `beyond` the limits if need be.

        Raises SpoolFull if there is no room, SpoolError if it is closed. The future may have either, too.
        """
        if self._closing is not None:
            raise SpoolError(f"{self.key or 'the spool'}: closed")
        if not beyond and not self.has_room(1, len(item)):
            raise SpoolFull(
                f"{self.key or 'the spool'}: {self._count} messages of {self._size} bytes wait on this machine already,"
                f" the limit is {self.limits.count} or {self.limits.size} bytes"
            )
        future = self._loop.create_future()
        self._count += 1
        self._size += len(item)
        self._waiting.append((item, future))
        self._write()
        return future

    def _write(self) -> None:
        if self._is_writing or not self._waiting:
            return
        self._is_writing = True
        batch, self._waiting = self._waiting, []
        items = [item for item, _ in batch]

        def done(_: object, error: BaseException | None) -> None:
            self._is_writing = False
            if error is None:
                self._unread += len(batch)
            else:
                self._count -= len(items)
                self._size -= sum(map(len, items))
            for _, future in batch:
                _settle(future, None if error is None else translated(error, self.key))
            self._write()
            self._end_if_due()

        self._worker.submit(lambda: self._disk.append(items), done)

    # looking and dropping

    async def peek(self, number: int = 1) -> list[bytes]:
        """Return the first items that are durable, at most so many, and fewer if they are large; [] if there is none.

        Raises CorruptSpool, SpoolError.
        """
        if self._closing is not None:
            raise SpoolError(f"{self.key or 'the spool'}: closed")
        if not self._ready and self._unread:
            if self._reading is None:
                self._reading = self._loop.create_future()
                self._worker.submit(self._disk.read, self._have_read)
            await asyncio.shield(self._reading)
        return [self._ready[n] for n in range(min(number, len(self._ready)))]

    def _have_read(self, items: list[bytes] | None, error: BaseException | None) -> None:
        if items:
            self._ready.extend(items)
            self._unread -= len(items)
        reading, self._reading = self._reading, None
        assert reading is not None
        _settle(reading, None if error is None else translated(error, self.key))
        self._end_if_due()

    async def drop(self, number: int = 1) -> None:
        """Drop the first items, which `peek` has returned, and return once that is noted on the disk.

        Whoever is cancelled meanwhile has dropped them nevertheless. Raises SpoolError if it cannot be noted: they are
        dropped, but come again when the spool is opened next.
        """
        self.drop_nowait(number)
        wanted = self._mark
        while self._disk.mark < wanted and not self.is_closed:
            self._note()
            assert self._marking is not None
            await asyncio.shield(self._marking)

    def drop_nowait(self, number: int = 1) -> None:
        """Drop them and have it noted soon. What cannot be noted is logged, and noted with the next."""
        if number > len(self._ready):
            raise ValueError(f"{number} items to drop, {len(self._ready)} were looked at")
        for _ in range(number):
            self._size -= len(self._ready.popleft())
        self._count -= number
        self._mark += number
        self._note()

    def _note(self) -> None:
        """Begin to move the mark, unless that is under way: then it moves on afterwards."""
        if self._marking is None and self._closing is None:
            self._marking = self._loop.create_future()
            self._worker.submit(partial(self._disk.move_mark, self._mark), self._have_marked)

    def _have_marked(self, _: object, error: BaseException | None) -> None:
        marking, self._marking = self._marking, None
        assert marking is not None
        if error is None:
            if self._disk.mark < self._mark:
                self._note()
        else:
            log.warning("%s: items that were dropped come again: %s", self.key or "the spool", error)
        _settle(marking, None if error is None else translated(error, self.key))
        self._end_if_due()

    # closing

    async def close(self) -> None:
        """Wait for what is being written, note what was dropped, and give the folder back. May be called again."""
        if self._closing is None:
            self._closing = self._loop.create_future()
            self._end_if_due()
        await asyncio.shield(self._closing)

    def _end_if_due(self) -> None:
        """Close the files once it is asked for and nothing is under way any more."""
        if self._closing is None or self._closing.done():
            return
        if self._is_writing or self._reading is not None or self._marking is not None:
            return
        closing, mark = self._closing, self._mark

        def work() -> None:
            try:
                if mark > self._disk.mark:
                    self._disk.move_mark(mark)
            finally:
                self._disk.close()

        def done(_: object, error: BaseException | None) -> None:
            _settle(closing, None if error is None else translated(error, self.key))

        self._worker.submit(work, done)


async def in_worker(
    worker: Worker, work: Callable[[], T], what: str, *, undo: Callable[[T], object] | None = None
) -> T:
    """Do blocking work in the worker and return its result. OSError becomes SpoolError, with `what` in its text.

    The work is done even if who waits is cancelled meanwhile; `undo`, which must be quick, gives back what it made.
    """
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def done(result: T | None, error: BaseException | None) -> None:
        if future.done():
            if error is None and undo is not None:
                undo(result)  # type: ignore[arg-type]  # None is a T where work returns None
        elif error is None:
            future.set_result(result)  # type: ignore[arg-type]
        else:
            future.set_exception(translated(error, what))

    worker.submit(work, done)
    return await future


def translated(error: BaseException, what: str) -> BaseException:
    """Return the error a user gets for one of the disk."""
    if not isinstance(error, OSError):
        return error
    kind = SpoolFull if error.errno in _FULL else SpoolError
    new = kind(f"{what or 'the spool'}: {error}")
    new.__cause__ = error
    return new


def _settle(future: asyncio.Future[None], error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
        future.exception()  # seen: whoever does not await it has no use for it
