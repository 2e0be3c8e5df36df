"""Keeping what is cut: nothing that recovery or a replica takes away is destroyed (design.md §2, rule 3)."""

import logging
from typing import Final

from metaq.errors import StoreError
from metaq.ports import Files
from metaq.store.log import segment_name

log = logging.getLogger(__name__)

_PIECE: Final = 4 << 20


class Aside:
    """The folder for cut bytes: files `<topic>-<n>@<offset>.<number>.cut`, the raw bytes from that offset on."""

    def __init__(self, files: Files, place: str) -> None:
        self._files = files
        self._place = place

    def keep(self, directory: str, base: int, position: int) -> None:
        """Copy a segment's bytes from `position` on, durably. Raises StoreError if that cannot be done."""
        path = f"{directory}/{segment_name(base)}"
        target = self._free_name(directory, str(base + position))
        try:
            self._copy(path, position, target)
        except OSError as exc:
            raise StoreError(
                f"cannot keep the bytes that {path} holds from {position} on in {self._place}: {exc}"
            ) from exc
        log.warning("%s: what stood from offset %d on is kept in %s", path, base + position, target)

    def move(self, directory: str) -> None:
        """Move all files of a partition here, durably. Raises OSError; those that were moved are here then.

        A segment has the name that `keep` would give it, another file its own instead of an offset.
        """
        if not self._files.exists(directory):
            return
        for entry in self._files.list(directory):
            if not entry.is_dir:
                stem, _, suffix = entry.name.rpartition(".")
                what = str(int(stem)) if suffix == "meta" and stem.isascii() and stem.isdigit() else entry.name
                self._files.rename(f"{directory}/{entry.name}", self._free_name(directory, what))
        self._files.sync_dir(self._place)
        self._files.sync_dir(directory)
        log.warning("%s: its files are kept in %s", directory, self._place)

    def _free_name(self, directory: str, what: str) -> str:
        name = f"{self._place}/{directory.rpartition('/')[2]}@{what}"
        number = 1
        while self._files.exists(f"{name}.{number}.cut"):
            number += 1
        return f"{name}.{number}.cut"

    def partitions(self) -> set[str]:
        """Return the names of the folders from which something was kept."""
        return {entry.name.rpartition("@")[0] for entry in self._files.list(self._place)}

    def _copy(self, path: str, position: int, target: str) -> None:
        source = self._files.open(path)
        try:
            copy = self._files.open(target, write=True, create=True)
            try:
                written = 0
                while data := self._files.pread(source, _PIECE, position + written):
                    self._files.pwrite(copy, data, written)
                    written += len(data)
                self._files.fdatasync(copy)
            finally:
                self._files.close(copy)
        finally:
            self._files.close(source)
        self._files.sync_dir(self._place)
