"""A store's folders: made so that they last, held by one process, shut to a Java broker while they are not clean."""

from collections.abc import Iterable
from contextlib import suppress

from metaq.errors import StoreLocked
from metaq.ports import Files
from metaq.store.layout import JAVA_LOCK, Place


def make_dirs(files: Files, paths: Iterable[str]) -> None:
    """Create directories and their missing parents, durably.

    What is there, or is not there any more, may be the work of a process that ended before it synced it, so all of them
    are synced; a parent that we may not read is not ours and was there before.
    """
    found: set[str] = set()
    for path in paths:
        files.make_dir(path)
        names = path.split("/")
        found.update("/".join(names[:depth]) for depth in range(2, len(names) + 1))
    for each in ["/", *sorted(found)]:
        with suppress(PermissionError):
            files.sync_dir(each)


def lock_all(files: Files, place: Place) -> list[int]:
    """Lock all paths; return the descriptors that hold them. Raises StoreLocked, OSError."""
    locks: list[int] = []
    for path in sorted({place.log_path, *(root.path for root in place.roots)}):
        try:
            locks.append(files.lock_dir(path))
        except OSError as exc:
            for lock in locks:
                files.close(lock)
            if isinstance(exc, BlockingIOError):
                raise StoreLocked(f"{path} is in use by another broker") from exc
            raise
    return locks


def lock_java_out(files: Files, place: Place) -> None:
    """Leave the file that a Java broker does not start on (docs/storage.md §6, rule 8)."""
    folder = f"{place.log_path}/transactions"
    make_dirs(files, [folder])
    files.close(files.open(f"{folder}/{JAVA_LOCK}", write=True, create=True))
    files.sync_dir(folder)


def let_java_in(files: Files, place: Place) -> None:
    """Remove it."""
    folder = f"{place.log_path}/transactions"
    files.remove(f"{folder}/{JAVA_LOCK}")
    files.sync_dir(folder)
