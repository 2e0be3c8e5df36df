"""What clients ask for, as values, and how it is read off the wire (source: zookeeper.jute, ZooDefs.OpCode of 3.8).

A packet is an int xid, an int type, and the fields of that type in the order in which the classes here have them. What
changes the registry is packed here too: that is what its log keeps.
"""

from collections.abc import Callable, Sequence
from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple, TypeAlias

from metaq.errors import ProtocolError
from metaq.registry.jute import INT, LONG, Reader, pack_buffer, pack_string

_OPERATION: Final = Struct(">i?i")  # before each operation of a multi: type, done, error
_LAST_OPERATION: Final = _OPERATION.pack(-1, True, -1)


class Op(IntEnum):
    """Types of requests. Those of an ensemble that is reconfigured, of SASL and of local sessions are not served."""

    CREATE = 1
    DELETE = 2
    EXISTS = 3
    GET_DATA = 4
    SET_DATA = 5
    GET_ACL = 6
    SET_ACL = 7
    GET_CHILDREN = 8
    SYNC = 9
    PING = 11
    GET_CHILDREN2 = 12
    CHECK = 13
    MULTI = 14
    CREATE2 = 15
    CHECK_WATCHES = 17
    REMOVE_WATCHES = 18
    CREATE_CONTAINER = 19
    CREATE_TTL = 21
    MULTI_READ = 22
    AUTH = 100
    SET_WATCHES = 101
    GET_EPHEMERALS = 103
    COUNT_CHILDREN = 104
    SET_WATCHES2 = 105
    ADD_WATCH = 106
    WHO_AM_I = 107
    CLOSE = -11


class Mode(IntEnum):
    """What a node is created as (ZooKeeper: CreateMode)."""

    UNKNOWN = -1  # whatever number is none of the others; such a node is refused
    PERSISTENT = 0
    EPHEMERAL = 1
    PERSISTENT_SEQUENTIAL = 2
    EPHEMERAL_SEQUENTIAL = 3
    CONTAINER = 4
    PERSISTENT_TTL = 5
    PERSISTENT_SEQUENTIAL_TTL = 6


class Permission(IntEnum):
    """The bits of what may be done with a node."""

    READ = 1
    WRITE = 2
    CREATE = 4
    DELETE = 8
    ADMIN = 16


class Acl(NamedTuple):
    """Who may do what with a node: `id` as `scheme` knows it, such as world:anyone or digest:user:hash."""

    permissions: int  # bits of Permission; whatever others are set is kept
    scheme: str
    id: str


ANYBODY: Final = Acl(31, "world", "anyone")  # may do anything: the ACL of nearly all nodes
_OPEN: Final = INT.pack(1) + INT.pack(31) + pack_string("world") + pack_string("anyone")


class Connect(NamedTuple):
    """The first packet of a connection; it has neither xid nor type. `timeout` in ms; session 0 begins a new one.

    `read_only`: such a server would do; None: from a client that knows no such servers.
    """

    protocol: int
    last_zxid: int
    timeout: int
    session: int
    password: bytes
    read_only: bool | None


class Create(NamedTuple):
    """Of all four types: with CREATE the path is answered, with the others path and stat. `ttl` in ms, 0: none."""

    path: str
    data: bytes | None
    acl: list[Acl]
    mode: Mode
    ttl: int = 0


class Delete(NamedTuple):
    path: str
    version: int  # here and below: -1 is any


class SetData(NamedTuple):
    path: str
    data: bytes | None
    version: int


class SetAcl(NamedTuple):
    path: str
    acl: list[Acl]
    version: int


class Check(NamedTuple):
    path: str
    version: int


class Look(NamedTuple):
    """Of EXISTS, GET_DATA, GET_CHILDREN and GET_CHILDREN2; `watch`: tell once when that changes."""

    path: str
    watch: bool


class Name(NamedTuple):
    """Of GET_ACL, SYNC, GET_EPHEMERALS (a prefix) and COUNT_CHILDREN."""

    path: str


class Multi(NamedTuple):
    """Of MULTI (Create, Delete, SetData, Check: all or none) and MULTI_READ (Look)."""

    operations: "list[tuple[Op, Request]]"


