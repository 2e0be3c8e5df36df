"""bin/metaServer.sh: the words of the original, its texts and exit statuses."""

import os
import subprocess
from pathlib import Path

import pytest

from metaq.cli.home import Home, running
from tests.cli.homes import DEADLINE, made_home

WORDS = ["start", "stop", "restart", "status", "reload", "stats", "open-partitions", "close-partitions", "help"]
LATER = ["delete-partitions", "move-partitions", "query"]


def script(path: Path, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the script as somebody who stands elsewhere and has nothing set.

    It has twice the time of what a broker does: it starts a shell, a `metaq`, and mostly a broker from that.
    """
    env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **environment}
    return subprocess.run(
        [path, *words], check=False, env=env, cwd="/", capture_output=True, text=True, timeout=2 * DEADLINE
    )


@pytest.fixture
def at(home: Home) -> Path:
    return home.path / "bin" / "metaServer.sh"


def test_through_links_it_finds_its_home_and_runs_a_broker(home: Home, at: Path, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "relative").symlink_to(os.path.relpath(at, tmp_path / "links"))
    (tmp_path / "metaq.sh").symlink_to(tmp_path / "links" / "relative")
    link = tmp_path / "metaq.sh"
    started = script(link, "start")
    assert started.returncode == 0, started.stderr
    assert started.stdout.startswith("Starting meta broker...\n")
    assert script(link, "status").stdout.startswith("Meta broker is running.\n")
    assert "broker_id 0" in script(link, "stats").stdout
    closed = script(link, "close-partitions", "-topic", "test", "-start", "0", "-end", "1")
    assert closed.stdout == "closed partitions 0 to 1 of test\n"
    stopped = script(link, "stop")
    assert (stopped.returncode, stopped.stdout.splitlines()[-1]) == (0, "Stop meta broker successfully.")
    assert running(home) is None


def test_base_dir_goes_before_its_own_place(at: Path, tmp_path: Path) -> None:
    with made_home(tmp_path / "other") as other:
        done = script(at, "status", "--json", BASE_DIR=str(other.path))
        assert (done.returncode, done.stdout) == (0, '{"running": false}\n')
        (other.path / "conf" / "server.ini").write_text("nonsense")
        done = script(at, "start", BASE_DIR=str(other.path))
    assert done.returncode == 1
    assert f"{other.ini}:1: nonsense" in done.stderr


@pytest.mark.parametrize(
    ("words", "status", "out", "err"),
    [
        (["status"], 0, "Meta broker was stopped.\n", ""),
        (["stop"], 1, "Broker is not running.\n", ""),
        (["reload"], 1, "Broker is not running.\n", ""),
        (["stats", "-item", "topics"], 1, "Broker is not running.\n", ""),
        (["open-partitions", "-topic", "t"], 1, "Broker is not running.\n", ""),
        (["slave-status"], 1, "Broker is not running.\n", ""),
        (
            ["delete-partitions", "-dataDir", "/x", "-f"],
            1,
            "",
            "metaq: `server delete-partitions` is not in this release\n",
        ),
        (["move-partitions", "-offset", "3"], 1, "", "metaq: `server move-partitions` is not in this release\n"),
        (["query", "-j", "x"], 1, "", "metaq: `server query` is not in this release\n"),
    ],
)
def test_each_word_has_its_text_and_status(at: Path, words: list[str], status: int, out: str, err: str) -> None:
    done = script(at, *words)
    assert (done.returncode, done.stdout, done.stderr) == (status, out, err)


@pytest.mark.parametrize(("words", "status"), [(["help"], 0), ([], 1), (["bogus"], 1)])
def test_usage_names_every_word(at: Path, words: list[str], status: int) -> None:
    done = script(at, *words)
    assert (done.returncode, done.stdout) == (status, "")
    for name in [*WORDS, *LATER]:
        assert f"\n  {name} " in done.stderr


def test_the_http_plug_in_is_asked_for_when_it_is_enabled(at: Path) -> None:
    done = script(at, "start", enableHttp="true")
    assert (done.returncode, done.stderr.partition(" (")[0]) == (2, "metaq: plug-in jettyBroker is not in this release")
