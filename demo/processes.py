"""The processes of the demo: a broker with its registry, started by the commands a user would type, and consumers."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final, Self

from metaq.aio import MetaqError

PATIENCE: Final = 60.0  # seconds for anything a process does

SERVER_INI: Final = """\
[system]
brokerId=0
numPartitions={partitions}
serverPort={port}
hostName=127.0.0.1
; 0: on disk before it is acknowledged
unflushThreshold=0
dataPath={folder}/data
dataLogPath={folder}/log
[zookeeper]
zk.zkConnect=127.0.0.1:{registry}
zk.zkSyncTimeMs=200
[pymetaq]
bindAddress=127.0.0.1
[topic={topic}]
"""
ROOT: Final = Path(__file__).parent.parent


class Broker:
    """A broker in local mode, from a home in a folder: `metaq server start local`."""

    def __init__(self, folder: str, topic: str, partitions: int) -> None:
        self.home = Path(folder, "home")
        port, registry = free_ports(2)
        self.url = f"zk://127.0.0.1:{registry}/meta"
        self._metaq("server", "init", str(self.home))
        ini = SERVER_INI.format(partitions=partitions, port=port, registry=registry, folder=folder, topic=topic)
        Path(self.home, "conf", "server.ini").write_text(ini)

    def start(self) -> float:
        """Start it in the background; return how many seconds it took until it served. Raises MetaqError."""
        began = time.monotonic()
        self._metaq("server", "start", "local", "--home", str(self.home))
        return time.monotonic() - began

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would; nothing if it does not run."""
        pid = self._pid()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            while self._pid() is not None:
                time.sleep(0.01)

    def stop(self) -> None:
        """Stop it in order. Raises MetaqError."""
        self._metaq("server", "stop", "--home", str(self.home))

    def _pid(self) -> int | None:
        from metaq.cli.home import Home, running  # noqa: PLC0415 - nothing else of the demo needs the command line

        return running(Home(self.home)) if self.home.exists() else None

    def _metaq(self, *words: str) -> None:
        command = [sys.executable, "-P", "-m", "metaq", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        if done.returncode:
            raise MetaqError(f"{' '.join(words[:3])}: {done.stderr.strip() or done.stdout.strip()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class ConsumerProcess:
    """A member of the group in a process of its own. `owned`: how many partitions it has, as it says itself."""

    def __init__(self, url: str, topic: str, group: str, path: Path) -> None:
        self.owned = 0
        self._path = path
        self._read = 0  # bytes
        command = [sys.executable, "-P", str(ROOT / "demo" / "consumer.py"), url, topic, group, str(path)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.owned = int(line)

    def news(self) -> list[str]:
        """Return the attributes it has written down since this was asked last."""
        if not self._path.exists():
            return []
        with open(self._path, "rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]  # the rest is being written, or never will be
        self._read += len(whole)
        return whole.decode().splitlines()

    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def end(self, number: signal.Signals) -> None:
        """Send it a signal and wait until it has ended."""
        if self.is_running():
            self._process.send_signal(number)
        with self._process:
            self._process.wait(PATIENCE)
            self._listening.join(PATIENCE)


def free_ports(count: int) -> list[int]:
    """Return ports of this machine that nobody has."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [server.getsockname()[1] for server in servers]
    finally:
        for server in servers:
            server.close()
