"""The registry beside a real ZooKeeper: the same requests by chance, the same answers, errors, stats and events.

Zxids are compared relatively, times not at all.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

import pytest

from metaq.registry.answers import Stat
from metaq.registry.jute import LONG, Reader
from metaq.registry.requests import Op
from metaq.testing import Coordinator, Registry, ZooKeeper
from tests.cluster.chance import Asked, Chance
from tests.cluster.peer import Answer, Closed, Event, Peer, read_stat
from tests.conftest import require

CLIENTS: Final = 3


class Side:
    """One of the two servers, and the clients there, once `meet` has brought them. What they get is made comparable."""

    def __init__(self, server: Coordinator) -> None:
        self._address = server.address
        self._peers: list[Peer | None] = [None] * CLIENTS
        self._opened: list[Peer] = []  # all that ever were, for a failure must not leave one open
        self._sessions: dict[int, tuple[int, bytes]] = {}  # of each client
        self._named: dict[int, int] = {0: 0}  # session → the how manieth
        self._base = 0

    def meet(self) -> None:
        """Give each client a session, and find the zxid that others are relative to."""
        self.begin(0)
        answer = self.peer(0).ask(Op.SYNC, b"\0\0\0\1/")
        self._base = answer.zxid
        for client in range(1, CLIENTS):
            self.begin(client)

    def close(self) -> None:
        for peer in self._opened:
            peer.drop()

    def _open(self, session: int = 0, password: bytes = bytes(16), *, timeout: int = 10_000, zxid: int = 0) -> Peer:
        peer = Peer(self._address, session, password, timeout=timeout, zxid=zxid)
        self._opened.append(peer)
        return peer

    def peer(self, client: int) -> Peer:
        peer = self._peers[client]
        assert peer is not None
        return peer

    def begin(self, client: int, timeout: int = 10_000) -> Any:
        """Give a client a new session."""
        peer = self._peers[client] = self._open(timeout=timeout)
        self._sessions[client] = peer.session, peer.password
        self._named[peer.session] = len(self._named)
        return peer.timeout, self._named[peer.session], len(peer.password), peer.protocol

    def attach(self, client: int, *, drop: bool, honest: bool, ahead: bool) -> Any:
        """Bring a client back to its session, while its old connection is there, or after that."""
        old = self.peer(client)
        if drop:
            old.leave()  # 3.8 may take the new connection out of its books if it sees the old one's end at that moment
        session, password = self._sessions[client]
        try:
            peer = self._open(session, password if honest else bytes(16), zxid=old.zxid + (1 << 40) * ahead)
        except Closed:
            peer = None
        if not drop and peer is not None:
            assert old.is_closed()
            old.drop()
        if peer is None or not peer.session:
            refused = None if peer is None else (peer.timeout, peer.password, peer.is_closed())
            if peer is not None:
                peer.drop()
            self._peers[client] = self._open(session, password)
            return refused
        self._peers[client] = peer
        return self._named[peer.session], peer.timeout

    def ask(self, client: int, asked: Asked) -> Any:
        """Return a comparable answer, or None where the connection was closed; then there is a new session."""
        peer = self.peer(client)
        try:
            answer = peer.ask(asked.op, asked.body)
        except Closed:
            answer = None
        if answer is None or answer.error == -115 or asked.op is Op.CLOSE:
            assert answer is None or peer.is_closed()
            peer.drop()
        return None if answer is None else self.comparable(asked.op, answer)

    def events(self) -> list[list[Event]]:
        return [self.peer(client).take_events() for client in range(CLIENTS)]

    def zxid(self, relative: int) -> int:
        return self._base + relative

    # comparing

    def comparable(self, op: Op, answer: Answer) -> Any:
        zxid = self._relative(answer.zxid)
        if answer.error:
            assert answer.body == b""
            return answer.error, zxid
        reader = Reader(answer.body)
        found = READERS[op](self, reader) if op in READERS else reader.rest()
        assert op not in READERS or reader.left == 0
        return zxid, found

    def _relative(self, zxid: int) -> int:
        return zxid - self._base if zxid >= self._base else zxid

    def stat(self, reader: Reader) -> Any:
        stat: Stat = read_stat(reader)
        return stat._replace(
            created_zxid=self._relative(stat.created_zxid),
            changed_zxid=self._relative(stat.changed_zxid),
            children_zxid=self._relative(stat.children_zxid),
            owner=self._named[stat.owner],
            created=0,
            changed=0,
        )

    def results(self, reader: Reader) -> Any:
        found: list[Any] = []
        while True:
            op, done, error = reader.read_int(), reader.read_bool(), reader.read_int()
            if done:
                return found
            if op == -1:
                found.append((error, reader.read_int()))
            else:
                found.append((op, error, READERS[Op(op)](self, reader) if Op(op) in READERS else None))


READERS: Final[dict[Op, Callable[[Side, Reader], Any]]] = {
    Op.CREATE: lambda side, reader: reader.read_string(),
    Op.CREATE2: lambda side, reader: (reader.read_string(), side.stat(reader)),
    Op.CREATE_CONTAINER: lambda side, reader: (reader.read_string(), side.stat(reader)),
    Op.SET_DATA: Side.stat,
    Op.SET_ACL: Side.stat,
    Op.EXISTS: Side.stat,
    Op.GET_DATA: lambda side, reader: (reader.read_buffer(), side.stat(reader)),
    Op.GET_CHILDREN: lambda side, reader: sorted(reader.read_vector(Reader.read_string)),
    Op.GET_CHILDREN2: lambda side, reader: (sorted(reader.read_vector(Reader.read_string)), side.stat(reader)),
    Op.GET_ACL: lambda side, reader: (
        sorted(reader.read_vector(lambda each: (each.read_int(), each.read_string(), each.read_string()))),
        side.stat(reader),
    ),
    Op.GET_EPHEMERALS: lambda side, reader: sorted(reader.read_vector(Reader.read_string)),
    Op.COUNT_CHILDREN: lambda side, reader: reader.read_int(),
    Op.WHO_AM_I: lambda side, reader: sorted(reader.read_vector(lambda each: (each.read_string(), each.read_string()))),
    Op.MULTI: Side.results,
    Op.MULTI_READ: Side.results,
}


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[Coordinator, Coordinator]]:
    """Two servers that nobody else uses: all zxids are ours."""
    require("ZooKeeper (Debian package zookeeper) or Java", ZooKeeper.available())
    with ZooKeeper(tmp_path / "theirs") as theirs, Registry(tmp_path / "ours") as ours:
        yield theirs, ours


def live(servers: tuple[Coordinator, Coordinator], seed: int, steps: int) -> None:
    """Let clients do whatever comes to their minds, at both servers."""
    with ExitStack() as stack:
        sides = [stack.enter_context(closing(Side(server))) for server in servers]
        for side in sides:
            side.meet()
        chance = Chance(seed, CLIENTS)
        for number in range(steps):
            step(sides, chance, f"METAQ_SEED={seed}, step {number}")


def step(sides: list[Side], chance: Chance, where: str) -> None:
    """Let one client do something; compare what it gets, and what watches tell anybody."""
    client = chance.random.randrange(CLIENTS)
    kind = chance.random.random()
    if kind < 0.02:
        same(sides, lambda side: side.ask(client, Asked(Op.CLOSE, b"")), f"{where}: close {client}")
        timeout = chance.random.choice((1, 3000, 100_000))
        same(sides, lambda side: side.begin(client, timeout), f"{where}: begin {client}")
        same(sides, lambda side: list(map(sorted, side.events())), f"{where}: events after close")
        return
    if kind < 0.06:
        drop, honest, ahead = (chance.random.random() < p for p in (0.5, 0.8, 0.1))
        drop = drop or not honest or ahead  # 3.8 closes the old connection before it looks at the password
        attach = f"{where}: attach {client} {drop=} {honest=} {ahead=}"
        same(sides, lambda side: side.attach(client, drop=drop, honest=honest, ahead=ahead), attach)
        seen = max(0, sides[1].peer(client).zxid - sides[1].zxid(0) - chance.random.randrange(20))
        lists = chance.watches(client)
        watches = f"{where}: set watches of {client} since {seen} {lists!r}"
        same(sides, lambda side: side.ask(client, Asked(Op.SET_WATCHES2, LONG.pack(side.zxid(seen)) + lists)), watches)
    else:
        asked = chance.request(client)
        answers = same(sides, lambda side: side.ask(client, asked), f"{where}: {client} asks {asked}")
        if asked.op is Op.AUTH and (answers is None or answers[0] == -115):
            attach = f"{where}: attach {client} after refused proof"
            same(sides, lambda side: side.attach(client, drop=True, honest=True, ahead=False), attach)
    same(sides, Side.events, f"{where}: events")


def same(sides: list[Side], get: Callable[[Side], Any], what: str) -> Any:
    theirs, ours = map(get, sides)
    print(what, ours)  # pytest shows it where something differs
    assert ours == theirs, what
    return ours


def test_random_requests_have_the_same_outcome(servers: tuple[Coordinator, Coordinator]) -> None:
    live(servers, int(os.environ.get("METAQ_SEED", "1")), 600)


@pytest.mark.soak
@pytest.mark.parametrize("round_", range(20))
def test_whole_lives_have_the_same_outcome(servers: tuple[Coordinator, Coordinator], round_: int) -> None:
    live(servers, int(os.environ.get("METAQ_SEED", "1")) * 1000 + round_, 5000)
