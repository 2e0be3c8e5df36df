"""For tests, ours and those of users: real servers to test against."""

import os
import shutil
import socket
import struct
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

__all__ = ["ZooKeeper"]

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


class ZooKeeper:
    """A real ZooKeeper (Debian package `zookeeper`) on a free port of 127.0.0.1, its files below `directory`.

    Sessions may be as short as 0.4 s. Nothing it holds survives a loss of power; it does survive `restart`.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def available() -> bool:
        """Return whether this machine can run one."""
        return _JARS.exists() and shutil.which("java") is not None

    @property
    def address(self) -> str:
        """Return `127.0.0.1:port`; the port stays the same over restarts."""
        return f"127.0.0.1:{self._port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

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
            raise OSError(f"ZooKeeper at {self.address} answers {error} to creating {path!r}")
        return f"{self.address}/{name}"

    def expire(self, session: int, password: bytes) -> None:
        """End a session of somebody else's, who then finds it expired. Its ephemeral nodes are gone on return."""
        with self._session(session, password) as link:
            _send(link, struct.pack(">ii", 1, _CLOSE_SESSION))
            with suppress(OSError):  # an answer or the end of the connection: either comes after the deed
                _receive(link)

    def start(self) -> Self:
        """Start it; return when it answers. Raises OSError with the end of its log if it does not."""
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

    def restart(self) -> None:
        """Stop and start it, with its data and at its port. Sessions live on if their clients are back in time."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

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

    def _session(self, session: int, password: bytes, timeout: float = 5.0) -> socket.socket:
        """Return a connection that speaks for a session, 0 for a new one."""
        link = socket.create_connection(("127.0.0.1", self._port), timeout=timeout)
        try:
            _send(link, _CONNECT.pack(0, 0, 10_000, session, len(password)) + password + b"\0")
            if struct.unpack_from(">i", _receive(link), 4)[0] <= 0:
                raise OSError(f"ZooKeeper at {self.address} does not know session {session:#x}")
        except BaseException:
            link.close()
            raise
        return link


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
            raise OSError("ZooKeeper closed the connection")
        return stream.read(struct.unpack(">i", size)[0])
