"""The real things behind `ports`: files, worker threads and clocks of the operating system.

This is the one place that calls `os` for the store, so that tests can put a disk of their own in its stead.
"""

import asyncio
import ctypes
import errno
import fcntl
import os
import resource
import stat
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Final, TypeVar

T = TypeVar("T")

_libc: Final = ctypes.CDLL(None, use_errno=True)  # for syncfs, which Python does not offer

_IOV_MAX: Final = 1024  # parts a single pwritev takes (Linux: UIO_MAXIOV)
_JOIN_BELOW: Final = 2048  # bytes a part has on average; smaller ones are cheaper to copy together than to list
_MOST_OPEN: Final = 1 << 20  # fs.nr_open
_NOWAIT_UNSUPPORTED: Final = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


class SystemClock:
    """The clocks of this machine."""

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One entry of a directory; symbolic links are followed, a dangling one counts as an empty file."""

    name: str
    is_dir: bool
    size: int
    mtime: float


class OsFiles:
    """`ports.Files` on the operating system. Calls may come from any thread."""

    def __init__(self) -> None:
        self._never_cached: set[int] = set()  # descriptors on file systems that cannot read without waiting

    def open(self, path: str, *, write: bool = False, create: bool = False) -> int:
        """Return a descriptor that children do not inherit; new files get mode 0666 less the umask."""
        flags = (os.O_RDWR if write else os.O_RDONLY) | (os.O_CREAT if create else 0)
        return os.open(path, flags, 0o666)

    def close(self, fd: int) -> None:
        self._never_cached.discard(fd)
        os.close(fd)

    def pread(self, fd: int, size: int, position: int) -> bytes:
        """Return `size` bytes, fewer only where the file ends."""
        data = os.pread(fd, size, position)
        if len(data) == size or not data:
            return data
        parts = [data]
        missing = size - len(data)
        while missing and (data := os.pread(fd, missing, position + size - missing)):
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)

    def pread_cached(self, fd: int, size: int, position: int) -> bytearray | None:
        """Return what `pread` would, if all of it is in memory. None also where the file system cannot tell.

        A file that grows meanwhile may give None although its bytes are in memory.
        """
        if fd in self._never_cached:
            return None
        data = bytearray(size)
        try:
            count = os.preadv(fd, [data], position, os.RWF_NOWAIT)
        except BlockingIOError:
            return None
        except OSError as exc:
            if exc.errno not in _NOWAIT_UNSUPPORTED:
                raise
            self._never_cached.add(fd)
            return None
        if count < size:
            # Part of it, or nothing, does not mean the end: the rest may not be in memory, and some kernels
            # (5.9) answer 0 where they should say "again". Only the size tells.
            if position + count < os.fstat(fd).st_size:
                return None
            del data[count:]
        return data

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, position: int) -> None:
        count = os.pwrite(fd, data, position)
        if count == len(data):
            return
        view = memoryview(data).cast("B")
        while count < len(view):
            count += _progress(os.pwrite(fd, view[count:], position + count))

    def pwrite_all(self, fd: int, parts: Sequence[bytes | memoryview], position: int) -> None:
        """Write all parts with one call, or one per IOV_MAX parts if they are too large to be copied together."""
        total = sum(map(len, parts))
        if total < _JOIN_BELOW * len(parts):
            self.pwrite(fd, b"".join(parts), position)
            return
        for first in range(0, len(parts), _IOV_MAX):
            chunk = parts[first : first + _IOV_MAX]
            wanted = sum(map(len, chunk))
            count = os.pwritev(fd, chunk, position)
            if count < wanted:
                self.pwrite(fd, b"".join(chunk)[count:], position + count)
            position += wanted

    def pwrite_durable(self, fd: int, data: bytes, position: int) -> None:
        """One call that writes and syncs; 0.12 ms for a small write in place, pwrite and fdatasync take 0.17."""
        count = os.pwritev(fd, [data], position, os.RWF_DSYNC)
        if count < len(data):
            self.pwrite(fd, data[count:], position + count)
            os.fdatasync(fd)

    def fdatasync(self, fd: int) -> None:
        os.fdatasync(fd)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def read(self, path: str) -> bytes:
        with open(path, "rb") as file:
            return file.read()

    def list(self, path: str) -> list[FileEntry]:
        """Return the entries sorted by name. One that goes away meanwhile is left out."""
        with os.scandir(path) as entries:
            found = [entry for each in entries if (entry := _describe(each)) is not None]
        return sorted(found, key=lambda entry: entry.name)

    def exists(self, path: str) -> bool:
        """Return whether something is there. An error other than that is raised, not taken for "nothing there"."""
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def make_dir(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)

    def sync_dir(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def sync_all(self, path: str) -> None:
        """One syncfs(2): 0.2 s for 10,000 small files, where syncing each takes seconds. It tells of errors too."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if _libc.syncfs(fd) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), path)
        finally:
            os.close(fd)

    def rename(self, source: str, target: str) -> None:
        os.replace(source, target)

    def make_like(self, path: str, model: str) -> None:
        """Give a file the mode of another, and its owner and group if we may."""
        like = os.stat(model)
        with suppress(PermissionError):
            os.chown(path, like.st_uid, like.st_gid)
        os.chmod(path, stat.S_IMODE(like.st_mode))

    def remove(self, path: str) -> None:
        os.remove(path)

    def remove_dir(self, path: str) -> None:
        os.rmdir(path)

    def lock_dir(self, path: str) -> int:
        """Lock the directory itself, so that no lock file is left behind. The lock goes with the descriptor."""
        return _locked(os.open(path, os.O_RDONLY | os.O_DIRECTORY))

    def lock_file(self, path: str) -> int:
        """Lock a file, opened for writing as NFS wants it. The lock goes with the descriptor."""
        return _locked(os.open(path, os.O_RDWR | os.O_CREAT, 0o666))

    def most_open(self) -> int:
        """Return the soft limit of `ulimit -n`; of one that is no limit, what Linux grants at most by default."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return _MOST_OPEN if soft == resource.RLIM_INFINITY else soft

    def free_space(self, path: str) -> tuple[int, int]:
        """Return (device number, bytes free). What is set aside for root does not count, also if we are root."""
        space = os.statvfs(path)
        return os.stat(path).st_dev, space.f_bavail * space.f_frsize


def _locked(fd: int) -> int:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _describe(entry: os.DirEntry[str]) -> FileEntry | None:
    try:
        is_dir = entry.is_dir()
        status = entry.stat()
    except FileNotFoundError:
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return None
        return FileEntry(entry.name, False, 0, status.st_mtime)
    return FileEntry(entry.name, is_dir, 0 if is_dir else status.st_size, status.st_mtime)


def _progress(count: int) -> int:
    if count == 0:
        raise OSError(errno.EIO, "the file system accepts no more bytes and does not say why")
    return count


class OsWorker:
    """One thread that does blocking jobs in order and hands their results to the loop. See `ports.Worker`.

    Jobs may be submitted from any thread; `done` always runs on the loop. Results of jobs that end after the loop was
    closed are dropped. The thread is a daemon: a process that ends without `close` does not wait for it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self._loop = loop
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], T], done: Callable[[T | None, BaseException | None], None]) -> None:
        """Queue a job. RuntimeError after `close`."""
        if self._closed:
            raise RuntimeError(f"worker {self._thread.name} is closed")
        self._jobs.put(partial(self._carry_out, work, done))

    def close(self) -> None:
        """Wait until all jobs are done and the thread has ended. Results may still be on their way to the loop."""
        self._closed = True
        self._jobs.put(None)  # a second one, of a second call, is never read
        self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # or its buffers would stay until the next one comes

    def _carry_out(self, work: Callable[[], T], done: Callable[[T | None, BaseException | None], None]) -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the one who waits must learn of it
            self._post(partial(done, None, error))
        else:
            self._post(partial(done, result, None))

    def _post(self, callback: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            if not self._loop.is_closed():
                raise


class OsThreads:
    """Makes workers that report to one loop. See `ports.Threads`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def worker(self, name: str) -> OsWorker:
        return OsWorker(self._loop, name)
