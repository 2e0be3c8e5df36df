"""A slave in another city: 40 ms there and back, one packet of a thousand is lost, sometimes the line is cut.

The master takes 20 MB/s all the time, a quarter of that in the short form: other tests use the machine then, and the
system's own pace carries less yet. The slave keeps up with it; after a cut it needs what is due: to notice, and to
copy what came meanwhile at the speed that the line has. The line is a process (line.py), so is the master, which finds
its pace as it does by default, towards this slave: the system's own pace over this line is the slowest there is.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

import metaq.aio
from metaq.model import BrokerAddress, TopicPartition
from metaq.replication.options import FollowerOptions
from tests.embedding import PATIENCE, settings
from tests.faults.processes import Process
from tests.unit.replication.conftest import Copying, Pair

DELAY: Final = 0.02  # seconds, each way
LOSS: Final = 0.001
USUAL: Final = "reno"  # how senders find their pace over this line that choose none; every system knows it
RATE: Final = 20_000_000  # bytes per second, on disk
SHORT_RATE: Final = RATE // 4
PARTITIONS: Final = 4
KEYS: Final = [TopicPartition("test", number) for number in range(PARTITIONS)]
TOPICS: Final = f"[topic=test]\nnumPartitions={PARTITIONS}\nunflushThreshold=1000\n"
BODY: Final = bytes(980)
SIZE: Final = 1000  # of a record on disk
TICK: Final = 0.05  # seconds between two batches, and between two looks
BEHIND: Final = 1.0  # seconds of messages that a slave may be behind which keeps up
NOTICED: Final = 8.0  # seconds after a cut until bytes come again: the line is dialled again, or TCP repeats


@pytest.fixture
def pair(folder: Path) -> Pair:
    return Pair(folder)


class Line:
    """The line between the slave and its master. `address`: where it finds the master."""

    def __init__(self, process: asyncio.subprocess.Process, address: BrokerAddress, kind: str) -> None:
        self._process = process
        self.address = address
        self.kind = kind

    async def say(self, word: str) -> None:
        """Have it `cut` or `mend`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{word}\n".encode())
        async with asyncio.timeout(PATIENCE):
            assert await self._process.stdout.readline() == b"done\n"


@asynccontextmanager
async def line_to(port: int) -> AsyncIterator[Line]:
    """Lay a line to a port of this machine; its addresses are no other test's."""
    net, last = f"10.213.{os.getpid() >> 6 & 255}", (os.getpid() & 63) * 4
    words = [f"{net}.{last + 1}", f"{net}.{last + 2}", str(port), str(DELAY), str(LOSS), USUAL]
    command = [sys.executable, "-m", "tests.faults.line", *words]
    process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            _, host, at, kind = (await process.stdout.readline()).decode().split()
        yield Line(process, BrokerAddress(host, int(at)), kind)
    finally:
        process.stdin.close()
        async with asyncio.timeout(PATIENCE):
            await process.wait()


