"""The life of a home: a real broker is started, asked, stopped, killed and started again."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from metaq.cli import process
from metaq.cli.control import ask
from metaq.cli.home import Home, running
from metaq.cli.main import run
from metaq.store.layout import JAVA_LOCK
from tests.cli.homes import DEADLINE, ask_json, kill, line_of, made_home, metaq

Capture = pytest.CaptureFixture[str]


def of(home: Home, *words: str) -> list[str]:
    return ["server", *words, "--home", str(home.path)]


def test_start_returns_when_it_serves_and_stop_when_it_has_ended(home: Home, capsys: Capture) -> None:
    assert run(of(home, "start")) == 0
    status = ask_json(capsys, *of(home, "status"))
    assert status["state"] == "serving"
    assert isinstance(status["port"], int)
    socket.create_connection(("127.0.0.1", status["port"])).close()
    assert (home.path / "data" / "transactions" / JAVA_LOCK).exists()
    assert run(of(home, "stop")) == 0
    assert capsys.readouterr().out.splitlines() == ["Stopping meta broker 1 times", "Stop meta broker successfully."]
    assert running(home) is None
    assert sorted(path.name for path in home.logs.iterdir()) == ["metaServer.log"]
    assert not (home.path / "data" / "transactions" / JAVA_LOCK).exists()
    assert run(of(home, "status")) == 0
    assert capsys.readouterr().out == "Meta broker was stopped.\n"


def test_a_second_start_is_refused_and_the_first_goes_on(home: Home, capsys: Capture) -> None:
    process.start(home)
    pid = running(home)
    capsys.readouterr()
    assert run(of(home, "start")) == 1
    assert capsys.readouterr().out == "Broker is running.\n"
    command = metaq("server", "run", "-f", str(home.ini))
    again = subprocess.run(command, check=False, capture_output=True, timeout=DEADLINE)
    assert again.returncode == 1
    assert f"a broker runs from {home.path} already, process {pid}".encode() in again.stderr
    assert running(home) == pid


@pytest.mark.parametrize("word", ["stop", "reload", "stats"])
def test_what_needs_a_broker_says_that_none_runs(home: Home, word: str, capsys: Capture) -> None:
    home.pid_file.write_text(f"{os.getpid()}\n")  # left over, and the number is that of this test now
    capsys.readouterr()
    assert run(of(home, word)) == 1
    assert capsys.readouterr() == ("Broker is not running.\n", "")


def test_a_bad_server_ini_is_told_by_start(home: Home, capsys: Capture) -> None:
    home.ini.write_text(home.ini.read_text().replace("brokerId=0", "brokerId=0\nbrokreId=1"))
    assert run(of(home, "start")) == 1
    error = capsys.readouterr().err
    assert f"metaq: the broker did not start: {home.ini}:3: brokreId=1" in error
    assert error.count("\n") == 1
    assert running(home) is None


def test_a_port_that_is_taken_is_told_by_start(home: Home, capsys: Capture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        home.ini.write_text(home.ini.read_text().replace("serverPort=0", f"serverPort={port}"))
        assert run(of(home, "start")) == 1
    error = capsys.readouterr().err
    assert "metaq: the broker did not start: " in error
    assert str(port) in error


def test_the_last_lines_of_the_log_stand_in_where_nothing_was_told(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "command_line", lambda _: ["sh", "-c", "echo first >&2; echo last >&2; exit 3"])
    with pytest.raises(process.StartFailed, match=r"ended with status 3; the last lines of .*: first \| last"):
        process.start(home)


def test_after_a_kill_status_is_right_and_start_works(home: Home, capsys: Capture) -> None:
    process.start(home)
    kill(home)
    assert home.pid_file.exists()
    assert home.socket.exists()
    assert ask_json(capsys, *of(home, "status")) == {"running": False}
    assert run(of(home, "start")) == 0
    assert ask_json(capsys, *of(home, "status"))["state"] == "serving"


def test_restart_starts_what_does_not_run_and_replaces_what_does(home: Home, capsys: Capture) -> None:
    assert run(of(home, "restart")) == 0
    first = running(home)
    assert "Broker is not running." in capsys.readouterr().out
    assert run(of(home, "restart")) == 0
    assert first is not None
    assert running(home) not in (None, first)
    with pytest.raises(ProcessLookupError):
        process.Running(home, first)


def test_a_broker_that_hangs_is_killed(home: Home, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_AT_ONCE", 0.1)
    pid = process.start(home).pid
    os.kill(pid, signal.SIGSTOP)
    assert run([*of(home, "stop"), "--timeout", "0.1"]) == 1
    out, err = capsys.readouterr()
    assert "Stopping meta broker 2 times (SIGTERM)\nStopping meta broker 3 times (SIGKILL)\n" in out
    assert "the broker was ended by SIGKILL, not in order" in err
    assert running(home) is None


def test_without_its_socket_a_broker_is_stopped_by_signal(home: Home, capsys: Capture) -> None:
    process.start(home)
    home.socket.unlink()
    assert ask_json(capsys, *of(home, "status"))["state"] == "unknown"
    assert run(of(home, "stop")) == 0
    assert "sending SIGTERM" in capsys.readouterr().out
    assert running(home) is None


def test_a_long_path_is_no_hindrance(tmp_path: Path, capsys: Capture) -> None:
    with made_home(tmp_path / ("long" * 30) / "home") as home:
        process.start(home)
        assert ask_json(capsys, *of(home, "status"))["state"] == "serving"
        assert run(of(home, "stop")) == 0


def test_in_the_foreground_it_says_ready_reloads_on_hup_and_stops_on_term(home: Home) -> None:
    command = metaq("server", "run", "-f", str(home.ini), "--log-format", "json")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as broker:
        ready = line_of(broker)
        address = ask(home.socket, "status")["address"]
        assert ready == f"ready {address} port={str(address).rpartition(':')[2]} pid={broker.pid}\n"
        home.ini.write_text(home.ini.read_text() + "[topic=more]\n")
        broker.send_signal(signal.SIGHUP)
        assert broker.stderr is not None
        for line in broker.stderr:  # until the log says so; the test's time-out is the deadline
            if b"reloaded: added ['more']" in line:
                break
        broker.send_signal(signal.SIGTERM)
        log = broker.communicate(timeout=DEADLINE)[1]
    assert broker.returncode == 0
    assert b"stopped in order" in log


def test_ctrl_c_in_the_foreground_stops_in_order_without_a_traceback(home: Home) -> None:
    command = metaq("server", "run", "-f", str(home.ini))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as broker:
        assert line_of(broker).startswith("ready meta://127.0.0.1:")
        broker.send_signal(signal.SIGINT)
        out, log = broker.communicate(timeout=DEADLINE)
    assert broker.returncode == 0
    assert out == b""
    assert log.splitlines()[-1].endswith(b"INFO metaq.cli.run stopped in order")
    assert b"Traceback" not in log


def test_ctrl_c_while_it_starts_leaves_it_starting_and_says_so(home: Home) -> None:
    nobody = "zk.zkEnable=true\nzk.zkConnect=127.0.0.1:1\nzk.zkConnectionTimeoutMs=60000"
    home.ini.write_text(home.ini.read_text().replace("zk.zkEnable=false", nobody))
    command = metaq(*of(home, "start"))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as start:
        assert line_of(start) == "Starting meta broker...\n"
        while running(home) is None:  # until the deadline of the test
            os.sched_yield()
        start.send_signal(signal.SIGINT)
        err = start.communicate(timeout=DEADLINE)[1].decode()
    assert start.returncode == 130
    assert err.strip() == f"metaq: the broker goes on starting without us; see {home.log}, or stop it"
    assert running(home) is not None


@pytest.mark.parametrize(("level", "lines"), [("warning", 1), ("error", 0)])
def test_its_log_has_the_level_of_the_file_and_names_filters_that_are_not_run(
    home: Home, level: str, lines: int
) -> None:
    more = f"group.readers=com.example.Filter\n[pymetaq]\nlogLevel={level}\n"
    home.ini.write_text(home.ini.read_text() + more)
    command = metaq("server", "run", "-f", str(home.ini))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as broker:
        assert line_of(broker).startswith("ready ")
        broker.send_signal(signal.SIGTERM)
        said = broker.communicate(timeout=DEADLINE)[1].decode().splitlines()
    after_the_file = [line for line in said if not line.endswith(f"starts with {home.ini}")]
    warning = "WARNING metaq.app [topic=test] group.readers=com.example.Filter: no filter is run,"
    assert [warning in line and line.endswith("group readers gets all messages") for line in after_the_file] == (
        [True] * lines
    )
