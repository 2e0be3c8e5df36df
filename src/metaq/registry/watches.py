"""Who is told of what: watches by path (source: WatchManager and DataTree of ZooKeeper 3.8 and 3.9).

A watch belongs to a connection, not to a session: who comes back sets its watches again. Two things are as in 3.9,
because 3.8 loses watches by them: a one-shot watch leaves a persistent one on the same path alone, and each kind is
asked for and removed by itself, where 3.8 takes half of a persistent one away. Nor is anybody told of others' watches.
"""

from collections import defaultdict
from collections.abc import Iterable
from enum import IntEnum
from typing import Final, Generic, TypeVar

from metaq.registry.answers import EventKind
from metaq.registry.paths import parent_of
from metaq.registry.requests import SetWatches
from metaq.registry.tree import Tree

W = TypeVar("W")


class Kind(IntEnum):
    """Kinds of watches, and what CHECK_WATCHES and REMOVE_WATCHES may name (ZooKeeper: WatcherType)."""

    CHILDREN = 1  # once: children created or deleted, the node deleted
    DATA = 2  # once: created, changed, deleted
    ANY = 3  # no kind of watch: all the others
    PERSISTENT = 4  # each time: created, changed, deleted, children
    RECURSIVE = 5  # each time, of the node and all below it: created, changed, deleted


KINDS: Final = (Kind.CHILDREN, Kind.DATA, Kind.PERSISTENT, Kind.RECURSIVE)
_ONCE: Final = frozenset({Kind.CHILDREN, Kind.DATA})
_TOLD: Final = {
    EventKind.CREATED: (Kind.DATA, Kind.PERSISTENT),
    EventKind.CHANGED: (Kind.DATA, Kind.PERSISTENT),
    EventKind.DELETED: (Kind.DATA, Kind.CHILDREN, Kind.PERSISTENT),
    EventKind.CHILDREN: (Kind.CHILDREN, Kind.PERSISTENT),
}


class Watches(Generic[W]):
    """All watches; W is whoever hears of it, told apart by hash and equality."""

    def __init__(self) -> None:
        self._at: dict[Kind, dict[str, dict[W, None]]] = {kind: {} for kind in KINDS}
        self._of: defaultdict[W, set[tuple[Kind, str]]] = defaultdict(set)

    def __len__(self) -> int:
        return sum(map(len, self._of.values()))

    def add(self, watcher: W, kind: Kind, path: str) -> None:
        self._at[kind].setdefault(path, {})[watcher] = None
        self._of[watcher].add((kind, path))

    def hear(self, event: EventKind, path: str) -> Iterable[W]:
        """Return who is to be told of an event, each once, in the order of their watches; one-shot watches are over."""
        heard: dict[W, None] = {}
        for kind in _TOLD[event]:
            at = self._at[kind]
            if path in at:
                heard |= at[path]
                if kind in _ONCE:
                    self._end(kind, path)
        if event is not EventKind.CHILDREN and self._at[Kind.RECURSIVE]:
            self._hear_above(path, heard)
        return heard

    def has(self, watcher: W, kind: Kind, path: str) -> bool:
        of = self._of.get(watcher, ())
        return any((each, path) in of for each in _meant(kind))

    def remove(self, watcher: W, kind: Kind, path: str) -> bool:
        """Remove the watches of that kind; return whether there were any."""
        found = self.has(watcher, kind, path)
        for each in _meant(kind) if found else ():
            if (each, path) in self._of[watcher]:
                self._of[watcher].discard((each, path))
                self._take(watcher, each, path)
        return found

    def forget(self, watcher: W) -> None:
        """Remove all watches of somebody who has gone."""
        for kind, path in self._of.pop(watcher, ()):
            self._take(watcher, kind, path)

    def _hear_above(self, path: str, heard: dict[W, None]) -> None:
        recursive = self._at[Kind.RECURSIVE]
        while True:
            heard |= recursive.get(path, {})
            if path == "/":
                return
            path = parent_of(path)

    def _end(self, kind: Kind, path: str) -> None:
        for watcher in self._at[kind].pop(path):
            self._of[watcher].discard((kind, path))

    def _take(self, watcher: W, kind: Kind, path: str) -> None:
        at = self._at[kind][path]
        del at[watcher]
        if not at:
            del self._at[kind][path]


def take_up(watches: Watches[W], watcher: W, request: SetWatches, tree: Tree) -> list[tuple[EventKind, str]]:
    """Set the watches of somebody who is back; return the events that were missed, instead of their watches."""
    missed: list[tuple[EventKind, str]] = []

    def either(event: EventKind | None, kind: Kind, path: str) -> None:
        if event is None:
            watches.add(watcher, kind, path)
        else:
            missed.append((event, path))

    for path in request.data:
        node = tree.nodes.get(path or "/")
        newer = node is not None and node.changed_zxid > request.zxid
        either(EventKind.DELETED if node is None else EventKind.CHANGED if newer else None, Kind.DATA, path)
    for path in request.exists:
        either(EventKind.CREATED if (path or "/") in tree.nodes else None, Kind.DATA, path)
    for path in request.children:
        node = tree.nodes.get(path or "/")
        newer = node is not None and node.children_zxid > request.zxid
        either(EventKind.DELETED if node is None else EventKind.CHILDREN if newer else None, Kind.CHILDREN, path)
    for path in request.persistent:
        watches.add(watcher, Kind.PERSISTENT, path)
    for path in request.recursive:
        watches.add(watcher, Kind.RECURSIVE, path)
    return missed


def _meant(kind: Kind) -> tuple[Kind, ...]:
    return KINDS if kind is Kind.ANY else (kind,)
