"""A wall clock that is set back: ids go on rising, nothing is deleted too early or never, sessions hold."""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from metaq.cluster.operations import Node
from metaq.cluster.paths import Paths
from metaq.cluster.zk import ZooKeeperClient
from metaq.config.model import DeletePolicy
from metaq.model import TopicPartition
from tests.conftest import require
from tests.embedding import Dial, configured, settings
from tests.faults.checker import Ledger, Producer, acknowledged, check_all
from tests.faults.processes import PATIENCE, Process
from tests.unit.store.course import SAFE, Life, config, opened

DAY = 86_400.0
SET_BACK = re.compile(r"the clock was set back by (2591\d\d|259200) seconds")  # three days less what passed
SESSION = 1.5  # seconds
TARGETS = [TopicPartition("test", number) for number in range(4)]
# Segments go an hour after they were written; whether any are to go is looked at every second.
TOPICS = "[topic=test]\ndeletePolicy=delete,1\ndeleteWhen=0/1 * * * * ?\n"


class Clock:
    """The wall clock of processes that are started with `prefix`, which look every second how it was set.

    The monotonic one and those of files are the real ones.
    """

    def __init__(self, folder: Path, library: Path) -> None:
        self._file = folder / "clock"
        self.set(0)
        self.prefix = (
            "env", f"LD_PRELOAD={library}", f"FAKETIME_TIMESTAMP_FILE={self._file}",
            "FAKETIME_CACHE_DURATION=1", "DONT_FAKE_MONOTONIC=1", "NO_FAKE_STAT=1",
        )  # fmt: skip

    def set(self, days: int) -> None:
        """Set it so many days ahead; less than 0: back."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{days:+d}d\n")
        new.replace(self._file)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    require("libfaketime (Debian package faketime)", bool(found))
    return Clock(tmp_path, found[0])


@asynccontextmanager
async def running(ini: Path, clock: Clock) -> AsyncIterator[tuple[Process, Dial]]:
    """A broker by that clock, killed in the end if it still runs."""
    broker = await Process.start(ini, prefix=clock.prefix)
    dial = Dial(broker.port)
    try:
        yield broker, dial
    finally:
        await broker.kill()
        await dial.end()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


def check_ids(ledger: Ledger) -> None:
    """No id was given twice, and in each partition they rise."""
    ids = [[id for _, (id, _) in sorted(messages.items())] for messages in ledger.acknowledged.values()]
    for one in ids:
        assert one == sorted(one)
    assert len({id for one in ids for id in one}) == ledger.count


async def owner(zk: str) -> Node | None:
    """Return the broker's node in ZooKeeper, which names its session; None where there is none."""
    if not zk:
        return None
    watcher = ZooKeeperClient(zk)
    await watcher.connect(PATIENCE)
    try:
        return await watcher.get(Paths("/meta").broker_address(0))
    finally:
        await watcher.close()


async def set_back_and_ahead(tmp_path: Path, zk: str, clock: Clock) -> None:
    """Do so under load, with a kill in between; `zk`: where the broker registers, if it does."""
    links = {"zk.zkEnable": "true", "zk.zkConnect": zk, "zk.zkSessionTimeoutMs": int(SESSION * 1000)} if zk else {}
    configured(tmp_path, settings(tmp_path, {"maxSegmentSize": 20_000}, zookeeper=links, topics=TOPICS))
    ini = tmp_path / "server.ini"
    ledger = Ledger(Random(9))
    async with running(ini, clock) as (broker, dial):
        producing = asyncio.ensure_future(Producer(ledger, TARGETS, window=5).run(dial))
        await acknowledged(ledger, 500, [producing])
        registered = await owner(zk)
        clock.set(-3)
        began = time.monotonic()
        while (zk and time.monotonic() < began + 2 * SESSION) or not SET_BACK.search(broker.words()):
            assert time.monotonic() < began + PATIENCE, broker.words()
            await acknowledged(ledger, 10, [producing])
        assert not producing.done()
        assert (registered is not None) == bool(zk)
        assert await owner(zk) == registered, "the session is another one"
        await broker.kill()
        await producing
    while await owner(zk) is not None:  # its session lasts a little longer
        await asyncio.sleep(0.01)
    async with running(ini, clock) as (broker, dial):
        await check_all(dial, ledger, TARGETS)  # from offset 0 on: nothing was deleted
        producing = asyncio.ensure_future(Producer(ledger, TARGETS, window=5).run(dial))
        await acknowledged(ledger, 500, [producing])
        await dial.end()
        await producing
        check_ids(ledger)
        assert await broker.stop() == 0, broker.words()
    async with running(ini, clock) as (broker, _):
        clock.set(+3)
        first = tmp_path / "data" / str(TARGETS[0]) / f"{0:020}.meta"
        await until(lambda: not first.exists())
        assert await broker.stop() == 0, broker.words()
        assert "Traceback" not in broker.words()


async def test_a_clock_that_is_set_back_and_ahead_harms_nobody(tmp_path: Path, clock: Clock) -> None:
    await set_back_and_ahead(tmp_path, "", clock)


@pytest.mark.soak  # a client of ZooKeeper under libfaketime takes ten seconds of processor time
async def test_a_session_outlives_a_clock_that_is_set_back(tmp_path: Path, zk: str, clock: Clock) -> None:
    await set_back_and_ahead(tmp_path, zk, clock)


@pytest.mark.parametrize("looks", [0, 1], ids=["before the first look", "after it"])
def test_segments_are_retired_by_the_new_time_when_the_clock_was_set_back(
    looks: int, caplog: pytest.LogCaptureFixture
) -> None:
    hourly = replace(config().defaults, delete_policy=DeletePolicy(age=-10 * DAY), delete_when="0 0 * * * ?")
    with opened(config(defaults=hourly)) as (world, life):

        async def course(life: Life) -> None:
            life.open()
            life.model.of(SAFE).retires = True
            for _ in range(3):
                life.put(SAFE, 2500)
                await life.settle()
            await life.checkpoint()
            for _ in range(looks):
                await life.store.housekeeping.step()
            life.machine.clock.set_back(5 * DAY)
            await life.store.housekeeping.step()
            assert life.log(SAFE).start == 0, "it is not the hour yet"
            await asyncio.sleep(3600)
            await life.store.housekeeping.step()
            assert life.log(SAFE).start > 0
            await life.close()

        with caplog.at_level(logging.WARNING):
            world.run(course(life))
    assert [r.message for r in caplog.records if "clock" in r.message] == [
        "the clock was set back by 432000 seconds; segments are retired by the new time"
    ]
