"""`metaq doctor`: what it says of folders, without a broker."""

import json
import os
from pathlib import Path

import pytest

from metaq.cli.doctor import Topic, config_at, sum_up
from metaq.cli.main import run
from metaq.files import OsFiles
from metaq.store import checkpoint as checkpoints
from metaq.store.checkpoint import Checkpoint
from metaq.store.doctor import Report, examine
from metaq.store.journal import Mark


def put_checkpoint(folder: Path, clean: bool) -> None:
    place = folder / "pymetaq" / "checkpoint"
    place.mkdir(parents=True)
    checkpoints.save(OsFiles(), str(place), Checkpoint(mark=Mark(1, 0, 0, 0, 0), clean=clean))


def look_at(folder: Path) -> Report:
    return examine(config_at(str(folder), may_guess=True), OsFiles())


def state(folder: Path) -> str:
    return look_at(folder).state


def test_a_folder_of_the_original_is_new_to_us(tmp_path: Path) -> None:
    (tmp_path / "orders-0").mkdir()
    (tmp_path / "orders-0" / f"{0:020}.meta").write_bytes(b"x" * 30)
    (tmp_path / "orders-1").mkdir()
    (tmp_path / "orders-1" / f"{0:020}.meta").write_bytes(b"x" * 7)
    (tmp_path / "orders-1" / "notes.txt").write_bytes(b"x")
    (tmp_path / "transactions").mkdir()
    assert state(tmp_path) == "new"
    assert list(sum_up(OsFiles(), config_at(str(tmp_path), may_guess=True))) == [Topic("orders", 2, 2, 37)]
    assert not look_at(tmp_path).java_locked_out


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


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--keep-files", "--keep-journal"), "--keep-files and --keep-journal exclude each other"),
        (("--yes",), "--yes belongs to --keep-files or --keep-journal"),
        (("--keep-files",), "is a folder; name the broker's server.ini or its home"),
    ],
)
def test_a_wrong_use_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], complaint: str
) -> None:
    put_checkpoint(tmp_path, False)
    before = sorted(tmp_path.rglob("*"))
    assert run(["doctor", str(tmp_path), *options]) == 2
    assert complaint in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("option", ["--keep-files", "--keep-journal"])
@pytest.mark.parametrize(("clean", "why"), [(None, "no metaq broker has used"), (True, "stopped cleanly")])
def test_where_nothing_is_to_be_decided_it_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, clean: bool | None, why: str
) -> None:
    ini = tmp_path / "server.ini"
    ini.write_text(f"[system]\nbrokerId=0\ndataPath={tmp_path}/data\n[zookeeper]\nzk.zkEnable=false\n[topic=a]\n")
    (tmp_path / "data").mkdir()
    if clean is not None:
        put_checkpoint(tmp_path / "data", clean)
    assert run(["doctor", str(ini), option, "--yes"]) == 1
    said = capsys.readouterr().err
    assert "nothing to decide here" in said
    assert why in said
