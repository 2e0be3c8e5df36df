"""The three sites of the deployment in tests/data/seed, each a home with the deployment's files, on one machine."""

import asyncio
import fcntl
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from metaq.cli.home import Home
from metaq.cli.main import run
from metaq.cli.process import hold
from tests.cli.homes import kill
from tests.interop import jvm
from tests.interop.conftest import Judge
from tests.interop.jvm import JavaBroker

SEED: Final = Path(__file__).parents[2] / "data" / "seed"
MEMORY: Final = Path("/dev/shm")  # messages lie here, where there is such a thing
PORT: Final = 8123  # of the deployment, on each of its addresses
MASTER: Final = ("beijing", "127.0.51.33")
SLAVES: Final = (("hefei", "127.0.52.23"), ("guangzhou", "127.0.70.157"))
JMX: Final = ("-Dcom.sun.management.jmxremote.authenticate=false", "-Dcom.sun.management.jmxremote.ssl=false")


@dataclass(frozen=True, slots=True)
class Times:
    """Time-outs of ZooKeeper, in ms, for brokers and consumers; `patience` is how long a test waits, in seconds."""

    session: int
    sync: int
    patience: float
    as_written: bool = False  # what the files of the deployment say is left as it is


WRITTEN: Final = Times(30_000, 5_000, patience=120, as_written=True)
SHORT: Final = Times(2_000, 300, patience=40)


async def until(
    condition: Callable[[], Awaitable[bool]], patience: float, what: Callable[[], object] = lambda: ""
) -> None:
    """Wait for a condition; it fails the test if that takes longer than `patience` seconds."""
    last = time.monotonic() + patience
    while not await condition():
        assert time.monotonic() < last, f"it did not happen within {patience} s: {what()}"
        await asyncio.sleep(0.02)


