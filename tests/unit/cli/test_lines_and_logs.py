"""Lines in, log lines out."""

import asyncio
import io
import json
import logging
import os
import signal
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaq.cli import lines
from metaq.cli.lines import read_lines
from metaq.cli.logs import JsonLine, TextLine
from metaq.cli.meter import Meter
from metaq.cli.run import Operator, end
from metaq.cli.tables import table
from metaq.config.model import BrokerConfig
from metaq.errors import MetaqError


def read_all(data: bytes) -> list[bytes]:
    """Return the lines that come out of a pipe that `data` was written to."""
    out, into = os.pipe()

    def write() -> None:
        with open(into, "wb") as pipe:
            pipe.write(data)

    async def collect() -> list[bytes]:
        return [line async for some in read_lines(out) for line in some]

    writing = threading.Thread(target=write)
    writing.start()
    try:
        return asyncio.run(collect())
    finally:
        writing.join()
        os.close(out)


@settings(max_examples=30)
@given(st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")), max_size=20), st.booleans())
def test_lines_come_as_they_were_written(written: list[bytes], ended: bool) -> None:
    ended = ended or not (written and written[-1])  # an empty last line exists only by its line feed
    data = b"".join(line + b"\n" for line in written)
    assert read_all(data if ended else data[:-1]) == written


def test_lines_longer_than_a_block_come_whole() -> None:
    written = [b"a" * 700_000, b"b", b"c" * 300_000]
    assert read_all(b"\n".join(written)) == written


def test_a_line_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LONGEST", 10)
    with pytest.raises(MetaqError, match="a line of more than 10 bytes"):
        read_all(b"a" * 50)


def test_a_line_is_there_before_the_next_one_is_written() -> None:
    out, into = os.pipe()

    async def converse() -> list[list[bytes]]:
        got = []
        os.write(into, b"first\n")
        async for some in read_lines(out):
            got.append(some)
            if len(got) == 2:
                os.close(into)
            else:
                os.write(into, b"second\n")
        return got

    assert asyncio.run(converse()) == [[b"first"], [b"second"]]
    os.close(out)


def test_a_reader_takes_nothing_from_who_gets_its_descriptor_next(monkeypatch: pytest.MonkeyPatch) -> None:
    out, into = os.pipe()
    real, gate = os.read, threading.Event()
    readers: list[threading.Thread] = []

    def read(descriptor: int, size: int) -> bytes:
        if readers:  # the second time, when the descriptor may be another's
            gate.wait(20)
        readers.append(threading.current_thread())
        return real(descriptor, size)

    async def first() -> list[bytes]:
        return await anext(read_lines(out))

    monkeypatch.setattr(os, "read", read)
    os.write(into, b"first\n")
    assert asyncio.run(first()) == [b"first"]
    os.close(out)
    other, into_other = os.pipe()
    assert other == out
    os.write(into_other, b"mine")
    os.close(into)
    gate.set()
    readers[0].join(20)
    assert real(other, 10) == b"mine"
    os.close(other)
    os.close(into_other)


def event(text: str, error: Exception | None = None) -> logging.LogRecord:
    info = None if error is None else (type(error), error, None)
    return logging.LogRecord("metaq.store", logging.WARNING, "f.py", 1, text, (), info)


def test_an_event_is_one_line_with_time_level_and_logger() -> None:
    line = TextLine().format(event("two\nlines", ValueError("bad")))
    time, level, logger, *rest = line.split(" ")
    assert (level, logger) == ("WARNING", "metaq.store")
    assert len(time) == len("2026-11-24T15:00:00.000+00:00")
    assert " ".join(rest) == "two | lines | ValueError: bad"


def test_an_event_as_json_has_the_same_in_it() -> None:
    line = JsonLine().format(event("two\nlines"))
    assert "\n" not in line
    assert json.loads(line) == json.loads(line) | {
        "level": "WARNING",
        "logger": "metaq.store",
        "message": "two\nlines",
    }


async def test_the_second_signal_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    statuses: list[int] = []
    monkeypatch.setattr(os, "_exit", statuses.append)
    operator = Operator(BrokerConfig(broker_id=0))
    end(operator, signal.SIGTERM)
    assert operator.wanted.is_set()
    assert statuses == []
    assert operator.status()["state"] == "stopping"
    end(operator, signal.SIGINT)
    assert statuses == [130]


def test_a_table_in_a_pipe_is_plain_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    table(["name", "bytes"], [["x" * 200, 1], ["y", 20]])
    assert capsys.readouterr().out.splitlines() == [
        "name" + " " * 198 + "bytes",
        "x" * 200 + "  1",
        "y" + " " * 201 + "20",
    ]


def test_progress_is_not_shown_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with Meter("to t", 100) as meter:
        for _ in range(1000):
            meter.count(1)
    assert meter.messages == 1000
    assert capsys.readouterr() == ("", "")


def test_progress_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("metaq.cli.meter._REFRESH", 0.0)
    with Meter("to t", 1000) as meter:
        for _ in range(640):
            meter.count(1)
    assert "to t" in terminal.getvalue()
    assert "640 messages" in terminal.getvalue()
    assert "64%" in terminal.getvalue()
