"""The brokers that are compared, each as a process of its own in a folder that is removed afterwards."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.cases import JAVA, OURS, Setting
from bench.loads import BUILD
from tests.interop import jvm

PATIENCE: Final = 120.0  # seconds to serve, and to stop
JAVA_FLAGS: Final = ("-Xms512m", "-Xmx2g")
PROTOTYPE_SOURCE: Final = Path(__file__).with_name("prototype.py")
INI: Final = """\
[system]
brokerId=1
hostName=127.0.0.1
serverPort={port}
numPartitions={setting.partitions}
dataPath={folder}/data
dataLogPath={folder}/log
unflushThreshold={setting.flush_threshold}
unflushInterval=10000
maxSegmentSize=1073741824
maxTransferSize=1048576
deletePolicy=delete,168
deleteWhen=0 0 6,18 * * ?
[zookeeper]
"""
JAVA_INI: Final = "zk.zkConnect={zk}\nzk.zkSyncTimeMs=100\n"
OURS_INI: Final = "zk.zkEnable=false\n[pymetaq]\nbindAddress=127.0.0.1\n"
TOPICS: Final = "[topic=test]\n[topic=read]\nnumPartitions=1\n"


class BrokerFailed(Exception):
    """A broker did not start or stop; the text has its last words."""


@dataclass(frozen=True, slots=True)
class Running:
    """A broker that serves."""

    process: asyncio.subprocess.Process
    port: int
    seconds: float  # from its start until it served

    def memory(self) -> float:
        """Return its resident memory in MiB."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise BrokerFailed("it has ended")


@asynccontextmanager
async def running(name: str, folder: Path, setting: Setting, zk: str) -> AsyncIterator[Running]:
    """Start a broker in this folder, new or left by an earlier one; end it at the end, in order.

    Raises BrokerFailed.
    """
    for part in (
        "data",
        "log",
    ):  # apart: a folder `transactions` in dataPath makes 1.4.6.2 skip partitions when it starts
        (folder / part).mkdir(parents=True, exist_ok=True)
    port = jvm.free_port()
    ini = folder / "server.ini"
    text = INI.format(port=port, setting=setting, folder=folder)
    ini.write_text(text + (OURS_INI if name == OURS else JAVA_INI.format(zk=zk)) + TOPICS)
    command = command_of(name, ini, port, setting)
    log = folder / "broker.log"
    began = time.monotonic()
    with log.open("wb") as sink:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
        )
    try:
        await serving(name, process, port, log)
        yield Running(process, port, time.monotonic() - began)
    finally:
        await end(process, log)


def command_of(name: str, ini: Path, port: int, setting: Setting) -> list[str]:
    if name == JAVA:
        home = f"-Duser.home={ini.parent}"
        return ["java", *JAVA_FLAGS, "-Dfile.encoding=UTF-8", home, "-cp", jvm.class_path(), jvm.MAIN, "-f", str(ini)]
    if name == OURS:
        return [sys.executable, "-m", "metaq", "server", "run", "-f", str(ini)]
    return [sys.executable, str(PROTOTYPE_SOURCE), str(port), "sync" if setting.synced else "nosync"]


async def serving(name: str, process: asyncio.subprocess.Process, port: int, log: Path) -> None:
    """Wait until the broker serves: ours says `ready`, Java answers, the prototype accepts."""
    deadline = time.monotonic() + PATIENCE
    while process.returncode is None and time.monotonic() < deadline:
        if name == OURS:
            served = b"ready" in log.read_bytes()
        else:
            served = await (jvm.answers(port) if name == JAVA else accepts(port))
        if served:
            return
        await asyncio.sleep(0.01)
    raise BrokerFailed(f"{name} does not serve: {last_words(log)}")


async def accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def end(process: asyncio.subprocess.Process, log: Path) -> None:
    """Stop the broker; one that does not stop is killed, which is an error."""
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(PATIENCE):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise BrokerFailed(f"it does not stop: {last_words(log)}") from None


def last_words(log: Path) -> str:
    return log.read_text("utf-8", "replace")[-300:].strip()


@asynccontextmanager
async def bare_reader(file: Path) -> AsyncIterator[int]:
    """Serve one file with the loop in C; yields its port."""
    port = jvm.free_port()
    process = await asyncio.create_subprocess_exec(BUILD / "cread", str(port), file, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        if not await process.stdout.readline():
            raise BrokerFailed("cread does not serve")
        yield port
    finally:
        process.kill()
        await process.communicate()
