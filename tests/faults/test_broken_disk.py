"""I/O errors of a real file system (EIO): one clear line, nothing acknowledged is lost, sound reads go on."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random

import pytest

from metaq.model import TopicPartition
from tests.conftest import require
from tests.faults.broken_disk import BrokenDisk
from tests.faults.checker import Ledger, Producer, acknowledged, check_all
from tests.faults.conftest import Launch
from tests.faults.processes import Process

TARGETS = [TopicPartition(topic, number) for topic in ("test", "quick") for number in range(4)]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[BrokenDisk]:
    made = BrokenDisk(tmp_path)
    require("the right to mount a file system in a file (root, a loop device)", made.attach())
    yield made
    made.detach()


@pytest.fixture
async def there(launch: Launch, disk: BrokenDisk) -> AsyncIterator[Launch]:
    """Brokers whose data lies on that disk."""
    launch.ini(
        system={"dataPath": disk.place / "data", "maxSegmentSize": 200_000},
        pymetaq={"journalLimit": 4 << 20, "tailMemory": 1 << 20},
    )
    yield launch
    await launch.end()  # before the disk is taken away


def check_words(broker: Process) -> None:
    """The last words say in one line what is wrong."""
    words = broker.words()
    assert "Input/output error" in words.splitlines()[-1] or "Read-only file system" in words.splitlines()[-1], words
    assert "Traceback" not in words


async def test_a_disk_that_breaks_under_load_ends_the_broker_and_has_all_that_was_acknowledged(
    there: Launch, disk: BrokenDisk
) -> None:
    ledger = Ledger(Random(6))
    broker = await there()
    dial = there.dial(broker)
    producers = [asyncio.ensure_future(Producer(ledger, TARGETS, window=50).run(dial)) for _ in range(3)]
    await acknowledged(ledger, 2000, producers)
    disk.destroy()
    assert await broker.ended() == 1
    await asyncio.gather(*producers)  # all were told, or lost their connections
    check_words(broker)
    broker = await there.begin()
    assert await broker.ended() == 1, "it does not start while the disk is broken"
    check_words(broker)
    disk.mend()
    disk.unmount()  # what counts is what is on the disk
    assert disk.mount()
    broker = await there()
    await check_all(there.dial(broker), ledger, TARGETS, lost_tail=True)
    assert await broker.stop() == 0, broker.words()


async def test_what_cannot_be_read_is_refused_and_said_and_read_when_the_disk_is_mended(
    there: Launch, disk: BrokenDisk
) -> None:
    ledger = Ledger(Random(7))
    broker = await there()
    dial = there.dial(broker)
    producers = [asyncio.ensure_future(Producer(ledger, TARGETS[:1], window=50).run(dial))]
    await acknowledged(ledger, 500, producers)
    assert await broker.stop() == 0, broker.words()
    await asyncio.gather(*producers)
    broker = await there()
    disk.forget()
    disk.destroy()
    peer = await there.dial(broker)()
    reply = await peer.asks(b"get test g 0 0 100000 1\r\n")
    assert reply.startswith(b"result 500 ")
    assert b"Input/output error" in reply
    assert "ERROR metaq.broker.gets test-0: cannot read what is on disk: [Errno 5] Input/output error" in broker.words()
    disk.mend()
    await check_all(there.dial(broker), ledger, TARGETS[:1])
    assert await broker.stop() == 0, broker.words()