class Distance:
    """Publishes `rate` bytes per second while a slave copies; all is checked by bytes that each has."""

    def __init__(self, mq: metaq.aio.MessageQueue, slave: Copying, rate: int) -> None:
        self.rate = rate
        self._mq = mq
        self._slave = slave
        self._loop = asyncio.get_running_loop()
        self.published = 0
        self.over = False

    @property
    def copied(self) -> int:
        return sum(log.visible for log in self._slave.store.all())

    @property
    def behind(self) -> float:
        """Seconds of messages that the slave has not got."""
        return (self.published - self.copied) / self.rate

    async def publish(self, size: int) -> None:
        """Publish so many bytes, as fast as it goes."""
        producer = self._mq.producer("test")
        for number in range(PARTITIONS):
            await producer.send_many([BODY] * (size // SIZE // PARTITIONS), partition=number)
            self.published += size // SIZE // PARTITIONS * SIZE

    async def press(self) -> None:
        """Publish until `over`."""
        began, before = self._loop.time(), self.published
        while not self.over:
            due = int((self._loop.time() - began) * self.rate) - (self.published - before)
            if due >= SIZE * PARTITIONS:
                await self.publish(due)
            await asyncio.sleep(TICK)

    async def stays(self, seconds: float, patience: float) -> float:
        """Return how far behind it was at most for so many seconds in which it kept up, which come within `patience`.

        One that does not keep up falls further and further behind: it has no such time.
        """
        began = since = self._loop.time()
        most = 0.0
        while (now := self._loop.time()) < since + seconds:
            most = max(most, self.behind)
            if most > BEHIND:
                assert now < began + patience, f"{most:.2f} s behind after {now - began:.1f} s"
                since, most = now, 0.0
            await asyncio.sleep(TICK)
        return most

    async def reaches(self, size: int, patience: float) -> float:
        """Return how long it takes until so many bytes are copied."""
        began = self._loop.time()
        while self.copied < size:
            assert self._loop.time() < began + patience, f"{size - self.copied} bytes are missing"
            await asyncio.sleep(TICK)
        return self._loop.time() - began

    async def keeps_up(self, patience: float) -> float:
        """Return how long it takes until it is no further behind than one that keeps up."""
        began = self._loop.time()
        while self.behind > BEHIND / 2:
            assert self._loop.time() < began + patience, f"{self.behind:.1f} s behind after {patience:.1f} s"
            await asyncio.sleep(TICK)
        return self._loop.time() - began


@asynccontextmanager
async def pressed(distance: Distance) -> AsyncIterator[None]:
    """Publish all the time."""
    async with asyncio.TaskGroup() as group:
        group.create_task(distance.press())
        try:
            yield
        finally:
            distance.over = True  # not cancelled: what was sent counts


async def go_far(pair: Pair, steady: float, cut: float, rate: int = RATE) -> None:
    """Copy a backlog, keep up for a while, lose the line for a while, and catch up."""
    ini = pair.master_home / "server.ini"
    ini.write_text(settings(pair.master_home, {}, {"bindAddress": "0.0.0.0"}, topics=TOPICS))
    master = await Process.start(ini)
    async with line_to(master.port) as line, pair.slave(FollowerOptions(group="slave"), TOPICS) as slave:
        async with metaq.aio.connect(f"metaq://127.0.0.1:{master.port}") as mq:
            await check(Distance(mq, slave, rate), line, slave, steady, cut)
        assert await master.stop() == 0
    pair.check_equal(*KEYS)


async def check(distance: Distance, line: Line, slave: Copying, steady: float, cut: float) -> None:
    await distance.publish(2 * distance.rate)
    slave.follower.follow(line.address, {"test": PARTITIONS})
    speed = distance.published / await distance.reaches(distance.published, 30)
    async with pressed(distance):
        most = await distance.stays(steady, PATIENCE + 2 * steady)
        await line.say("cut")
        await asyncio.sleep(cut)
        has = distance.copied
        await line.say("mend")
        noticed = await distance.reaches(has + 1, NOTICED)
        rate = distance.rate
        due = distance.behind * rate / max(speed * 0.8 - rate, rate / 4)
        caught_up = await distance.keeps_up(1 + 1.5 * due)
    print(
        f"{line.kind}: {speed / 1e6:.0f} MB/s at first, at most {most:.2f} s behind; after a cut of"
        f" {cut:g} s bytes came after {noticed:.2f} s, it was up to date after {caught_up:.1f} s more"
    )
    await distance.reaches(distance.published, 30)


async def test_a_slave_far_away_keeps_up_and_catches_up_after_a_cut(pair: Pair) -> None:
    await go_far(pair, 2.0, 2.0, SHORT_RATE)


@pytest.mark.soak
@pytest.mark.parametrize("cut", [15.0, 60.0])
async def test_a_long_cut_costs_only_the_time_to_catch_up(pair: Pair, cut: float) -> None:
    await go_far(pair, 20.0, cut)
