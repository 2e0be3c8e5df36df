"""Running a broker in this process: how it ends, and who is told. The broker is a stand-in."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from metaq.app import RunningBroker
from metaq.cli import run as running
from metaq.cli.control import ControlClient, Refusal, ask
from metaq.cli.home import Home
from metaq.cli.run import serve
from metaq.config.model import BrokerConfig
from metaq.errors import StoreError
from metaq.replication.role import Role

CONFIG = BrokerConfig(broker_id=0, path="server.ini")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "logs").mkdir()
    return Home(tmp_path)


def stand_in(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> None:
    """Put in place of the broker one that never comes to serve, stops when told to, and then may fail."""

    async def run(
        config: BrokerConfig, *, ready: Callable[[RunningBroker], None], stop: asyncio.Event, role: Role | None
    ) -> None:
        await stop.wait()
        if error is not None:
            raise error

    monkeypatch.setattr(running, "run_broker", run)


def nothing(_: str) -> None:
    pass


async def test_who_asked_to_stop_learns_that_it_was_not_in_order(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, StoreError("the disk is full, the journal cannot be emptied"))
    broker = asyncio.create_task(serve(CONFIG, home, nothing))
    await until_served(home)
    with pytest.raises(Refusal, match="the journal cannot be emptied"):
        await asyncio.to_thread(ask, home.socket, "stop")
    with pytest.raises(StoreError):
        await broker
    assert not home.socket.exists()


async def test_who_asked_to_stop_is_told_when_it_has_stopped(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, None)
    broker = asyncio.create_task(serve(CONFIG, home, nothing))
    await until_served(home)
    assert await asyncio.to_thread(ask, home.socket, "stop") == {}
    await broker


async def test_a_broker_that_still_starts_says_so(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def talk() -> None:
        with ControlClient(home.socket) as client:
            assert client.ask("status")["state"] == "starting"
            for command in ("reload", "stats"):
                with pytest.raises(Refusal, match="the broker is still starting"):
                    client.ask(command)
            client.ask("stop")

    stand_in(monkeypatch, None)
    broker = asyncio.create_task(serve(CONFIG, home, nothing))
    await until_served(home)
    await asyncio.to_thread(talk)
    await broker


async def until_served(home: Home) -> None:
    """Wait until the control socket is there; the test's time-out is the deadline."""
    while not home.socket.exists():
        await asyncio.sleep(0)
