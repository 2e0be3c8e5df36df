"""Writes snapshots behind the scenes, and removes what they make superfluous."""

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Final

from metaq.ports import Files, Worker
from metaq.registry.entries import Mark
from metaq.registry.layout import SNAPSHOT, look, remove, snapshot_path
from metaq.registry.snapshot import Capture, encode

log = logging.getLogger(__name__)

KEPT: Final = 2
_SYNC_EVERY: Final = 4 << 20  # bytes: a sync of less holds up those of the log less

Done = Callable[[BaseException | None], None]


class Snapshots:
    """One at a time: encoded on the loop in pieces of half a millisecond, written by the worker.

    A thread that encoded would hold the interpreter's lock for five milliseconds at a time, some hundred times. `kept`
    are the marks of the snapshots that stay, newest first: when a new one is durable, the second last goes, and the log
    files that only it needed. `busy` from `begin` until its `done`. For the loop only.
    """

    def __init__(self, place: str, files: Files, worker: Worker, kept: list[Mark]) -> None:
        self._place = place
        self._path = f"{place}/{SNAPSHOT}"
        self._files = files
        self._worker = worker
        self._fd = -1
        self._position = self._synced = 0
        self._closed = False
        self.kept = kept
        self.busy = False

    @property
    def newest(self) -> int:
        """Return the sequence of the last round in the newest snapshot; 0: there is none."""
        return self.kept[0].sequence if self.kept else 0

    def begin(self, capture: Capture, mark: Mark, done: Done) -> None:
        """Write a snapshot of what was captured at `mark`, which the log has on disk; not while `busy`.

        `done(None)` once it is durable; after an error all is as it was before. Blocks nobody.
        """
        self.busy = True
        pieces = encode(capture, mark)
        self._go_on(pieces, mark, done, self._create)

    def close(self) -> None:
        """Let go of a snapshot that is half written; the worker has ended."""
        self._closed = True
        if self._fd >= 0:
            self._files.close(self._fd)
            self._fd = -1

    def _go_on(self, pieces: Iterator[bytes], mark: Mark, done: Done, work: Callable[[], None]) -> None:
        """Have one piece of work done, then the next."""

        def then(_: None, error: BaseException | None) -> None:
            if self._closed:
                return
            if error is not None:
                self._end(done, None, error)
            elif (piece := next(pieces, None)) is not None:
                self._go_on(pieces, mark, done, partial(self._put, piece))
            else:
                kept = [mark, *self.kept[: KEPT - 1]]
                self._worker.submit(
                    partial(self._or_drop, partial(self._complete, kept)), partial(self._end, done, kept)
                )

        self._worker.submit(partial(self._or_drop, work), then)

    def _end(self, done: Done, kept: list[Mark] | None, *outcome: BaseException | None) -> None:
        error = outcome[-1]
        self.busy = False
        if error is None and kept is not None:
            self.kept = kept
        done(error)

    # In the thread

    def _create(self) -> None:
        self._fd = self._files.open(self._path, write=True, create=True)
        self._files.truncate(self._fd, 0)
        self._position = self._synced = 0

    def _put(self, piece: bytes) -> None:
        self._files.pwrite(self._fd, piece, self._position)
        self._position += len(piece)
        if self._position - self._synced >= _SYNC_EVERY:
            self._files.fdatasync(self._fd)
            self._synced = self._position

    def _complete(self, kept: list[Mark]) -> None:
        self._files.fdatasync(self._fd)
        fd, self._fd = self._fd, -1
        self._files.close(fd)
        self._files.rename(self._path, snapshot_path(self._place, kept[0].sequence))
        self._files.sync_dir(self._place)
        self._clear(kept)

    def _clear(self, kept: list[Mark]) -> None:
        """Remove what no kept snapshot needs. While there is one only, all of the log stays: the way out without it."""
        found = look(self._files, self._place)
        sequences = {mark.sequence for mark in kept}
        paths = [path for sequence, path in found.snapshots.items() if sequence not in sequences]
        if len(kept) == KEPT:
            paths += [path for number, path in found.logs.items() if number < kept[-1].number]
        remove(self._files, paths)

    def _or_drop(self, work: Callable[[], None]) -> None:
        """Do `work`; after an error nothing is left of the snapshot."""
        try:
            work()
        except OSError:
            if self._fd >= 0:
                fd, self._fd = self._fd, -1
                self._files.close(fd)
            with suppress(OSError):
                self._files.remove(self._path)
            raise
