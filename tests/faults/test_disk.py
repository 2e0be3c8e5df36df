"""A disk that is full, broken or not ours: one clear message, reads go on, nothing acknowledged is lost."""

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from metaq.model import TopicPartition
from tests.conftest import require
from tests.embedding import HERE, Dial
from tests.faults.checker import Ledger, check_all, read_log
from tests.faults.conftest import Launch

TARGETS = [TopicPartition(topic, number) for topic in ("test", "quick") for number in range(2)]
MIB = 1 << 20
DISK = 40 * MIB
RESERVE = 8 * MIB


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 40 MiB in memory, mounted for this test."""
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(place)], capture_output=True, check=False
    )
    require("the right to mount a file system (root)", done.returncode == 0)
    yield place
    order("umount", "-l", str(place))


def order(*command: str) -> None:
    """Run a command of the system."""
    subprocess.run(command, check=True)


async def fill(dial: Dial, ledger: Ledger) -> str:
    """Put messages into all partitions in turn until one is refused; return what it says."""
    peer = await dial()
    for n in range(2000):
        target = TARGETS[n % len(TARGETS)]
        body = ledger.body(target, 100_000)
        reply = await peer.asks(b"put %b %d %d 0 -1 1\r\n%b" % (target[0].encode(), target[1], len(body), body))
        head, _, text = reply.partition(b"\r\n")
        if head.split(b" ")[1] != b"200":
            return text.decode()
        id, _, offset = map(int, text.split(b" "))
        ledger.acknowledge(target, offset, id, body)
    raise AssertionError("the disk is never full")


@pytest.fixture
async def full(launch: Launch, small_disk: Path) -> AsyncIterator[Launch]:
    """Brokers whose data lies on the small disk, half of which is taken by a file called ballast."""
    (small_disk / "ballast").write_bytes(bytes(DISK // 2))
    launch.ini(
        system={"dataPath": small_disk / "data"},
        pymetaq={"diskReserve": RESERVE, "journalLimit": 4 * MIB, "tailMemory": 4 * MIB},
    )
    yield launch
    await launch.end()  # before the disk is taken away


async def test_a_full_disk_refuses_puts_serves_reads_and_recovers_by_itself(full: Launch, small_disk: Path) -> None:
    ledger = Ledger(Random(2))
    broker = await full()
    dial = full.dial(broker)
    assert (await fill(dial, ledger)).endswith("Detail:disk full")
    assert ledger.count > 10
    await check_all(dial, ledger, TARGETS)
    peer = await dial()
    assert (await peer.asks(b"put test 0 5 0 -1 1\r\nhello")).startswith(b"result 500 ")
    (small_disk / "ballast").unlink()
    before = ledger.count
    async with asyncio.timeout(10):
        while ledger.count == before:
            await fill(dial, ledger)
    await check_all(dial, ledger, TARGETS)
    assert await broker.stop() == 0, broker.words()
    assert "disk is full" in broker.words()
    await check_all(full.dial(await full()), ledger, TARGETS)


async def test_a_broker_killed_on_a_full_disk_starts_again_and_has_everything(full: Launch, small_disk: Path) -> None:
    ledger = Ledger(Random(3))
    broker = await full()
    assert (await fill(full.dial(broker), ledger)).endswith("Detail:disk full")
    await broker.kill()
    (small_disk / "ballast").unlink()
    broker = await full()
    await check_all(full.dial(broker), ledger, TARGETS)
    assert await broker.stop() == 0, broker.words()


async def test_a_disk_without_any_reserve_left_loses_nothing_either(full: Launch, small_disk: Path) -> None:
    """Others fill the disk to the last byte: tails cannot be moved, and the broker must wait until they can."""
    ledger = Ledger(Random(4))
    broker = await full()
    dial = full.dial(broker)
    peer = await dial()
    for n in range(8):
        target = TARGETS[n % len(TARGETS)]
        body = ledger.body(target, 100_000)
        reply = await peer.asks(b"put %b %d %d 0 -1 1\r\n%b" % (target[0].encode(), target[1], len(body), body))
        id, _, offset = map(int, reply.partition(b"\r\n")[2].split(b" "))
        ledger.acknowledge(target, offset, id, body)
    with (small_disk / "more").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(MIB)):
            pass
    async with asyncio.timeout(10):
        while (await peer.asks(b"put test 0 5 0 -1 1\r\nhello")).startswith(b"result 200 "):
            pass
    for target in TARGETS:
        found = await read_log(peer, target)
        assert all(found.find(body) == offset + 20 for offset, (_, body) in ledger.acknowledged[target].items())
    (small_disk / "more").unlink()
    async with asyncio.timeout(10):
        while not (await peer.asks(b"put test 0 5 0 -1 1\r\nhello")).startswith(b"result 200 "):
            pass
    assert await broker.stop() == 0, broker.words()


async def test_a_port_that_is_taken_is_one_clear_message(launch: Launch) -> None:
    with socket.socket() as taken:
        taken.bind((HERE, 0))
        taken.listen()
        port = taken.getsockname()[1]
        launch.ini(system={"serverPort": port})
        broker = await launch.begin()
        assert await broker.ended() == 1
    assert str(port) in broker.words()
    assert "in use" in broker.words()
    assert "Traceback" not in broker.words()


async def test_a_folder_that_another_broker_uses_is_one_clear_message(launch: Launch, tmp_path: Path) -> None:
    first = await launch()
    second = await launch.begin()
    assert await second.ended() == 1
    assert f"{tmp_path}/data is in use by another broker" in second.words()
    assert "Traceback" not in second.words()
    assert (await (await launch.dial(first)()).asks(b"version 1\r\n")).endswith(b"1.4.6.2")


async def test_a_folder_that_cannot_be_written_is_one_clear_message(launch: Launch, small_disk: Path) -> None:
    launch.ini(system={"dataPath": small_disk / "data"})
    broker = await launch()
    assert await broker.stop() == 0
    order("mount", "-o", "remount,ro", str(small_disk))
    broker = await launch.begin()
    assert await broker.ended() == 1
    assert "Read-only file system" in broker.words()
    assert str(small_disk) in broker.words()
    assert "Traceback" not in broker.words()


async def test_a_disk_that_fails_ends_the_broker_with_one_clear_message(launch: Launch) -> None:
    ledger = Ledger(Random(5))
    broker = await launch()
    dial = launch.dial(broker)
    order("prlimit", "--pid", str(broker.pid), "--fsize=65536")  # files end there: EFBIG
    with suppress(ConnectionError):
        assert "disk full" not in await fill(dial, ledger)
    assert await broker.ended() == 1
    assert "File too large" in broker.words()
    assert "Traceback" not in broker.words()
    broker = await launch()
    await check_all(launch.dial(broker), ledger, TARGETS)
    assert await broker.stop() == 0, broker.words()
