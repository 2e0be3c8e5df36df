"""SIGKILL of a registry under load: what it acknowledged is there after it, and nothing that was not asked for."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Final

import pytest

from metaq.registry.jute import Reader
from metaq.registry.requests import ANYBODY, Check, Create, Delete, Mode, Multi, Op, Request, SetData, pack_fields
from tests.cluster.peer import Closed, Peer

ROOT: Final = Path(__file__).parents[2]
PATIENCE: Final = 30.0  # seconds
WINDOW: Final = 8  # requests that a client sends ahead of their answers

Nodes = dict[str, bytes]


class Server:
    """One run of a registry in a folder."""

    def __init__(self, place: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.serve_registry", str(place)], cwd=ROOT, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        words = self._process.stdout.readline().split()
        assert words[:1] == [b"ready"], "it does not serve"
        self.address = f"127.0.0.1:{int(words[1])}"

    def end(self, how: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal; return the exit status."""
        self._process.send_signal(how)
        status = self._process.wait(PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return status


class Client:
    """Changes nodes of its own; knows what they were after each change, and how many changes are acknowledged."""

    def __init__(self, number: int, random: Random) -> None:
        self.top = f"/client{number}"
        self.random = random
        self.states: list[Nodes] = [{}]
        self.acked = 0

    def work(self, address: str) -> None:
        """Send changes until the connection ends, some ahead of their answers."""
        with Peer(address) as peer:
            try:
                while True:
                    while len(self.states) - 1 - self.acked < WINDOW:
                        op, request = self._change()
                        peer.send(op, pack_fields(op, request))
                    answer = peer.receive()
                    assert answer.error == 0, f"{self.top}: {answer}"
                    self.acked += 1
            except (Closed, OSError):
                return

    def check(self, peer: Peer) -> None:
        """Compare with what is there; that is the truth from here on."""
        found = self._read(peer)
        survived = next((count for count in reversed(range(len(self.states))) if self.states[count] == found), None)
        assert survived is not None, f"{self.top} has {found}, it never had; last it had {self.states[-1]}"
        assert survived >= self.acked, f"{self.top}: {self.acked} changes were acknowledged, {survived} are there"
        self.states, self.acked = [found], 0

    def _change(self) -> tuple[Op, Request]:
        nodes = dict(self.states[-1])
        value = b"%d %d" % (len(self.states), self.random.randrange(1 << 30))
        below = [path for path in nodes if path != self.top]
        if not nodes:
            chosen = self._create(nodes, self.top, value)
        elif not below or (len(below) < 20 and self.random.random() < 0.4):
            chosen = self._create(nodes, f"{self.top}/{len(self.states)}-{self.random.randrange(1 << 30)}", value)
        elif self.random.random() < 0.2:
            chosen = self._delete(nodes, self.random.choice(below))
        elif self.random.random() < 0.5:
            chosen = self._set(nodes, self.random.choice(below), value)
        else:
            moved = [
                self._delete(nodes, self.random.choice(below)),
                self._create(nodes, f"{self.top}/m{value!r}", value),
            ]
            chosen = Op.MULTI, Multi([*moved, self._set(nodes, self.top, value)])
        self.states.append(nodes)
        return chosen

    def _create(self, nodes: Nodes, path: str, value: bytes) -> tuple[Op, Request]:
        nodes[path] = value
        return Op.CREATE, Create(path, value, [ANYBODY], Mode.PERSISTENT)

    def _set(self, nodes: Nodes, path: str, value: bytes) -> tuple[Op, Request]:
        nodes[path] = value
        return Op.SET_DATA, SetData(path, value, -1)

    def _delete(self, nodes: Nodes, path: str) -> tuple[Op, Request]:
        del nodes[path]
        return Op.DELETE, Delete(path, -1)

    def _read(self, peer: Peer) -> Nodes:
        answer = peer.ask(Op.GET_CHILDREN, _look(self.top))
        if answer.error:
            return {}
        names = Reader(answer.body).read_vector(Reader.read_string)
        return {
            path: Reader(peer.ask(Op.GET_DATA, _look(path)).body).read_buffer() or b""
            for path in [self.top, *(f"{self.top}/{name}" for name in names)]
        }


def _look(path: str) -> bytes:
    return pack_fields(Op.CHECK, Check(path, 0))[:-4] + b"\0"


@contextmanager
def working(clients: list[Client], address: str) -> Iterator[None]:
    """Let clients work beside what follows, until their connections end."""
    threads = [threading.Thread(target=client.work, args=(address,)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join(PATIENCE)


def check_all(clients: list[Client], address: str) -> None:
    with Peer(address) as peer:
        for client in clients:
            client.check(peer)


def kill_and_check(place: Path, kills: int, seed: int) -> int:
    """Kill a registry under load, start it again and check everything, so many times; return how much was written."""
    random = Random(seed)
    clients = [Client(number, random) for number in range(4)]
    total = 0
    for _ in range(kills):
        server = Server(place)
        try:
            check_all(clients, server.address)
            with working(clients, server.address):
                wanted = random.randrange(50, 3000)
                deadline = time.monotonic() + PATIENCE
                while sum(client.acked for client in clients) < wanted and time.monotonic() < deadline:
                    time.sleep(0.001)
                server.end()
            total += sum(client.acked for client in clients)
        finally:
            server.end()
    server = Server(place)
    check_all(clients, server.address)
    assert server.end(signal.SIGTERM) == 0
    return total


def test_a_registry_that_is_killed_under_load_loses_nothing(tmp_path: Path) -> None:
    assert kill_and_check(tmp_path / "registry", 2, seed=1) > 150


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_registry_that_is_killed_a_hundred_times_loses_nothing(tmp_path: Path) -> None:
    assert kill_and_check(tmp_path / "registry", 100, seed=Random().randrange(1 << 30)) > 10_000
