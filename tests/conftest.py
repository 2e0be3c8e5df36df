"""Fixtures for all tests: a real ZooKeeper, and what happens where a part of the outside world is missing."""

import os
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

from metaq.testing import Coordinator, Registry, ZooKeeper

LEFT_OUT: Final = "left out: "
COORDINATORS: Final = ("zookeeper", "registry")  # what a test may be parametrised with, as `coordinator`
MEMORY: Final = Path("/dev/shm")  # syncing costs nothing there; what a disk does is told in tests/faults

# Laws are tried on so many examples; `make soak` asks for many more. How long one takes says nothing under load.
settings.register_profile(
    "metaq",
    max_examples=int(os.environ.get("METAQ_EXAMPLES", "60")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("metaq")


def require(name: str, present: bool) -> None:
    """Skip the test where `name` is missing; fail it where METAQ_REQUIRE_ALL=1 says that nothing may be missing."""
    if present:
        return
    if os.environ.get("METAQ_REQUIRE_ALL") == "1":
        pytest.fail(f"{name} is missing, and METAQ_REQUIRE_ALL=1 wants everything", pytrace=False)
    pytest.skip(f"{LEFT_OUT}{name} is missing")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what was left out, and why."""
    reasons = [r.longrepr[2] for r in terminalreporter.stats.get("skipped", []) if isinstance(r.longrepr, tuple)]
    missing = sorted(reason.removeprefix("Skipped: ") for reason in reasons if LEFT_OUT in reason)
    for reason in sorted(set(missing)):
        terminalreporter.write_line(f"*** {missing.count(reason)} tests {reason} ***", red=True, bold=True)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for a broker: in memory where the system has that."""
    if not MEMORY.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="metaq-", dir=MEMORY) as name:
        yield Path(name)


@pytest.fixture(scope="session")
def zookeeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeper]:
    """A real ZooKeeper on a free loopback port, one for all tests of this process."""
    require("ZooKeeper (Debian package zookeeper) or Java", ZooKeeper.available())
    server = ZooKeeper(tmp_path_factory.mktemp("zookeeper"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def own_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Our own registry on a free loopback port, one for all tests of this process."""
    with Registry(tmp_path_factory.mktemp("registry")) as server:
        yield server


@pytest.fixture
def coordinator(request: pytest.FixtureRequest) -> Coordinator:
    """A real ZooKeeper; in tests that are parametrised with COORDINATORS also our own registry."""
    fixture = {"zookeeper": "zookeeper", "registry": "own_registry"}[getattr(request, "param", "zookeeper")]
    server = request.getfixturevalue(fixture)
    assert isinstance(server, Coordinator)
    return server


@pytest.fixture(scope="session")
def chroots() -> Iterator[int]:
    return count(1)


@pytest.fixture
def zk(coordinator: Coordinator, chroots: Iterator[int]) -> str:
    """The address of a corner of it that this test has for itself, "127.0.0.1:port/name"."""
    return coordinator.chroot(f"test-{next(chroots)}")
