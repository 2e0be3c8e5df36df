"""Requests to a registry by chance: what several clients with sessions may do, as it goes over the wire.

Left out is what ZooKeeper 3.8 does worse than later ones and ours (metaq.registry.watches): each client sets either
one-shot watches on a path, or persistent ones of one kind, and asks whether it watches only where nobody else does.
"""

from random import Random
from typing import Final, NamedTuple

from metaq.registry.access import digest_of
from metaq.registry.jute import INT, pack_buffer, pack_string, pack_vector
from metaq.registry.requests import (
    ANYBODY,
    Acl,
    Check,
    Create,
    Delete,
    Mode,
    Multi,
    Op,
    Request,
    SetAcl,
    SetData,
    pack_fields,
)

COMMON: Final = ("/a", "/b", "/a/x", "/a/y", "/a/x/1", "/b/x")
STRANGE: Final = (
    "/",
    "",
    "a",
    "/a/",
    "//",
    "/a//x",
    "/a/../b",
    "/a/\0",
    "/ü",
    "/none/x",
    "/zookeeper",
    "/zookeeper/config",
)
USERS: Final = (b"ann:1", b"bob:2")
MODES: Final = (0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 9)


class Asked(NamedTuple):
    """A request on its way: type and fields."""

    op: Op
    body: bytes


