"""Every sample of README.md and the pages named below: commands print what is shown, Python runs."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from metaq.cli.home import Home
from tests.cli.homes import DEADLINE, kill
from tests.docs import Sample, samples

PORT: Final = "8123"  # what the documents say; the tests take free ones
REGISTRY_PORT: Final = "2181"


class Shell:
    """Runs the commands of a document one after the other, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
            self._ports = {PORT: str(one.getsockname()[1]), REGISTRY_PORT: str(other.getsockname()[1])}
        self._folder = folder
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._environment = {"PATH": path, "HOME": str(folder), "PWD": str(folder)}

    def run(self, command: str) -> str:
        """Run one command and return what it prints on both; `export` lasts."""
        command = self.translated(command)
        if command.startswith("metaq server init"):
            if "--zookeeper" not in command:
                command += f" --zookeeper 127.0.0.1:{self._ports[REGISTRY_PORT]}"
            # [pymetaq] is the last section of the file
            command += f" --port {self._ports[PORT]} && echo bindAddress=127.0.0.1 >> broker/conf/server.ini"
        name, equals, value = command.removeprefix("export ").partition("=")
        if command.startswith("export ") and equals:
            self._environment[name] = value.replace("$PWD", str(self._folder))
            return ""
        done = subprocess.run(
            command,
            shell=True,
            check=False,
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE,
        )
        output = done.stdout
        for documented, free in self._ports.items():
            output = output.replace(free, documented)
        return output

    def translated(self, text: str) -> str:
        """Return commands or code with the ports that are free in place of those of the document."""
        for documented, free in self._ports.items():
            text = text.replace(documented, free)
        return text


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    yield Shell(tmp_path)
    kill(Home(tmp_path / "broker"))


def shown(sample: Sample) -> Iterator[tuple[str, str]]:
    """Yield each command of a console sample with the output below it."""
    for part in re.split(r"^\$ ", sample.text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def fits(output: str, expected: str) -> bool:
    """Compare, with `…` for anything, of several lines where it is a line of its own. Lines may come in any order.

    (stdout and stderr are two pipes, and partitions come as they are read.)
    """
    if not expected:
        return True  # the document shows the command only
    patterns = [re.compile(re.escape(line).replace("…", ".*")) for line in expected.splitlines() if line != "…"]
    lines = output.splitlines()
    all_found = all(any(pattern.fullmatch(line) for line in lines) for pattern in patterns)
    return all_found and ("…" in expected.splitlines() or len(lines) == len(patterns))


@pytest.mark.parametrize("document", ["../README.md", "quickstart.md", "tutorial.md", "partitions.md", "topics.md"])
def test_every_sample_does_what_is_shown(document: str, shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    code = [] if document == "topics.md" else samples(document)
    for block in sorted([*samples(document, "console"), *code], key=lambda sample: sample.line):
        if block.text.startswith("$ "):
            for command, expected in shown(block):
                output = shell.run(command)
                assert fits(output, expected), f"{block}: $ {command}\n{output}"
        else:
            block._replace(text=shell.translated(block.text)).run(names)
            assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("output", "expected", "same"),
    [
        ("a\nb\n", "a\nb\n", True),
        ("a\nb\n", "a\n", False),
        ("a\nb\nc\n", "a\n…\n", True),
        ("process 17\n", "process …\n", True),
        ("process 17\n", "processes …\n", False),
        ("", "a\n", False),
    ],
)
def test_samples_are_compared_line_by_line(output: str, expected: str, same: bool) -> None:
    assert fits(output, expected) == same
