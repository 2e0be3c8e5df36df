"""What a server sends, as bytes: answers and watch events (source: zookeeper.jute, KeeperException.Code of 3.8).

An answer is an int xid, a long zxid (of the last change that the server has made), an int error, and for error 0 what
was asked for. Packets are framed here: an int length stands before each.
"""

from collections.abc import Sequence
from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

from metaq.registry.jute import INT, pack_buffer, pack_string, pack_vector
from metaq.registry.requests import Acl, Op

_HEADER: Final = Struct(">iiqi")  # length, xid, zxid, error
_STAT: Final = Struct(">qqqqiiiqiiq")
_RESULT: Final = Struct(">i?i")  # one of a multi: type, done, error
_EVENT: Final = Struct(">ii")
_CONNECTED: Final = Struct(">iiq")

_END: Final = _RESULT.pack(-1, True, -1)


class Code(IntEnum):
    """Why a request was refused."""

    OK = 0
    ROLLED_BACK = -2  # an operation before it in its multi failed (those before that one get OK)
    MARSHALLING = -5
    UNIMPLEMENTED = -6
    BAD_ARGUMENTS = -8
    NO_NODE = -101
    NO_AUTH = -102
    BAD_VERSION = -103
    NO_CHILDREN_FOR_EPHEMERALS = -108
    NODE_EXISTS = -110
    NOT_EMPTY = -111
    SESSION_EXPIRED = -112
    INVALID_ACL = -114
    AUTH_FAILED = -115
    NO_WATCHER = -121


class EventKind(IntEnum):
    """What a watch tells."""

    CREATED = 1
    DELETED = 2
    CHANGED = 3
    CHILDREN = 4


class Stat(NamedTuple):
    """What a server says of a node; times in ms since 1970, zxids those of its changes."""

    created_zxid: int
    changed_zxid: int
    created: int
    changed: int
    version: int
    children_version: int
    acl_version: int
    owner: int  # the session an ephemeral node lives with
    length: int  # bytes of data
    children: int
    children_zxid: int


def connected(timeout: int, session: int, password: bytes, *, brief: bool = False) -> bytes:
    """Return the answer to Connect; timeout 0: the session is over. `brief`: to clients that sent no such flag."""
    body = _CONNECTED.pack(0, timeout, session) + pack_buffer(password) + (b"" if brief else b"\0")
    return INT.pack(len(body)) + body


def answer(xid: int, zxid: int, body: bytes = b"") -> bytes:
    return _HEADER.pack(16 + len(body), xid, zxid, 0) + body


def refusal(xid: int, zxid: int, code: Code) -> bytes:
    return _HEADER.pack(16, xid, zxid, code)


def event(kind: EventKind, path: str) -> bytes:
    """Return what a watch tells a client that is connected (state 3)."""
    body = _EVENT.pack(kind, 3) + pack_string(path)
    return _HEADER.pack(16 + len(body), -1, -1, 0) + body


def pack_stat(stat: Stat) -> bytes:
    return _STAT.pack(*stat)


def pack_data(data: bytes | None, stat: Stat) -> bytes:
    return pack_buffer(data) + _STAT.pack(*stat)


def pack_acl(acl: Sequence[Acl], stat: Stat) -> bytes:
    items = [INT.pack(each.permissions) + pack_string(each.scheme) + pack_string(each.id) for each in acl]
    return pack_vector(items) + _STAT.pack(*stat)


def pack_names(names: Sequence[str]) -> bytes:
    return pack_vector([pack_string(name) for name in names])


def pack_count(count: int) -> bytes:
    return INT.pack(count)


def pack_identities(identities: Sequence[tuple[str, str]]) -> bytes:
    """Return the answer to WHO_AM_I: (scheme, id) pairs."""
    return pack_vector([pack_string(scheme) + pack_string(id) for scheme, id in identities])


def pack_results(results: Sequence[tuple[Op, bytes] | Code]) -> bytes:
    """Return the answer to a multi: for each operation its type and what it gave, or why it failed."""
    parts: list[bytes] = []
    for result in results:
        if isinstance(result, Code):
            parts.append(_RESULT.pack(-1, False, result) + INT.pack(result))
        else:
            op, body = result
            parts.append(_RESULT.pack(Op.CREATE2 if op is Op.CREATE_CONTAINER else op, False, 0) + body)
    return b"".join(parts) + _END
