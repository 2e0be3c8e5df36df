"""10,000 partitions with `ulimit -n` 256: all of them take and give messages, also after a kill and a stop."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from random import Random

from metaq.model import TopicPartition
from metaq.store.log import segment_name
from tests.embedding import Dial, Peer, configured, settings
from tests.faults.checker import Ledger
from tests.faults.processes import PATIENCE, Process

PARTITIONS = 10_000
AT_ONCE = 500
LIMIT = ("prlimit", "--nofile=256")


@asynccontextmanager
async def running(ini: Path) -> AsyncIterator[tuple[Process, Peer]]:
    """A broker that may have few descriptors, and a peer of it; killed in the end, if it still runs."""
    broker = await Process.start(ini, prefix=LIMIT)
    dial = Dial(broker.port)
    try:
        yield broker, await dial()
    finally:
        await dial.end()
        await broker.kill()


def targets() -> Iterator[TopicPartition]:
    return (TopicPartition("many", number) for number in range(PARTITIONS))


async def put_into_all(peer: Peer, ledger: Ledger) -> None:
    """Send a message to every partition, some hundred at a time."""
    todo = targets()
    while batch := list(islice(todo, AT_ONCE)):
        bodies = [ledger.body(target, 100) for target in batch]
        heads = [b"put many %d %d 0 -1 1\r\n%b" % (t.partition, len(b), b) for t, b in zip(batch, bodies, strict=True)]
        await peer.sends(b"".join(heads))
        for target, body in zip(batch, bodies, strict=True):
            answer = await peer.gets(rb"result 200 \d+ 1\r\n(\d+) (\d+) (\d+)")
            assert int(answer[2]) == target.partition
            ledger.acknowledge(target, int(answer[3]), int(answer[1]), body)


async def check_all(peer: Peer, ledger: Ledger) -> None:
    """Read every partition, some hundred at a time, and compare."""
    todo = targets()
    while batch := list(islice(todo, AT_ONCE)):
        await peer.sends(b"".join(b"get many g %d 0 10000 %d\r\n" % (t.partition, t.partition) for t in batch))
        for _ in batch:
            head, _, body = (await peer.frame()).partition(b"\r\n")
            assert head.startswith(b"value "), (head, body)
            ledger.check(TopicPartition("many", int(head.split(b" ")[2])), body)


async def test_10_000_partitions_live_with_256_descriptors(tmp_path: Path) -> None:
    own = {"journalLimit": 1 << 20, "tailMemory": 1 << 20}
    topics = f"[topic=many]\nnumPartitions={PARTITIONS}\n"
    configured(tmp_path, settings(tmp_path, pymetaq=own, topics=topics))
    ini, data = tmp_path / "server.ini", tmp_path / "data"
    ledger = Ledger(Random(8))
    async with running(ini) as (broker, peer):
        await put_into_all(peer, ledger)
        await put_into_all(peer, ledger)
        await check_all(peer, ledger)
        async with asyncio.timeout(PATIENCE):  # a checkpoint has them all
            while (data / "pymetaq" / "checkpoint" / "checkpoint").stat().st_size < 20 * PARTITIONS:
                await asyncio.sleep(0.01)
    assert not {"WARNING", "ERROR"} & set(broker.words().split()), broker.words()
    async with running(ini) as (broker, peer):
        await check_all(peer, ledger)
        assert await broker.stop() == 0, broker.words()
    assert not {"WARNING", "ERROR"} & set(broker.words().split()), broker.words()
    for target in targets():
        ledger.check(target, (data / str(target) / segment_name(0)).read_bytes())
