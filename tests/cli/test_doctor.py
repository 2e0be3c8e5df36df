"""The ways out of a folder that something else wrote to after a kill, with real brokers before and afterwards."""

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

import metaq
from metaq.cli.control import ask
from metaq.cli.home import Home
from metaq.cli.main import run
from metaq.cli.process import StartFailed, start
from metaq.record import pack
from tests.cli.homes import DEADLINE, kill
from tests.cli.homes import metaq as command

SENT = [b"message %d" % n for n in range(20)]
FOREIGN = [b"of somebody else %d" % n for n in range(40)]


def segment_of(home: Home) -> Path:
    return home.path / "data" / "test-0" / f"{0:020}.meta"


def files_of(home: Home) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (home.path / "data").rglob("*") if path.is_file()}


@pytest.fixture
def spoilt(home: Home) -> Home:
    """A home whose broker was killed after 20 messages, and whose partition file then grew by 40 foreign records."""
    start(home)
    with metaq.connect(str(ask(home.socket, "status")["address"])) as mq:
        producer = mq.producer("test")
        for data in SENT:  # each in a round of its own
            producer.send(data, partition=0)
    kill(home)
    segment_of(home).parent.mkdir(exist_ok=True)
    with segment_of(home).open("ab") as file:
        file.write(b"".join(pack(77, 0, data) for data in FOREIGN))
    return home


def stored(home: Home) -> list[bytes]:
    """Return the messages that a broker started on the folder now has."""
    start(home)
    with metaq.connect(str(ask(home.socket, "status")["address"])) as mq:
        return [message.data for message in mq.browse("test")]


def test_a_broker_refuses_such_a_folder_and_the_doctor_asks_before_it_does_anything(
    spoilt: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StartFailed, match=rf"{segment_of(spoilt)}.*--keep-journal.*--keep-files"):
        start(spoilt)
    before = files_of(spoilt)
    for option in ("--keep-files", "--keep-journal"):
        assert run(["doctor", str(spoilt.path), option]) == 2
        said = capsys.readouterr()
        assert f"  {segment_of(spoilt)}\n" in said.out, "the plan names what has grown"
        assert "metaq: nothing was changed; say --yes to do it" in said.err
    assert files_of(spoilt) == before
    monkeypatch.setenv("METAQ_HOME", str(spoilt.path))
    assert run(["doctor"]) == 0
    assert "not stopped cleanly" in capsys.readouterr().out


def test_keeping_the_journal_brings_back_all_that_was_acknowledged(
    spoilt: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["doctor", str(spoilt.ini), "--keep-journal", "--yes"]) == 0
    said = capsys.readouterr().out
    kept = Path(next(line for line in said.splitlines() if line.startswith("kept: ")).removeprefix("kept: "))
    assert kept.read_bytes() and b"".join(pack(77, 0, data) for data in FOREIGN).endswith(kept.read_bytes())
    assert said.endswith("stopped cleanly; any broker may open it, also one of 1.4.6.2\n")
    assert stored(spoilt) == SENT


def test_keeping_the_files_leaves_what_stands_in_them(spoilt: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", str(spoilt.path), "--keep-files", "--yes", "--json"]) == 0
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert report["state"] == "clean"
    assert not report["java_locked_out"]
    assert all(Path(path).is_file() for path in report["done"])
    assert report["done"], "the journal is kept"
    assert "readers will miss" in said.err, "the plan is for people"
    assert "forget which batches producers have sent" in said.err
    found = stored(spoilt)
    assert found[-40:] == FOREIGN
    assert found[:-40] == SENT[: len(found) - 40]


def test_on_a_terminal_it_is_a_question(spoilt: Home, capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = pty.openpty()
    try:
        for answer, status, state in ((b"n\n", 1, "unclean"), (b"y\n", 0, "clean")):
            arguments = command("doctor", str(spoilt.path), "--keep-journal")
            with subprocess.Popen(arguments, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
                os.write(ours, answer)
                _, said = process.communicate(timeout=DEADLINE)
            assert process.returncode == status
            assert b"Do it? [y/N]" in said
            assert run(["doctor", str(spoilt.path), "--json"]) == 0
            assert json.loads(capsys.readouterr().out)["state"] == state
    finally:
        os.close(ours)
        os.close(theirs)


def test_while_a_broker_runs_it_only_looks(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    start(home)
    for option in ("--keep-files", "--keep-journal"):
        assert run(["doctor", str(home.path), option, "--yes"]) == 1
        assert f"{home.path}/data is in use by another broker; stop it first" in capsys.readouterr().err
    assert run(["doctor", str(home.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "in use"


def test_a_journal_that_cannot_be_read_can_still_be_given_up(spoilt: Home, capsys: pytest.CaptureFixture[str]) -> None:
    journal = min((spoilt.path / "data" / "pymetaq" / "journal").iterdir())
    content = bytearray(journal.read_bytes())
    content[4096 + 60] ^= 0xFF  # in the first of several rounds, which were on disk
    journal.write_bytes(content)
    assert run(["doctor", str(spoilt.path), "--keep-journal", "--yes"]) == 1
    assert str(journal) in capsys.readouterr().err
    assert run(["doctor", str(spoilt.path), "--keep-files", "--yes"]) == 0
    assert "the journal cannot be read, so it is not known which files have grown" in capsys.readouterr().err
    assert stored(spoilt)[-40:] == FOREIGN
