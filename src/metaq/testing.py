"""For tests, ours and those of users: real servers to test against."""

import asyncio
import os
import shutil
import socket
import struct
import subprocess
import time
from abc import ABC, abstractmethod
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Final, Self

from metaq.app import real_world
from metaq.net.loop import run
from metaq.registry.options import RegistryOptions
from metaq.registry.running import running_registry

__all__ = ["Coordinator", "Registry", "ZooKeeper"]

_JARS: Final = Path("/usr/share/java/zookeeper.jar")  # of Debian's package; its manifest names the other jars
_QUICK: Final = ("-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")
_START_TIME: Final = 30.0  # seconds
_STOP_TIME: Final = 10.0
_TICK_MS: Final = 200  # sessions last 2 to 20 ticks as ZooKeeper has it; here from 400 ms to 60 s
_CLOSE_SESSION: Final = -11
_CONNECT: Final = struct.Struct(">iqiqi")  # protocol 0, last zxid, time-out in ms, session id, length of the password
_CREATE: Final = 1
_OPEN_ACL: Final = struct.pack(">ii5si6s", 31, 5, b"world", 6, b"anyone")
_CONFIG: Final = """\
tickTime={tick}
minSessionTimeout=400
maxSessionTimeout=60000
dataDir={data}
clientPort={port}
clientPortAddress=127.0.0.1
maxClientCnxns=0
admin.enableServer=false
forceSync=no
4lw.commands.whitelist=*
"""


class Coordinator(ABC):
    """A server of the ZooKeeper client protocol on a free port of 127.0.0.1, its files below `directory`.

    Sessions may be as short as 0.4 s. What it holds survives `restart`.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port = 0

    @property
    def address(self) -> str:
        """Return `127.0.0.1:port`; the port stays the same over restarts."""
        return f"127.0.0.1:{self._port}"

    @property
    @abstractmethod
    def running(self) -> bool: ...

    @abstractmethod
    def start(self) -> Self:
        """Start it; return when it answers. Raises OSError if it does not."""

    @abstractmethod
    def stop(self) -> None:
        """End it and wait for the end; fine if it does not run."""

    def restart(self) -> None:
        """Stop and start it, with its data and at its port. Sessions live on if their clients are back in time."""
        self.stop()
        self.start()

    def chroot(self, name: str) -> str:
        """Create node /name if it is missing; return `127.0.0.1:port/name`: a tree of one's own."""
        path = f"/{name}".encode()
        body = struct.pack(">ii", 1, _CREATE) + struct.pack(">i", len(path)) + path + struct.pack(">i", -1)
        body += struct.pack(">i", 1) + _OPEN_ACL + struct.pack(">i", 0)
        with self._session(0, bytes(16)) as link:
            _send(link, body)
            error = struct.unpack_from(">i", _receive(link), 12)[0]
            _send(link, struct.pack(">ii", 2, _CLOSE_SESSION))
        if error not in (0, -110):  # -110: it exists
            raise OSError(f"the server at {self.address} answers {error} to creating {path!r}")
        return f"{self.address}/{name}"

    def expire(self, session: int, password: bytes) -> None:
        """End a session of somebody else's, who then finds it expired. Its ephemeral nodes are gone on return."""
        with self._session(session, password) as link:
            _send(link, struct.pack(">ii", 1, _CLOSE_SESSION))
            with suppress(OSError):  # an answer or the end of the connection: either comes after the deed
                _receive(link)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _session(self, session: int, password: bytes, timeout: float = 5.0) -> socket.socket:
        """Return a connection that speaks for a session, 0 for a new one."""
        link = socket.create_connection(("127.0.0.1", self._port), timeout=timeout)
        try:
            _send(link, _CONNECT.pack(0, 0, 10_000, session, len(password)) + password + b"\0")
            if struct.unpack_from(">i", _receive(link), 4)[0] <= 0:
                raise OSError(f"the server at {self.address} does not know session {session:#x}")
        except BaseException:
            link.close()
            raise
        return link


class ZooKeeper(Coordinator):
    """A real ZooKeeper (Debian package `zookeeper`). Nothing it holds survives a loss of power."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def available() -> bool:
        """Return whether this machine can run one."""
        return _JARS.exists() and shutil.which("java") is not None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """See Coordinator; the error has the end of its log."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._port = self._port or _free_port()
        config = self._directory / "zoo.cfg"
        config.write_text(_CONFIG.format(tick=_TICK_MS, data=self._directory / "data", port=self._port))
        java = shutil.which("java") or "java"
        main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
        command = [java, *_QUICK, "-Dzookeeper.jmx.log4j.disable=true", "-cp", str(_JARS), main, str(config)]
        environment = {**os.environ, "JAVA_TOOL_OPTIONS": ""}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        deadline = time.monotonic() + _START_TIME
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise OSError(f"ZooKeeper did not start: {self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)
        return self

    def stop(self) -> None:
        """End its process and wait for the end; fine if there is none."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_TIME)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def _log(self) -> Path:
        return self._directory / "zookeeper.log"

    def _answers(self) -> bool:
        """Return whether it gives sessions; `ruok` would be answered some time before that."""
        try:
            with self._session(0, bytes(16), timeout=0.3) as link:  # it may accept, and then never answer
                _send(link, struct.pack(">ii", 1, _CLOSE_SESSION))
                return bool(_receive(link))
        except OSError:
            return False


class Registry(Coordinator):
    """Our own registry, in a thread of this process: starts in milliseconds, needs no Java."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._thread: Thread | None = None
        self._end: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> Self:
        """See Coordinator."""
        started: Future[int] = Future()
        self._thread = Thread(target=self._run, args=(started,), name="metaq-registry", daemon=True)
        self._thread.start()
        self._port = started.result(_START_TIME)
        return self

    def stop(self) -> None:
        """See Coordinator."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._end is not None:
            loop, end = self._end
            loop.call_soon_threadsafe(end.set)
        thread.join(_STOP_TIME)

    def _run(self, started: "Future[int]") -> None:
        try:
            run(self._serve(started))
        except Exception as exc:  # noqa: BLE001 - whoever starts it shall see what kept it from starting
            if not started.done():
                started.set_exception(exc)

    async def _serve(self, started: "Future[int]") -> None:
        end = asyncio.Event()
        self._end = asyncio.get_running_loop(), end
        options = RegistryOptions(tick=_TICK_MS, shortest_session=400, longest_session=60_000)
        place = str(self._directory.absolute())
        async with running_registry(place, "127.0.0.1", self._port, real_world(), options) as registry:
            started.set_result(registry.port)
            await end.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _send(link: socket.socket, packet: bytes) -> None:
    link.sendall(struct.pack(">i", len(packet)) + packet)


def _receive(link: socket.socket) -> bytes:
    with link.makefile("rb") as stream:
        size = stream.read(4)
        if len(size) < 4:
            raise OSError("the server closed the connection")
        return stream.read(struct.unpack(">i", size)[0])
