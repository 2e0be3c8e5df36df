"""The nodes of the registry, in memory (source: DataTree and PrepRequestProcessor of ZooKeeper 3.8).

Pure: zxid, time and session are handed in. A change happens whole or not at all; what it means to watches is collected
in `events` until somebody takes it.
"""

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from copy import copy
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, Self

from metaq.registry.answers import Code, EventKind, Stat, pack_stat
from metaq.registry.jute import pack_string
from metaq.registry.paths import is_valid, name_of, parent_of
from metaq.registry.requests import ANYBODY, Acl, Check, Create, Delete, Mode, Op, Permission, Request, SetAcl, SetData

SYSTEM: Final = ("/zookeeper", "/zookeeper/quota", "/zookeeper/config")  # nodes that a server has from the beginning
CONTAINER: Final = -(1 << 63)  # the owner of a node that goes when its last child has gone
NO_CHILDREN: Final[frozenset[str]] = frozenset()
_SEQUENTIAL: Final = frozenset({Mode.PERSISTENT_SEQUENTIAL, Mode.EPHEMERAL_SEQUENTIAL})
_TTL: Final = frozenset({Mode.PERSISTENT_TTL, Mode.PERSISTENT_SEQUENTIAL_TTL})
_EPHEMERAL: Final = frozenset({Mode.EPHEMERAL, Mode.EPHEMERAL_SEQUENTIAL})


class Refusal(Exception):
    """A request cannot be carried out; nothing has changed."""

    def __init__(self, code: Code) -> None:
        super().__init__(code.name)
        self.code = code


@dataclass(slots=True)
class Znode:
    """One node. `created_children` counts all it ever had: names of sequential ones, and its children version.

    Most nodes have no children and one of a few ACLs, so these are shared: an `acl` is never changed in place.
    """

    data: bytes | None
    acl: tuple[Acl, ...]
    owner: int
    created_zxid: int
    created: int
    changed_zxid: int
    changed: int
    children_zxid: int
    version: int = 0
    acl_version: int = 0
    created_children: int = 0
    children: AbstractSet[str] = NO_CHILDREN

    def stat(self) -> Stat:
        return Stat(
            created_zxid=self.created_zxid,
            changed_zxid=self.changed_zxid,
            created=self.created,
            changed=self.changed,
            version=self.version,
            children_version=self.created_children * 2 - len(self.children),  # creations and deletions
            acl_version=self.acl_version,
            owner=0 if self.owner == CONTAINER else self.owner,
            length=len(self.data or b""),
            children=len(self.children),
            children_zxid=self.children_zxid,
        )


class Rights(Protocol):
    """What somebody may do."""

    def fix(self, acl: Sequence[Acl]) -> Sequence[Acl]:
        """Return the ACL that a node gets whose maker asks for this one. Raises Refusal."""

    def check(self, acl: Sequence[Acl], permission: int) -> None:
        """Refuse what the ACL of a node does not allow; `permission`: bits, one of which is enough."""


class Moment(NamedTuple):
    """When a change happens and who makes it: its zxid, ms since 1970, a session. No rights: it may do anything."""

    zxid: int
    time: int
    session: int
    rights: Rights | None = None


class Event(NamedTuple):
    """What a change means to watches; `acl` is that of the node: who may not read it is not told."""

    kind: EventKind
    path: str
    acl: Sequence[Acl]


