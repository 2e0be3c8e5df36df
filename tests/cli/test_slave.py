"""Slaves as people start and look after them: the script of a home, its files as those of the deployment."""

import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from metaq.cli.control import ask
from metaq.cli.home import Home
from metaq.cli.main import run
from metaq.errors import ConfigError
from metaq.replication.slave import from_file
from metaq.testing import Coordinator
from tests.cli.homes import made_home, until
from tests.cli.test_script import script

SEED: Final = Path(__file__).parents[1] / "data" / "seed"
SITES: Final = {"beijing": "127.0.51.33", "hefei": "127.0.52.23", "guangzhou": "127.0.70.157"}


@pytest.fixture
def sites(tmp_path: Path, own_registry: Coordinator, chroots: Iterator[int]) -> Iterator[dict[str, Home]]:
    """Three homes with the deployment's files, but for what lets them run on one machine."""
    hosts = own_registry.chroot(f"sites-{next(chroots)}")
    with ExitStack() as stack:
        homes = {name: stack.enter_context(made_home(tmp_path / name)) for name in SITES}
        for name, home in homes.items():
            text = (SEED / "server.ini").read_text("utf-8")
            text = text.replace("192.168.51.33:2181", hosts).replace("serverPort=8123", "serverPort=0")
            text = text.replace("[system]\n", f"[system]\nhostName={SITES[name]}\ndataPath={home.path}/data\n")
            home.ini.write_text(text + f"\n[pymetaq]\nbindAddress={SITES[name]}\n", "utf-8")
            properties = SEED / f"async_slave.{name}.properties"
            if properties.exists():
                (home.path / "conf" / "async_slave.properties").write_bytes(properties.read_bytes())
        yield homes


def metaq_server(home: Home, *words: str) -> str:
    """Run the script of a home; return what it prints."""
    done = script(home.path / "bin" / "metaServer.sh", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def stdout(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return what a `metaq` command prints, in this process: another one costs more than all it does."""
    capsys.readouterr()
    assert run(words) == 0
    return capsys.readouterr().out


def stats(home: Home, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return what `metaq server stats` prints."""
    return stdout(capsys, "server", "stats", *words, "--home", str(home.path))


def has_all(home: Home) -> bool:
    """Say whether a slave has the three messages."""
    status = ask(home.socket, "slave-status")
    partitions = status["partitions"]
    assert isinstance(partitions, list)
    return status["state"] == "current" and sum(each["end"] for each in partitions) == 3 * 32


def brokers(home: Home, capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    """Return the words of each broker's line in `metaq brokers`."""
    hosts = next(line for line in home.ini.read_text("utf-8").splitlines() if line.startswith("zk.zkConnect="))
    host, _, path = hosts.removeprefix("zk.zkConnect=").partition("/")
    return [line.split() for line in stdout(capsys, "brokers", "--url", f"zk://{host}/{path}/meta").splitlines()[1:]]


def put(home: Home, topic: str, body: bytes) -> None:
    """Store a message in partition 0, by the wire."""
    host, _, port = str(ask(home.socket, "status")["address"]).removeprefix("meta://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as peer:
        peer.sendall(b"put %b 0 %d 0 1\r\n%b" % (topic.encode(), len(body), body))
        assert peer.recv(100).startswith(b"result 200 ")


@pytest.mark.timeout(240)  # eleven processes in a row
def test_the_deployment_starts_slaves_first_and_says_how_far_they_are(
    sites: dict[str, Home], capsys: pytest.CaptureFixture[str]
) -> None:
    slaves = [sites[name] for name in ("hefei", "guangzhou")]
    with ThreadPoolExecutor() as pool:
        texts = list(pool.map(lambda home: metaq_server(home, "start", "slave"), slaves))
    for said in texts:
        assert said.startswith("Starting meta broker as an asynchronous slave...\nMeta broker serves at meta://127.0.")
    waiting = metaq_server(sites["hefei"], "slave-status")
    assert "State:waiting\nLag:unknown\nError:no master of broker 1 is registered below /meta" in waiting
    assert [row[8] for row in brokers(sites["hefei"], capsys)] == ["unknown", "unknown"]
    metaq_server(sites["beijing"], "start")
    for topic in ("test", "meta-test", "oct29"):
        put(sites["beijing"], topic, b"from Beijing")

    for name, number in (("hefei", 1), ("guangzhou", 2)):
        until(partial(has_all, sites[name]))
        status = ask(sites[name].socket, "slave-status")
        assert (status["slave_id"], status["state"], status["error"]) == (number, "current", None)
        assert status["lag"] == {"bytes": 0, "messages": 0, "seconds": 0.0}
        text = stdout(capsys, "server", "slave-status", "--home", str(sites[name].path))
        assert text.startswith(
            "Getting asynchronous slave status...\nSubscriber handler:running\nReplicate partitions:48\n"
            "Replicate topic partitions detail:\n    meta-test:16\n    oct29:16\n    test:16\n"
            "Replicate requests:48\nReplicate runner:running\nReplicate status:yes\nMaster:meta://127.0.51.33:"
        )
        assert text.splitlines()[-1].startswith("test-15  ")  # there the last line was of another command
        assert "slave_lag_bytes 0\n" in stats(sites[name], capsys)
        assert "test part 0 state current end 32 " in stats(sites[name], capsys, "-item", "slave")
    rows = brokers(sites["beijing"], capsys)
    assert [row[:2] for row in rows] == [["1", "master"], ["1", "slave"], ["1", "slave"]]
    assert [row[-4:] for row in rows[1:]] == [["0", "bytes,", "0.000", "s"]] * 2
    done = script(sites["beijing"].path / "bin" / "metaServer.sh", "slave-status")
    assert done.returncode == 1
    assert "this broker is no asynchronous slave" in done.stderr
    assert "Stop meta broker successfully." in metaq_server(sites["hefei"], "stop")


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ("slaveGroup=g\n", "async_slave.properties: slaveId must be set: a number from 0 on"),
        ("slaveId=-1\n", "async_slave.properties: slaveId=-1: must be between 0 and"),
        ("slaveId=1\nslaveGroup=a/b\n", "async_slave.properties: slaveGroup=a/b: "),
    ],
)
def test_what_no_slave_can_be_made_of_is_refused(tmp_path: Path, properties: str, reason: str) -> None:
    path = tmp_path / "async_slave.properties"
    path.write_text(properties)
    with pytest.raises(ConfigError, match=re.escape(reason)):
        from_file(str(path))


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        (None, "async_slave.properties: cannot be read: No such file or directory; a slave needs it, with slaveId="),
        ("slaveId=1\n", "server.ini: zk.zkEnable=false: a slave finds its master in ZooKeeper"),
    ],
)
def test_what_keeps_a_slave_from_starting_is_told(
    home: Home, properties: str | None, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = home.path / "conf" / "async_slave.properties"
    path.unlink()
    if properties is not None:
        path.write_text(properties)
    assert run(["server", "start", "slave", "--home", str(home.path)]) == 1
    error = capsys.readouterr().err
    assert reason in error
    assert error.startswith("metaq: the broker did not start: ")
