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
        name = f"{directory.rpartition('/')[2]}@{base + position}"
        number = 1
        while self._files.exists(f"{self._place}/{name}.{number}.cut"):
            number += 1
        target = f"{self._place}/{name}.{number}.cut"
        try:
            self._copy(path, position, target)
        except OSError as exc:
            raise StoreError(
                f"cannot keep the bytes that {path} holds from {position} on in {self._place}: {exc}"
            ) from exc
        log.warning("%s: what stood from offset %d on is kept in %s", path, base + position, target)

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
