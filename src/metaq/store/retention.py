"""Which segments go, and how: from the head of a log only, whole, sealed, covered by a checkpoint (storage.md §7)."""

import zipfile
from collections.abc import Iterable
from functools import partial
from io import RawIOBase
from typing import Final, NamedTuple

from metaq.config.model import DeletePolicy
from metaq.ports import Files
from metaq.store.log import segment_name

_PIECE: Final = 4 << 20


class Sealed(NamedTuple):
    """A segment that nothing is appended to any more; `mtime` in seconds since 1970."""

    base: int
    end: int
    mtime: float


def expired(segments: Iterable[Sealed], policy: DeletePolicy, now: float, durable: int) -> list[int]:
    """Return the bases of the segments to remove. Pure.

    They are judged from the head on and the first that stays ends it, so that no hole is made (the original judges each
    by itself, and then refuses to start on the hole). `durable`: where the segment begins that was the active one at
    the last checkpoint, or where the log was cut since, if that is lower; recovery wants what follows, sealed or not.
    """
    bases = []
    for segment in segments:
        if now - segment.mtime <= policy.age or segment.end > durable:
            break
        bases.append(segment.base)
    return bases


def dispose(files: Files, directory: str, base: int, policy: DeletePolicy) -> None:
    """Delete or archive one segment file. Blocks. Raises OSError; then the file or its archive is there."""
    path = f"{directory}/{segment_name(base)}"
    if policy.action == "delete":
        files.remove(path)
    elif not policy.compress:
        files.rename(path, path + ".arc")
    else:
        _zip(files, path, segment_name(base))
        files.sync_dir(directory)  # or a power loss could keep the removal and lose the archive
        files.remove(path)
    files.sync_dir(directory)


class _Sink(RawIOBase):
    """A file to write to, over the port."""

    def __init__(self, files: Files, fd: int) -> None:
        self._pwrite = partial(files.pwrite, fd)
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        view = memoryview(data)  # type: ignore[arg-type]  # anything with a buffer
        self._pwrite(view, self._position)
        self._position += len(view)
        return len(view)

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        """Nothing is held back."""


def _zip(files: Files, path: str, name: str) -> None:
    """Write `<path>.zip` with the segment as its one entry; whole and on disk, or not there at all."""
    new = path + ".zip.new"
    source = files.open(path)
    try:
        target = files.open(new, write=True, create=True)
        try:
            _write_zip(files, source, target, name)
        except BaseException:
            files.remove(new)
            raise
        finally:
            files.close(target)
    finally:
        files.close(source)
    files.rename(new, path + ".zip")


def _write_zip(files: Files, source: int, target: int, name: str) -> None:
    files.truncate(target, 0)
    with (
        zipfile.ZipFile(_Sink(files, target), "w") as archive,
        archive.open(_deflated(name), "w", force_zip64=True) as entry,
    ):
        position = 0
        while data := files.pread(source, _PIECE, position):
            entry.write(data)
            position += len(data)
    files.fdatasync(target)


def _deflated(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    return info
