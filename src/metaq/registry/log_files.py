"""The log's files of one opening: rounds in, each durable before the next one is written."""

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple

from metaq.ports import Files, Worker
from metaq.registry.entries import (
    FILE_HEADER_SIZE,
    ROUND_HEADER_SIZE,
    SEAL_SIZE,
    FileHeader,
    Mark,
    pack_file_header,
    pack_round,
    pack_seal,
)
from metaq.registry.layout import NEXT, SPARE, log_path

log = logging.getLogger(__name__)

_ZEROS: Final = bytes(1 << 20)


class Start(NamedTuple):
    """Where an opening goes on: number of its first file, sequence and payload CRC of the last round so far.

    `backlog` are the bytes of log since the last snapshot.
    """

    generation: int
    number: int
    sequence: int
    chain: int
    backlog: int


class LogFiles:
    """Appends rounds. One is on its way at a time; the caller gathers the next one meanwhile. For the loop only.

    Files are written with zeros before they are used, and overwritten: then a sync touches no metadata (0.14 ms, where
    one of a file that grows takes 0.21), a full disk shows half a file ahead, and one that was cut short is noticed.
    """

    def __init__(self, place: str, files: Files, workers: tuple[Worker, Worker], size: int, nonce: int) -> None:
        """`workers`: for rounds, and for what is prepared behind the scenes; `size` in bytes."""
        self._place = place
        self._files = files
        self._worker, self._background = workers
        self._file_size = size
        self._nonce = nonce
        self._generation = self._number = 0
        self._fd = -1
        self._size = self._position = 0
        self._sequence = self._chain = 0
        self._before = 0  # bytes of log in earlier files, since the last snapshot or longer
        self._spare = -1  # descriptor
        self._preparing = self._closed = False
        self._prepare_at = 0
        self.busy = False

    def open(self, start: Start) -> None:
        """Begin a new file, durable when this returns. Blocks. OSError."""
        self._generation, self._number, self._sequence, self._chain, self._before = start
        self._number -= 1
        self._begin(NEXT, self._new(NEXT, self._file_size), self._file_size)

    @property
    def reach(self) -> int:
        """Bytes of log so far, from some place on; files that are full count whole."""
        return self._before + self._position

    @property
    def path(self) -> str:
        """The file that is written to."""
        return log_path(self._place, self._number)

    def mark(self) -> Mark:
        """Return the place behind the last round; not while `busy`."""
        return Mark(self._number, self._position, self._sequence, self._chain)

    def write(self, payload: bytes, done: Callable[[BaseException | None], None]) -> None:
        """Append a round; `done(None)` once it is durable. Only while not `busy`; after an error never again."""
        self.busy = True
        # The thread would release the interpreter's lock for the CRC and wait for it behind a busy loop.
        ready = self._frame(payload) if self._room() >= len(payload) else b""

        def work() -> None:
            frame = ready
            if not frame:
                self._switch(len(payload))
                frame = self._frame(payload)
            self._files.pwrite_durable(self._fd, frame, self._position)
            self._position += len(frame)

        def finish(_: None, error: BaseException | None) -> None:
            self.busy = False
            if error is None and self._position > self._prepare_at:
                self._prepare()
            done(error)

        self._worker.submit(work, finish)

    def seal(self, done: Callable[[BaseException | None], None], *, durable: bool = False) -> None:
        """Say behind the last round that it is durable; the next one takes its place. Only while not `busy`."""
        self.busy = True
        seal = pack_seal(self._nonce, self._sequence)
        write = self._files.pwrite_durable if durable else self._files.pwrite

        def finish(_: None, error: BaseException | None) -> None:
            self.busy = False
            done(error)

        self._worker.submit(partial(write, self._fd, seal, self._position), finish)

    def close(self) -> None:
        """Close the files, and remove the one that was ready to be the next; the workers have ended."""
        self._closed = True
        if self._fd >= 0:
            self._files.close(self._fd)
        if self._spare >= 0:
            self._files.close(self._spare)
            with suppress(OSError):
                self._files.remove(f"{self._place}/{SPARE}")
        self._fd = self._spare = -1

    def _room(self) -> int:
        return self._size - self._position - ROUND_HEADER_SIZE - SEAL_SIZE

    def _frame(self, payload: bytes) -> bytes:
        self._sequence += 1
        frame, self._chain = pack_round(self._nonce, self._sequence, payload, self._chain)
        return frame

    # In the thread

    def _switch(self, need: int) -> None:
        """Go on in the next file. All rounds so far are durable."""
        old, spare, size = self._fd, self._spare, self._file_size
        self._before += self._size
        if spare >= 0 and FILE_HEADER_SIZE + ROUND_HEADER_SIZE + need + SEAL_SIZE <= size:
            self._spare = -1
            self._begin(SPARE, spare, size)
        else:
            size = max(size, FILE_HEADER_SIZE + ROUND_HEADER_SIZE + need + SEAL_SIZE)
            self._begin(NEXT, self._new(NEXT, size), size)
        self._files.close(old)

    def _begin(self, name: str, fd: int, size: int) -> None:
        """Give a file that is made ready its header, then its name."""
        self._number += 1
        header = FileHeader(self._generation, self._number, self._nonce, size, self._sequence + 1, self._chain)
        try:
            self._files.pwrite_durable(fd, pack_file_header(header), 0)
            self._files.rename(f"{self._place}/{name}", log_path(self._place, self._number))
            self._files.sync_dir(self._place)
        except OSError:
            self._files.close(fd)
            raise
        self._fd, self._size, self._position = fd, size, FILE_HEADER_SIZE
        self._chain = header.seed()
        self._prepare_at = size // 2

    def _new(self, name: str, size: int) -> int:
        """Return a file of zeros, all of its blocks on disk."""
        path = f"{self._place}/{name}"
        fd = self._files.open(path, write=True, create=True)
        try:
            self._files.truncate(fd, 0)
            for position in range(0, size, len(_ZEROS)):
                self._files.pwrite(fd, _ZEROS[: size - position], position)
            self._files.fdatasync(fd)
        except OSError:
            self._files.close(fd)
            with suppress(OSError):
                self._files.remove(path)
            raise
        return fd

    def _prepare(self) -> None:
        """Have the next file ready before it is needed."""
        if self._spare >= 0 or self._preparing or self._closed:
            return
        self._preparing = True

        def make() -> None:
            self._spare = self._new(SPARE, self._file_size)

        def finish(_: None, error: BaseException | None) -> None:
            self._preparing = False
            if isinstance(error, OSError):
                log.error(
                    "%s: cannot make the next file of the log: %s; the registry ends when this one is full",
                    self._place,
                    error.strerror,
                )
                self._prepare_at = self._position + self._file_size // 16
            elif error is not None:
                raise error

        self._background.submit(make, finish)
