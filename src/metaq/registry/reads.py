"""Requests that change no node: what is answered (source: FinalRequestProcessor of ZooKeeper 3.8)."""

from collections.abc import Callable
from typing import Any, Final

from metaq.registry.answers import (
    Code,
    event,
    pack_acl,
    pack_count,
    pack_data,
    pack_identities,
    pack_names,
    pack_results,
    pack_stat,
)
from metaq.registry.clients import Client
from metaq.registry.jute import pack_string
from metaq.registry.requests import Bare, Look, Multi, Name, Op, Permission, Request, SetWatches, Watching
from metaq.registry.tree import Refusal, Tree
from metaq.registry.watches import Kind, Watches, take_up

_MODES: Final = {0: Kind.PERSISTENT, 1: Kind.RECURSIVE}  # of ADD_WATCH
_KINDS: Final = {int(kind): kind for kind in Kind}


class Reads:
    """Answers from a tree, and the watches on it."""

    def __init__(self, tree: Tree, watches: Watches[Client]) -> None:
        self._tree = tree
        self._watches = watches
        # each takes the class that `requests` reads for its type
        self._answers: dict[Op, Callable[[Client, Any], bytes]] = {
            Op.EXISTS: self._exists,
            Op.GET_DATA: self._get_data,
            Op.GET_CHILDREN: self._get_children,
            Op.GET_CHILDREN2: self._get_children_and_stat,
            Op.GET_ACL: self._get_acl,
            Op.GET_EPHEMERALS: self._get_ephemerals,
            Op.COUNT_CHILDREN: self._count_children,
            Op.SYNC: self._sync,
            Op.MULTI_READ: self._read_all,
            Op.SET_WATCHES: self._set_watches,
            Op.SET_WATCHES2: self._set_watches,
            Op.ADD_WATCH: self._add_watch,
            Op.CHECK_WATCHES: self._check_watches,
            Op.REMOVE_WATCHES: self._remove_watches,
            Op.WHO_AM_I: self._who_am_i,
        }

    def answer(self, client: Client, op: Op, request: Request) -> bytes:
        """Return what is answered. Raises Refusal. Events that a client missed are put before it."""
        return self._answers[op](client, request)

    def _exists(self, client: Client, request: Look) -> bytes:
        if "\0" in request.path:
            raise Refusal(Code.BAD_ARGUMENTS)
        if request.watch:  # whether it exists or not, and whoever asks; 3.8.4 wants READ
            self._watches.add(client, Kind.DATA, request.path)
        return pack_stat(self._tree.find(request.path).stat())

    def _get_data(self, client: Client, request: Look) -> bytes:
        node = self._tree.find(request.path)
        client.access.check(node.acl, Permission.READ)
        if request.watch:
            self._watches.add(client, Kind.DATA, request.path)
        return pack_data(node.data, node.stat())

    def _get_children(self, client: Client, request: Look) -> bytes:
        node = self._tree.find(request.path)
        client.access.check(node.acl, Permission.READ)
        if request.watch:
            self._watches.add(client, Kind.CHILDREN, request.path)
        return pack_names(sorted(node.children))

    def _get_children_and_stat(self, client: Client, request: Look) -> bytes:
        return self._get_children(client, request) + pack_stat(self._tree.find(request.path).stat())

    def _get_acl(self, client: Client, request: Name) -> bytes:
        node = self._tree.find(request.path)
        client.access.check(node.acl, Permission.READ | Permission.ADMIN)
        return pack_acl(client.access.shown(node.acl), node.stat())

    def _get_ephemerals(self, client: Client, request: Name) -> bytes:
        owned = self._tree.owned(client.session.id) if client.session else []
        prefix = "" if request.path.strip() in ("", "/") else request.path
        return pack_names([path for path in owned if path.startswith(prefix)])

    def _count_children(self, client: Client, request: Name) -> bytes:
        client.access.check(self._tree.find(request.path).acl, Permission.READ)
        return pack_count(self._tree.count_below(request.path))

    def _sync(self, client: Client, request: Name) -> bytes:
        return pack_string(request.path)  # there is no other server to wait for

    def _read_all(self, client: Client, request: Multi) -> bytes:
        results: list[tuple[Op, bytes] | Code] = []
        for op, each in request.operations:
            try:
                results.append((op, self.answer(client, op, each)))
            except Refusal as refusal:
                results.append(refusal.code)
        return pack_results(results)

    def _set_watches(self, client: Client, request: SetWatches) -> bytes:
        client.outputs += [event(kind, path) for kind, path in take_up(self._watches, client, request, self._tree)]
        return b""

    def _add_watch(self, client: Client, request: Watching) -> bytes:
        kind = _MODES.get(request.kind)
        if kind is None:
            raise Refusal(Code.MARSHALLING)
        self._watches.add(client, kind, request.path)
        return pack_count(0)  # an error code of its own

    def _check_watches(self, client: Client, request: Watching) -> bytes:
        return self._find_watches(client, request, self._watches.has)

    def _remove_watches(self, client: Client, request: Watching) -> bytes:
        return self._find_watches(client, request, self._watches.remove)

    def _find_watches(self, client: Client, request: Watching, find: Callable[[Client, Kind, str], bool]) -> bytes:
        kind = _KINDS.get(request.kind)
        if kind is None:
            raise Refusal(Code.MARSHALLING)
        if not find(client, kind, request.path):
            raise Refusal(Code.NO_WATCHER)
        return b""

    def _who_am_i(self, client: Client, request: Bare) -> bytes:
        return pack_identities(client.access.who())
