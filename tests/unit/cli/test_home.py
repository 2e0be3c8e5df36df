"""Homes: finding one, and knowing whether a broker runs from it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from metaq.cli.home import AlreadyRunning, Home, claim, find_home, home_of_ini, running
from metaq.cli.process import hold
from metaq.errors import ConfigError


@pytest.fixture
def home(tmp_path: Path) -> Home:
    for folder in ("bin", "conf", "logs"):
        (tmp_path / folder).mkdir()
    (tmp_path / "bin" / "metaServer.sh").touch()
    return Home(tmp_path)


def test_a_home_is_claimed_once_and_let_go(home: Home) -> None:
    with claim(home):
        assert running(home) == os.getpid()
        with pytest.raises(AlreadyRunning, match=f"process {os.getpid()}"), claim(home):
            pass
        assert running(home) == os.getpid()  # the one who was refused has changed nothing
    assert running(home) is None
    assert not home.pid_file.exists()


def test_a_claim_is_let_go_when_the_broker_fails(home: Home) -> None:
    with pytest.raises(ConfigError), claim(home):
        raise ConfigError("no")
    assert not home.pid_file.exists()


def test_a_pid_file_that_nobody_holds_is_stale_even_if_the_number_lives(home: Home) -> None:
    home.pid_file.write_text(f"{os.getpid()}\n")
    assert running(home) is None
    assert hold(home) is None
    with claim(home):
        assert running(home) == os.getpid()


def test_the_broker_of_the_original_is_left_alone(home: Home) -> None:
    command = [sys.executable, "-c", "print(flush=True); input()", "com.taobao.metamorphosis.ServerStartup"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as java:
        assert java.stdout is not None
        java.stdout.readline()
        home.pid_file.write_text(f"{java.pid}\n")
        with pytest.raises(AlreadyRunning, match=f"a Java broker runs from .*, process {java.pid}"), claim(home):
            pass
        assert home.pid_file.read_text() == f"{java.pid}\n"
        java.communicate(b"\n")


@pytest.mark.parametrize("text", ["", "x\n", "12 x\n", "-5\n"])
def test_nonsense_in_the_pid_file_does_no_harm(home: Home, text: str) -> None:
    home.pid_file.write_text(text)
    assert running(home) is None
    with claim(home):
        assert running(home) == os.getpid()


def test_the_home_is_the_one_named_else_the_current_directory(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home.path)
    assert find_home(None) == home
    monkeypatch.chdir("/")
    assert find_home(str(home.path)) == home
    with pytest.raises(ConfigError, match="/ is no home; name one with --home"):
        find_home(None)


def test_a_folder_without_conf_is_no_home(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no home: it has no folder conf"):
        find_home(str(tmp_path))


def test_an_ini_in_the_conf_of_a_home_belongs_to_it(home: Home) -> None:
    assert home_of_ini(str(home.ini)) == home
    assert home_of_ini(str(home.path / "server.ini")) is None