class Chance:
    """Draws what happens."""

    def __init__(self, seed: int, clients: int) -> None:
        self.random = Random(seed)
        self._clients = clients

    def path(self) -> str:
        if self.random.random() < 0.07:
            return self.random.choice(STRANGE)
        return self.random.choice(COMMON)

    def private(self, client: int) -> str:
        """Return the path that nobody else watches."""
        return f"/only-{client}"

    def persists(self, client: int, path: str) -> int | None:
        """Return which persistent watches a client sets on a path: 0, 1 for recursive; None: it sets one-shot ones."""
        return (None, 0, None, 1)[(client + sum(path.encode())) % 4]

    def version(self) -> int:
        return self.random.choice((-1, -1, -1, 0, 1, 2))

    def acl(self) -> list[Acl]:
        other = Acl(self.random.choice((1, 7, 15, 16, 31, 96)), "digest", digest_of("ann:1"))
        return self.random.choice(
            [
                [ANYBODY],
                [ANYBODY],
                [ANYBODY],
                [ANYBODY],
                [other, ANYBODY._replace(permissions=self.random.choice((1, 5)))],
                [other, other],
                [Acl(31, "auth", "")],
                [Acl(31, "ip", self.random.choice(("127.0.0.1", "127.0.0.0/8", "10.0.0.1", "10.0.0.0/33", "x")))],
                [Acl(31, self.random.choice(("world", "nonsense", "digest")), "somebody")],
                [],
            ]
        )

    def write(self, client: int, *, alone: bool = True) -> tuple[Op, Request]:
        """Return a change that may be part of a multi."""
        path = self.private(client) if self.random.random() < 0.1 else self.path()
        data = self.random.choice((None, b"", b"xyz"))
        kind = self.random.random()
        if kind < 0.5:
            op = self.random.choice((Op.CREATE, Op.CREATE, Op.CREATE, Op.CREATE2, Op.CREATE_CONTAINER, Op.CREATE_TTL))
            mode = self.random.choice(MODES)
            if not alone:  # where types are taken from modes by some 3.8, as they came by others
                mode = mode if mode < 5 else 0
                op = Op.CREATE_CONTAINER if mode == Mode.CONTAINER else Op.CREATE
            known = {int(each): each for each in Mode}.get(mode, Mode.UNKNOWN)
            return op, Create(path, data, self.acl(), known, 1000)
        if kind < 0.7:
            return Op.DELETE, Delete(path, self.version())
        if kind < 0.9 or alone:
            return Op.SET_DATA, SetData(path, data, self.version())
        return Op.CHECK, Check(path, self.version())

    def change(self, client: int) -> Asked:
        kind = self.random.random()
        op: Op
        request: Request
        if kind < 0.15:
            parts = [self.write(client, alone=False) for _ in range(self.random.randrange(5))]
            op, request = Op.MULTI, Multi(parts)
        elif kind < 0.25:
            op, request = Op.SET_ACL, SetAcl(self.path(), self.acl(), self.version())
        else:
            op, request = self.write(client)
        return Asked(op, pack_fields(op, request))

    def look(self, client: int) -> Asked:
        path = self.private(client) if self.random.random() < 0.2 else self.path()
        watch = self.random.random() < 0.6 and self.persists(client, path) is None
        op = self.random.choice((Op.EXISTS, Op.GET_DATA, Op.GET_CHILDREN, Op.GET_CHILDREN2))
        return Asked(op, pack_string(path) + bytes([watch]))

    def question(self, client: int) -> Asked:
        """Return what is neither a change nor may be watched."""
        op = self.random.choice((Op.GET_ACL, Op.SYNC, Op.GET_EPHEMERALS, Op.COUNT_CHILDREN, Op.WHO_AM_I, Op.MULTI_READ))
        if op is Op.WHO_AM_I:
            return Asked(op, b"")
        if op is Op.MULTI_READ:
            parts = b""
            for _ in range(self.random.randrange(4)):
                kind = self.random.choice((Op.GET_DATA, Op.GET_CHILDREN))
                parts += INT.pack(kind) + b"\0" + INT.pack(-1) + pack_string(self.path()) + b"\0"
            return Asked(op, parts + INT.pack(-1) + b"\1" + INT.pack(-1))
        path = self.path()
        return Asked(op, pack_string("/" if path == "" and op is Op.COUNT_CHILDREN else path))

    def watching(self, client: int) -> Asked:
        path = self.private(client) if self.random.random() < 0.3 else self.path()
        mode = self.persists(client, path)
        op = self.random.choice((Op.ADD_WATCH, Op.ADD_WATCH, Op.REMOVE_WATCHES, Op.CHECK_WATCHES))
        if op is Op.ADD_WATCH and mode is None:
            return Asked(op, pack_string(path) + INT.pack(7))
        if op is Op.ADD_WATCH:
            return Asked(op, pack_string(path) + INT.pack(mode or 0))
        if op is Op.CHECK_WATCHES:
            path, mode = self.private(client), self.persists(client, self.private(client))
        kind = self.random.choice((1, 2, 3)) if mode is None else 3
        return Asked(op, pack_string(path) + INT.pack(self.random.choice((kind, kind, kind, 9))))

    def proof(self) -> Asked:
        scheme = self.random.choice(("digest", "digest", "digest", "ip", "world"))
        return Asked(Op.AUTH, INT.pack(0) + pack_string(scheme) + pack_buffer(self.random.choice(USERS)))

    def torn(self, client: int) -> Asked:
        """Return a request that ends too early."""
        asked = self.random.choice((self.change, self.look, self.watching))(client)
        return Asked(asked.op, asked.body[: self.random.randrange(len(asked.body))])

    def request(self, client: int) -> Asked:
        kind = self.random.random()
        if kind < 0.45:
            return self.change(client)
        if kind < 0.75:
            return self.look(client)
        if kind < 0.85:
            return self.question(client)
        if kind < 0.95:
            return self.watching(client)
        return self.torn(client) if kind < 0.98 else self.proof()

    def watches(self, client: int) -> bytes:
        """Return the lists of SET_WATCHES2 of a client that is back."""
        paths = [*COMMON, self.private(client)]
        lists: list[list[bytes]] = [[], [], [], [], []]
        for path in paths:
            mode = self.persists(client, path)
            if mode is not None:
                lists[3 + mode].append(pack_string(path))
            elif self.random.random() < 0.6:
                lists[self.random.randrange(3)].append(pack_string(path))
        return b"".join(map(pack_vector, lists))