class Auth(NamedTuple):
    scheme: str
    auth: bytes


class SetWatches(NamedTuple):
    """Watches of a client that is back; it hears what has changed since `zxid`. The last two: of SET_WATCHES2 only."""

    zxid: int
    data: list[str]
    exists: list[str]
    children: list[str]
    persistent: list[str]
    recursive: list[str]


class Watching(NamedTuple):
    """Of ADD_WATCH (kind 0: persistent, 1: recursive), REMOVE_WATCHES and CHECK_WATCHES.

    For the last two kind is 1: children, 2: data, 3: any, 4: persistent, 5: recursive (ZooKeeper: WatcherType).
    """

    path: str
    kind: int


class Bare(NamedTuple):
    """Of PING, CLOSE and WHO_AM_I."""


Request: TypeAlias = (
    Create | Delete | SetData | SetAcl | Check | Look | Name | Multi | Auth | SetWatches | Watching | Bare
)  # fmt: skip


class UnknownOp(ProtocolError):
    """A type that is not served; it is answered with an error, the connection stays good."""

    def __init__(self, xid: int, op: int) -> None:
        super().__init__(f"unknown request type {op}")
        self.xid = xid


class Malformed(ProtocolError):
    """The fields are not those of the type; it is answered with an error, the connection stays good."""

    def __init__(self, xid: int, op: Op, reason: str) -> None:
        super().__init__(f"{op.name}: {reason}")
        self.xid = xid
        self.op = op


def read_connect(data: bytes) -> Connect:
    """Read the first packet. Raises ProtocolError."""
    reader = Reader(data)
    protocol, last_zxid, timeout, session = reader.read_int(), reader.read_long(), reader.read_int(), reader.read_long()
    password = reader.read_buffer() or b""
    return Connect(protocol, last_zxid, timeout, session, password, reader.read_bool() if reader.left else None)


def read_request(data: bytes) -> tuple[int, Op, Request]:
    """Read any later packet: its xid, type and fields.

    Raises UnknownOp, Malformed, or where not even xid and type are there ProtocolError.
    """
    reader = Reader(data)
    xid, number = reader.read_int(), reader.read_int()
    op = _OPS.get(number)
    if op is None:
        raise UnknownOp(xid, number)
    try:
        return xid, op, _FIELDS[op](reader)
    except ProtocolError as exc:
        raise Malformed(xid, op, str(exc)) from None


def read_fields(op: Op, reader: Reader) -> Request:
    """Read the fields of a request of this type. Raises ProtocolError."""
    return _FIELDS[op](reader)


def read_acls(reader: Reader) -> list[Acl]:
    """Read what `pack_acls` has packed. Raises ProtocolError."""
    return reader.read_vector(_acl)


def pack_fields(op: Op, request: Request) -> bytes:
    """Return the fields of a request that changes something, or of a Multi of such, as `read_fields` reads them."""
    match request:
        case Create(path, data, acl, mode, ttl):
            fields = pack_string(path) + pack_buffer(data) + pack_acls(acl) + INT.pack(mode)
            return fields + LONG.pack(ttl) if op is Op.CREATE_TTL else fields
        case SetData(path, data, version):
            return pack_string(path) + pack_buffer(data) + INT.pack(version)
        case Delete(path, version) | Check(path, version):
            return pack_string(path) + INT.pack(version)
        case SetAcl(path, acl, version):
            return pack_string(path) + pack_acls(acl) + INT.pack(version)
        case Multi(operations):
            parts = [_OPERATION.pack(op, False, -1) + pack_fields(op, each) for op, each in operations]
            return b"".join(parts) + _LAST_OPERATION
        case _:
            raise TypeError(f"{type(request).__name__} changes nothing")


def pack_acls(acl: Sequence[Acl]) -> bytes:
    """Return an ACL as it stands in requests."""
    parts = [INT.pack(permissions) + pack_string(scheme) + pack_string(id) for permissions, scheme, id in acl]
    return INT.pack(len(parts)) + b"".join(parts)


def _acl(reader: Reader) -> Acl:
    return Acl(reader.read_int(), reader.read_string(), reader.read_string())


