"""The demo, on a few modules and by the same code: it holds what it shows, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from demo.checking import Comparison, Consumed, Receipts
from demo.demo import TOPIC
from demo.library import Library
from metaq.aio import Message, Receipt
from metaq.record import encode_body
from tests.cli.homes import DEADLINE, line_of

ROOT: Final = Path(__file__).parents[2]


@contextmanager
def start_demo(folder: Path, modules: int) -> "Iterator[subprocess.Popen[bytes]]":
    command = [sys.executable, "-m", "demo.demo", "--modules", str(modules)]
    environment = {**os.environ, "TMPDIR": str(folder)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=ROOT) as demo:
        try:
            yield demo
        finally:
            if demo.poll() is None:
                demo.terminate()  # takes its broker with it


def test_it_ends_well_and_says_what_it_has_checked(tmp_path: Path) -> None:
    with start_demo(tmp_path, 20) as demo:
        out, err = demo.communicate(timeout=2 * DEADLINE)
    text = out.decode()
    assert (demo.returncode, err.decode()) == (0, ""), text
    assert "  source     20 modules, " in text
    assert "  killed     one of the two consumers, with SIGKILL, after " in text
    assert "  recovered  the other has all 8 partitions after " in text
    assert "  killed     broker and registry, with SIGKILL, after " in text
    assert "  recovered  both serve again after " in text
    assert "  group      every line came to a member; " in text
    assert "  checked    every acknowledged line is there, unchanged, where its receipt says\n" in text
    assert "\x1b" not in text
    assert "\r" not in text
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_cleans_up(tmp_path: Path) -> None:
    with start_demo(tmp_path, 500) as demo:
        while not line_of(demo).startswith("  broker"):
            pass
        (folder,) = tmp_path.iterdir()
        brokers = processes_with(f"{folder}/home/conf/server.ini")
        demo.send_signal(signal.SIGINT)
        out, err = demo.communicate(timeout=DEADLINE)
    assert demo.returncode == 130
    assert err == b""
    assert out.endswith(b"stopped by Ctrl-C; the broker and its files are gone\n")
    assert len(brokers) == 1
    assert processes_with(f"{folder}/home/conf/server.ini") == []
    assert processes_with(f"{folder}/member-1") == []
    assert list(tmp_path.iterdir()) == []


def library(*lines: bytes) -> Library:
    return Library("/", list(lines), ["a.py"], {"a.py": 0})


def message(number: int, offset: int, data: bytes) -> Message:
    flag, body = encode_body(data, f"a.py:{number + 1}")
    return Message(TOPIC, "0-3", offset, 1, flag, body)


def compare(*came_back: Message) -> tuple[bool, Comparison]:
    receipts = Receipts()
    for offset in (0, 100):
        receipts.add(Receipt(1, "0-3", offset))
    comparison = Comparison(library(b"x", b"y"), receipts, bytearray(2))
    for each in came_back:
        comparison.take(each)
    return comparison.report(), comparison


def test_it_would_notice_a_line_that_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    good, _ = compare(message(0, 0, b"x"), message(1, 50, b"y"))  # the second is not where its receipt says
    assert not good
    assert "MISSING    1 acknowledged lines" in capsys.readouterr().out


def test_it_would_notice_a_line_that_is_changed(capsys: pytest.CaptureFixture[str]) -> None:
    good, _ = compare(message(0, 0, b"x"), message(1, 100, b"z"))
    assert not good
    assert "CHANGED    a.py:2 at 0-3 100" in capsys.readouterr().out


def test_it_counts_what_was_sent_again() -> None:
    good, comparison = compare(message(0, 0, b"x"), message(1, 50, b"y"), message(1, 100, b"y"))
    assert good
    assert (comparison.read, comparison.repeated) == (3, 1)


def test_it_would_notice_a_line_that_never_came_to_the_group(capsys: pytest.CaptureFixture[str]) -> None:
    consumed = Consumed(library(b"x", b"y"), bytearray(2))
    for attribute in ("a.py:1", "a.py:1"):
        consumed.take(attribute)
    assert (consumed.lines, consumed.messages, consumed.report()) == (1, 2, False)
    assert "MISSING    1 lines never came to the group" in capsys.readouterr().out
    consumed.take("a.py:2")
    assert consumed.report()


def processes_with(argument: str) -> list[str]:
    """Return the ids of the processes that were started with this argument."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and argument.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                found.append(entry.name)
        except OSError:
            continue  # ended meanwhile
    return found
