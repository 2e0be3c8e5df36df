"""`metaq brokers promote`: what it says, and what the broker of the home is afterwards."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from metaq.cli.control import Refusal, ask
from metaq.cli.home import Home
from metaq.cli.main import run
from metaq.testing import Coordinator
from tests.cli.homes import ask_json, made_home

LACKS = "what the master has more is not known: this slave has not met it since it was started"
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def slave(tmp_path: Path, own_registry: Coordinator, chroots: Iterator[int]) -> Iterator[Home]:
    """The home of a slave whose master is lost; it is not started yet."""
    with made_home(tmp_path / "slave") as home:
        hosts = own_registry.chroot(f"promotion-{next(chroots)}")
        home.ini.write_text(
            f"[system]\nbrokerId=1\nserverPort=0\nhostName=127.0.0.1\ndataPath={tmp_path}/data\n"
            f"[zookeeper]\nzk.zkConnect={hosts}\nzk.zkSyncTimeMs=100\n[topic=test]\n"
        )
        (home.path / "conf" / "async_slave.properties").write_text("slaveId=1\n")
        yield home


def test_a_slave_that_is_made_the_master_starts_as_that_whatever_it_is_started_as(slave: Home, capsys: Capture) -> None:
    at = ("--home", str(slave.path))
    assert run(["brokers", "promote", *at]) == 1
    assert "Broker is not running." in capsys.readouterr().out
    assert run(["server", "start", "slave", *at]) == 0
    assert run(["brokers", "promote", *at]) == 1
    assert f"still a slave: {LACKS}; --rest DIR takes what is lacking" in capsys.readouterr().err
    assert run(["brokers", "promote", "--force", *at]) == 0
    assert capsys.readouterr().out.endswith(
        "This broker is the master of broker 1 now.\n"
        f"Lost: {LACKS}\n"
        "Start it with `start` from now on, not with `start slave`.\n"
    )
    assert run(["server", "restart", "slave", *at]) == 0
    with pytest.raises(Refusal, match="this broker is no asynchronous slave"):
        ask(slave.socket, "slave-status")
    assert "it starts as that, also with `start slave`" in (slave.path.parent / "data/pymetaq/promoted").read_text()


def test_scripts_get_json(slave: Home, capsys: Capture) -> None:
    at = ("--home", str(slave.path))
    assert run(["server", "start", "slave", *at]) == 0
    assert ask_json(capsys, "brokers", "promote", "--force", *at) == {"broker_id": 1, "lost": LACKS}
    assert run(["brokers", "promote", "--json", *at]) == 1
    assert "this broker is no asynchronous slave" in capsys.readouterr().err
