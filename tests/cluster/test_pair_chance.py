"""Bad days of a pair by chance: whatever happens, what was acknowledged is on both, and what is seen is, too."""

import asyncio
import random
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from metaq.model import TopicPartition
from metaq.record import walk
from metaq.store.log import PartitionLog
from tests.cluster.pair import Master, files, master, slave
from tests.embedding import Serving

KEYS = [TopicPartition("test", 0), TopicPartition("test", 1)]


class Day:
    """A pair, a producer, and somebody who looks whether what is seen here is there."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.chance = random.Random(seed)
        self.acknowledged: list[set[bytes]] = [set(), set()]
        self.tried: list[set[bytes]] = [set(), set()]
        self._count = 0

    async def run(self) -> None:
        """Let a master live several times, and its slave several times in each of its lives."""
        small = {"maxSegmentSize": 3000}
        async with slave(self.folder / "slave", system=small) as first:
            port = first.port
        for _ in range(2):
            async with master(self.folder / "master", port, system=small, send_timeout=0.5) as m:
                for _ in range(3):
                    async with slave(self.folder / "slave", port, system=small) as s:
                        await self._together(m, s)
                    await self._puts(m, 5)
            async with slave(self.folder / "slave", port, system=small) as s, AsyncExitStack() as stack:
                m = await stack.enter_async_context(master(self.folder / "master", port, system=small))
                await m.up()
                await self._puts(m, 3)

    async def _together(self, m: Master, s: Serving) -> None:
        watching = asyncio.ensure_future(self._watch(m, s))
        for _ in range(8):
            match self.chance.randrange(4):
                case 0:
                    connection = m.samsa.link._connection
                    if connection is not None:
                        connection.drop("cut by chance")
                case 1:
                    await m.up()
                case _:
                    await self._puts(m, self.chance.randrange(1, 12))
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        assert watching.cancelled(), watching.exception()

    async def _watch(self, m: Master, s: Serving) -> None:
        """See that no reader of the master is ahead of the slave."""
        while True:
            for key in KEYS:
                here, there = m.store.get(key), s.running.broker.store.get(key)
                if here is not None and m.samsa.link.is_open and not m.samsa.lines.behind:
                    assert ahead(here, there) <= 0
            await asyncio.sleep(0)

    async def _puts(self, m: Master, count: int) -> None:
        """Put several at once; keep what was acknowledged."""
        sent = {}
        for _ in range(count):
            self._count += 1
            partition = self.chance.randrange(2)
            body = b"%d:" % self._count + b"x" * self.chance.randrange(400)
            self.tried[partition].add(body)
            sent[self._count] = partition, body
            await m.peer.sends(b"put test %d %d 0 %d\r\n%b" % (partition, len(body), self._count, body))
        for _ in range(count):
            head = (await m.peer.frame()).partition(b"\r\n")[0].split(b" ")
            partition, body = sent[int(head[3])]
            if head[1] == b"200":
                self.acknowledged[partition].add(body)


def ahead(here: PartitionLog, there: PartitionLog | None) -> int:
    """Return how many bytes readers of the master see that the slave has not."""
    return here.readable - (here.start if there is None else there.end)


@pytest.mark.parametrize("seed", range(2))
async def test_what_was_acknowledged_is_on_both_and_both_are_the_same(seed: int, tmp_path: Path) -> None:
    day = Day(tmp_path, seed)
    await day.run()
    for partition in range(2):
        name = f"test-{partition}"
        here, there = files(tmp_path / "master", name), files(tmp_path / "slave", name)
        assert here == there != {}
        bodies = [record.body for record in walk(b"".join(here.values()))]
        assert len(bodies) == len(set(bodies)), "a message came twice"
        assert day.acknowledged[partition] <= set(bodies) <= day.tried[partition]
        assert len(day.acknowledged[partition]) > 10
