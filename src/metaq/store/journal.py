"""The one journal of all partitions: rounds in, acknowledgements out (design.md §2).

A round is everything that came while the last one was being written: one write, and one fdatasync when some topic in it
wants that. A round that needs no sync is written on the loop, since a write into the page cache of a file that has its
blocks costs what copying costs (handing it to a thread and back doubled the time of a lone put); as soon as such a
write was slow, rounds go through the thread for a while. Everything that syncs or creates files is the thread's.
"""

import errno
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Final, NamedTuple

from metaq.ports import Clock, Files, Random, Worker
from metaq.record import crc32
from metaq.store.entries import (
    FILE_HEADER_SIZE,
    ROUND_HEADER,
    FileHeader,
    pack_file_header,
    pack_round_header,
)

log = logging.getLogger(__name__)

Done = Callable[[OSError | None], None]

_SLOW: Final = 0.005  # seconds: a write on the loop that took longer sends the next ones to the thread
_SLOW_FOR: Final = 1.0
_LARGE: Final = 64 << 10  # bytes of a part on average, from which on copying them together costs more than a list
_ZEROS: Final = bytes(1 << 20)


class Mark(NamedTuple):
    """A place between two rounds: file (generation and number), position in it, sequence and CRC of the round before.

    Position 0 is the place before the first file of the generation is there.
    """

    generation: int
    number: int
    position: int
    sequence: int
    crc: int


class JournalFile(NamedTuple):
    """A file of this generation, or a free one (its number is then void)."""

    path: str
    fd: int
    number: int
    size: int


class Identity(NamedTuple):
    """What all files of one opening have in common."""

    generation: int
    boot_id: bytes
    file_size: int


