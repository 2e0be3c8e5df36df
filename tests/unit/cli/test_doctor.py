"""`metaq doctor`: what it says of folders, without a broker."""

import json
import os
from pathlib import Path

import pytest

from metaq.cli.doctor import Topic, examine, place_at
from metaq.cli.main import run
from metaq.files import OsFiles
from metaq.store import checkpoint as checkpoints
from metaq.store.checkpoint import Checkpoint
from metaq.store.journal import Mark


def put_checkpoint(folder: Path, clean: bool) -> None:
    place = folder / "pymetaq" / "checkpoint"
    place.mkdir(parents=True)
    checkpoints.save(OsFiles(), str(place), Checkpoint(mark=Mark(1, 0, 0, 0, 0), clean=clean))


def state(folder: Path) -> str:
    return examine(OsFiles(), place_at(str(folder))).state


def test_a_folder_of_the_original_is_new_to_us(tmp_path: Path) -> None:
    (tmp_path / "orders-0").mkdir()
    (tmp_path / "orders-0" / f"{0:020}.meta").write_bytes(b"x" * 30)
    (tmp_path / "orders-1").mkdir()
    (tmp_path / "orders-1" / f"{0:020}.meta").write_bytes(b"x" * 7)
    (tmp_path / "orders-1" / "notes.txt").write_bytes(b"x")
    (tmp_path / "transactions").mkdir()
    findings = examine(OsFiles(), place_at(str(tmp_path)))
    assert findings.state == "new"
    assert findings.topics == (Topic("orders", 2, 2, 37),)
    assert not findings.java_locked_out


@pytest.mark.parametrize(("clean", "expected"), [(True, "clean"), (False, "unclean")])
def test_the_checkpoint_tells_how_the_last_broker_stopped(tmp_path: Path, clean: bool, expected: str) -> None:
    put_checkpoint(tmp_path, clean)
    assert state(tmp_path) == expected


def test_a_folder_that_is_locked_is_in_use(tmp_path: Path) -> None:
    put_checkpoint(tmp_path, False)
    lock = OsFiles().lock_dir(str(tmp_path))
    assert state(tmp_path) == "in use"
    os.close(lock)
    assert state(tmp_path) == "unclean"


def test_looking_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put_checkpoint(tmp_path, True)
    (tmp_path / "orders-0").mkdir()
    (tmp_path / "orders-0" / "0.meta").write_bytes(b"")
    before = sorted(tmp_path.rglob("*"))
    assert run(["doctor", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "clean"
    assert run(["doctor", str(tmp_path)]) == 0
    assert "stopped cleanly; any broker may open it" in capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before


def test_a_checkpoint_that_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put_checkpoint(tmp_path, True)
    path = tmp_path / "pymetaq" / "checkpoint" / "checkpoint"
    path.write_bytes(path.read_bytes().replace(b"true", b"null"))
    assert run(["doctor", str(tmp_path)]) == 1
    assert f"metaq: {path}: its checksum is not that of its content" in capsys.readouterr().err
