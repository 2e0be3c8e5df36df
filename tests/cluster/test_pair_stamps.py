"""A batch that is sent again after the slave of a pair became the master is answered as it was the first time."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from metaq.record import pack
from metaq.store.store import MessageStore
from tests.cluster.pair import KEY, ONE_TOPIC, Master, files, master, slave, until
from tests.embedding import Dial, Peer, configured, serving, settings


def batch(producer: int, sequence: int, *bodies: bytes) -> bytes:
    """Return an mput of these messages to test-0."""
    records = b"".join(pack(0, 0, body) for body in bodies)
    return b"mput test 0 %d %d %d 0 %d 1\r\n%b" % (len(records), len(bodies), producer, sequence, records)


BATCHES = [batch(7, 0, b"a", b"bb"), batch(8, 0, b"c"), batch(7, 1, *[b"%d" % n for n in range(30)])]


@asynccontextmanager
async def made_master(folder: Path) -> AsyncIterator[Peer]:
    """Run a broker without a slave on what the slave had; yield a client's connection."""
    async with serving(configured(folder, settings(folder, topics=ONE_TOPIC))) as broker:
        dial = Dial(broker.port)
        yield await dial()
        await dial.end()


async def answers(peer: Peer, batches: list[bytes]) -> list[bytes]:
    return [await peer.asks(sent) for sent in batches]


def end_of(store: MessageStore) -> int:
    log = store.get(KEY)
    return 0 if log is None else log.end


async def knows_them(folder: Path, first: list[bytes], batches: list[bytes]) -> None:
    """Assert that what was the slave answers so, also after a restart, and stores nothing."""
    before = files(folder)
    for _ in range(2):
        async with made_master(folder) as peer:
            assert await answers(peer, batches) == first
    assert files(folder) == before


async def test_the_slave_knows_batches_that_it_stored_though_nobody_heard_the_answer(tmp_path: Path) -> None:
    async with slave(tmp_path / "slave") as theirs, master(tmp_path / "master", theirs.port) as ours:
        await ours.up()
        first = await answers(ours.peer, BATCHES[:2])
        assert all(answer.startswith(b"result 200") for answer in first)
        end = end_of(ours.store)
        dial = Dial(ours.serving.port)
        producer = await dial()
        await producer.sends(BATCHES[2])
        await until(lambda: end_of(theirs.running.broker.store) > end)
        await dial.end()  # before it reads what came
    async with made_master(tmp_path / "slave") as peer:
        third = await peer.asks(BATCHES[2])
    assert third.split(b"\r\n")[1].endswith(b" 0 %d" % end)
    await knows_them(tmp_path / "slave", [*first, third], BATCHES)


@pytest.fixture
def large() -> list[bytes]:
    """Batches of which some are larger than a piece, or cut by one if they were cut by size."""
    sizes = [300_000, 800_000, 2_500_000, 40, 900_000]
    return [batch(7, n, *[b"%d" % n * 100] * (size // 120)) for n, size in enumerate(sizes)]


async def test_a_slave_that_is_brought_up_gets_the_stamps_of_what_it_lacked(tmp_path: Path, large: list[bytes]) -> None:
    async with slave(tmp_path / "slave") as theirs:
        port = theirs.port
        async with master(tmp_path / "master", port) as ours:
            await ours.up()
            first = await answers(ours.peer, large)
    shutil.rmtree(tmp_path / "slave")
    async with slave(tmp_path / "slave", port), master(tmp_path / "master", port) as ours:
        await ours.up()
    assert files(tmp_path / "slave") == files(tmp_path / "master")
    await knows_them(tmp_path / "slave", first, large)


async def test_the_master_gets_stamps_with_what_only_the_slave_has(tmp_path: Path, large: list[bytes]) -> None:
    async with slave(tmp_path / "slave") as theirs, master(tmp_path / "master", theirs.port) as ours:
        await ours.up()
        first = await answers(ours.peer, large)
        copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "slave", copy)
    shutil.rmtree(tmp_path / "master")
    async with slave(copy) as theirs, master(tmp_path / "master", theirs.port) as ours:
        await ours.up()
        assert await answers(ours.peer, large) == first
    await knows_them(tmp_path / "master", first, large)


async def test_a_batch_that_only_the_slave_could_write_is_answered_from_there(tmp_path: Path) -> None:
    async with slave(tmp_path / "slave") as theirs, master(tmp_path / "master", theirs.port) as ours:
        await ours.up()
        await refused_here(ours)
        line = ours.samsa.lines.add(KEY)
        await until(lambda: end_of(ours.store) > 0 and line.live)
        again = await ours.peer.asks(BATCHES[0])
        assert again.startswith(b"result 200") and again.endswith(b" 0 0")
        assert end_of(ours.store) == end_of(theirs.running.broker.store) == 43


async def refused_here(ours: Master) -> None:
    """Put the first batch while the master's disk is full."""
    ours.disk.full = True
    assert (await ours.peer.asks(BATCHES[0])).startswith(b"result 500")
    ours.disk.full = False
