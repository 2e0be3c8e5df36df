"""Snapshots: all that the registry remembers at one place of its log, so that the log before it is not needed any more.

Pure; both directions.
A snapshot is a header, then blocks; all numbers are big-endian, CRCs are CRC-32:

    header   0      4         8          16       24         32      36     44         52      60
             | MZS1 | version | sequence | number | position | chain | zxid | sessions | nodes | crc |

    block    0      4        8     12
             | kind | length | crc | `length` bytes: whole sessions (kind 1), whole nodes (2), none (0, the last block)

    session  | id, 8 | time-out in ms, 4 | length of the password, 4 | password

    node     0             4             8            12      20             28        36             44        52
             | path length | data length | acl length | owner | created zxid | created | changed zxid | changed | …

             52              60        68            76                 84
             | children zxid | version | acl version | created children | path | data | acl, as in requests |

The place of the log is the one between two rounds: file `number`, `position` in it, `sequence` and payload CRC
(`chain`) of the round before. `sessions` and `nodes` count them. A data length of −1: null. The CRC of a block covers
its kind, length and content and is seeded with that of the block before, the first one's with the header's.

To change the format: raise VERSION, keep reading the old one, say in docs/registry.md what changed.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple
from zlib import crc32

from metaq.errors import ProtocolError
from metaq.registry.entries import Mark
from metaq.registry.jute import Reader
from metaq.registry.requests import Acl, pack_acls, read_acls
from metaq.registry.state import Session, State
from metaq.registry.tree import Znode

VERSION: Final = 1
_MAGIC: Final = b"MZS1"
_HEADER: Final = struct.Struct(">4sIQQQIqQQ")
_CRC: Final = struct.Struct(">I")
_BLOCK: Final = struct.Struct(">III")
_BLOCK_HEAD: Final = struct.Struct(">II")
_SESSION: Final = struct.Struct(">qii")
_NODE: Final = struct.Struct(">IiI9q")
HEADER_SIZE: Final = _HEADER.size + _CRC.size

_END, _SESSIONS, _NODES = 0, 1, 2
_PER_BLOCK: Final = 256  # nodes: half a millisecond
_BLOCK_SIZE: Final = 1 << 16  # bytes after which a block ends before that


class Capture(NamedTuple):
    """The state at one moment; `nodes` as Tree.capture gives them."""

    zxid: int
    sessions: dict[int, Session]
    nodes: dict[str, Znode]


def encode(capture: Capture, mark: Mark) -> Iterator[bytes]:
    """Yield the snapshot in pieces of some half a millisecond each."""
    number, position, sequence, chain = mark
    counts = len(capture.sessions), len(capture.nodes)
    head = _HEADER.pack(_MAGIC, VERSION, sequence, number, position, chain, capture.zxid, *counts)
    crc = crc32(head)
    yield head + _CRC.pack(crc)
    for kind, content in _contents(capture):
        start = _BLOCK_HEAD.pack(kind, len(content))
        crc = crc32(content, crc32(start, crc))
        yield start + _CRC.pack(crc) + content


def _contents(capture: Capture) -> Iterator[tuple[int, bytes]]:
    for content in _joined(_pack_session(id, session) for id, session in capture.sessions.items()):
        yield _SESSIONS, content
    for content in _joined(_packed_nodes(capture.nodes)):
        yield _NODES, content
    yield _END, b""


def _joined(packed: Iterable[bytes]) -> Iterator[bytes]:
    parts: list[bytes] = []
    size = 0
    for part in packed:
        parts.append(part)
        size += len(part)
        if len(parts) == _PER_BLOCK or size > _BLOCK_SIZE:
            yield b"".join(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)


def _pack_session(id: int, session: Session) -> bytes:
    return _SESSION.pack(id, session.timeout, len(session.password)) + session.password


def _packed_nodes(nodes: dict[str, Znode]) -> Iterator[bytes]:
    last: tuple[Acl, ...] | None = None
    acl = b""
    pack = _NODE.pack
    for path, node in nodes.items():
        if node.acl is not last:  # nearly all have the same one
            last, acl = node.acl, pack_acls(node.acl)
        name, data = path.encode(), node.data
        yield b"".join(
            (
                pack(
                    len(name),
                    -1 if data is None else len(data),
                    len(acl),
                    node.owner,
                    node.created_zxid,
                    node.created,
                    node.changed_zxid,
                    node.changed,
                    node.children_zxid,
                    node.version,
                    node.acl_version,
                    node.created_children,
                ),
                name,
                data or b"",
                acl,
            )
        )


def decode_mark(data: bytes) -> tuple[Mark, int, int, int]:
    """Return mark, zxid and the numbers of sessions and nodes from a header. Raises ValueError."""
    if len(data) < HEADER_SIZE:
        raise ValueError(f"its header has {len(data)} of {HEADER_SIZE} bytes")
    head = data[: _HEADER.size]
    magic, version, sequence, number, position, chain, zxid, sessions, nodes = _HEADER.unpack(head)
    if magic != _MAGIC or _CRC.unpack_from(data, _HEADER.size)[0] != crc32(head):
        raise ValueError("its header is damaged")
    if version != VERSION:
        raise ValueError(f"it has version {version}, this release reads {VERSION}")
    return Mark(number, position, sequence, chain), zxid, sessions, nodes


def decode(data: bytes) -> tuple[State, Mark]:
    """Return the state in a snapshot and its place in the log. Raises ValueError with what is wrong, and where."""
    mark, zxid, *counts = decode_mark(data)
    sessions: list[tuple[int, Session]] = []
    nodes: list[tuple[str, Znode]] = []
    acls: dict[bytes, tuple[Acl, ...]] = {}
    for position, kind, content in _blocks(data):
        try:
            if kind == _SESSIONS:
                sessions += _read_sessions(content)
            elif kind == _NODES:
                nodes += _read_nodes(content, acls)
            else:
                raise ValueError(f"its kind is {kind}")
        except (struct.error, ValueError, ProtocolError) as exc:
            raise ValueError(f"the block at {position} cannot be read: {exc}") from exc
    state = State.restored(zxid, sessions, nodes)
    found = [len(state.sessions), len(state.tree.nodes)]
    if found != counts:
        raise ValueError(f"it holds {found[0]} sessions and {found[1]} nodes, not {counts[0]} and {counts[1]}")
    return state, mark


def _blocks(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield position, kind and content of the blocks before the last. Raises ValueError if they are not as written."""
    (crc,) = _CRC.unpack_from(data, _HEADER.size)
    position = HEADER_SIZE
    while position + _BLOCK.size <= len(data):
        kind, length, expected = _BLOCK.unpack_from(data, position)
        start = position + _BLOCK.size
        content = data[start : start + length]
        crc = crc32(content, crc32(_BLOCK_HEAD.pack(kind, length), crc))
        if len(content) < length or crc != expected:
            raise ValueError(f"the block at {position} is damaged")
        if kind == _END:
            if start != len(data):
                raise ValueError(f"{len(data) - start} bytes are behind its end at {start}")
            return
        yield position, kind, content
        position = start + length
    raise ValueError(f"it ends at {len(data)}, without its last block")


def _read_sessions(content: bytes) -> Iterator[tuple[int, Session]]:
    position = 0
    while position < len(content):
        id, timeout, length = _SESSION.unpack_from(content, position)
        position += _SESSION.size + length
        yield id, Session(timeout, content[position - length : position])


def _read_nodes(content: bytes, acls: dict[bytes, tuple[Acl, ...]]) -> Iterator[tuple[str, Znode]]:
    position = 0
    unpack, size = _NODE.unpack_from, _NODE.size
    while position < len(content):
        name, length, acl_length, *fields = unpack(content, position)
        start = position + size
        middle = start + name
        end = middle + max(length, 0)
        position = end + acl_length
        packed = content[end:position]
        acl = acls.get(packed)
        if acl is None:
            acl = acls[packed] = tuple(read_acls(Reader(packed)))
        yield content[start:middle].decode(), Znode(None if length < 0 else content[middle:end], acl, *fields)
