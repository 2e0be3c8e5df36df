"""`metaq server init`: what a new home has in it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from metaq.cli.main import run
from metaq.config.broker import load
from metaq.config.properties import parse

FILES = [
    "bin/env.sh",
    "bin/metaServer.sh",
    "conf/async_slave.properties",
    "conf/gregor_slave.properties",
    "conf/samsa_master.properties",
    "conf/server.ini",
]


def test_a_home_is_laid_out_as_the_originals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "new" / "home"
    assert run(["server", "init", str(home)]) == 0
    assert sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()) == FILES
    assert sorted(path.name for path in home.iterdir()) == ["bin", "conf", "logs", "provided"]
    assert os.access(home / "bin" / "metaServer.sh", os.X_OK)
    assert not os.access(home / "conf" / "server.ini", os.X_OK)
    assert f'"METAQ_PYTHON:={sys.executable}' not in (home / "bin" / "env.sh").read_text()
    assert sys.executable in (home / "bin" / "env.sh").read_text()
    assert capsys.readouterr().out.count("made: ") == len(FILES)


def test_its_server_ini_states_what_was_asked_for(tmp_path: Path) -> None:
    options = ["--port", "9000", "--topic", "a", "--topic", "b", "--zookeeper", "none", "--data", str(tmp_path / "d")]
    assert run(["server", "init", str(tmp_path), *options]) == 0
    config = load(str(tmp_path / "conf" / "server.ini"))
    assert config.server_port == 9000
    assert [topic.name for topic in config.topics] == ["a", "b"]
    assert not config.zookeeper.enable
    assert config.data_path == str(tmp_path / "d")


def test_nothing_that_is_there_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["server", "init", str(tmp_path)]) == 0
    (tmp_path / "conf" / "server.ini").write_text("mine")
    (tmp_path / "bin" / "env.sh").unlink()
    capsys.readouterr()
    assert run(["server", "init", str(tmp_path), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["made"] == [str(tmp_path / "bin" / "env.sh")]
    assert len(answer["kept"]) == len(FILES) - 1
    assert (tmp_path / "conf" / "server.ini").read_text() == "mine"


def test_a_wrong_option_makes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["server", "init", str(tmp_path / "home"), "--topic", "a b"]) == 1
    assert "a topic must not contain" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()


def test_its_property_files_hold_the_keys_of_the_original(tmp_path: Path) -> None:
    assert run(["server", "init", str(tmp_path)]) == 0
    keys = {path.name: set(parse(path.read_bytes())) for path in (tmp_path / "conf").glob("*.properties")}
    assert keys == {
        "async_slave.properties": {"slaveId", "slaveMaxDelayInMills", "autoSyncMasterConfig"},
        "gregor_slave.properties": set(),
        "samsa_master.properties": {
            "slave",
            "sendToSlaveTimeoutInMills",
            "checkSlaveIntervalInMills",
            "slaveContinuousFailureThreshold",
            "recoverOffset",
            "recoverParallel",
        },
    }


@pytest.mark.parametrize("script", ["metaServer.sh", "env.sh"])
def test_its_scripts_are_plain_sh(tmp_path: Path, script: str) -> None:
    assert run(["server", "init", str(tmp_path)]) == 0
    subprocess.run(["dash", "-n", tmp_path / "bin" / script], check=True, timeout=10)
