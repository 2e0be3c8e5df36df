"""Homes, and one with a broker that runs for all tests of a module."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from metaq.cli.control import ask
from metaq.cli.home import Home
from metaq.cli.process import start
from tests.cli.homes import made_home


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with made_home(tmp_path / "home") as home:
        yield home


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home whose broker runs; tests leave it running."""
    with made_home(tmp_path_factory.mktemp("shared") / "home") as home:
        start(home)
        yield home


@pytest.fixture
def url(shared: Home, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the shared broker serves; METAQ_URL names it, METAQ_HOME its home."""
    address = str(ask(shared.socket, "status")["address"])
    monkeypatch.setenv("METAQ_URL", address)
    monkeypatch.setenv("METAQ_HOME", str(shared.path))
    return address
