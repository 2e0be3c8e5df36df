"""A broker as a process of its own, so that it can be killed."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

PATIENCE: Final = 30.0  # seconds for a start or an end


class Process:
    """One run of `metaq server run`. `port` is known once it serves; `log` is the file with all it said."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log
        self.port = 0

    @classmethod
    async def launch(cls, ini: Path, *, prefix: tuple[str, ...] = ()) -> "Process":
        """Start it, and do not wait until it serves; `prefix`: run it by this command."""
        log = ini.parent / "broker.log"
        command = [*prefix, sys.executable, "-m", "metaq", "server", "run", "-f", str(ini)]
        with log.open("wb") as sink:
            process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=sink)
        return cls(process, log)

    async def ready(self) -> "Process":
        """Return when it serves. Raises AssertionError with its words if it ends before."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = await self._process.stdout.readline()
        match = re.match(rb"ready meta://\S+ port=(\d+)", line)
        assert match is not None, f"it does not serve: {line!r}\n{self.words()}"
        self.port = int(match[1])
        return self

    @classmethod
    async def start(cls, ini: Path, *, prefix: tuple[str, ...] = ()) -> "Process":
        """Start it and return when it serves."""
        return await (await cls.launch(ini, prefix=prefix)).ready()

    @property
    def pid(self) -> int:
        return self._process.pid

    def words(self) -> str:
        """Return what it wrote to stderr."""
        return self._log.read_text()

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""
        self._process.terminate()

    async def ended(self) -> int:
        """Return its exit status once it has ended."""
        async with asyncio.timeout(PATIENCE):
            status = await self._process.wait()
            assert self._process.stdout is not None
            await self._process.stdout.read()
            return status

    async def stop(self) -> int:
        """Stop it in order; return its exit status."""
        self.terminate()
        return await self.ended()

    async def kill(self) -> None:
        """End it at once (SIGKILL); fine if it has ended."""
        if self._process.returncode is None:
            self._process.kill()
        await self.ended()
