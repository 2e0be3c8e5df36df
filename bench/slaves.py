"""A master and its slaves as processes, with a registry of ours, and how far a slave is."""

import asyncio
import os
import shutil
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from bench.brokers import JAVA_FLAGS, Config, Running, prepare, serves
from bench.cases import JAVA, OURS, Setting
from bench.processes import PATIENCE, Command, ServerFailed, serving
from bench.registries import registry
from metaq.model import TopicPartition
from metaq.protocol.commands import Mget, Want
from metaq.protocol.encoder import encode
from metaq.protocol.parts import read_parts
from tests.embedding import HERE
from tests.faults.pressing import Client

JAVA_SLAVE: Final = "METAQ_JAVA_SLAVE"  # environment: a class path with metamorphosis-server-wrapper, on no registry
JAVA_MAIN: Final = "com.taobao.metamorphosis.ServerStartup"
PROPERTIES: Final = """\
slaveId={number}
slaveGroup=meta-slave-group
slaveMaxDelayInMills=500
autoSyncMasterConfig=false
"""
LATEST: Final = 2**63 - 1
STAMP: Final = 8  # bytes of a body that say when it was sent
TICK: Final = 0.001  # seconds between two looks, and between two groups of puts at a rate


def java_slave() -> str:
    """Return the class path of the original's slave, "" if there is none."""
    return os.environ.get(JAVA_SLAVE, "")


@dataclass(frozen=True, slots=True)
class Site:
    """Where master and slaves have their homes and find each other. `topics`: with their partitions."""

    folder: Path
    zk: str
    topics: dict[str, int]

    def home(self, name: str) -> Path:
        """Return the home of `master`, or of `slave1` and so on."""
        return self.folder / name

    @asynccontextmanager
    async def master(self, setting: Setting, *, copy_to: int = 0) -> AsyncIterator[Running]:
        """Run the master in its home, which may hold data already; `copy_to`: the port of its slave in a pair."""
        port, command = self._prepare(OURS, "master", setting)
        if copy_to:
            properties = self.home("master") / "samsa_master.properties"
            properties.write_text(f"slave={HERE}:{copy_to}\n")
            command = Command("master", [*command.words, f"-Fsamsa={properties}"], command.folder)
        async with serving(command, partial(serves, OURS, port, command.log)) as served:
            yield Running(served.process, served.seconds, command.words, port)

    @asynccontextmanager
    async def gregor(self, setting: Setting) -> AsyncIterator[Running]:
        """Run the slave of a pair in a home of its own, `slave1`, which is new, and stays."""
        shutil.rmtree(self.home("slave1") / "data", ignore_errors=True)
        port, command = self._prepare(OURS, "slave1", setting)
        properties = self.home("slave1") / "gregor_slave.properties"
        properties.write_text("")
        command = Command("slave1", [*command.words, f"-Fgregor={properties}"], command.folder)
        async with serving(command, partial(serves, OURS, port, command.log)) as served:
            yield Running(served.process, served.seconds, command.words, port)

    @asynccontextmanager
    async def slave(self, setting: Setting, number: int = 1, kind: str = OURS) -> AsyncIterator[Running]:
        """Run a slave in a home of its own, which is new, and stays."""
        name = f"slave{number}"
        shutil.rmtree(self.home(name) / "data", ignore_errors=True)
        port, command = self._prepare(kind, name, setting)
        properties = self.home(name) / "async_slave.properties"
        properties.write_text(PROPERTIES.format(number=number))
        words = list(command.words)
        if kind == JAVA:
            home = f"-Duser.home={self.home(name)}"
            words = ["java", *JAVA_FLAGS, "-Dfile.encoding=UTF-8", home, "-cp", java_slave(), JAVA_MAIN]
            words += ["-f", words_after(command.words, "-f")]
        command = Command(name, [*words, f"-Fmetaslave={properties}"], command.folder)
        async with serving(command, partial(serves, kind, port, command.log)) as served:
            yield Running(served.process, served.seconds, command.words, port)

    def _prepare(self, kind: str, name: str, setting: Setting) -> tuple[int, Command]:
        return prepare(kind, self.home(name), Config(setting, self.topics, self.zk))


def words_after(words: object, flag: str) -> str:
    """Return the word behind a flag."""
    assert isinstance(words, list)
    return str(words[words.index(flag) + 1])


