"""A disk in memory that forgets what was not synced, and can be cut off, broken and filled up at any step."""

import errno
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from random import Random
from typing import Final, NamedTuple

from metaq.files import FileEntry

from .loop import PowerLoss
from .media import File, Folder, Media, Node, parts, system_error

__all__ = ["BOOT_ID", "Fault", "Operation", "PowerLoss", "SimDisk"]

BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"


class Operation(NamedTuple):
    """One call. `number` counts those that change something, from 1; None for the others."""

    number: int | None
    name: str  # as in ports.Files, but pwrite for both ways of writing, create where open makes a file
    path: str  # for rename the source
    position: int = 0
    size: int = 0


@dataclass(slots=True, eq=False)
class Fault:
    """An error that matching calls get, `times` times (None: always)."""

    matches: Callable[[Operation], bool]
    error: OSError
    times: int | None
    met: int = 0  # how often

    def stop(self) -> None:
        """Mend it."""
        self.times = 0


@dataclass(frozen=True, slots=True)
class _Open:
    path: str
    node: Node
    writable: bool


class SimDisk:
    """`ports.Files` as one process sees them; `reopen` gives another process on the same disk.

    What is written is visible at once. After a power loss (`crash`) this is left, drawn from `random`:

    - of bytes: those below the last `fdatasync`. Of what was written since, each sector of 512 bytes holds any one of
      the states it went through, whatever its neighbours do; where a file grew but the bytes did not arrive, zeros.
    - of sizes: the file has any of the sizes it went through since the sync, or grew half-way; sizes and cuts keep
      their order (ext4 journals them). What followed a cut that was lost is lost with it, but for the cut's sector.
    - of names: those in a directory at its last `sync_dir`. Of later creates, renames and removes, any that do not
      build upon a lost one (by name) are kept; each is whole or not at all, a rename also across directories (ext4).
      Harder than ext4: no order between names; syncing a file does not keep its name, nor syncing a directory its own
      name in its parent (POSIX promises neither). A file whose name is lost is gone, synced or not.
    - after a failed `fdatasync`, what it should have made durable counts as clean and is kept by no later sync unless
      it is written again (Linux).

    BOOT_ID can be read as on Linux; it changes with every power loss.

    After the end of the process alone (`power=False`) all that was written stays; descriptors and locks go. The call
    that `crash_at` interrupts has happened, or not, or in part (a write: some first part).
    """

    def __init__(
        self,
        random: Random,
        *,
        capacity: int | None = None,
        now: Callable[[], float] = float,
        cold: float = 0.1,
        media: Media | None = None,
    ) -> None:
        """`capacity` is in bytes, `cold` the share of `pread_cached` calls that would have to wait for the disk."""
        self.media = media or Media(random, capacity)
        self.log: deque[Operation] = deque(maxlen=10_000)  # of all processes
        self.operations = 0  # calls so far that change something
        self.when_dead: list[Callable[[], object]] = []  # called once, when crash_at strikes
        self.when_changed: list[Callable[[Operation], object]] = []  # called behind each call that changed something
        self.syncs: Callable[[], bool] = _yes  # asked by each sync: whether it is to do anything
        self.cold = cold
        self._random = random
        self._now = now
        self._open: dict[int, _Open] = {}
        self._faults: list[Fault] = []
        self._crash_at: int | None = None
        self._boot = self.media.boots
        self._ended = False

    # What tests do to it

    @property
    def dead(self) -> bool:
        """Whether the process is gone: every call raises PowerLoss."""
        return self._ended or self._boot != self.media.boots

    def crash_at(self, number: int) -> None:
        """Let the process end in its `number`-th changing call, counted from the first one (see `operations`)."""
        self._crash_at = number

    def crash(self, *, power: bool = True) -> "SimDisk":
        """End the process, or (`power`) all processes of the disk, and return what the next one finds."""
        self._end()
        if power:
            self.media.lose_power()
        return self.reopen()

    def reopen(self) -> "SimDisk":
        """Return the same disk for a new process. This one stays as dead, or alive, as it is."""
        disk = SimDisk(self._random, now=self._now, cold=self.cold, media=self.media)
        disk.log = self.log
        disk.when_changed, disk.syncs = self.when_changed, self.syncs
        return disk

    def fork(self, random: Random, now: Callable[[], float] = float) -> "SimDisk":
        """Return another disk in the same state, as a process finds it that nobody watches; its clock is `now`."""
        return SimDisk(random, now=now, cold=self.cold, media=self.media.copy(random))

    def fail(self, matches: Callable[[Operation], bool], error: OSError, *, times: int | None = None) -> Fault:
        """Let matching calls of this process raise such an error. Failed writes may have written a first part."""
        fault = Fault(matches, error, times)
        self._faults.append(fault)
        return fault

    def snapshot(self) -> dict[str, bytes | None]:
        """Return the content of all files by path; None for directories."""
        return {path: bytes(node.content) if isinstance(node, File) else None for path, node in self.media.walk()}

    # ports.Files

    def open(self, path: str, *, write: bool = False, create: bool = False) -> int:
        self._look("open", path)
        folder, name = self.media.place(path)
        if create and name not in folder.entries:
            self._change(Operation(None, "create", path), lambda: self.media.name((folder, name, File())))
        node = self.media.find(path)
        if isinstance(node, Folder) and write:
            raise system_error(errno.EISDIR, path)
        return self._descriptor(_Open(path, node, write))

    def close(self, fd: int) -> None:
        opened = self._opened(fd)
        self._look("close", opened.path)
        self._release(fd)

    def pread(self, fd: int, size: int, position: int) -> bytes:
        opened = self._opened(fd)
        self._look("pread", opened.path, position, size)
        return bytes(self._file(opened).content[position : position + size])

    def pread_cached(self, fd: int, size: int, position: int) -> bytearray | None:
        opened = self._opened(fd)
        self._look("pread_cached", opened.path, position, size)
        if self._random.random() < self.cold:
            return None
        return self._file(opened).content[position : position + size]

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, position: int) -> None:
        opened = self._opened(fd)
        file = self._file(opened, write=True)
        whole = bytes(data)

        def write() -> None:
            room = max(0, min(len(whole), self._largest(file) - position))
            file.write(whole[: int(room)], position)
            file.mtime = self._now()
            if room < len(whole):
                raise system_error(errno.ENOSPC, opened.path)

        def write_part() -> None:
            file.write(whole[: self._random.randrange(len(whole) + 1)], position)

        self._change(Operation(None, "pwrite", opened.path, position, len(whole)), write, write_part, write_part)

    def pwrite_all(self, fd: int, parts: Sequence[bytes | memoryview], position: int) -> None:
        self.pwrite(fd, b"".join(parts), position)

    def pwrite_durable(self, fd: int, data: bytes, position: int) -> None:
        """Write, then make the sectors written to durable, and no others unless the file's size changed."""
        self.pwrite(fd, data, position)
        opened = self._opened(fd)
        file = self._file(opened)
        self._sync(
            Operation(None, "fdatasync", opened.path), lambda: file.sync_range(position, len(data)), file.fail_sync
        )

    def fdatasync(self, fd: int) -> None:
        opened = self._opened(fd)
        file = self._file(opened)
        self._sync(Operation(None, "fdatasync", opened.path), file.sync, file.fail_sync)

    def truncate(self, fd: int, size: int) -> None:
        opened = self._opened(fd)
        file = self._file(opened, write=True)

        def cut() -> None:
            if size > max(len(file.content), self._largest(file)):
                raise system_error(errno.ENOSPC, opened.path)
            file.truncate(size)
            file.mtime = self._now()

        self._change(Operation(None, "truncate", opened.path, size=size), cut)

    def size(self, fd: int) -> int:
        opened = self._opened(fd)
        self._look("size", opened.path)
        return len(self._file(opened).content)

    def read(self, path: str) -> bytes:
        self._look("read", path)
        if path == BOOT_ID:
            return f"{self.media.boot_id}\n".encode()
        node = self.media.find(path)
        if isinstance(node, Folder):
            raise system_error(errno.EISDIR, path)
        return bytes(node.content)

    def list(self, path: str) -> list[FileEntry]:
        self._look("list", path)
        return [
            FileEntry(name, True, 0, node.mtime)
            if isinstance(node, Folder)
            else FileEntry(name, False, len(node.content), node.mtime)
            for name, node in sorted(self.media.folder(path).entries.items())
        ]

    def exists(self, path: str) -> bool:
        self._look("exists", path)
        try:
            self.media.find(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def make_dir(self, path: str) -> None:
        names = parts(path)
        self._look("make_dir", path)
        for depth in range(1, len(names) + 1):
            part = "/" + "/".join(names[:depth])
            folder, name = self.media.place(part)
            if name not in folder.entries:
                self._make_one(part, folder, name)
            elif not isinstance(folder.entries[name], Folder):
                raise system_error(errno.EEXIST if depth == len(names) else errno.ENOTDIR, part)

    def sync_dir(self, path: str) -> None:
        self._look("look_up", path)
        folder = self.media.folder(path)
        self._sync(Operation(None, "sync_dir", path), lambda: self.media.sync_names(folder), _nothing)

    def sync_all(self, path: str) -> None:
        self._look("look_up", path)
        self.media.folder(path)

        def sync() -> None:
            for _, node in list(self.media.walk()):
                if isinstance(node, File):
                    node.sync()
                else:
                    self.media.sync_names(node)
            self.media.sync_names(self.media.root)

        def fail() -> None:
            for _, node in list(self.media.walk()):
                if isinstance(node, File):
                    node.fail_sync()

        self._sync(Operation(None, "sync_all", path), sync, fail)

    def rename(self, source: str, target: str) -> None:
        self._look("look_up", source)
        from_folder, from_name = self.media.place(source)
        to_folder, to_name = self.media.place(target)
        node = self.media.find(source)
        there = to_folder.entries.get(to_name)
        if isinstance(node, Folder) and isinstance(there, File):
            raise system_error(errno.ENOTDIR, target)
        if isinstance(node, File) and isinstance(there, Folder):
            raise system_error(errno.EISDIR, target)
        if isinstance(there, Folder) and there is not node and there.entries:
            raise system_error(errno.ENOTEMPTY, target)
        if isinstance(node, Folder) and parts(target)[: len(parts(source))] == parts(source) and there is not node:
            raise system_error(errno.EINVAL, target)
        if there is not node:
            changes = ((from_folder, from_name, None), (to_folder, to_name, node))
            self._change(Operation(None, "rename", source), lambda: self.media.name(*changes))

    def make_like(self, path: str, model: str) -> None:
        self._look("look_up", path)
        self._look("look_up", model)

    def remove(self, path: str) -> None:
        self._look("look_up", path)
        folder, name = self.media.place(path)
        if isinstance(self.media.find(path), Folder):
            raise system_error(errno.EISDIR, path)
        self._change(Operation(None, "remove", path), lambda: self.media.name((folder, name, None)))

    def remove_dir(self, path: str) -> None:
        self._look("look_up", path)
        folder, name = self.media.place(path)
        if self.media.folder(path).entries:
            raise system_error(errno.ENOTEMPTY, path)
        self._change(Operation(None, "remove_dir", path), lambda: self.media.name((folder, name, None)))

    def lock_dir(self, path: str) -> int:
        self._look("lock_dir", path)
        return self._lock(path, self.media.folder(path))

    def lock_file(self, path: str) -> int:
        fd = self.open(path, write=True, create=True)
        node = self._opened(fd).node
        self.close(fd)
        return self._lock(path, node)

    def most_open(self) -> int:
        return 1024

    def free_space(self, path: str) -> tuple[int, int]:
        self._look("free_space", path)
        self.media.find(path)
        capacity = 1 << 40 if self.media.capacity is None else self.media.capacity
        return self.media.serial, max(0, capacity - self.media.used)

    # How a call goes

    def _look(self, name: str, path: str, position: int = 0, size: int = 0) -> None:
        call = Operation(None, name, path, position, size)
        self._live(call)
        self._enter(call)

    def _change(
        self,
        call: Operation,
        apply: Callable[[], object],
        torn: Callable[[], object] | None = None,
        failed: Callable[[], object] | None = None,
    ) -> None:
        """Do a call that changes something: `torn` if the process ends in it, `failed` before an injected error."""
        self._live(call)
        self.operations += 1
        call = call._replace(number=self.operations)
        if self.operations == self._crash_at:
            if self._random.random() < 0.5:
                with suppress(OSError):
                    (torn or apply)()
            self._end()
            for tell in self.when_dead:
                tell()
            raise PowerLoss(str(call))
        try:
            self._enter(call)
        except OSError:
            (failed or _nothing)()
            raise
        apply()
        for hear in self.when_changed:
            hear(call)

    def _sync(self, call: Operation, sync: Callable[[], object], failed: Callable[[], object]) -> None:
        """Do a call that makes something durable, if it is to do anything."""
        self._change(call, sync if self.syncs() else _nothing, _nothing, failed)

    def _live(self, call: Operation) -> None:
        if self.dead:
            raise PowerLoss(str(call))

    def _enter(self, operation: Operation) -> None:
        self.log.append(operation)
        for fault in self._faults:
            if (fault.times is None or fault.met < fault.times) and fault.matches(operation):
                fault.met += 1
                raise OSError(fault.error.errno, fault.error.strerror, operation.path)

    def _make_one(self, path: str, folder: Folder, name: str) -> None:
        self._change(Operation(None, "make_dir", path), lambda: self.media.name((folder, name, Folder())))

    def _largest(self, file: File) -> int | float:
        """Return the size a file can have at most, as full as the disk is."""
        if self.media.capacity is None:
            return inf
        return len(file.content) + max(0, self.media.capacity - self.media.used)

    def _lock(self, path: str, node: Node) -> int:
        if node in self.media.locks:
            raise system_error(errno.EAGAIN, path)
        fd = self._descriptor(_Open(path, node, writable=False))
        self.media.locks[node] = fd
        return fd

    def _descriptor(self, opened: _Open) -> int:
        fd = next(self.media.descriptors)
        self._open[fd] = opened
        self.media.opened[fd] = opened.node
        return fd

    def _release(self, fd: int) -> None:
        del self._open[fd]
        node = self.media.opened.pop(fd, None)
        if node is not None and self.media.locks.get(node) == fd:
            del self.media.locks[node]

    def _opened(self, fd: int) -> _Open:
        if self.dead:
            raise PowerLoss(f"descriptor {fd}")
        if fd not in self._open:
            raise system_error(errno.EBADF, f"descriptor {fd}")
        return self._open[fd]

    def _file(self, opened: _Open, *, write: bool = False) -> File:
        if isinstance(opened.node, Folder):
            raise system_error(errno.EISDIR, opened.path)
        if write and not opened.writable:
            raise system_error(errno.EBADF, opened.path)
        return opened.node

    def _end(self) -> None:
        self._ended = True
        for fd in list(self._open):
            self._release(fd)


def _nothing() -> None: ...


def _yes() -> bool:
    return True
