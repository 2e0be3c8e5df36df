"""Asking a broker that runs: statistics, reload, partitions; and messages to and from it."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from metaq.cli import consume
from metaq.cli.home import Home
from metaq.cli.main import run
from tests.cli.homes import DEADLINE, ask_json, line_of, metaq

pytestmark = pytest.mark.usefixtures("url")

Capture = pytest.CaptureFixture[str]


def test_status_says_first_what_the_original_says(capsys: Capture) -> None:
    assert run(["server", "status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Meta broker is running."
    assert "state: serving" in lines


@pytest.mark.parametrize("option", ["-item", "--item"])
def test_stats_prints_what_the_port_answers(option: str, capsys: Capture) -> None:
    assert run(["server", "stats"]) == 0
    assert capsys.readouterr().out.splitlines()[:3:2] == ["STATS", "broker_id 0"]
    assert run(["server", "stats", option, "help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (lines[0], lines[-1]) == ("STATS", "END")
    assert "topics Returns topics statistics detail info." in lines


def test_stats_config_is_the_file(shared: Home, capsys: Capture) -> None:
    assert ask_json(capsys, "server", "stats", "-item", "config")["text"] == shared.ini.read_text()


def test_reload_takes_topics_and_refuses_mistakes(shared: Home, capsys: Capture) -> None:
    before = shared.ini.read_text()
    shared.ini.write_text(before.replace("brokerId=0", "brokerId=7") + "[topic=extra]\n")
    assert run(["server", "reload"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Reloading broker config...",
        "added: extra",
        "takes effect after a restart: [system] brokerId",
    ]
    shared.ini.write_text(before + "[topic=extra]\nbogus=1\n")
    assert run(["server", "reload"]) == 1
    assert "bogus=1: [topic=extra] has no such key" in capsys.readouterr().err
    shared.ini.write_text(before)
    assert ask_json(capsys, "server", "reload") == {"added": [], "changed": [], "removed": ["extra"], "restart": []}
    assert run(["server", "reload"]) == 0
    assert capsys.readouterr().out.splitlines() == ["Reloading broker config...", "nothing has changed"]


def test_closed_partitions_refuse_messages_until_they_are_opened(tmp_path: Path, capsys: Capture) -> None:
    lines = tmp_path / "lines"
    lines.write_text("one\n")
    send = ["produce", "test", "--file", str(lines), "--partition", "0-1"]
    assert run(["server", "close-partitions", "-topic", "test", "-start", "0", "-end", "1"]) == 0
    assert capsys.readouterr().out == "closed partitions 0 to 1 of test\n"
    assert run(send) == 1
    assert "metaq: line 1: 403: " in capsys.readouterr().err
    assert run(["server", "open-partitions", "-topic", "test"]) == 0
    assert run(send) == 0
    assert run(["server", "close-partitions", "-topic", "none", "-start", "0", "-end", "1"]) == 1
    assert "metaq: topic 'none' is not configured" in capsys.readouterr().err


def test_lines_become_messages_and_messages_lines(
    shared: Home, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    add_topic(shared, "there-and-back")
    capsysbinary.readouterr()
    written = [b"first", b"", b"\xff not text", "汉字".encode(), b"last"]
    (tmp_path / "lines").write_bytes(b"\n".join(written))
    send = ["produce", "there-and-back", "--file", str(tmp_path / "lines"), "--partition", "0", "--attribute", "a b"]
    assert run([*send, "--json"]) == 0
    out, err = capsysbinary.readouterr()
    receipts = [json.loads(line) for line in out.splitlines()]
    assert [receipt["line"] for receipt in receipts] == [1, 2, 3, 4, 5]
    assert {receipt["partition"] for receipt in receipts} == {"0-0"}
    assert err.startswith(b"5 messages sent to there-and-back in ")

    assert run(["consume", "there-and-back", "--count", "5"]) == 0
    assert capsysbinary.readouterr().out == b"\n".join(written) + b"\n"
    at = ["--partition", "0-0", "--from", str(receipts[2]["offset"])]
    assert run(["consume", "there-and-back", *at, "--count", "2", "--json"]) == 0
    messages = [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()]
    assert [message["offset"] for message in messages] == [receipt["offset"] for receipt in receipts[2:4]]
    assert [message["id"] for message in messages] == [receipt["id"] for receipt in receipts[2:4]]
    assert messages[0]["data_base64"] == "/yBub3QgdGV4dA=="
    assert messages[1]["data"] == "汉字"
    assert messages[1]["attribute"] == "a b"
    assert messages[0]["next_offset"] == messages[1]["offset"]


def test_a_group_goes_on_where_it_was_and_a_time_says_where_to_begin(
    shared: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # without ZooKeeper offsets are kept in a file there
    add_topic(shared, "grouped")
    (tmp_path / "lines").write_text("".join(f"{n}\n" for n in range(10)))
    assert run(["produce", "grouped", "--file", str(tmp_path / "lines"), "--partition", "0"]) == 0
    capsys.readouterr()
    consume_some = ["consume", "grouped", "--group", "g", "--count"]
    assert run([*consume_some, "4"]) == 0
    out, err = capsys.readouterr()
    assert out.split() == ["0", "1", "2", "3"]
    assert "4 messages read from grouped as g in" in err
    assert run([*consume_some, "6", "--json"]) == 0
    assert [json.loads(line)["data"] for line in capsys.readouterr().out.splitlines()] == list("456789")
    assert run(["consume", "grouped", "--group", "g", "--idle", "0.05"]) == 0
    assert capsys.readouterr().out == ""
    assert run(["consume", "grouped", "--from", "2020-01-01", "--count", "1"]) == 0
    assert run(["consume", "grouped", "--from", "2100-01-01", "--idle", "0.05"]) == 0
    assert capsys.readouterr().out == "0\n"


def add_topic(home: Home, topic: str) -> None:
    home.ini.write_text(home.ini.read_text() + f"[topic={topic}]\n")
    assert run(["server", "reload"]) == 0


def test_the_line_that_was_refused_is_named(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "lines").write_text(f"short\n\n{'long' * 300}\nmore\n")
    assert run(["produce", "test", "--file", str(tmp_path / "lines"), "--partition", "0"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("metaq: line 3: 500: ")
    assert "message of 1200 bytes is larger than the limit of 1000" in error
    assert error.endswith("2 lines before it were acknowledged\n")


def test_reading_ends_when_nothing_comes(shared: Home, capsys: Capture) -> None:
    add_topic(shared, "silent")
    capsys.readouterr()
    assert run(["consume", "silent", "--idle", "0.05"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("0 messages read from silent in 0.")


def test_an_address_where_nobody_answers_is_one_line(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consume, "CONNECT_TIMEOUT", 0.2)
    assert run(["consume", "test", "--url", "metaq://127.0.0.1:1"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("metaq: no broker answers within ")
    assert error.count("\n") == 1


def test_a_pipe_brings_each_line_at_once_and_ctrl_c_ends_quietly(shared: Home) -> None:
    add_topic(shared, "live")
    reader = subprocess.Popen(metaq("consume", "live"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    writer = subprocess.Popen(metaq("produce", "live"), stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    with reader, writer:
        assert writer.stdin is not None
        for text in ("one", "two"):
            writer.stdin.write(f"{text}\n".encode())
            writer.stdin.flush()
            assert line_of(reader) == f"{text}\n"  # while the writer waits for more
        for process in (reader, writer):
            process.send_signal(signal.SIGINT)
            err = process.communicate(timeout=DEADLINE)[1]
            assert process.returncode == 130
            assert err.strip() == b""


def test_a_reader_that_leaves_is_no_error_to_speak_of(shared: Home, tmp_path: Path) -> None:
    add_topic(shared, "many")
    (tmp_path / "lines").write_bytes(b"%s\n" % (b"x" * 100) * 2000)
    assert run(["produce", "many", "--file", str(tmp_path / "lines")]) == 0
    out, into = os.pipe()
    with subprocess.Popen(metaq("consume", "many"), stdout=into, stderr=subprocess.PIPE) as reader:
        os.close(into)
        os.read(out, 10)
        os.close(out)
        err = reader.communicate(timeout=DEADLINE)[1]
    assert reader.returncode == 1
    assert err == b""
