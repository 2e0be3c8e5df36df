"""The partition files as one thread writes them: opened when needed, a bounded number of them, synced when asked.

Used by the background writer's thread alone, so nothing here is locked; the loop reads through `reader`.
"""

from typing import NamedTuple
from zlib import crc32

from metaq.ports import Files
from metaq.store.log import segment_name


class Piece(NamedTuple):
    """Bytes that stand one behind the other in one segment file."""

    directory: str
    base: int
    position: int  # in the file
    parts: list[bytes]


class PartitionFiles:
    """Writes segments and knows which of them, and which folders, are not synced yet."""

    def __init__(self, files: Files, limit: int) -> None:
        self._files = files
        self._limit = limit
        self._open: dict[tuple[str, int], int] = {}  # least recently used first
        self._unsynced: set[tuple[str, int]] = set()
        self._unsynced_folders: set[str] = set()

    def write(self, piece: Piece) -> None:
        """Write one piece; the file and its folder are made where they are missing."""
        self._files.pwrite_all(self._descriptor(piece.directory, piece.base), piece.parts, piece.position)
        self._unsynced.add((piece.directory, piece.base))

    def write_synced(self, piece: Piece) -> int:
        """Write one piece, sync the file, and its folder if it is new; return the CRC-32 of the bytes."""
        self.write(piece)
        self._sync_file((piece.directory, piece.base))
        self.sync_folders(piece.directory)
        crc = 0
        for part in piece.parts:
            crc = crc32(part, crc)
        return crc

    def take_unsynced(self) -> list[tuple[str, int]]:
        """Return the files written since the last call; the caller syncs them with `sync_files`."""
        unsynced, self._unsynced = self._unsynced, set()
        return sorted(unsynced)

    def sync_files(self, names: list[tuple[str, int]]) -> None:
        """Sync these files. Those that an error left unsynced are taken again next time."""
        self._unsynced.update(names)
        for name in names:
            self._sync_file(name)

    def sync_folders(self, within: str = "") -> None:
        """Sync the folders that got new names, those at or above `within` only if it is given."""
        for folder in sorted(self._unsynced_folders):
            if not within or within == folder or within.startswith(folder + "/"):
                self._files.sync_dir(folder)
                self._unsynced_folders.discard(folder)

    def truncate(self, directory: str, base: int, size: int) -> None:
        """Cut a segment file; synced with the next checkpoint."""
        self._files.truncate(self._descriptor(directory, base), size)
        self._unsynced.add((directory, base))

    def remove(self, directory: str, base: int) -> None:
        """Remove a segment file that is there."""
        self.forget(directory, base)
        self._files.remove(f"{directory}/{segment_name(base)}")
        self._unsynced_folders.add(directory)

    def remove_folder(self, directory: str) -> None:
        """Remove a partition's folder with all that is in it."""
        for name in [name for name in self._open if name[0] == directory]:
            self.forget(*name)
        self._unsynced_folders.discard(directory)
        if not self._files.exists(directory):
            return
        for entry in self._files.list(directory):
            self._files.remove(f"{directory}/{entry.name}")
        self._files.remove_dir(directory)
        self._unsynced_folders.add(directory.rpartition("/")[0])

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
            self._files.fdatasync(self._descriptor(*name))
            self._unsynced.discard(name)

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
        try:
            return self._files.open(path, write=True)
        except FileNotFoundError:
            pass
        if not self._files.exists(directory):
            self._files.make_dir(directory)
            self._unsynced_folders.add(directory.rpartition("/")[0])
        self._unsynced_folders.add(directory)
        return self._files.open(path, write=True, create=True)
