"""Pairs whose brokers are killed under load, whose roles change each time: what was acknowledged is never missing."""

import random
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from metaq.cli.home import Home
from metaq.record import walk
from tests.cli.homes import INI, kill, made_home
from tests.cli.test_pair import port_of, server

AT_ONCE: Final = 20


class Producer(threading.Thread):
    """Puts until the broker is gone or it is told to stop."""

    def __init__(self, port: int, tag: str) -> None:
        super().__init__(daemon=True)
        self.tried: set[bytes] = set()
        self.acknowledged: set[bytes] = set()
        self.stop = threading.Event()
        self._peer = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._tag = tag

    def run(self) -> None:
        with self._peer, suppress(OSError), self._peer.makefile("rb") as replies:
            count = 0
            while not self.stop.is_set():
                bodies = [f"{self._tag}-{count + each}".encode() for each in range(AT_ONCE)]
                count += AT_ONCE
                self.tried.update(bodies)
                for opaque, body in enumerate(bodies):
                    self._peer.sendall(b"put test 0 %d 0 %d\r\n%b" % (len(body), opaque, body))
                for _ in bodies:
                    head = replies.readline().split()
                    if not head:
                        return
                    replies.read(int(head[2]))
                    if head[1] == b"200":
                        self.acknowledged.add(bodies[int(head[3])])


def read_all(port: int) -> list[bytes]:
    """Return all messages of partition 0."""
    bodies: list[bytes] = []
    offset = 0
    with socket.create_connection(("127.0.0.1", port), timeout=10) as peer, peer.makefile("rb") as replies:
        while True:
            peer.sendall(b"get test group 0 %d 1000000 1\r\n" % offset)
            head = replies.readline().split()
            data = replies.read(int(head[1] if head[0] == b"value" else head[2]))
            if head[0] != b"value" or not data:
                return bodies
            for record in walk(data):
                bodies.append(record.body)
                offset += 20 + len(record.body)


def begin(master: Home, slave: Home) -> None:
    """Start a pair."""
    server(slave, "start", "gregor")
    (master.path / "conf" / "samsa_master.properties").write_text(f"slave=127.0.0.1:{port_of(slave)}\n")
    server(master, "start", "samsa")


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_what_was_acknowledged_survives_any_of_both_and_is_there_after_each_change_of_roles(tmp_path: Path) -> None:
    chance = random.Random(6)
    acknowledged: set[bytes] = set()
    tried: set[bytes] = set()
    with made_home(tmp_path / "one") as one, made_home(tmp_path / "two") as two:
        for home in (one, two):
            home.ini.write_text(INI.format(data=home.path / "data"))
        master, slave = one, two
        for turn in range(4):
            begin(master, slave)
            found = read_all(port_of(master))
            assert len(found) == len(set(found))
            assert acknowledged <= set(found) <= tried
            producer = Producer(port_of(master), f"turn {turn}")
            producer.start()
            time.sleep(chance.uniform(0.3, 1.0))  # when it comes is the point
            for home in (master, slave) if turn % 2 else (slave, master):
                kill(home)
                time.sleep(0.1)
            producer.stop.set()
            producer.join()
            acknowledged |= producer.acknowledged
            tried |= producer.tried
            assert producer.acknowledged
            master, slave = slave, master
        begin(master, slave)
        server(master, "stop")
        server(slave, "stop")
        here, there = (home.path / "data" / "test-0" / f"{0:020d}.meta" for home in (one, two))
        assert here.read_bytes() == there.read_bytes()
