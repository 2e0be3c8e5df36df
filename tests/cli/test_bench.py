"""`metaq bench`: what it counts is what is there, and it always says how it ended."""

import json
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

import metaq as client
from metaq.cli import measuring
from metaq.cli.home import Home
from metaq.cli.main import run
from tests.cli.homes import DEADLINE, metaq

Capture = pytest.CaptureFixture[str]

pytestmark = pytest.mark.usefixtures("url")


def bench(capsys: Capture, *words: str) -> dict[str, float]:
    """Carry out `metaq bench … --json` and return what it prints."""
    capsys.readouterr()
    assert run(["bench", *words, "--json"]) == 0
    found: dict[str, float] = json.loads(capsys.readouterr().out)
    return found


def add_topic(home: Home, topic: str) -> str:
    home.ini.write_text(home.ini.read_text() + f"[topic={topic}]\n")
    assert run(["server", "reload"]) == 0
    return topic


def stored(url: str, topic: str) -> list[bytes]:
    with client.connect(url) as mq:
        return [message.data for message in mq.browse(topic)]


def test_what_was_produced_is_stored_and_consumed(shared: Home, url: str, capsys: Capture) -> None:
    topic = add_topic(shared, "counted")
    found = bench(capsys, "produce", topic, "--count", "2500", "--size", "10")
    assert (found["messages"], found["bytes"]) == (2500, 25_000)
    assert found["per_second"] == pytest.approx(2500 / found["seconds"], rel=0.2)
    assert stored(url, topic) == [bytes(10)] * 2501  # one shows, before the clock runs, that the topic takes them
    read = bench(capsys, "consume", topic, "--count", "2501")
    assert (read["messages"], read["bytes"]) == (2501, 25_010)
    assert bench(capsys, "consume", topic, "--idle", "0.2")["messages"] == 2501
    assert bench(capsys, "consume", topic, "--count", "7", "--partition", "0-0")["messages"] == 7


def test_one_by_one_each_is_timed(shared: Home, capsys: Capture) -> None:
    topic = add_topic(shared, "timed")
    found = bench(capsys, "produce", topic, "--count", "50", "--in-flight", "5", "--partition", "0-1")
    assert found["messages"] == 50
    assert 0 < found["p50_ms"] <= found["p90_ms"] <= found["p99_ms"] <= found["max_ms"]


def test_a_group_goes_on_where_it_was(
    shared: Home, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # without ZooKeeper offsets are kept in a file there
    topic = add_topic(shared, "together")
    bench(capsys, "produce", topic, "--count", "99", "--in-flight", "10")
    assert bench(capsys, "consume", topic, "--group", "g", "--idle", "0.3")["messages"] == 100
    assert run(["bench", "consume", topic, "--group", "g", "--idle", "0.3"]) == 1
    assert capsys.readouterr().err.startswith(f"metaq: {topic}: no message came within 0.3 s")


def test_latency_is_measured_through_the_topic(shared: Home, url: str, capsys: Capture) -> None:
    topic = add_topic(shared, "through")
    found = bench(capsys, "latency", topic, "--count", "40", "--rate", "400", "--size", "64")
    assert found["messages"] == 40
    assert 0 < found["p50_ms"] <= found["max_ms"]
    assert found["seconds"] > 0.09  # evenly, not at once
    assert {len(data) for data in stored(url, topic)} == {64}


def test_people_read_rates_and_percentiles(shared: Home, capsys: Capture) -> None:
    topic = add_topic(shared, "shown")
    capsys.readouterr()
    assert run(["bench", "produce", topic, "--count", "20", "--in-flight", "2"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"20 messages of 100 bytes to shown in [\d.]+ s: [\d,]+ messages/s, [\d.]+ MB/s", first)
    assert re.fullmatch(r"p50 [\d.]+ ms, p90 [\d.]+ ms, p99 [\d.]+ ms, max [\d.]+ ms", second)


@pytest.mark.parametrize("words", [["produce"], ["latency"]])
def test_a_topic_that_is_not_there_is_refused_with_what_to_do(words: list[str], capsys: Capture) -> None:
    assert run(["bench", *words, "nowhere"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("metaq: nowhere: ")
    assert "[topic=nowhere] in server.ini and `metaq server reload`" in err


def test_reading_what_is_not_there_fails(capsys: Capture) -> None:
    assert run(["bench", "consume", "nowhere", "--idle", "0.1"]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "nowhere: no message came within 0.1 s" in err


def test_an_error_that_is_not_the_topics_is_shown_as_it_is(capsys: Capture) -> None:
    assert run(["bench", "produce", "test", "--size", "1200"]) == 1
    err = capsys.readouterr().err
    assert "bytes is larger than the limit of 1000" in err
    assert "reload" not in err


@pytest.mark.parametrize(
    "words",
    [
        ["latency", "test", "--size", "15"],
        ["consume", "test", "--group", "g", "--partition", "0-0"],
        ["produce", "test", "--count", "0"],
        ["produce"],
        ["produce", "test", "--seconds", "soon"],
    ],
)
def test_wrong_use_is_status_2(words: list[str], capsys: Capture) -> None:
    assert run(["bench", *words]) == 2
    assert capsys.readouterr().err.startswith("metaq: ")


def test_without_a_cluster_it_is_wrong_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("METAQ_URL")
    assert run(["bench", "produce", "test"]) == 2


def test_ctrl_c_shows_what_was_measured(shared: Home, url: str) -> None:
    topic = add_topic(shared, "endless")
    words = ["bench", "produce", topic, "--seconds", "1000", "--in-flight", "2", "--json"]
    with subprocess.Popen(metaq(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + DEADLINE
        while len(stored(url, topic)) < 10:
            assert time.monotonic() < deadline
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130
    assert err.strip() == b""
    assert 7 <= json.loads(out)["messages"] <= len(stored(url, topic))


def test_messages_that_do_not_come_are_a_failure(
    shared: Home, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = add_topic(shared, "lost")
    monkeypatch.setattr(measuring, "_LATE", 0.05)
    monkeypatch.setattr(measuring.Trip, "body", lambda trip: bytes(trip.size))  # as if of somebody else
    assert run(["bench", "latency", topic, "--count", "3"]) == 1
    assert capsys.readouterr().err == "metaq: lost: 0 of 3 messages came\n"
