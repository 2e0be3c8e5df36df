"""The brokers that are compared, each as a process of its own in a folder that is removed afterwards."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
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
ALONE: Final = "zk.zkEnable=false\n"
WITH_ZOOKEEPER: Final = "zk.zkConnect={zk}\nzk.zkSyncTimeMs=100\n"
OURS_INI: Final = "[pymetaq]\nbindAddress=127.0.0.1\n"


@dataclass(frozen=True, slots=True)
class Config:
    """What a broker is told beyond its folder and port."""

    setting: Setting
    topics: Mapping[str, int]  # with their partitions
    zk: str = ""  # address of a ZooKeeper; "": it is alone
    root: str = ""  # there; "": as it comes


@dataclass(frozen=True, slots=True)
class Running(Served):
    """A broker that serves."""

    port: int = 0


@asynccontextmanager
async def running(name: str, folder: Path, setting: Setting, zk: str) -> AsyncIterator[Running]:
    """Start a broker in this folder, new or left by an earlier one; end it at the end, in order.

    Raises ServerFailed.
    """
    config = Config(setting, {"test": setting.partitions, "read": 1}, "" if name == OURS else zk)
    port, command = prepare(name, folder, config)
    async with serving(command, partial(serves, name, port, command.log)) as served:
        yield Running(served.process, served.seconds, command.words, port)


def prepare(name: str, folder: Path, config: Config) -> tuple[int, Command]:
    """Write server.ini into a folder, new or left by an earlier one; return a free port and how to start the broker."""
    # apart: a folder `transactions` in dataPath makes 1.4.6.2 skip partitions when it starts
    for part in ("data", "log"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    port = jvm.free_port()
    text = INI.format(port=port, setting=config.setting, folder=folder)
    text += WITH_ZOOKEEPER.format(zk=config.zk) if config.zk else ALONE
    text += f"zk.zkRoot={config.root}\n" if config.root else ""
    text += OURS_INI if name == OURS else ""
    text += "".join(f"[topic={topic}]\nnumPartitions={count}\n" for topic, count in config.topics.items())
    ini = folder / "server.ini"
    ini.write_text(text)
    return port, Command(name, command_of(name, ini, port, config.setting), folder)


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
