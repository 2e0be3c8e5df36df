"""Folders of spools: one process has one at a time."""

import asyncio
import logging
from collections.abc import Iterable
from itertools import count
from typing import Self

from metaq.client.spool.disk import make_durable
from metaq.client.spool.entries import KEY_NAME, folder_name
from metaq.client.spool.fifo import DEFAULT_LIMITS, Spool, SpoolLimits, in_worker
from metaq.errors import SpoolError, SpoolLocked
from metaq.ports import Files, Worker

log = logging.getLogger(__name__)


class SpoolFolder:
    """A folder with one spool per key, locked for whoever opened it until it is closed or the process ends."""

    def __init__(self, path: str, lock: int, keys: Iterable[str], files: Files, worker: Worker) -> None:
        self.path = path
        self._lock = lock
        self._keys = dict.fromkeys(keys)
        self._files = files
        self._worker = worker
        self._spools: dict[str, Spool] = {}
        self._turn = asyncio.Lock()
        self._is_closed = False

    @classmethod
    async def open(cls, path: str, files: Files, worker: Worker) -> Self:
        """Lock the folder, which is made if need be. Raises SpoolLocked if another has it, SpoolError."""

        def work() -> tuple[int, list[str]]:
            make_durable(files, path)
            try:
                lock = files.lock_dir(path)
            except BlockingIOError as exc:
                raise SpoolLocked(
                    f"{path}: another process, or another client of this one, keeps its messages there;"
                    " give each a folder of its own"
                ) from exc
            try:
                return lock, _keys_in(files, path)
            except BaseException:
                files.close(lock)
                raise

        lock, keys = await in_worker(worker, work, path, undo=lambda made: files.close(made[0]))
        return cls(path, lock, keys, files, worker)

    @property
    def keys(self) -> list[str]:
        """The keys there is a spool for, be it empty."""
        return list(self._keys)

    async def spool(self, key: str, limits: SpoolLimits = DEFAULT_LIMITS) -> Spool:
        """Return the spool of a key, the same each time; the limits given first hold. Raises SpoolError."""
        async with self._turn:
            if self._is_closed:
                raise SpoolError(f"{self.path}: closed")
            found = self._spools.get(key)
            if found is None:
                path = f"{self.path}/{folder_name(key)}"
                await in_worker(self._worker, lambda: _make(self._files, path, key), path)
                found = await Spool.open(path, self._files, self._worker, limits, key=key)
                self._spools[key] = found
                self._keys[key] = None
            return found

    async def close(self) -> None:
        """Close all its spools and give the folder back. May be called again."""
        async with self._turn:
            if self._is_closed:
                return
            self._is_closed = True
            try:
                for spool in self._spools.values():
                    await spool.close()
            finally:
                await in_worker(self._worker, lambda: self._files.close(self._lock), self.path)


class SharedFolder:
    """A folder that several processes may name: each gets a subfolder of its own, `0`, `1`, and so on.

    The first one that is free is taken. What processes that have ended left in others is inherited by the next that
    opens the folder: `inherited` has those spools, to be emptied by whoever knows what is in them.
    """

    def __init__(self, path: str, own: SpoolFolder, others: list[SpoolFolder], inherited: list[Spool]) -> None:
        self.path = path
        self._own = own
        self._others = others
        self._inherited = inherited

    @classmethod
    async def open(cls, path: str, files: Files, worker: Worker) -> Self:
        """Take a subfolder, and those that nobody has and something is in. Raises SpoolError, CorruptSpool."""
        numbers = await in_worker(worker, lambda: _numbers_in(files, path), path)
        folders: list[SpoolFolder] = []
        inherited: list[Spool] = []
        try:
            for number in count():
                if folders and number > max(numbers, default=-1):
                    break
                if folders and number not in numbers:
                    continue
                try:
                    folders.append(await SpoolFolder.open(f"{path}/{number}", files, worker))
                except SpoolLocked:
                    continue
                if len(folders) > 1:
                    inherited += await _not_empty(folders)
        except BaseException:
            for folder in folders:
                await folder.close()
            raise
        return cls(path, folders[0], folders[1:], inherited)

    @property
    def inherited(self) -> list[Spool]:
        """The spools of other subfolders in which something was when this one was opened."""
        return self._inherited

    @property
    def keys(self) -> list[str]:
        """The keys there is a spool of ours for, be it empty."""
        return self._own.keys

    async def spool(self, key: str, limits: SpoolLimits = DEFAULT_LIMITS) -> Spool:
        """Return our spool of a key; see SpoolFolder."""
        return await self._own.spool(key, limits)

    async def close(self) -> None:
        """Close all spools and give the subfolders back. May be called again."""
        for folder in [*self._others, self._own]:
            await folder.close()


async def _not_empty(folders: list[SpoolFolder]) -> list[Spool]:
    """Return the spools of the last folder that hold something; without one the folder is given back."""
    folder = folders[-1]
    spools = [await folder.spool(key) for key in folder.keys]
    found = [spool for spool in spools if spool.count]
    if not found:
        folders.pop()
        await folder.close()
    return found


def _make(files: Files, path: str, key: str) -> None:
    """Make the folder of a spool that knows its key; durable also if a process that was killed began it."""
    make_durable(files, path)
    fd = files.open(f"{path}/{KEY_NAME}", write=True, create=True)
    try:
        if files.pread(fd, files.size(fd), 0) != key.encode():
            files.pwrite(fd, key.encode(), 0)
            files.truncate(fd, len(key.encode()))
        files.fdatasync(fd)
    finally:
        files.close(fd)
    files.sync_dir(path)


def _keys_in(files: Files, path: str) -> list[str]:
    """Return the keys of the spools in a folder. One without its key was being made when a crash came: it is empty."""
    found = []
    for entry in files.list(path):
        if not entry.is_dir or not files.exists(f"{path}/{entry.name}/{KEY_NAME}"):
            continue
        key = files.read(f"{path}/{entry.name}/{KEY_NAME}").decode("utf-8", "replace")
        if folder_name(key) == entry.name:
            found.append(key)
        else:
            log.warning("%s/%s: is not the folder of key %r, left alone", path, entry.name, key[:80])
    return found


def _numbers_in(files: Files, path: str) -> set[int]:
    make_durable(files, path)
    names = [entry.name for entry in files.list(path) if entry.is_dir]
    return {int(name) for name in names if name.isascii() and name.isdigit() and str(int(name)) == name}
