"""The Java client and broker 1.4.6.2 as processes: started, watched and ended by tests and benchmarks."""

import asyncio
import contextlib
import functools
import json
import logging
import os
import random
import re
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self, TypeAlias

log = logging.getLogger(__name__)

BUILD: Final = Path(__file__).parent / "java" / "build.sh"
MAIN: Final = "com.taobao.metamorphosis.server.MetamorphosisStartup"
READY: Final = (
    BUILD.parents[3] / "build" / "java" / "classes.jsa"
)  # all classes of the class path, as BUILD prepares them
QUICK: Final = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Xmx256m")  # starts fast, runs slower
PATIENCE: Final = 30.0  # seconds a JVM gets to start, to stop, or for one command
LOG_TAIL: Final = 4000  # characters of a log that a failure shows

Event: TypeAlias = dict[str, str | int | float | bool | None]


def missing() -> str:
    """Return what of Java is not installed; empty text: nothing."""
    return " and ".join(name for name in ("javac", "mvn") if shutil.which(name) is None)


@functools.cache
def class_path() -> str:
    """Return the class path of client, broker and judge, fetched and compiled the first time. Blocks, then for seconds.

    Raises RuntimeError with Maven's words.
    """
    done = subprocess.run([BUILD], capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise RuntimeError(f"the Java parts cannot be built: {done.stdout[-LOG_TAIL:]}{done.stderr[-LOG_TAIL:]}")
    return done.stdout.strip()


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free, from below those that the system gives to outgoing connections.

    A port the system chose could be such a connection's before the JVM, half a second later, listens on it.
    """
    first_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(10_000, max(first_outgoing, 20_000))
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _ready() -> tuple[str, ...]:
    """Return flags to take classes from READY, if there is such a file; what is wrong with it is said to the log."""
    return (f"-XX:SharedArchiveFile={READY}", "-Xlog:disable", "-Xlog:all=warning:stderr") if READY.exists() else ()


class JavaProcess:
    """One JVM in a folder of its own, its standard error kept in a file."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self.log = log

    @classmethod
    async def start(
        cls, arguments: list[str], log: Path, flags: tuple[str, ...] = QUICK, stdout: int | None = None
    ) -> Self:
        """Start `java` in the folder of `log`; standard output goes there too unless it is a pipe."""
        command = [
            "java",
            *flags,
            *_ready(),
            "-Dfile.encoding=UTF-8",
            f"-Duser.home={log.parent}",
            "-cp",
            class_path(),
            *arguments,
        ]
        with log.open("ab") as sink:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=subprocess.DEVNULL, stdout=stdout or sink, stderr=sink, cwd=log.parent, limit=1 << 24
            )
        return cls(process, log)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.returncode is None

    def words(self) -> str:
        """Return the end of what it wrote to its log."""
        return self.log.read_text("utf-8", "replace")[-LOG_TAIL:]

    async def stop(self) -> int:
        """Ask it to end (SIGTERM) and return its exit status. Raises TimeoutError."""
        if self.running:
            self.process.terminate()
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()

    async def kill(self) -> None:
        """End it at once (SIGKILL); nothing happens if it has ended."""
        if self.running:
            self.process.kill()
        await self.process.wait()


@dataclass(frozen=True, slots=True)
class JavaBroker:
    """A plain broker 1.4.6.2 that answers on `port`."""

    java: JavaProcess
    port: int
    ini: Path

    @property
    def pid(self) -> int:
        return self.java.pid

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def words(self) -> str:
        """Return the end of its log."""
        return self.java.words()

    async def stop(self) -> int:
        """Stop it in order (SIGTERM), so that another broker may open its folder; return the exit status."""
        return await self.java.stop()

    async def kill(self) -> None:
        """End it at once (SIGKILL)."""
        await self.java.kill()


