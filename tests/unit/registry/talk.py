"""Packets to a machine and what it makes of them."""

import itertools
from random import Random
from typing import Final

from metaq.registry.answers import EventKind
from metaq.registry.changes import Change
from metaq.registry.clients import Client
from metaq.registry.jute import INT, LONG, Reader, pack_buffer, pack_string
from metaq.registry.machine import Machine
from metaq.registry.options import RegistryOptions
from metaq.registry.requests import ANYBODY, Acl, Create, Mode, Op, Request, pack_fields
from metaq.registry.state import State

START: Final = (1000, 1_700_000_000_000)


class Book:
    """A log on paper."""

    def __init__(self) -> None:
        self.changes: list[Change] = []

    def append(self, change: Change) -> None:
        self.changes.append(change)

    def commit(self, done: object) -> None:
        raise AssertionError("the machine asks for nothing to be written")


def greeting(session: int = 0, password: bytes = bytes(16), *, timeout: int = 4000, zxid: int = 0) -> bytes:
    return INT.pack(0) + LONG.pack(zxid) + INT.pack(timeout) + LONG.pack(session) + pack_buffer(password) + b"\0"


def packet(xid: int, op: int, body: bytes = b"") -> bytes:
    return INT.pack(xid) + INT.pack(op) + body


def change(xid: int, op: Op, request: Request) -> bytes:
    return packet(xid, op, pack_fields(op, request))


def create(xid: int, path: str, mode: Mode = Mode.PERSISTENT, acl: list[Acl] | None = None) -> bytes:
    op = Op.CREATE_CONTAINER if mode is Mode.CONTAINER else Op.CREATE
    return change(xid, op, Create(path, b"", [ANYBODY] if acl is None else acl, mode))


def look(xid: int, op: Op, path: str, *, watch: bool = False) -> bytes:
    return packet(xid, op, pack_string(path) + bytes([watch]))


class Talk:
    """A machine, and clients with sessions."""

    def __init__(self, state: State | None = None) -> None:
        self.book = Book()
        self.state = State.fresh() if state is None else state
        self.machine = Machine(self.state, self.book, Random(1), RegistryOptions(), START)
        self.now = 0

    def client(self, first: bytes = b"", address: str = "10.0.0.1") -> Client:
        """Return a client that has been greeted."""
        client = Client(address)
        self.machine.receive(client, [first or greeting()])
        return client

    def begin(self) -> Client:
        client = self.client()
        client.outputs.clear()
        return client

    def say(self, client: Client, *packets: bytes) -> list[tuple[object, ...]]:
        """Let a client send packets; return what it is sent."""
        self.machine.receive(client, list(packets))
        return self.hear(client)

    def hear(self, client: Client) -> list[tuple[object, ...]]:
        """Return what a client was sent: (kind, path) of events, (xid, zxid, error) of answers."""
        outputs, client.outputs = client.outputs, []
        return [decoded(output) for output in outputs]

    def zxid(self, number: int) -> int:
        return (1 << 32) + number

    def wait(self, ticks: int) -> None:
        """Let time go by, tick by tick."""
        for _ in itertools.repeat(None, ticks):
            self.now += 1000
            self.machine.tell(START[0] + self.now, START[1] + self.now)
            self.machine.expire()


def decoded(output: bytes) -> tuple[object, ...]:
    reader = Reader(output)
    assert reader.read_int() == len(output) - 4
    xid, zxid, error = reader.read_int(), reader.read_long(), reader.read_int()
    if xid != -1:
        return xid, zxid, error
    kind, state = reader.read_int(), reader.read_int()
    assert (zxid, error, state) == (-1, 0, 3)
    return EventKind(kind), reader.read_string()