class Journal:
    """Appends rounds to the files of one generation.

    One round is on its way at a time; the caller gathers the next one meanwhile. Not thread-safe: for the loop only.
    `durable` is the highest sequence known to be on disk, `sequence` that of the last round handed in.
    """

    def __init__(
        self, place: str, identity: Identity, files: Files, workers: tuple[Worker, Worker], clock: Clock
    ) -> None:
        self._place = place
        self._identity = identity
        self._files = files
        self._worker, self._background = workers
        self._monotonic = clock.monotonic
        self._used: list[JournalFile] = []  # this generation's, oldest first; the last one is written to
        self._free: list[str] = []
        self._spare: tuple[str, int] | None = None  # (path, descriptor): written with zeros, ready
        self._preparing = False
        self._numbers: Iterator[int] = count(1)  # for names of files; two threads take from it
        self._nonce = 0
        self._crc = 0
        self._position = 0
        self._fd = -1  # of the file written to, its size and half of it
        self._size = self._half = 0
        self._pwrite = files.pwrite
        self._slow = 0.0  # when a write on the loop was slow last; 0: never, or long ago
        self.failed: Callable[[BaseException], None] = _raise  # a sync behind the scenes met an error
        self._syncing = self._sync_again = self._closed = False
        self.busy = False
        self.sequence = 0
        self.durable = 0
        self.highest_id = 0  # the broker raises it as it gives out message ids
        self.older_bytes = 0  # of earlier generations, waiting for the first checkpoint

    def open(self, random: Random, last_sequence: int, free: list[str], number: int) -> None:
        """Begin this generation with a new file, durable when this returns. Blocks.

        `free` are files whose content nobody needs any more, `number` is above the number in every file name here.
        """
        self._free = list(free)
        self._numbers = count(number + 1)
        self._nonce = random.randrange(1 << 62)
        self.sequence = self.durable = last_sequence
        self._begin_file(*self._new_file(self._identity.file_size))

    def mark(self) -> Mark:
        """Return the place behind the last round handed in; take it while no round is on its way."""
        return Mark(self._identity.generation, self._used[-1].number, self._position, self.sequence, self._crc)

    def backlog(self) -> int:
        """Return how many bytes of journal wait for a checkpoint to let them go."""
        return self.older_bytes + sum(file.size for file in self._used[:-1]) + self._position

    def write(self, parts: list[bytes | memoryview], sync: bool, done: Done) -> None:
        """Append one round; `done(error)` once it is written, and on disk if `sync`. Only while not `busy`."""
        size = sum(map(len, parts))
        sequence = self.sequence = self.sequence + 1
        end = self._position + ROUND_HEADER.size + size
        if sync or end > self._size or (self._slow and self._still_slow()):
            self._write_there(b"".join(parts), sync, end <= self._size, done)
            return
        start = 0.0 if sequence & 7 else self._monotonic()  # how long it takes is looked at now and then
        if size < _LARGE * len(parts):
            parts = [b"".join(parts)]
        crc = self._crc
        for part in parts:
            crc = crc32(part, crc)
        header = pack_round_header(self._nonce, (sequence, self.durable, self.highest_id, size, crc))
        try:
            if size < _LARGE:
                self._pwrite(self._fd, header + parts[0], self._position)
            else:
                self._files.pwrite_all(self._fd, [header, *parts], self._position)
        except OSError as exc:
            self.sequence -= 1
            done(self._void(self._crc, exc))
            return
        self._crc, self._position = crc, end
        if start and (now := self._monotonic()) - start > _SLOW:
            self._slow = now
        done(None)
        if end > self._half:
            self._prepare()

    def _still_slow(self) -> bool:
        if self._monotonic() - self._slow > _SLOW_FOR:
            self._slow = 0.0
        return self._slow > 0.0

    def _write_there(self, payload: bytes, sync: bool, fits: bool, done: Done) -> None:
        """Write in the thread: what syncs or goes on in another file."""
        self.busy = True
        sequence, durable = self.sequence, self.durable
        # The thread would release the interpreter's lock for the CRC and wait for it behind a busy loop.
        before, ready = self._crc, self._frame(payload, sequence, durable) if fits else b""

        def work() -> None:
            crc, frame = before, ready
            if not fits:
                self._switch(ROUND_HEADER.size + len(payload))
                crc, frame = self._crc, self._frame(payload, sequence, durable)
            alone = sync and durable == sequence - 1 and fits  # nothing before it is left to sync
            try:
                self._put_durably(frame) if alone else self._put(frame)
            except OSError as exc:
                error = self._void(crc, exc)
                self._sync(self._fd)
                raise error from exc
            if sync and not alone:
                self._sync(self._fd)

        def finish(_: None, error: BaseException | None) -> None:
            self.busy = False
            if error is not None:
                self.sequence -= 1
                if not isinstance(error, OSError):
                    log.error("the journal's thread failed", exc_info=error)
                    error = OSError(errno.EIO, repr(error))
            else:
                self.durable = max(self.durable, sequence if sync else sequence - 1 if not fits else 0)
                if self._position > self._half:
                    self._prepare()
            done(error)

        self._worker.submit(work, finish)

    def _frame(self, payload: bytes, sequence: int, durable: int) -> bytes:
        crc = self._crc = crc32(payload, self._crc)
        return pack_round_header(self._nonce, (sequence, durable, self.highest_id, len(payload), crc)) + payload

    def _put(self, frame: bytes) -> None:
        self._pwrite(self._fd, frame, self._position)
        self._position += len(frame)

    def _put_durably(self, frame: bytes) -> None:
        self._files.pwrite_durable(self._fd, frame, self._position)
        self._position += len(frame)

    def _void(self, crc: int, error: OSError) -> OSError:
        """Make sure that a round which could not be written is none; the next one takes its place. Return the error."""
        self._crc = crc
        try:
            self._pwrite(self._fd, bytes(ROUND_HEADER.size), self._position)
        except OSError as exc:
            return OSError(errno.EIO, f"cannot write the journal: {exc.strerror}")  # final, it may be there in part
        return error

    def sync_soon(self) -> None:
        """Sync what was written so far, behind the scenes. While one sync runs, the next one waits for it."""
        if self._syncing:
            self._sync_again = True
            return
        if self._closed or self.durable >= self.sequence:
            return
        self._syncing, self._sync_again = True, False
        sequence, fd = self.sequence - self.busy, self._fd

        def finish(_: None, error: BaseException | None) -> None:
            self._syncing = False
            if error is not None:
                self.failed(error)
                return
            self.durable = max(self.durable, sequence)
            if self._sync_again:
                self.sync_soon()

        self._worker.submit(partial(self._sync, fd), finish)

    def _sync(self, fd: int) -> None:
        """Sync a file that rounds are in. An error is final, whatever it is: what was not written counts as written."""
        try:
            self._files.fdatasync(fd)
        except OSError as exc:
            raise OSError(errno.EIO, f"cannot sync the journal: {exc.strerror}") from exc

    def _switch(self, need: int) -> None:
        """Go on in the next file. In the thread. The old file is on disk, the new one too, before a round is in it."""
        self._sync(self._fd)
        spare, size = self._spare, max(self._identity.file_size, need + FILE_HEADER_SIZE)
        if spare is not None and size == self._identity.file_size:
            self._spare = None
            self._begin_file(*spare, size)
        else:
            self._begin_file(*self._new_file(size))

    def _begin_file(self, path: str, fd: int, size: int) -> None:
        number = self._used[-1].number + 1 if self._used else 0
        first = self.sequence if self._used else self.sequence + 1
        header = FileHeader(self._identity.generation, number, self._nonce, self._identity.boot_id, first)
        try:
            self._files.pwrite(fd, pack_file_header(header), 0)
            self._files.fdatasync(fd)
            self._files.sync_dir(self._place)
        except OSError:
            self._discard(path, fd)  # there must not be two of this number
            raise
        self._used.append(JournalFile(path, fd, number, size))
        self._crc = header.seed()
        self._position = FILE_HEADER_SIZE
        self._fd, self._size, self._half = fd, size, size // 2

    def _new_file(self, size: int) -> tuple[str, int, int]:
        """Return a file whose blocks are allocated, so that syncing what overwrites them touches no metadata."""
        path = ""
        if size == self._identity.file_size:
            with suppress(IndexError):
                path = self._free.pop()
        path = path or f"{self._place}/{next(self._numbers):020}.journal"
        fd = self._files.open(path, write=True, create=True)
        try:
            written = self._files.size(fd)
            while written < size:
                piece = min(len(_ZEROS), size - written)
                self._files.pwrite(fd, _ZEROS[:piece], written)
                written += piece
        except OSError:
            self._discard(path, fd)
            raise
        return path, fd, size

    def _discard(self, path: str, fd: int) -> None:
        """Remove a file that could not be begun. If that fails too, the error is final."""
        self._files.close(fd)
        try:
            self._files.remove(path)
        except OSError as exc:
            raise OSError(errno.EIO, f"cannot remove {path}: {exc.strerror}") from exc

    def _prepare(self) -> None:
        """Have the next file ready before it is needed."""
        if self._spare is not None or self._preparing or self._closed:
            return
        self._preparing = True

        def work() -> tuple[str, int, int]:
            path, fd, size = self._new_file(self._identity.file_size)
            try:
                self._files.fdatasync(fd)
            except OSError:
                self._discard(path, fd)
                raise
            return path, fd, size

        def finish(made: tuple[str, int, int] | None, error: BaseException | None) -> None:
            self._preparing = False
            if made is not None and self._closed:
                self._files.close(made[1])
            elif made is not None:
                self._spare = made[:2]
            elif not isinstance(error, OSError):
                assert error is not None
                raise error  # an OSError comes again when the file is needed

        self._background.submit(work, finish)

    def release(self, mark: Mark) -> None:
        """Let go of the files before the one that `mark` lies in: a durable checkpoint covers them."""
        self.older_bytes = 0
        while len(self._used) > 1 and self._used[0].number < mark.number:
            file = self._used.pop(0)
            self._worker.submit(partial(self._let_go, file), _raise_error)  # behind a sync that may still want it
            if file.size == self._identity.file_size:
                self._free.append(file.path)

    def _let_go(self, file: JournalFile) -> None:
        self._files.close(file.fd)
        if file.size != self._identity.file_size:
            try:
                self._files.remove(file.path)
            except OSError as exc:
                log.warning("%s is not needed any more and cannot be removed: %s", file.path, exc)

    def add_free(self, paths: list[str]) -> None:
        """Take over files of earlier generations that are covered by a checkpoint now."""
        self._free.extend(paths)

    def close(self) -> None:
        """Close the files; the workers have ended. Nothing is written: sync or checkpoint before."""
        self._closed = True
        for file in self._used:
            self._files.close(file.fd)
        if self._spare is not None:
            self._files.close(self._spare[1])
            self._spare = None
        self._used.clear()


def _raise(error: BaseException) -> None:
    raise error


def _raise_error(_: None, error: BaseException | None) -> None:
    if error is not None:
        raise error
