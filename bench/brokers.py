"""The brokers that are compared, each as a process of its own in a folder that is removed afterwards."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from bench.cases import JAVA, OURS, Setting
from bench.loads import BUILD
from bench.processes import Command, Served, ServerFailed, accepts, serving
from tests.interop import jvm

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


@dataclass(frozen=True, slots=True)
class Running(Served):
    """A broker that serves."""

    port: int = 0


@asynccontextmanager
async def running(name: str, folder: Path, setting: Setting, zk: str) -> AsyncIterator[Running]:
    """Start a broker in this folder, new or left by an earlier one; end it at the end, in order.

    Raises ServerFailed.
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
    command = Command(name, command_of(name, ini, port, setting), folder)
    async with serving(command, partial(serves, name, port, command.log)) as served:
        yield Running(served.process, served.seconds, command.words, port)


async def serves(name: str, port: int, log: Path) -> bool:
    """Say whether a broker serves: ours says `ready`, Java answers, the prototype accepts."""
    if name == OURS:
        return b"ready" in log.read_bytes()
    return await (jvm.answers(port) if name == JAVA else accepts(port))


def command_of(name: str, ini: Path, port: int, setting: Setting) -> list[str]:
    if name == JAVA:
        home = f"-Duser.home={ini.parent}"
        return ["java", *JAVA_FLAGS, "-Dfile.encoding=UTF-8", home, "-cp", jvm.class_path(), jvm.MAIN, "-f", str(ini)]
    if name == OURS:
        return [sys.executable, "-m", "metaq", "server", "run", "-f", str(ini)]
    return [sys.executable, str(PROTOTYPE_SOURCE), str(port), "sync" if setting.synced else "nosync"]


@asynccontextmanager
async def bare_reader(file: Path) -> AsyncIterator[int]:
    """Serve one file with the loop in C; yields its port."""
    port = jvm.free_port()
    process = await asyncio.create_subprocess_exec(BUILD / "cread", str(port), file, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        if not await process.stdout.readline():
            raise ServerFailed("cread does not serve")
        yield port
    finally:
        process.kill()
        await process.communicate()
