"""Homes for tests: on loopback, on a free port, without ZooKeeper, their brokers ended by id whatever happens."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from metaq.cli.home import Home
from metaq.cli.main import run
from metaq.cli.process import hold

DEADLINE: Final = 20.0  # seconds for anything a broker does

INI: Final = """\
[system]
brokerId=0
numPartitions=2
serverPort=0
unflushThreshold=0
hostName=127.0.0.1
dataPath={data}
[zookeeper]
zk.zkEnable=false
[pymetaq]
bindAddress=127.0.0.1
maxMessageSize=1000
[topic=test]
"""


@contextmanager
def made_home(path: Path) -> Iterator[Home]:
    """Make a home; end whatever runs from it afterwards."""
    assert run(["server", "init", str(path)]) == 0
    home = Home(path)
    home.ini.write_text(INI.format(data=path / "data"))
    try:
        yield home
    finally:
        kill(home)


def kill(home: Home) -> None:
    """End the broker of a home as a power cut would; nothing if none runs."""
    process = hold(home)
    if process is not None:
        process.send(signal.SIGKILL)
        assert process.ended(DEADLINE)
        process.close()


def metaq(*arguments: str) -> list[str]:
    """Return the command line of a `metaq` in a process of its own."""
    return [sys.executable, "-P", "-m", "metaq", *arguments]


def ask_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    """Carry out a command with `--json` in this process and return what it prints."""
    capsys.readouterr()
    assert run([*arguments, "--json"]) == 0
    value: object = json.loads(capsys.readouterr().out)
    assert isinstance(value, dict)
    return value


def line_of(process: "subprocess.Popen[bytes]") -> str:
    """Return the next line a process prints, waiting for it no longer than the deadline; "": it has ended."""
    assert process.stdout is not None
    parts: list[bytes] = []
    while not (parts and parts[-1].endswith(b"\n")):
        assert select.select([process.stdout], [], [], DEADLINE)[0], "nothing was printed"
        part = os.read(process.stdout.fileno(), 1)
        if not part:
            break
        parts.append(part)
    return b"".join(parts).decode()


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that must be asked for; it fails the test after the deadline."""
    last = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < last, "it did not happen"
        time.sleep(0.02)
