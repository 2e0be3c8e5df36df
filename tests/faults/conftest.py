"""Fixtures for faults of a whole broker in a process of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.embedding import NOTHING, TOPICS, Dial, Settings, configured, settings
from tests.faults.processes import Process


class Launch:
    """Starts brokers, all on one folder unless told otherwise: `broker = await launch()`; kills them in the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[Process] = []
        self._dials: list[Dial] = []

    def ini(self, system: Settings = NOTHING, pymetaq: Settings = NOTHING, topics: str = TOPICS) -> Path:
        """Write the server.ini that the next starts use."""
        configured(self._folder, settings(self._folder, system, pymetaq, topics=topics))
        return self._folder / "server.ini"

    async def __call__(self, prefix: tuple[str, ...] = ()) -> Process:
        """Start a broker on the server.ini in the folder, by this command; return when it serves."""
        return await (await self.begin(prefix)).ready()

    async def begin(self, prefix: tuple[str, ...] = ()) -> Process:
        """Start a broker and do not wait until it serves."""
        ini = self._folder / "server.ini"
        process = await Process.launch(ini if ini.exists() else self.ini(), prefix=prefix)
        self._started.append(process)
        return process

    def dial(self, broker: Process) -> Dial:
        """Return what dials a broker."""
        self._dials.append(Dial(broker.port))
        return self._dials[-1]

    async def end(self) -> None:
        for dial in self._dials:
            await dial.end()
        for process in self._started:
            await process.kill()


@pytest.fixture
async def launch(tmp_path: Path) -> AsyncIterator[Launch]:
    """Start a broker in a process of its own; see Launch."""
    starter = Launch(tmp_path)
    yield starter
    await starter.end()
