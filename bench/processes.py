"""Processes that serve while something is measured: started on a free port, watched, ended by their id."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PATIENCE: Final = 120.0  # seconds to serve, and to stop


class ServerFailed(Exception):
    """A process did not start or stop; the text has its last words."""


@dataclass(frozen=True, slots=True)
class Command:
    """How to start a server: its words, the folder it runs in, what its environment has besides ours."""

    name: str
    words: Sequence[str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def last_words(self) -> str:
        return self.log.read_text("utf-8", "replace")[-300:].strip() if self.log.exists() else ""


@dataclass(frozen=True, slots=True)
class Served:
    """A server that answers."""

    process: asyncio.subprocess.Process
    seconds: float  # from its start until it answered
    words: Sequence[str] = ()  # of its command line

    def memory(self) -> float:
        """Return its resident memory in MiB."""
        return _resident(Path(f"/proc/{self.process.pid}"))

    def memory_of_all(self) -> float:
        """Return the resident memory of it and of what it started, in MiB: all of its session."""
        total = 0.0
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, ServerFailed):
                if int((place / "stat").read_text().rpartition(")")[2].split()[3]) == self.process.pid:
                    total += _resident(place)
        return total


def _resident(place: Path) -> float:
    """Return the resident memory of a process in MiB. Raises ServerFailed."""
    for line in (place / "status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ServerFailed("it has ended")


@asynccontextmanager
async def serving(command: Command, answers: Callable[[], Awaitable[bool]]) -> AsyncIterator[Served]:
    """Run a server until the block ends; begin the block when `answers` says so. Raises ServerFailed."""
    began = time.monotonic()
    with command.log.open("wb") as sink:
        process = await asyncio.create_subprocess_exec(
            *command.words, cwd=command.folder, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
            env={**os.environ, **command.environment}, start_new_session=True,
        )  # fmt: skip
    try:
        while not await answers():
            if process.returncode is not None or time.monotonic() > began + PATIENCE:
                raise ServerFailed(f"{command.name} does not serve: {command.last_words()}")
            await asyncio.sleep(0.02)
        yield Served(process, time.monotonic() - began, command.words)
    finally:
        await end(process, command)


async def end(process: asyncio.subprocess.Process, command: Command) -> None:
    """Stop a server in order, with what it started; kill what does not stop, which is an error."""
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(PATIENCE):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # a session of its own: these are its children
        await process.wait()
        raise ServerFailed(f"{command.name} does not stop: {command.last_words()}") from None


async def accepts(port: int, words: bytes = b"", answer: bytes = b"") -> bool:
    """Say whether a port of 127.0.0.1 takes connections and, if told to, begins to answer some words so."""
    try:
        async with asyncio.timeout(1.0):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(words)
                return not answer or (await reader.readexactly(len(answer))) == answer
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False