async def start_broker(ini: Path, port: int, flags: tuple[str, ...] = QUICK) -> JavaBroker:
    """Start the broker on a server.ini whose serverPort is `port`; return when it answers `version`.

    Raises RuntimeError with the end of its log if it ends or stays silent; it is not running then.
    """
    java = await JavaProcess.start([MAIN, "-f", str(ini)], ini.parent / "broker.log", flags)
    deadline = time.monotonic() + PATIENCE
    while not await answers(port):
        if not java.running or time.monotonic() > deadline:
            await java.kill()
            raise RuntimeError(f"the Java broker does not serve on {ini}:\n{java.words()}")
        await asyncio.sleep(0.02)
    return JavaBroker(java, port, ini)


async def answers(port: int) -> bool:
    """Tell whether a broker on this port of 127.0.0.1 answers `version`."""
    try:
        async with asyncio.timeout(5.0):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"version 1\r\n")
            line = await reader.readline()
            writer.close()
            return line.startswith(b"result 200 ")
    except (OSError, TimeoutError):
        return False


def with_settings(text: str, section: str, settings: Mapping[str, object]) -> str:
    """Return a server.ini in which these keys of one section have these values and all else is as it was."""
    lines: list[str] = []
    inside = False
    for line in text.split("\n"):
        if header := re.match(r"\s*\[([^\]]*)\]", line):
            inside = header[1] == section
            lines.append(line)
            if inside:
                lines += [f"{key}={value}" for key, value in settings.items()]
        elif not (inside and re.split(r"\s*[=:]", line.lstrip(), maxsplit=1)[0] in settings):
            lines.append(line)
    return "\n".join(lines)


@dataclass(slots=True)
class Finished:
    """What one command of the judge said until it ended."""

    status: int
    events: list[Event] = field(default_factory=list)

    def of(self, name: str) -> list[Event]:
        """Return the events of one kind, in order."""
        return [event for event in self.events if event["event"] == name]

    @property
    def done(self) -> Event:
        """The closing event, with the totals."""
        return self.of("done")[-1]


class Command:
    """One command of the judge while it runs."""

    def __init__(self, java: JavaProcess, name: str) -> None:
        assert java.process.stdout is not None
        self.java = java
        self.name = name
        self.seen: list[Event] = []
        self._lines = java.process.stdout

    @classmethod
    async def start(cls, name: str, log: Path, options: Mapping[str, object]) -> Self:
        """Start `judge.<name>`; an option max_delay_ms=10 becomes --max-delay-ms 10, booleans become true and false."""
        arguments = [f"judge.{name}"]
        for key, value in options.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            arguments += [f"--{key.replace('_', '-')}", text]
        return cls(await JavaProcess.start(arguments, log, stdout=subprocess.PIPE), name)

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yield events as they come, until its output ends."""
        async for line in self._lines:
            if not line.startswith(b"{"):  # a JVM that is told to end while it still starts complains here
                log.warning("%s says %r", self.name, line)
                continue
            event: Event = json.loads(line)
            self.seen.append(event)
            yield event

    async def until(self, name: str) -> Event:
        """Return the next event of this kind. Raises AssertionError if the command ends or stays silent before."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                async for event in self:
                    if event["event"] == name:
                        return event
        raise AssertionError(f"{self.name} did not say {name!r} but {self.seen[-5:]}\n{self.java.words()}")

    async def finish(self, expect: int | None = 0) -> Finished:
        """Wait for its end and return all it said. Raises AssertionError if its exit status is not the expected one."""
        try:
            async with asyncio.timeout(PATIENCE):
                async for _ in self:
                    pass
                status = await self.java.process.wait()
        except TimeoutError:
            await self.java.kill()
            raise AssertionError(f"{self.name} does not end: {self.seen[-5:]}\n{self.java.words()}") from None
        if expect is not None and status != expect:
            raise AssertionError(f"{self.name} ended with {status}: {self.seen[-5:]}\n{self.java.words()}")
        return Finished(status, self.seen)


def java_version() -> str:
    """Return the first line of `java -version`."""
    done = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False, env=os.environ, timeout=30)
    return done.stderr.splitlines()[0] if done.stderr else "no Java"