@asynccontextmanager
async def site(folder: Path, topics: dict[str, int]) -> AsyncIterator[Site]:
    """Make a folder with a registry for a master and its slaves; all of it goes at the end."""
    folder.mkdir(parents=True)
    try:
        async with registry(OURS, folder / "registry") as (_, port):
            yield Site(folder, f"{HERE}:{port}", topics)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def end_of(client: Client, topic: str, partitions: int) -> int:
    """Return how many bytes of a topic can be read from a broker, 0 as long as it has none of it."""
    ends: list[int] = []

    def replied(status: bytes, opaque: int, body: bytes) -> None:
        ends.append(int(body) if status == b"200" else 0)

    client.replied = replied
    before = client.count
    for number in range(partitions):
        client.transport.write(b"offset %b g %d %d %d\r\n" % (topic.encode(), number, LATEST, number))
    await client.until(before + partitions)
    return sum(ends)


async def copied(port: int, topic: str, partitions: int, size: int, patience: float = PATIENCE) -> float:
    """Wait until a slave can serve so many bytes; return the bytes per second from the first of them on."""
    client = await Client.dial(port)
    began, first = 0.0, 0
    deadline = time.monotonic() + patience
    try:
        while (end := await end_of(client, topic, partitions)) < size:
            now = time.monotonic()
            if now > deadline:
                raise ServerFailed(f"the slave has {end} of {size} bytes of {topic}")
            if not first or end == first:  # the clock runs when more comes than came at first
                began, first = now, end
            await asyncio.sleep(TICK)
        return (size - first) / (time.monotonic() - began)
    finally:
        client.transport.abort()


def check_equal(master: Path, slave: Path, topic: str) -> None:
    """Compare segments by name and bytes; neither broker runs. Raises ServerFailed."""
    theirs, ours = (sorted((home / "data").glob(f"{topic}-*/*.meta")) for home in (master, slave))
    if [path.relative_to(master) for path in theirs] != [path.relative_to(slave) for path in ours]:
        raise ServerFailed(f"the slave has other segments of {topic}")
    for one, other in zip(theirs, ours, strict=True):
        with one.open("rb") as a, other.open("rb") as b:
            while block := a.read(1 << 20):
                if block != b.read(1 << 20):
                    raise ServerFailed(f"{other.name} of {topic} differs")


class Lag:
    """Puts at a steady rate on a master; `seconds`: how long each took until it was read from a slave."""

    def __init__(self, master: Client, slave: Client, partitions: int, size: int) -> None:
        self._master = master
        self._slave = slave
        self._partitions = partitions
        self._padding = bytes(size - STAMP)
        self._ends = [0] * partitions
        self.sent = 0
        self.seconds: list[float] = []

    async def run(self, rate: int, seconds: float) -> None:
        """Send, and wait until all is there; those of the first second do not count."""
        self._slave.replied = self._read
        self._ask()
        loop = asyncio.get_running_loop()
        began = loop.time()
        while (now := loop.time() - began) < seconds + 1:
            while self.sent < now * rate:
                self._put()
            await asyncio.sleep(TICK)
        async with asyncio.timeout(PATIENCE):
            while len(self.seconds) < self.sent:
                await asyncio.sleep(TICK)
        del self.seconds[:rate]
        self.seconds.sort()

    def _put(self) -> None:
        body = time.monotonic_ns().to_bytes(STAMP, "big") + self._padding
        words = b"put test %d %d 0 -1 %d\r\n" % (self.sent % self._partitions, len(body), self.sent)
        self._master.transport.write(words + body)
        self.sent += 1

    def _ask(self) -> None:
        """Ask the slave for what it has of all partitions; it waits until that is something."""
        wants = tuple(Want(TopicPartition("test", n), end, 1 << 20) for n, end in enumerate(self._ends))
        self._slave.transport.write(encode(Mget("g", wants, 1 << 20, 1000, 1)))

    def _read(self, status: bytes, opaque: int, body: bytes) -> None:
        now = time.monotonic_ns()
        for part in read_parts(body) if status == b"value" else ():
            self._ends[part.nth] += len(part.data)
            for at in range(20, len(part.data), 20 + STAMP + len(self._padding)):
                self.seconds.append((now - int.from_bytes(part.data[at : at + STAMP], "big")) / 1e9)
        self._ask()


async def put_at(client: Client, rate: int, seconds: float, partitions: int, size: int) -> int:
    """Put messages of `size` bytes at a steady rate; return how many. Replies are not waited for."""
    body = bytes(size)
    line = b"put test %d %d 0 " + b"%d" % (zlib.crc32(body) & 0x7FFFFFFF) + b" %d\r\n"
    loop = asyncio.get_running_loop()
    began = loop.time()
    sent = 0
    while (now := loop.time() - began) < seconds:
        due = range(sent, int(now * rate))
        client.transport.write(b"".join(line % (n % partitions, size, n) + body for n in due))
        sent += len(due)
        await asyncio.sleep(TICK)
    return sent


def quantile(values: list[float], part: float) -> float:
    """Return a quantile of sorted values."""
    return values[min(len(values) - 1, int(len(values) * part))]