class Tree:
    """All nodes by path; there is always a root. `containers`: which of them go when their last child has gone."""

    def __init__(self) -> None:
        self.nodes: dict[str, Znode] = {"/": Znode(b"", (ANYBODY,), 0, 0, 0, 0, 0, 0)}
        self.events: list[Event] = []
        self.containers: set[str] = set()
        self._owned: dict[int, set[str]] = {}
        self._acls: dict[tuple[Acl, ...], tuple[Acl, ...]] = {}
        self._undo: list[Callable[[], object]] = []
        self._captured: dict[str, Znode] | None = None

    @classmethod
    def restored(cls, nodes: Iterable[tuple[str, Znode]]) -> Self:
        """Return a tree of these nodes; their `children` are found anew. Raises ValueError if one has no parent."""
        tree = cls()
        tree.nodes = dict(nodes)
        for node in tree.nodes.values():
            node.children = NO_CHILDREN
            node.acl = tree._shared(node.acl)
        for path, node in tree.nodes.items():
            if path == "/":
                continue
            above = tree.nodes.get(parent_of(path))
            if above is None:
                raise ValueError(f"node {path} has no parent")
            tree._link(path, node, above)
        return tree

    @classmethod
    def fresh(cls) -> Self:
        """Return a tree with the nodes that every server has; all in them is 0, but an ACL that was set."""
        nodes = {path: Znode(b"", (ANYBODY,), 0, 0, 0, 0, 0, 0) for path in ("/", *SYSTEM)}
        nodes[SYSTEM[-1]].acl = (ANYBODY._replace(permissions=Permission.READ),)
        nodes[SYSTEM[-1]].acl_version = -1
        return cls.restored(nodes.items())

    # reading

    def find(self, path: str) -> Znode:
        """Return a node. Raises Refusal."""
        node = self.nodes.get(path or "/")
        if node is None:
            raise Refusal(Code.NO_NODE)
        return node

    def owned(self, session: int) -> list[str]:
        """Return the ephemeral nodes of a session, sorted."""
        return sorted(self._owned.get(session, ()))

    @property
    def ephemerals(self) -> int:
        """How many ephemeral nodes there are."""
        return sum(map(len, self._owned.values()))

    def count_below(self, path: str) -> int:
        """Return how many nodes there are below a node, at any depth. Raises Refusal."""
        self.find(path)
        prefix = path.rstrip("/") + "/"
        return sum(1 for each in self.nodes if each.startswith(prefix) and each != "/")

    def capture(self) -> dict[str, Znode]:
        """Return the nodes as they are now, for a snapshot that reads them while changes go on, up to `release`.

        A millisecond for 100,000 nodes: a node is copied only where it changes meanwhile. Their `children` may change.
        """
        self._captured = self.nodes.copy()
        return self._captured

    def release(self) -> None:
        """The snapshot has read all."""
        self._captured = None

    # changing

    def apply(self, op: Op, request: Request, moment: Moment) -> bytes:
        """Carry out one change and return what is answered. Raises Refusal; then nothing has changed."""
        try:
            return self._change(op, request, moment)  # each looks at everything first
        finally:
            self._undo.clear()

    def apply_all(
        self, operations: Sequence[tuple[Op, Request]], moment: Moment
    ) -> tuple[bool, list[tuple[Op, bytes] | Code]]:
        """Carry out all operations or none; return whether, and the results of each as a multi answers them."""
        results: list[tuple[Op, bytes] | Code] = []
        events = len(self.events)
        try:
            for op, request in operations:
                results.append((op, self._change(op, request, moment)))
            return True, results
        except Refusal as refusal:
            self._roll_back(events)
            done = len(results)
            return False, [
                *[Code.OK] * done,
                refusal.code,
                *[Code.ROLLED_BACK] * (len(operations) - done - 1),
            ]
        finally:
            self._undo.clear()

    def end_session(self, session: int, moment: Moment) -> None:
        """Delete the ephemeral nodes of a session that is over."""
        for path in self.owned(session):
            self._delete(path, moment)
        self._undo.clear()

    def _change(self, op: Op, request: Request, moment: Moment) -> bytes:
        match request:
            case Create():
                path = self._create(op, request, moment)
                stat = b"" if op is Op.CREATE else pack_stat(self.nodes[path].stat())
                return pack_string(path) + stat
            case Delete(path, version):
                self._delete_if(path, version, moment)
                return b""
            case SetData():
                return self._set_data(request, moment)
            case SetAcl():
                return self._set_acl(request, moment)
            case Check(path, version):
                _validate(path)
                node = self.find(path)
                _allow(moment, node, Permission.READ)
                _same(node.version, version)
                return b""
            case _:
                raise Refusal(Code.UNIMPLEMENTED)

    def _create(self, op: Op, request: Create, moment: Moment) -> str:
        path, mode = request.path, request.mode
        if mode in _TTL:
            raise Refusal(Code.UNIMPLEMENTED)  # as 3.8 unless extended types are switched on
        if mode is Mode.UNKNOWN or op is Op.CREATE_TTL:
            raise Refusal(Code.BAD_ARGUMENTS)
        parent = _path_above(path)
        acl = request.acl if moment.rights is None else moment.rights.fix(request.acl)
        above = self.find(parent)
        _allow(moment, above, Permission.CREATE)
        if mode in _SEQUENTIAL:
            path += f"{above.created_children:010d}"  # `/a/` is good then
        _validate(path)
        if path in self.nodes:
            raise Refusal(Code.NODE_EXISTS)
        if above.owner not in (0, CONTAINER):
            raise Refusal(Code.NO_CHILDREN_FOR_EPHEMERALS)
        owner = CONTAINER if op is Op.CREATE_CONTAINER else moment.session if mode in _EPHEMERAL else 0
        self._remember_parent(path, above)
        zxid, time = moment.zxid, moment.time
        node = Znode(request.data, self._shared(acl), owner, zxid, time, zxid, time, zxid)
        self._put_in(path, node, above)
        above.created_children += 1
        above.children_zxid = moment.zxid
        self._undo.append(lambda: self._take_out(path))
        self._tell(EventKind.CREATED, path, node, above)
        return path

    def _delete_if(self, path: str, version: int, moment: Moment) -> None:
        parent = _path_above(path)
        if path == "/" or path in SYSTEM:
            raise Refusal(Code.BAD_ARGUMENTS)
        _allow(moment, self.find(parent), Permission.DELETE)
        node = self.find(path)
        _same(node.version, version)
        if node.children:
            raise Refusal(Code.NOT_EMPTY)
        self._delete(path, moment)

    def _delete(self, path: str, moment: Moment) -> None:
        above = self.nodes[parent_of(path)]
        self._remember_parent(path, above)
        node = self._take_out(path)
        above.children_zxid = moment.zxid
        self._undo.append(lambda: self._put_in(path, node, above))
        self._tell(EventKind.DELETED, path, node, above)

    def _set_data(self, request: SetData, moment: Moment) -> bytes:
        _validate(request.path)
        node = self.find(request.path)
        _allow(moment, node, Permission.WRITE)
        _same(node.version, request.version)
        self._keep(request.path, node)
        before = node.data, node.version, node.changed_zxid, node.changed

        def restore() -> None:
            node.data, node.version, node.changed_zxid, node.changed = before

        self._undo.append(restore)
        node.data, node.version = request.data, node.version + 1
        node.changed_zxid, node.changed = moment.zxid, moment.time
        self.events.append(Event(EventKind.CHANGED, request.path, node.acl))
        return pack_stat(node.stat())

    def _set_acl(self, request: SetAcl, moment: Moment) -> bytes:
        _validate(request.path)
        acl = request.acl if moment.rights is None else moment.rights.fix(request.acl)
        node = self.find(request.path)
        _allow(moment, node, Permission.ADMIN)
        _same(node.acl_version, request.version)
        self._keep(request.path, node)
        before = node.acl, node.acl_version

        def restore() -> None:
            node.acl, node.acl_version = before

        self._undo.append(restore)
        node.acl, node.acl_version = self._shared(acl), node.acl_version + 1
        return pack_stat(node.stat())

    def _tell(self, kind: EventKind, path: str, node: Znode, above: Znode) -> None:
        self.events.append(Event(kind, path, node.acl))
        self.events.append(Event(EventKind.CHILDREN, parent_of(path), above.acl))

    def _put_in(self, path: str, node: Znode, above: Znode) -> None:
        self.nodes[path] = node
        self._link(path, node, above)

    def _link(self, path: str, node: Znode, above: Znode) -> None:
        if isinstance(above.children, set):
            above.children.add(name_of(path))
        else:
            above.children = {name_of(path)}
        if node.owner == CONTAINER:
            self.containers.add(path)
        elif node.owner:
            self._owned.setdefault(node.owner, set()).add(path)

    def _take_out(self, path: str) -> Znode:
        node = self.nodes.pop(path)
        above = self.nodes[parent_of(path)]
        if len(above.children) == 1:
            above.children = NO_CHILDREN
        elif isinstance(above.children, set):
            above.children.discard(name_of(path))
        self.containers.discard(path)
        owned = self._owned.get(node.owner)
        if owned is not None:
            owned.discard(path)
            if not owned:
                del self._owned[node.owner]
        return node

    def _shared(self, acl: Sequence[Acl]) -> tuple[Acl, ...]:
        """Return one copy of all ACLs that are equal; of the last thousand or so."""
        if len(self._acls) > 1000:
            self._acls.clear()
        return self._acls.setdefault(tuple(acl), tuple(acl))

    def _keep(self, path: str, node: Znode) -> None:
        """A node is about to change: what it was stays in the snapshot that is being written."""
        if self._captured is not None and self._captured.get(path) is node:
            self._captured[path] = copy(node)

    def _remember_parent(self, path: str, above: Znode) -> None:
        self._keep(parent_of(path), above)
        count, zxid = above.created_children, above.children_zxid

        def restore() -> None:
            above.created_children, above.children_zxid = count, zxid

        self._undo.append(restore)

    def _roll_back(self, events: int) -> None:
        for undo in reversed(self._undo):
            undo()
        del self.events[events:]


def _path_above(path: str) -> str:
    """Return where a node is to lie; whether the rest of its path is good is looked at later, as there."""
    above, slash, _ = path.rpartition("/")
    if not slash or "\0" in path:
        raise Refusal(Code.BAD_ARGUMENTS)
    return above


def _allow(moment: Moment, node: Znode, permission: int) -> None:
    if moment.rights is not None:
        moment.rights.check(node.acl, permission)


def _validate(path: str) -> None:
    if not is_valid(path):
        raise Refusal(Code.BAD_ARGUMENTS)


def _same(is_now: int, wanted: int) -> None:
    """Refuse if a version is not the wanted one; -1 is any."""
    if wanted not in (-1, is_now):
        raise Refusal(Code.BAD_VERSION)
