"""A client of ZooKeeper's protocol that says exactly what it is told, and takes what comes as it comes."""

import socket
from collections.abc import Callable
from contextlib import suppress
from struct import Struct
from typing import Final, NamedTuple, Self

from metaq.registry.answers import EventKind, Stat
from metaq.registry.jute import INT, Reader, pack_buffer
from metaq.registry.requests import Op

DEADLINE: Final = 20.0  # seconds for any answer
PING_XID: Final = -2
EVENT_XID: Final = -1

_CONNECT: Final = Struct(">iqiq")
_HEADER: Final = Struct(">ii")


class Closed(Exception):
    """The server has closed the connection."""


class Answer(NamedTuple):
    """An answer: its error is 0, or `body` is empty."""

    xid: int
    zxid: int
    error: int
    body: bytes


class Event(NamedTuple):
    """What a watch tells."""

    kind: EventKind
    path: str


class Peer:
    """One connection. Its session is what the server has answered; 0: it was refused."""

    def __init__(
        self,
        address: str,
        session: int = 0,
        password: bytes = bytes(16),
        *,
        timeout: int = 10_000,
        zxid: int = 0,
    ) -> None:
        """Connect and ask for a session. Raises Closed."""
        host, _, port = address.partition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=DEADLINE)
        self._stream = self._socket.makefile("rb")
        self._xid = 0
        self.events: list[Event] = []
        self.zxid = zxid
        try:
            self.send_packet(_CONNECT.pack(0, zxid, timeout, session) + pack_buffer(password) + b"\0")
            reader = Reader(self.receive_packet())
        except BaseException:
            self.drop()
            raise
        self.protocol, self.timeout, self.session = reader.read_int(), reader.read_int(), reader.read_long()
        self.password = reader.read_buffer() or b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.drop()

    def drop(self) -> None:
        """Close the connection; the session goes on."""
        self._stream.close()
        self._socket.close()

    def leave(self) -> None:
        """Send no more, wait until the server has closed the connection, then drop it; fine if it is dropped."""
        if not self._stream.closed:
            with suppress(OSError):  # the server was first
                self._socket.shutdown(socket.SHUT_WR)
            while not self.is_closed():
                pass
            self.drop()

    def send_bytes(self, data: bytes) -> None:
        self._socket.sendall(data)

    def send_packet(self, packet: bytes) -> None:
        self.send_bytes(INT.pack(len(packet)) + packet)

    def send(self, op: int, body: bytes = b"") -> int:
        """Send a request; return its xid."""
        self._xid += 1
        xid = PING_XID if op == Op.PING else self._xid
        self.send_packet(_HEADER.pack(xid, op) + body)
        return xid

    def receive_packet(self) -> bytes:
        """Return what comes next. Raises Closed."""
        try:
            size = self._stream.read(4)
            packet = self._stream.read(INT.unpack(size)[0]) if len(size) == 4 else b""
        except ConnectionError as exc:
            raise Closed(str(exc)) from exc
        if not packet:
            raise Closed(f"it ends with {size!r}")
        return packet

    def receive(self) -> Answer:
        """Return the next answer; what watches tell before it goes into `events`. Raises Closed."""
        while True:
            reader = Reader(self.receive_packet())
            answer = Answer(reader.read_int(), reader.read_long(), reader.read_int(), reader.rest())
            if answer.xid != EVENT_XID:
                self.zxid = max(self.zxid, answer.zxid)
                return answer
            body = Reader(answer.body)
            kind, state, path = EventKind(body.read_int()), body.read_int(), body.read_string()
            assert (answer.zxid, answer.error, state) == (-1, 0, 3)
            self.events.append(Event(kind, path))

    def ask(self, op: int, body: bytes = b"") -> Answer:
        """Send a request and return its answer. Raises Closed."""
        xid = self.send(op, body)
        answer = self.receive()
        assert answer.xid == xid
        return answer

    def take_events(self) -> list[Event]:
        """Return all that watches have told up to now."""
        assert self.ask(Op.PING).error == 0
        events, self.events = self.events, []
        return events

    def is_closed(self) -> bool:
        """Wait for the end of the connection; False: something else came."""
        try:
            self.receive_packet()
        except Closed:
            return True
        return False


def read_stat(reader: Reader) -> Stat:
    """Read a stat off an answer."""
    longs, ints = reader.read_long, reader.read_int
    kinds: tuple[Callable[[], int], ...] = (longs,) * 4 + (ints,) * 3 + (longs, ints, ints, longs)
    return Stat(*(kind() for kind in kinds))
