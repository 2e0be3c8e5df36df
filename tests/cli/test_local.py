"""A broker with a registry of its own: everything on one machine, nothing else to install."""

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from metaq.cli.home import Home
from metaq.cli.main import run
from tests.cli.homes import DEADLINE, INI, kill, line_of, made_home, metaq
from tests.interop.jvm import free_port

Capture = pytest.CaptureFixture[str]

HERE = "127.0.0.1"


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A home whose broker looks for ZooKeeper at a free port; METAQ_URL names it."""
    port = free_port()
    with made_home(tmp_path / "home") as home:
        text = INI.format(data=home.path / "data").replace("zk.zkEnable=false", f"zk.zkConnect={HERE}:{port}")
        text = text.replace("serverPort=0", f"serverPort={free_port()}")
        home.ini.write_text(text.replace("[pymetaq]", "zk.zkSyncTimeMs=50\n[pymetaq]"))
        monkeypatch.setenv("METAQ_URL", f"zk://{HERE}:{port}")
        monkeypatch.setenv("METAQ_HOME", str(home.path))
        yield home


def produce(tmp_path: Path, lines: str) -> None:
    (tmp_path / "lines").write_text(lines)
    assert run(["produce", "test", "--file", str(tmp_path / "lines"), "--partition", "0-0"]) == 0


def consumed(capsys: Capture, count: int) -> list[str]:
    capsys.readouterr()
    assert run(["consume", "test", "--group", "g", "--count", str(count), "--json"]) == 0
    return [json.loads(line)["data"] for line in capsys.readouterr().out.splitlines()]


def test_one_command_starts_everything_and_offsets_outlive_a_restart(
    local: Home, tmp_path: Path, capsys: Capture
) -> None:
    assert run(["server", "start", "local"]) == 0
    assert capsys.readouterr().out.splitlines()[-2] == "Starting meta broker in local mode..."
    produce(tmp_path, "1\n2\n3\n4\n")
    assert consumed(capsys, 2) == ["1", "2"]
    assert run(["server", "restart", "local"]) == 0
    assert consumed(capsys, 1) == ["3"]
    assert any((local.path / "registry").iterdir())
    assert run(["server", "stop"]) == 0


def test_after_a_kill_everything_is_there_again(local: Home, tmp_path: Path, capsys: Capture) -> None:
    assert run(["server", "start", "local"]) == 0
    produce(tmp_path, "1\n2\n3\n")
    assert consumed(capsys, 2) == ["1", "2"]
    kill(local)
    assert run(["server", "start", "local"]) == 0
    assert consumed(capsys, 1) == ["3"]


@pytest.mark.parametrize(
    ("connect", "reason"),
    [
        ("127.0.0.1:1,127.0.0.2:1", "a local registry is one server on this machine, named as host:port"),
        ("192.0.2.77:21810", "the registry cannot serve at 192.0.2.77:21810, as zk.zkConnect says: that is no address"),
        ("127.0.0.1:TAKEN", "as zk.zkConnect says: something else does already; a ZooKeeper?"),
    ],
)
def test_an_address_it_cannot_serve_at_is_named(connect: str, reason: str, local: Home, capsys: Capture) -> None:
    with socket.create_server((HERE, 0)) as taken:
        connect = connect.replace("TAKEN", str(taken.getsockname()[1]))
        lines = [
            f"zk.zkConnect={connect}" if "zkConnect" in line else line for line in local.ini.read_text().split("\n")
        ]
        local.ini.write_text("\n".join(lines))
        assert run(["server", "start", "local"]) == 1
    assert reason in capsys.readouterr().err


def test_the_properties_of_the_original_say_where_its_data_lies(local: Home, tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "elsewhere"
    assert (
        run(["server", "start", "local", "-D", f"zk.server.snapDirectory={folder}", "-D", "zk.server.tickTime=500"])
        == 0
    )
    assert any(folder.iterdir())
    assert not (local.path / "registry").exists()
    assert run(["server", "stop"]) == 0
    both = ["-D", f"zk.server.logDirectory={tmp_path}/log", "-D", f"zk.server.snapDirectory={folder}"]
    assert run(["server", "start", "local", *both]) == 1
    assert "are one folder here" in capsys.readouterr().err


def test_the_registry_alone_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    command = metaq("registry", "run", "--port", "0", "--data", str(tmp_path / "data"))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            port = int(line_of(process).removeprefix("ready 127.0.0.1:"))
            with socket.create_connection((HERE, port)) as asked:
                asked.sendall(b"ruok")
                assert asked.recv(10) == b"imok"
            again = subprocess.run(command, check=False, capture_output=True, timeout=DEADLINE)
            assert again.returncode == 1
            assert str(tmp_path / "data").encode() in again.stderr
            taken = metaq("registry", "run", "--port", str(port), "--data", str(tmp_path / "other"))
            other = subprocess.run(taken, check=False, capture_output=True, timeout=DEADLINE)
            assert other.returncode == 1
            assert b"something else does already" in other.stderr
        finally:
            process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    assert err.endswith(b"stopped in order\n")
