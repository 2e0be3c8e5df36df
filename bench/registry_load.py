"""A small raw client of the ZooKeeper protocol that puts load on a registry; one line of JSON on stdout for each step.

writes PORT CONNECTIONS IN_FLIGHT SECONDS WARM    setData of 100 bytes, each connection on a node of its own
nodes PORT COUNT                                  creates so many nodes in 100 folders, 100 in flight
sessions PORT COUNT                               opens sessions and holds them until stdin ends
"""

import asyncio
import json
import resource
import struct
import sys
import time
from collections import deque
from typing import Final

from metaq.net.loop import run

CREATE: Final = 1
SET: Final = 5
OPEN_ACL: Final = struct.pack(">iii5si6s", 1, 31, 5, b"world", 6, b"anyone")
GREETING: Final = struct.pack(">iqiqi16sB", 0, 0, 30_000, 0, 16, bytes(16), 0)
HEAD: Final = struct.Struct(">iii")  # length, xid, type
ANSWER: Final = struct.Struct(">iqi")  # xid, zxid, error
NODE_EXISTS: Final = -110
FOLDERS: Final = 100
BODY: Final = bytes(100)


class Session(asyncio.Protocol):
    """One session. Requests are answered in order; `answers` counts them."""

    def __init__(self) -> None:
        self.answers = 0
        self.ready = asyncio.Event()
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._sent = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment] # uvloop's is one, but not by inheritance
        self._write(struct.pack(">i", len(GREETING)) + GREETING)

    def data_received(self, data: bytes) -> None:
        received = self._received + data
        position = 0
        while len(received) - position >= 4:
            end = position + 4 + int.from_bytes(received[position : position + 4], "big")
            if end > len(received):
                break
            if self.ready.is_set():
                error = ANSWER.unpack_from(received, position + 4)[2]
                if error not in (0, NODE_EXISTS):
                    raise SystemExit(f"the registry answers {error}")
                self.answers += 1
            else:
                self.ready.set()
            position = end
        self._received = received[position:]
        while self._waiting and self._waiting[0][0] <= self.answers:
            self._waiting.popleft()[1].set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ready.is_set():
            raise SystemExit("the registry gives no session")
        for _, waiting in self._waiting:
            waiting.set_exception(exc or ConnectionError("the registry closed the connection"))

    def send(self, kind: int, bodies: list[bytes]) -> None:
        """Send requests, each with the next xid."""
        first = self._sent + 1
        self._sent += len(bodies)
        self._write(b"".join(HEAD.pack(8 + len(b), first + n, kind) + b for n, b in enumerate(bodies)))

    async def answered(self, count: int) -> None:
        """Wait until so many requests in all are answered."""
        if self.answers < count:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append((count, waiting))
            await waiting

    @property
    def sent(self) -> int:
        return self._sent

    def _write(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)


async def open_session(port: int, source: int = 1) -> Session:
    """Begin a session from 127.0.0.`source`: a registry may allow only so many connections of one address."""
    loop = asyncio.get_running_loop()
    _, session = await loop.create_connection(Session, "127.0.0.1", port, local_addr=(f"127.0.0.{source}", 0))
    await session.ready.wait()
    return session


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">i", len(data)) + data


def create(path: str, data: bytes = b"") -> bytes:
    return text(path) + struct.pack(">i", len(data)) + data + OPEN_ACL + struct.pack(">i", 0)


async def writes(port: int, connections: int, in_flight: int, seconds: float, warm: float) -> None:
    sessions = [await open_session(port) for _ in range(connections)]
    requests = []
    for number, session in enumerate(sessions):
        path = f"/bench-{number}"
        session.send(CREATE, [create(path)])
        await session.answered(1)
        requests.append(text(path) + struct.pack(">i", len(BODY)) + BODY + struct.pack(">i", -1))
    loop = asyncio.get_running_loop()
    until = loop.time() + warm + seconds

    async def press(session: Session, request: bytes) -> None:
        half = [request] * max(in_flight // 2, 1)
        session.send(SET, half)
        while loop.time() < until:
            session.send(SET, half)
            await session.answered(session.sent - len(half))
        await session.answered(session.sent)

    tasks = [asyncio.create_task(press(*each)) for each in zip(sessions, requests, strict=True)]
    await asyncio.sleep(warm)
    began, before = time.perf_counter(), sum(s.answers for s in sessions)
    await asyncio.sleep(seconds)
    say(rate=(sum(s.answers for s in sessions) - before) / (time.perf_counter() - began))
    await asyncio.gather(*tasks)


async def nodes(port: int, count: int) -> None:
    session = await open_session(port)
    session.send(CREATE, [create(f"/nodes-{number}") for number in range(FOLDERS)])
    began = time.perf_counter()
    for first in range(0, count, 50):
        numbers = range(first, min(first + 50, count))
        session.send(CREATE, [create(f"/nodes-{n % FOLDERS}/node-{n:08}", BODY) for n in numbers])
        await session.answered(session.sent - 100)
    await session.answered(session.sent)
    say(rate=count / (time.perf_counter() - began))


async def sessions(port: int, count: int) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    began = time.perf_counter()
    held: list[Session] = []
    while len(held) < count:
        group = range(len(held), min(len(held) + 50, count))
        held += await asyncio.gather(*(open_session(port, 1 + number % 10) for number in group))
    say(rate=count / (time.perf_counter() - began))
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def say(**values: float) -> None:
    print(json.dumps(values), flush=True)


def main() -> None:
    verb, *rest = sys.argv[1:]
    numbers = [float(word) if "." in word else int(word) for word in rest]
    run({"writes": writes, "nodes": nodes, "sessions": sessions}[verb](*numbers))  # type: ignore[operator]


if __name__ == "__main__":
    main()
