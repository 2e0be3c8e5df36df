"""The partition files as one thread writes them: opened when needed, a bounded number of them, synced when asked.

Used by the background writer's thread alone, so nothing here is locked; the loop reads through `reader`.
"""

import errno
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from metaq.ports import Files
from metaq.record import crc32
from metaq.store.log import segment_name

log = logging.getLogger(__name__)


class Piece(NamedTuple):
    """Bytes that stand one behind the other in one segment file."""

    directory: str
    base: int
    position: int  # in the file
    parts: Sequence[bytes | memoryview]


class PartitionFiles:
    """Writes segments and knows which of them, and which folders, are not synced yet."""

    def __init__(self, files: Files, limit: int) -> None:
        self._files = files
        self._limit = limit
        self._open: dict[tuple[str, int], int] = {}  # least recently used first
        self._unsynced: set[tuple[str, int]] = set()
        self._unsynced_folders: set[str] = set()
        self._broken: str | None = None  # what could not be synced, and why
        self.recovering = False  # names that are there may be those of a process that ended before it synced them

    def write(self, piece: Piece) -> None:
        """Write one piece; the file and its folder are made where they are missing."""
        fd = self._descriptor(piece.directory, piece.base)
        self._unsynced.add((piece.directory, piece.base))
        self._files.pwrite_all(fd, piece.parts, piece.position)

    def write_synced(self, piece: Piece) -> int:
        """Write one piece, sync the file, and its folder if it is new; return the CRC-32 of the bytes."""
        self.write(piece)
        self._sync_file((piece.directory, piece.base))
        self.sync_folders(piece.directory)
        crc = 0
        for part in piece.parts:
            crc = crc32(part, crc)
        return crc

    def unsynced(self) -> list[tuple[str, int]]:
        """Return the files written since they were last synced, for `sync_files`."""
        return sorted(self._unsynced)

    def sync_files(self, names: list[tuple[str, int]]) -> None:
        """Sync those of these files that still need it."""
        for name in names:
            self._sync_file(name)

    def sync_folders(self, within: str = "") -> None:
        """Sync the folders that got new names, those at or above `within` only if it is given."""
        for folder in sorted(self._unsynced_folders):
            if not within or within == folder or within.startswith(folder + "/"):
                self._sync(partial(self._files.sync_dir, folder), folder)
                self._unsynced_folders.discard(folder)

    def sync_everything(self) -> None:
        """Sync all that was written so far with one call for each file system, which pays for hundreds of files."""
        files, folders = set(self._unsynced), set(self._unsynced_folders)
        roots = {directory.rpartition("/")[0] for directory, _ in files} | folders
        systems = {self._files.free_space(root)[0]: root for root in sorted(roots)}
        for root in systems.values():
            self._sync(partial(self._files.sync_all, root), root)
        self._unsynced -= files
        self._unsynced_folders -= folders

    def cut(self, directory: str, bases: list[int], to: int) -> None:
        """End a partition at offset `to`: `bases` are those of its segments. Synced with the next checkpoint.

        What is not there yet stays so: bytes may be on their way to files, but not beyond what was handed in before.
        """
        for base in bases:
            path = f"{directory}/{segment_name(base)}"
            if base > to and self._files.exists(path):
                self.forget(directory, base)
                self._files.remove(path)
                self._unsynced_folders.add(directory)
        kept = max(base for base in bases if base <= to)
        if self._files.exists(f"{directory}/{segment_name(kept)}"):
            fd = self._descriptor(directory, kept)
            if self._files.size(fd) > to - kept:
                self._files.truncate(fd, to - kept)
                self._unsynced.add((directory, kept))

    def remove_folder(self, directory: str) -> None:
        """Remove a partition's folder with the files in it; a folder in it stays, and with it this one."""
        for name in {*self._open, *self._unsynced}:
            if name[0] == directory:
                self.forget(*name)
        self._unsynced_folders.discard(directory)
        if not self._files.exists(directory):
            return
        kept = False
        for entry in self._files.list(directory):
            if entry.is_dir:
                kept = True
                log.warning("%s/%s is not ours, left alone", directory, entry.name)
            else:
                self._files.remove(f"{directory}/{entry.name}")
        if not kept:
            self._files.remove_dir(directory)
        self._unsynced_folders.add(directory if kept else directory.rpartition("/")[0])

    def forget(self, directory: str, base: int) -> None:
        """Close a segment file and sync it no more."""
        fd = self._open.pop((directory, base), None)
        if fd is not None:
            self._files.close(fd)
        self._unsynced.discard((directory, base))

    def close(self) -> None:
        """Close all files."""
        for fd in self._open.values():
            self._files.close(fd)
        self._open.clear()

    def _sync_file(self, name: tuple[str, int]) -> None:
        if name in self._unsynced:
            self._sync(partial(self._files.fdatasync, self._descriptor(*name)), f"{name[0]}/{segment_name(name[1])}")
            self._unsynced.discard(name)

    def _sync(self, sync: Callable[[], None], path: str) -> None:
        """Sync, unless that failed before: the system takes what it could not write for written, and says so once.

        From then on only the journal has those bytes for certain, so no checkpoint may let go of it.
        """
        if self._broken is None:
            try:
                sync()
            except OSError as exc:
                self._broken = f"cannot sync {path}: {exc.strerror}"
        if self._broken is not None:
            raise OSError(errno.EIO, self._broken)

    def _descriptor(self, directory: str, base: int) -> int:
        name = (directory, base)
        fd = self._open.pop(name, None)
        if fd is None:
            if len(self._open) >= self._limit:
                self._files.close(self._open.pop(next(iter(self._open))))
            fd = self._open_file(directory, base)
        self._open[name] = fd
        return fd

    def _open_file(self, directory: str, base: int) -> int:
        path = f"{directory}/{segment_name(base)}"
        if not self.recovering:
            with suppress(FileNotFoundError):
                return self._files.open(path, write=True)
        if self.recovering or not self._files.exists(directory):
            self._files.make_dir(directory)
            self._unsynced_folders.add(directory.rpartition("/")[0])
        self._unsynced_folders.add(directory)
        return self._files.open(path, write=True, create=True)
