"""Our registry beside a real ZooKeeper: pipelined writes, many nodes, many sessions, memory."""

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from bench.cases import OURS
from bench.loads import LoadFailed
from bench.processes import Command, Served, ServerFailed, accepts, serving
from bench.registry_load import GREETING
from bench.samples import Sample, Samples
from tests.interop import jvm

IN_FLIGHT: Final = 100  # writes of each connection
PATIENCE: Final = 120.0  # seconds for one step
WRITES: Final = "registry/writes, {} connections"
CONNECTIONS: Final = (1, 10)
HELLO: Final = len(GREETING).to_bytes(4, "big") + GREETING
MEMORY: Final = "registry/memory with them"
CONFIG: Final = """\
tickTime=2000
dataDir={folder}/data
clientPort={port}
clientPortAddress=127.0.0.1
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=*
"""
JARS: Final = "/usr/share/java/zookeeper.jar"  # of Debian's package; its manifest names the other jars
JAVA: Final = ("java", "-Xmx1000m", "-Dzookeeper.jmx.log4j.disable=true", "-cp", JARS)  # memory: zkServer.sh's default


@dataclass(frozen=True, slots=True)
class Size:
    """How much is put on a registry."""

    seconds: float
    nodes: int
    sessions: int


@asynccontextmanager
async def registry(name: str, folder: Path) -> AsyncIterator[tuple[Served, int]]:
    """Run ours or ZooKeeper in a folder, which is made; yields the process and the port. Raises ServerFailed."""
    folder.mkdir(parents=True)
    port = jvm.free_port()
    if name == OURS:
        words = [sys.executable, "-m", "metaq", "registry", "run", "--port", str(port), "--data", str(folder / "data")]
        words += ["--log-level", "error"]
    else:
        config = folder / "zoo.cfg"
        config.write_text(CONFIG.format(folder=folder, port=port))
        words = [*JAVA, "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(config)]
    try:
        # an answer to the greeting: ZooKeeper answers `ruok` some time before it gives sessions
        async with serving(Command(name, words, folder), partial(accepts, port, HELLO, b"\0\0\0")) as served:
            yield served, port
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def measure_registries(
    samples: Samples, round_: int, names: Sequence[str], folder: Path, size: Size, say: Callable[[str], None]
) -> None:
    """Put each step on each registry; what fails is noted, and the rest of that one left out."""
    for name in names:
        say(f"round {round_ + 1}: registry {name}")

        def add(case: str, value: float, unit: str, name: str = name) -> None:
            say(f"  {case}: {value:,.0f} {unit}")
            samples.add(Sample(case, name, round_, value, unit))

        try:
            async with registry(name, folder / f"registry-{name}") as (served, port):
                await fill(port, served, size, add)
        except (LoadFailed, ServerFailed) as exc:
            note = " ".join(str(exc).split())[-160:]
            samples.add(Sample(WRITES.format(1), name, round_, None, "writes/s", note))


async def fill(port: int, served: Served, size: Size, add: Callable[[str, float, str], None]) -> None:
    for connections in CONNECTIONS:
        warm = size.seconds / 2
        async with load("writes", port, connections, IN_FLIGHT, size.seconds, warm) as rate:
            add(WRITES.format(connections), rate, "writes/s")
    async with load("nodes", port, size.nodes) as rate:
        add(f"registry/create {size.nodes:,} nodes", rate, "nodes/s")
    async with load("sessions", port, size.sessions) as rate:
        add(f"registry/open {size.sessions:,} sessions", rate, "sessions/s")
        add(MEMORY, served.memory(), "MiB")


@asynccontextmanager
async def load(verb: str, port: int, *numbers: float) -> AsyncIterator[float]:
    """Put one step of `bench.registry_load` on a registry; yields its rate, and ends it. Raises LoadFailed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.registry_load", verb, str(port), *map(str, numbers),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        try:
            async with asyncio.timeout(PATIENCE):
                line = await process.stdout.readline()
                if not line:
                    raise LoadFailed(f"{verb}: {(await process.communicate())[1].decode()[-300:]}")
        except TimeoutError:
            raise LoadFailed(f"{verb}: no answer") from None
        yield float(json.loads(line)["rate"])
        process.stdin.close()
        async with asyncio.timeout(PATIENCE):
            await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
