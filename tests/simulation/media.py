"""What lies on a simulated disk: the bytes and names a process sees, and what a power loss may leave of them."""

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Final
from uuid import UUID

SECTOR: Final = 512  # bytes; what a disk writes whole or not at all
_serials: Final = count(1)


@dataclass(slots=True)
class _Shrink:
    """A cut of a file that is not durable yet: sectors from `sector` on were given back at `moment`."""

    moment: int
    sector: int


class File:
    """The bytes of one file, and how to get back to earlier states of what was not synced.

    `_before` holds for each sector touched since the last sync what was in it before each touch; `_sizes` the file's
    size before each change of it. Moments count the changes.
    """

    def __init__(self) -> None:
        self.content = bytearray()
        self.mtime = 0.0
        self._before: dict[int, list[tuple[int, bytes]]] = {}
        self._doubtful: dict[int, list[tuple[int, bytes]]] = {}  # as _before, of sectors a failed sync gave up
        self._sizes: list[tuple[int, int]] = []
        self._shrinks: list[_Shrink] = []
        self._moment = 0

    @property
    def dirty(self) -> bool:
        """Whether a power loss could take something."""
        return bool(self._before or self._doubtful or self._sizes)

    def write(self, data: bytes | bytearray | memoryview, position: int) -> None:
        """Put bytes; a gap before them becomes zeros."""
        if not data:
            return
        self._moment += 1
        end = position + len(data)
        self._remember(position // SECTOR, -(-end // SECTOR))
        if end > len(self.content):
            self._sizes.append((self._moment, len(self.content)))
            self.content.extend(bytes(end - len(self.content)))
        self.content[position:end] = data

    def truncate(self, size: int) -> None:
        """Set the size; new bytes are zeros."""
        if size == len(self.content):
            return
        self._moment += 1
        self._sizes.append((self._moment, len(self.content)))
        if size < len(self.content):
            self._remember(size // SECTOR, -(-len(self.content) // SECTOR))
            self._shrinks.append(_Shrink(self._moment, -(-size // SECTOR)))
            del self.content[size:]
        else:
            self.content.extend(bytes(size - len(self.content)))

    def sync(self) -> None:
        """Make all of it durable, but what a failed sync gave up and nobody wrote again."""
        for sector in self._before:
            self._doubtful.pop(sector, None)
        self._before.clear()
        self._sizes.clear()
        self._shrinks.clear()

    def sync_range(self, position: int, size: int) -> None:
        """Make the sectors of a range durable; all of it if the size is not durable yet (it goes with the data)."""
        if self._sizes or self._shrinks:
            self.sync()
            return
        for sector in range(position // SECTOR, -(-(position + size) // SECTOR)):
            if self._before.pop(sector, None) is not None:
                self._doubtful.pop(sector, None)

    def fail_sync(self) -> None:
        """Take what is not synced for written without having written it, as Linux does after an error."""
        for sector, earlier in self._before.items():
            self._doubtful.setdefault(sector, []).extend(earlier)
        self._before.clear()

    def copy(self, twins: "dict[Node, Node]") -> "File":
        """Return a file in the same state: the one in `twins`, if it is there already."""
        known = twins.get(self)
        if known is not None:
            assert isinstance(known, File)
            return known
        twin = twins[self] = File()
        twin.content = self.content[:]
        twin.mtime = self.mtime
        twin._before = {sector: list(earlier) for sector, earlier in self._before.items()}
        twin._doubtful = {sector: list(earlier) for sector, earlier in self._doubtful.items()}
        twin._sizes = list(self._sizes)
        twin._shrinks = list(self._shrinks)
        twin._moment = self._moment
        return twin

    def lose_power(self, random: Random) -> None:
        """Become one of the states a power loss may leave; see `disk.SimDisk`."""
        if not self.dirty:
            return
        # Changes of size are metadata: a journal keeps a first part of them, in order.
        kept = random.randrange(len(self._sizes) + 1)
        last = self._sizes[kept - 1][0] if kept else 0
        final = len(self.content)
        size, later = (self._sizes[kept][1], final) if kept < len(self._sizes) else (final, final)
        if kept + 1 < len(self._sizes):
            later = self._sizes[kept + 1][1]
        if later > size and random.random() < 0.5:  # a growth may be half done
            size = max(size, (size // SECTOR + random.randrange((later - size) // SECTOR + 1)) * SECTOR)
        keep = random.choice((0.0, 0.5, 1.0, random.random()))
        for sector in sorted({*self._before, *self._doubtful}):
            earlier = self._doubtful.get(sector, []) + self._before.get(sector, [])
            choice = self._choose(sector, [moment for moment, _ in earlier], last, keep, random)
            if choice < len(earlier):
                self._put_back(sector, earlier[choice][1])
        del self.content[size:]
        self.content.extend(bytes(size - len(self.content)))
        self.sync()
        self._doubtful.clear()

    def _choose(self, sector: int, moments: list[int], last: int, keep: float, random: Random) -> int:
        """Return how many of its changes a sector keeps.

        What was in it before a cut that is durable is gone; what came after one that is not was written elsewhere.
        """
        least, most = 0, len(moments)
        for shrink in self._shrinks:
            if shrink.sector <= sector and shrink.moment in moments:
                if shrink.moment <= last:
                    least = moments.index(shrink.moment) + 1
                else:
                    most = min(most, moments.index(shrink.moment))
        if least >= most or random.random() < keep:
            return max(least, most)
        return least + random.randrange(most - least)

    def _remember(self, first: int, end: int) -> None:
        for sector in range(first, end):
            before = bytes(self.content[sector * SECTOR : (sector + 1) * SECTOR])
            self._before.setdefault(sector, []).append((self._moment, before))

    def _put_back(self, sector: int, before: bytes) -> None:
        start = sector * SECTOR
        if start > len(self.content):
            self.content.extend(bytes(start - len(self.content)))
        self.content[start : start + SECTOR] = before.ljust(SECTOR, b"\0")


class Folder:
    """A directory: names as the process sees them."""

    def __init__(self) -> None:
        self.entries: dict[str, Node] = {}
        self.mtime = 0.0
        self.serial = next(_serials)

    def copy(self, twins: "dict[Node, Node]") -> "Folder":
        """Return a directory in the same state, with copies of all in it; see `File.copy`."""
        known = twins.get(self)
        if known is not None:
            assert isinstance(known, Folder)
            return known
        twin = twins[self] = Folder()
        twin.mtime, twin.serial = self.mtime, self.serial
        twin.entries = {name: node.copy(twins) for name, node in self.entries.items()}
        return twin


Node = File | Folder


@dataclass(slots=True, eq=False)
class _Naming:
    """One change of names that is whole or not at all: (folder, name, what was there, what is there now)."""

    changes: list[tuple[Folder, str, Node | None, Node | None]] = field(default_factory=list)

    def touches(self, names: set[tuple[int, str]]) -> bool:
        return any((folder.serial, name) in names for folder, name, _, _ in self.changes)

    @property
    def names(self) -> set[tuple[int, str]]:
        return {(folder.serial, name) for folder, name, _, _ in self.changes}


def parts(path: str) -> list[str]:
    """Return the names of an absolute path."""
    if not path.startswith("/"):
        raise ValueError(f"not an absolute path: {path!r}")
    return [name for name in path.split("/") if name]


def system_error(number: int, path: str) -> OSError:
    """Return the error the system would raise."""
    return OSError(number, os.strerror(number), path)


class Media:
    """All files and names of a disk, shared by the processes that use it."""

    def __init__(self, random: Random, capacity: int | None) -> None:
        self.root = Folder()
        self.random = random
        self.capacity = capacity
        self.serial = random.randrange(1, 1 << 30)
        self.descriptors = count(1000)  # none is used twice, so that a stale one is always an error
        self.opened: dict[int, Node] = {}  # by descriptor
        self.locks: dict[Node, int] = {}  # descriptor by file or directory
        self.boots = 0  # how often the power came back
        self.boot_id = UUID(int=random.getrandbits(128))  # of the machine, as Linux gives it
        self._pending: list[_Naming] = []

    def find(self, path: str) -> Node:
        """Return what has this path; FileNotFoundError, NotADirectoryError."""
        node: Node = self.root
        for name in parts(path):
            if not isinstance(node, Folder):
                raise system_error(errno.ENOTDIR, path)
            if name not in node.entries:
                raise system_error(errno.ENOENT, path)
            node = node.entries[name]
        return node

    def folder(self, path: str) -> Folder:
        """Return the directory of this path."""
        node = self.find(path)
        if not isinstance(node, Folder):
            raise system_error(errno.ENOTDIR, path)
        return node

    def place(self, path: str) -> tuple[Folder, str]:
        """Return the directory something of this path is or would be in, and its name there."""
        names = parts(path)
        if not names:
            raise system_error(errno.EBUSY, path)
        return self.folder("/" + "/".join(names[:-1])), names[-1]

    def name(self, *changes: tuple[Folder, str, Node | None]) -> None:
        """Change names, all of these together or none of them."""
        naming = _Naming()
        for folder, name, node in changes:
            before = folder.entries.get(name)
            naming.changes.append((folder, name, before, node))
            if node is None:
                del folder.entries[name]
            else:
                folder.entries[name] = node
        self._pending.append(naming)

    def sync_names(self, folder: Folder) -> None:
        """Make the names in this directory durable, and what they came from."""
        wanted: set[tuple[int, str]] = set()
        left: list[_Naming] = []
        for naming in reversed(self._pending):
            if naming.touches(wanted) or any(each is folder for each, _, _, _ in naming.changes):
                wanted |= naming.names
            else:
                left.append(naming)
        self._pending = left[::-1]

    def copy(self, random: Random) -> "Media":
        """Return a disk in the same state, which nobody has open, with chance of its own."""
        twins: dict[Node, Node] = {}
        twin = Media(random, self.capacity)
        twin.root = self.root.copy(twins)
        twin.serial, twin.boots, twin.boot_id = self.serial, self.boots, self.boot_id
        for naming in self._pending:
            changes = [
                (folder.copy(twins), name, before and before.copy(twins), after and after.copy(twins))
                for folder, name, before, after in naming.changes
            ]
            twin._pending.append(_Naming(changes))
        return twin

    def lose_power(self) -> None:
        """Become one of the states a power loss may leave."""
        keep = self.random.choice((0.0, 0.5, 1.0, self.random.random()))
        lost: list[_Naming] = []
        names: set[tuple[int, str]] = set()
        for naming in self._pending:
            if naming.touches(names) or self.random.random() >= keep:
                lost.append(naming)
                names |= naming.names
        for naming in reversed(lost):
            for folder, name, before, _ in reversed(naming.changes):
                if before is None:
                    folder.entries.pop(name, None)
                else:
                    folder.entries[name] = before
        self._pending.clear()
        self.opened.clear()
        self.locks.clear()
        self.boots += 1
        self.boot_id = UUID(int=self.random.getrandbits(128))
        for _, node in self.walk():
            if isinstance(node, File):
                node.lose_power(self.random)

    @property
    def used(self) -> int:
        """Bytes of all files; a removed one counts until it is closed."""
        files = {id(node): node for _, node in self.walk()} | {id(node): node for node in self.opened.values()}
        return sum(len(node.content) for node in files.values() if isinstance(node, File))

    def walk(self) -> Iterator[tuple[str, Node]]:
        """Yield path and node of everything, sorted, directories before what is in them."""
        todo: list[tuple[str, Folder]] = [("", self.root)]
        while todo:
            path, folder = todo.pop()
            for name in sorted(folder.entries):
                node = folder.entries[name]
                yield f"{path}/{name}", node
                if isinstance(node, Folder):
                    todo.append((f"{path}/{name}", node))