class Site:
    """One broker's home, started and looked after by its script."""

    def __init__(self, address: str, port: int, home: Home, role: str = "") -> None:
        self.address = address
        self.port = port
        self.home = home
        self.data = home.path / "data"
        self.role = role

    def write(self, zk: str, times: Times, data: Path) -> None:
        """Write conf/: the deployment's files but for what lets three sites run on this machine, and for `times`."""
        self.data = data
        text = (SEED / "server.ini").read_text("ascii")
        port = {} if self.port == PORT else {"serverPort": self.port}
        text = jvm.with_settings(text, "system", {"hostName": self.address, "dataPath": data, **port})
        shorter = {} if times.as_written else {"zk.zkSessionTimeoutMs": times.session, "zk.zkSyncTimeMs": times.sync}
        text = jvm.with_settings(text, "zookeeper", {"zk.zkConnect": zk, **shorter})
        self.home.ini.write_text(f"{text}\n[pymetaq]\nbindAddress={self.address}\n", "ascii")
        if self.role:
            properties = SEED / f"async_slave.{self.home.path.name}.properties"
            (self.home.ini.parent / "async_slave.properties").write_bytes(properties.read_bytes())

    async def start(self) -> None:
        """Do as the deployment's people: `./metaServer.sh start … &`, from bin/. Return when the broker answers."""
        said = self.home.path / "start.log"
        with said.open("ab") as out:
            shell = await asyncio.create_subprocess_shell(
                f"./metaServer.sh start {self.role} &",
                cwd=self.home.path / "bin", env=_environment(), stdout=out, stderr=out,
            )  # fmt: skip
        await shell.wait()

        async def serves() -> bool:
            assert "did not start" not in said.read_text("utf-8"), said.read_text("utf-8")
            return await self.answers()

        await until(serves, SHORT.patience)

    async def kill(self) -> None:
        """End the broker as a power cut would."""
        kill(self.home)

    def freeze(self) -> None:
        """Let the broker do nothing, as on a machine that is too busy."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        process = hold(self.home)
        assert process is not None
        process.send(number)
        process.close()

    async def stop(self) -> None:
        """Stop the broker in order: `metaServer.sh stop`."""
        assert "Stop meta broker successfully." in await self.script("stop")

    async def reload(self) -> None:
        """Have it read its server.ini again: `metaServer.sh reload`."""
        await self.script("reload")

    async def script(self, *words: str) -> str:
        """Run the script of the home; return what it prints."""
        process = await asyncio.create_subprocess_exec(
            self.home.path / "bin" / "metaServer.sh", *words,
            env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await process.communicate()
        assert process.returncode == 0, out.decode()
        return out.decode()

    async def answers(self) -> bool:
        with suppress(OSError, TimeoutError, EOFError):
            return bool(await self.stats())
        return False

    async def stats(self, item: str = "") -> list[str]:
        """Return the lines that `stats` has."""
        async with self._peer() as (reader, writer):
            writer.write(b"stats %b 1\r\n" % item.encode())
            _, _, size, _ = (await reader.readuntil(b"\r\n")).split()
            return (await reader.readexactly(int(size))).decode().split("\r\n")[1:-2]

    async def reads(self) -> int:
        """Return how many gets found something since the start, for consumers or slaves.

        One that a broker of ours holds back until there is something counts already, and for good if its client goes.
        """
        stats = dict(line.split(" ", 1) for line in await self.stats())
        return int(stats["cmd_get"]) - int(stats["get_miss"])

    async def misses(self) -> int:
        """Return how many gets found nothing since the start."""
        stats = dict(line.split(" ", 1) for line in await self.stats())
        return int(stats["get_miss"])

    async def bounds(self) -> dict[str, tuple[int, int]]:
        """Return where each log that holds something begins and ends, by `<topic>-<partition>`."""
        found: dict[str, tuple[int, int]] = {}
        for line in await self.stats("offsets"):
            topic, _, partition, _, first, _, last = line.split()
            if int(last):
                found[f"{topic}-{partition}"] = (int(first), int(last))
        return found

    async def logs(self) -> dict[str, bytes]:
        """Return the bytes of each log that holds something, as a consumer gets them."""
        found: dict[str, bytes] = {}
        async with self._peer() as (reader, writer):
            for name, (first, end) in (await self.bounds()).items():
                topic, _, partition = name.rpartition("-")
                offset, found[name] = first, b""
                while offset < end:
                    writer.write(b"get %b look %b %d %d 1\r\n" % (topic.encode(), partition.encode(), offset, 1 << 20))
                    word, size, _ = (await reader.readuntil(b"\r\n")).split()
                    assert word == b"value"
                    found[name] += await reader.readexactly(int(size))
                    offset += int(size)
        return found

    @asynccontextmanager
    async def _peer(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        async with asyncio.timeout(5.0):
            reader, writer = await asyncio.open_connection(self.address, self.port)
            try:
                yield reader, writer
            finally:
                writer.close()

    def segments(self) -> dict[str, bytes]:
        """Return `<topic>-<partition>/<segment>` → bytes, of all that hold something. The broker has ended in order."""
        found = {path: path.read_bytes() for path in self.data.glob("*/*.meta")}
        return {f"{path.parent.name}/{path.name}": data for path, data in sorted(found.items()) if data}


class JavaSite(Site):
    """A home from which the Java broker runs. It binds every address of the machine, so it has a port of its own."""

    broker: JavaBroker | None = None

    def __init__(self, address: str, port: int, home: Home, judge: Judge) -> None:
        super().__init__(address, port, home)
        self._judge = judge
        self._jmx = jvm.free_port()

    async def start(self) -> None:
        flags = (*jvm.QUICK, *JMX, f"-Dcom.sun.management.jmxremote.port={self._jmx}")
        self.broker = await jvm.start_broker(self.home.ini, self.port, flags)

    async def kill(self) -> None:
        if self.broker is not None:
            await self.broker.kill()

    async def stop(self) -> None:
        if self.broker is not None:
            await self.broker.stop()

    async def reload(self) -> None:
        await self._judge("Reload", jmx=self._jmx)


class Deployment:
    """Beijing, and its slaves Hefei and Guangzhou."""

    def __init__(self, master: Site, slaves: tuple[Site, Site], zk: str, times: Times) -> None:
        self.master = master
        self.slaves = slaves
        self.hefei, self.guangzhou = slaves
        self.zk = zk
        self.times = times
        self.guests = AsyncExitStack()  # consumers; they leave before the brokers end

    async def until(self, condition: Callable[[], Awaitable[bool]], what: Callable[[], object] = lambda: "") -> None:
        await until(condition, self.times.patience, what)

    async def copied(self) -> dict[str, bytes]:
        """Wait until both slaves have what the master has, byte for byte; return it."""
        here: dict[str, dict[str, tuple[int, int]]] = {}

        async def as_far() -> bool:
            here.update({site.home.path.name: await site.bounds() for site in (self.master, *self.slaves)})
            return all(there == here[MASTER[0]] for there in here.values())

        await self.until(as_far, lambda: here)
        logs = await self.master.logs()
        for slave in self.slaves:
            assert await slave.logs() == logs
        return logs


@contextmanager
def deployed(folder: Path, zk: str, times: Times, judge: Judge | None) -> Iterator[Deployment]:
    """Make the homes, nothing running yet; with a judge the master is to be a Java broker. Ours end with the block."""
    memory = MEMORY if MEMORY.is_dir() else folder
    with _port() as port, tempfile.TemporaryDirectory(prefix="metaq-sites-", dir=memory) as data:
        homes = {name: _home(folder / name) for name, _ in (MASTER, *SLAVES)}
        master = Site(MASTER[1], port, homes[MASTER[0]])
        if judge is not None:
            master = JavaSite(MASTER[1], jvm.free_port(), homes[MASTER[0]], judge)
        hefei, guangzhou = (Site(address, port, homes[name], "slave") for name, address in SLAVES)
        for site in (master, hefei, guangzhou):
            site.write(zk, times, Path(data) / site.home.path.name)
        try:
            yield Deployment(master, (hefei, guangzhou), zk, times)
        finally:
            for home in homes.values():
                kill(home)


def _home(path: Path) -> Home:
    assert run(["server", "init", str(path)]) == 0
    return Home(path)


@contextmanager
def _port() -> Iterator[int]:
    """Give the deployment's port if no other test or process has it on these addresses, else one that is free."""
    lock = os.open(Path(tempfile.gettempdir()) / f"metaq-test-port-{PORT}", os.O_CREAT | os.O_RDWR, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for _, address in (MASTER, *SLAVES):
            socket.create_server((address, PORT)).close()
        port = PORT
    except OSError:
        port = jvm.free_port()
    try:
        yield port
    finally:
        os.close(lock)


def _environment() -> dict[str, str]:
    """What somebody has set who has nothing set."""
    return {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