def _mode(reader: Reader) -> Mode:
    return _MODES.get(reader.read_int(), Mode.UNKNOWN)


def _acls(reader: Reader) -> list[Acl]:
    if reader.skip(_OPEN):
        return [ANYBODY]
    return reader.read_vector(_acl)


def _create(reader: Reader) -> Create:
    return Create(reader.read_string(), reader.read_buffer(), _acls(reader), _mode(reader))


def _create_ttl(reader: Reader) -> Create:
    return _create(reader)._replace(ttl=reader.read_long())


def _auth(reader: Reader) -> Auth:
    reader.read_int()  # a type that nobody uses
    return Auth(reader.read_string(), reader.read_buffer() or b"")


def _paths(reader: Reader) -> list[str]:
    return reader.read_vector(Reader.read_string)


def _set_watches(reader: Reader) -> SetWatches:
    return SetWatches(reader.read_long(), _paths(reader), _paths(reader), _paths(reader), [], [])


def _set_watches2(reader: Reader) -> SetWatches:
    return SetWatches(
        reader.read_long(), _paths(reader), _paths(reader), _paths(reader), _paths(reader), _paths(reader)
    )  # fmt: skip


def _multi(allowed: frozenset[Op]) -> Callable[[Reader], Multi]:
    """Return what reads operations, each behind a header (int type, bool done, int error), up to one that is `done`."""

    def read(reader: Reader) -> Multi:
        operations: list[tuple[Op, Request]] = []
        while True:
            number, done, _ = reader.read_int(), reader.read_bool(), reader.read_int()
            if done:
                return Multi(operations)
            if number not in allowed:
                raise ProtocolError(f"type {number} within a multi")
            op = Op(number)
            operations.append((op, _FIELDS[op](reader)))

    return read


def _look(reader: Reader) -> Look:
    return Look(reader.read_string(), reader.read_bool())


def _name(reader: Reader) -> Name:
    return Name(reader.read_string())


def _watching(reader: Reader) -> Watching:
    return Watching(reader.read_string(), reader.read_int())


def _bare(reader: Reader) -> Bare:
    return Bare()


WRITES: Final = frozenset(
    {Op.CREATE, Op.CREATE2, Op.CREATE_CONTAINER, Op.CREATE_TTL, Op.DELETE, Op.SET_DATA, Op.CHECK}
)  # fmt: skip
READS: Final = frozenset({Op.GET_DATA, Op.GET_CHILDREN})

_OPS: Final = {int(op): op for op in Op}  # calling the class costs as much as the rest of a header
_MODES: Final = {int(mode): mode for mode in Mode}

_FIELDS: Final[dict[Op, Callable[[Reader], Request]]] = {
    Op.CREATE: _create,
    Op.CREATE2: _create,
    Op.CREATE_CONTAINER: _create,
    Op.CREATE_TTL: _create_ttl,
    Op.DELETE: lambda reader: Delete(reader.read_string(), reader.read_int()),
    Op.SET_DATA: lambda reader: SetData(reader.read_string(), reader.read_buffer(), reader.read_int()),
    Op.CHECK: lambda reader: Check(reader.read_string(), reader.read_int()),
    Op.GET_ACL: _name,
    Op.SET_ACL: lambda reader: SetAcl(reader.read_string(), _acls(reader), reader.read_int()),
    Op.EXISTS: _look,
    Op.GET_DATA: _look,
    Op.GET_CHILDREN: _look,
    Op.GET_CHILDREN2: _look,
    Op.SYNC: _name,
    Op.GET_EPHEMERALS: _name,
    Op.COUNT_CHILDREN: _name,
    Op.MULTI: _multi(WRITES),
    Op.MULTI_READ: _multi(READS),
    Op.AUTH: _auth,
    Op.SET_WATCHES: _set_watches,
    Op.SET_WATCHES2: _set_watches2,
    Op.ADD_WATCH: _watching,
    Op.REMOVE_WATCHES: _watching,
    Op.CHECK_WATCHES: _watching,
    Op.PING: _bare,
    Op.CLOSE: _bare,
    Op.WHO_AM_I: _bare,
}
