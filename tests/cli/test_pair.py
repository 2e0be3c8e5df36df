"""docs/synchronous-pair.md as people do it: two homes, one slave that dies and comes back, and what is said of it."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from metaq.cli.control import ask
from metaq.cli.home import Home
from metaq.testing import Coordinator
from tests.cli.homes import INI, kill, made_home, until
from tests.cli.test_docs import fits, shown
from tests.cli.test_script import script
from tests.docs import samples

DOCUMENT: Final = "synchronous-pair.md"


def server(home: Home, *words: str) -> str:
    """Run the script of a home; return what it prints."""
    done = script(home.path / "bin" / "metaServer.sh", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def start(home: Home, role: str) -> None:
    """Start it in a role as the document does, and see that what is said is as there."""
    (sample,) = samples(DOCUMENT, "console")
    (output,) = (output for command, output in shown(sample) if command == f"bin/metaServer.sh start {role}")
    said = server(home, "start", role)
    assert fits(said, output), said


def port_of(home: Home) -> int:
    """Return the port of a broker that runs."""
    return int(str(ask(home.socket, "status")["address"]).rpartition(":")[2])


class Client:
    """A connection to the broker of a home."""

    def __init__(self, home: Home) -> None:
        self._peer = socket.create_connection(("127.0.0.1", port_of(home)), timeout=10)

    def put(self, body: bytes) -> str:
        """Put a message; return status and text."""
        self._peer.sendall(b"put test 0 %d 0 1\r\n%b" % (len(body), body))
        head, _, text = self._peer.recv(1000).decode().partition("\r\n")
        return f"{head.split(' ')[1]} {text}"

    def stats(self) -> dict[str, str]:
        """Return what `stats` says."""
        self._peer.sendall(b"stats  1\r\n")
        text = self._peer.recv(10_000).decode()
        return dict(line.split(" ", 1) for line in text.splitlines()[1:] if " " in line)

    def close(self) -> None:
        self._peer.close()


@pytest.fixture
def pair(tmp_path: Path, own_registry: Coordinator, chroots: Iterator[int]) -> Iterator[tuple[Home, Home]]:
    """The homes of a master and a slave, which runs; the master writes down what it is to tell people."""
    hosts = own_registry.chroot(f"pair-{next(chroots)}")
    with made_home(tmp_path / "master") as master, made_home(tmp_path / "slave") as slave:
        for home in (master, slave):
            text = INI.format(data=home.path / "data").replace("zk.zkEnable=false", f"zk.zkConnect={hosts}")
            home.ini.write_text(text)
        start(slave, "gregor")
        port = port_of(slave)
        slave.ini.write_text(slave.ini.read_text().replace("serverPort=0", f"serverPort={port}"))
        (sample,) = samples(DOCUMENT, "properties")
        assert sample.text == "slave=10.0.0.2:8123\n"
        named = sample.text.replace("10.0.0.2:8123", f"127.0.0.1:{port}")
        (master.path / "conf" / "samsa_master.properties").write_text(
            f"{named}sendToSlaveTimeoutInMills=2000\nslaveContinuousFailureThreshold=3\n"
            f"notifyCommand=/bin/sh -c 'echo $0 $1 >> {tmp_path}/told'\n"
        )
        yield master, slave


def test_a_slave_that_dies_takes_its_master_out_of_zookeeper_until_it_is_back(
    pair: tuple[Home, Home], tmp_path: Path
) -> None:
    master, slave = pair
    start(master, "samsa")
    client = Client(master)
    assert client.put(b"both").startswith("200 ")
    kill(slave)
    until(lambda: client.put(b"nobody") == "500 Slave is disconnected ")
    until(
        lambda: client.put(b"nobody") == "500 Slave is disconnected " and client.stats()["pair_registered"] == "false"
    )
    server(slave, "start", "gregor")
    until(lambda: client.stats()["pair_registered"] == "true")
    until(lambda: client.put(b"both again").startswith("200 "))
    stats = client.stats()
    port = port_of(slave)
    assert (stats["pair_slave"], stats["pair_behind"]) == (f"meta://127.0.0.1:{port}", "0")
    assert stats["pair_event_unregistered"] == stats["pair_event_registered"] == "1"
    until(lambda: len((tmp_path / "told").read_text().splitlines()) == 4)
    events = [line.split(" ") for line in (tmp_path / "told").read_text().splitlines()]
    assert [event for event, _ in events] == ["slave-lost", "unregistered", "slave-back", "registered"]
    assert {address for _, address in events} == {f"meta://127.0.0.1:{port}"}
    client.close()
    server(master, "stop")
    server(slave, "stop")
    here, there = (home.path / "data" / "test-0" / f"{0:020d}.meta" for home in pair)
    assert here.read_bytes() == there.read_bytes()
    assert b"both again" in here.read_bytes()


def test_roles_are_exchanged_with_what_is_there(pair: tuple[Home, Home], tmp_path: Path) -> None:
    master, slave = pair
    server(master, "start", "samsa")
    client = Client(master)
    assert client.put(b"before").startswith("200 ")
    client.close()
    server(master, "stop")
    server(slave, "stop")
    server(master, "start", "gregor")
    (slave.path / "conf" / "samsa_master.properties").write_text(
        f"slave=127.0.0.1:{port_of(master)}\nrecoverOffset=true\n"
    )
    server(slave, "start", "samsa")
    client = Client(slave)
    assert client.put(b"after").startswith("200 ")
    client.close()
    server(slave, "stop")
    server(master, "stop")
    here, there = (home.path / "data" / "test-0" / f"{0:020d}.meta" for home in pair)
    assert here.read_bytes() == there.read_bytes()
    assert here.read_bytes().endswith(b"after")
