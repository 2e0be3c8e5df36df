"""Tens of thousands of partitions: registered, listed, reloaded and saved without holding up the loop.

What is measured is processor time of the loop's thread. The short form has 6,000 partitions and a limit to match; the
long form 50,000, as one topic and as 10,000, and the limit that is promised.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from metaq.testing import Coordinator
from tests.conftest import COORDINATORS
from tests.embedding import Dial, Peer, Serving, configured, settings
from tests.pauses import Pauses

PROMISED = 0.050  # seconds, with 50,000 partitions
SHORT = 0.040  # with 6,000; what grows with the square of 2,000 topics takes longer
NEW = 50  # topics that a reload adds

pytestmark = pytest.mark.timeout(240)


class Case:
    """So many topics, each with so many partitions, in a broker that is registered at `zk`."""

    def __init__(self, folder: Path, zk: str, topics: int, partitions: int) -> None:
        self.folder, self.zk, self.topics, self.partitions = folder, zk, topics, partitions

    def write(self, partitions: int, new: int = 0) -> str:
        """Return a server.ini with so many partitions in each topic, and `new` topics more."""
        sections = [f"[topic=t{n}]\nnumPartitions={partitions}\n" for n in range(self.topics)]
        sections += [f"[topic=new{n}]\nnumPartitions=2\n" for n in range(new)]
        zookeeper = {"zk.zkEnable": "true", "zk.zkConnect": self.zk, "zk.zkSyncTimeMs": 0}
        system = {"unflushThreshold": 1000}
        return settings(self.folder, system, {"journalFileSize": 16 << 20}, zookeeper, "".join(sections))

    async def put_into_each(self, peer: Peer) -> None:
        """Put a message into each partition."""
        places = [(topic, number) for topic in range(self.topics) for number in range(self.partitions)]
        for start in range(0, len(places), 200):
            some = places[start : start + 200]
            await peer.sends(b"".join(b"put t%d %d 5 0 907060870 7\r\nhello" % place for place in some))
            for _ in some:
                assert (await peer.frame()).startswith(b"result 200 ")


@pytest.fixture(
    params=[
        pytest.param((2000, 3, SHORT), id="2000 topics"),
        pytest.param((1, 6000, SHORT), id="one topic"),
        pytest.param((10_000, 5, PROMISED), id="10000 topics", marks=pytest.mark.soak),
        pytest.param((1, 50_000, PROMISED), id="one topic of 50000", marks=pytest.mark.soak),
    ]
)
def shape(request: pytest.FixtureRequest) -> tuple[int, int, float]:
    topics, partitions, limit = request.param
    return topics, partitions, limit


@pytest.fixture
async def putting() -> AsyncIterator[list[asyncio.Task[None]]]:
    tasks: list[asyncio.Task[None]] = []
    yield tasks
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def put_on(peer: Peer, case: Case, counts: list[int]) -> None:
    """Put one message after the other, to the partitions in turn, until cancelled."""
    while True:
        for number in range(case.partitions):
            reply = await peer.asks(b"put t0 %d 5 0 907060870 7\r\nhello" % number)
            assert reply.startswith(b"result 200 ")
            counts[0] += 1


@pytest.mark.parametrize("coordinator", COORDINATORS, indirect=True)
async def test_nothing_that_a_broker_does_with_many_partitions_holds_up_its_loop(
    shape: tuple[int, int, float],
    coordinator: Coordinator,
    zk: str,
    folder: Path,
    pauses: Pauses,
    putting: list[asyncio.Task[None]],
) -> None:
    topics, partitions, limit = shape
    case = Case(folder, zk, topics, partitions)
    config = configured(folder, case.write(partitions))
    await asyncio.sleep(0)  # the configuration was read in the callback before
    with pauses.below(limit, "starting and registering"):
        broker = await Serving(config).start()
    dial = Dial(broker.port)
    peer, other = await dial(), await dial()
    try:
        with pauses.below(limit, "the first messages"):
            await case.put_into_each(peer)
        for item, lines in (("", 20), ("offsets", topics * partitions), ("topics", topics), ("t0", 5)):
            with pauses.below(limit, f"stats {item}"):
                answer = await peer.asks(b"stats %b 5\r\n" % item.encode())
            assert answer.count(b"\r\n") >= lines
        counts = [0]
        putting.append(asyncio.create_task(put_on(other, case, counts)))
        with pauses.below(limit, "a checkpoint"):
            await broker.running.broker.store.housekeeping.checkpoint()
        with pauses.below(limit, "housekeeping"):
            await broker.running.broker.store.housekeeping.step()
        (folder / "server.ini").write_text(case.write(partitions + 1, NEW))
        before = counts[0]
        await asyncio.sleep(0)
        with pauses.below(limit, "reloading"):
            reloaded = await broker.running.reload()
        assert (len(reloaded.added), len(reloaded.changed)) == (NEW, topics)
        assert counts[0] > before  # others went on meanwhile
        assert (await peer.asks(b"put t0 %d 1 0 -1 7\r\nx" % partitions)).startswith(b"result 200 ")
        assert not putting[0].done()
    finally:
        await dial.end()
        await broker.end()
