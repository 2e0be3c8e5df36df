"""SIGKILL and SIGTERM under load: nothing acknowledged is missing, nothing has changed, no offset has moved."""

import asyncio
from pathlib import Path
from random import Random

import pytest

from metaq.model import TopicPartition
from tests.faults.checker import Ledger, Producer, acknowledged, check_all
from tests.faults.conftest import Launch
from tests.faults.processes import Process

TARGETS = [TopicPartition(topic, number) for topic in ("test", "quick") for number in range(4)]


def load(launch: Launch, broker: Process, ledger: Ledger) -> list[asyncio.Task[None]]:
    """Start producers of several kinds; they go on until the broker ends."""
    dial = launch.dial(broker)
    kinds = [
        Producer(ledger, TARGETS, window=50),
        Producer(ledger, TARGETS, window=1),
        Producer(ledger, TARGETS[:4], window=10, large=0.05),
        Producer(ledger, TARGETS[4:], window=30),
    ]
    return [asyncio.ensure_future(producer.run(dial)) for producer in kinds]


async def kill_and_check(launch: Launch, rounds: int) -> Ledger:
    """Kill the broker under load, start it again and check everything, so many times."""
    launch.ini(system={"maxSegmentSize": 400_000}, pymetaq={"journalLimit": 4 << 20, "tailMemory": 4 << 20})
    ledger = Ledger(Random(rounds))
    for _ in range(rounds):
        broker = await launch()
        await check_all(launch.dial(broker), ledger, TARGETS)
        producers = load(launch, broker, ledger)
        await acknowledged(ledger, 100 + ledger.random.randrange(1500), producers)
        await broker.kill()
        await asyncio.gather(*producers)
    broker = await launch()
    await check_all(launch.dial(broker), ledger, TARGETS)
    assert await broker.stop() == 0, broker.words()
    return ledger


async def test_a_broker_that_is_killed_under_load_loses_nothing(launch: Launch) -> None:
    ledger = await kill_and_check(launch, rounds=5)
    assert ledger.count > 500


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_a_broker_that_is_killed_a_hundred_times_loses_nothing(launch: Launch) -> None:
    ledger = await kill_and_check(launch, rounds=100)
    assert ledger.count > 10_000


async def test_a_broker_that_is_told_to_end_under_load_leaves_all_it_acknowledged_in_a_clean_folder(
    launch: Launch, tmp_path: Path
) -> None:
    ledger = Ledger(Random(1))
    broker = await launch()
    producers = load(launch, broker, ledger)
    await acknowledged(ledger, 1000, producers)
    assert await broker.stop() == 0, broker.words()
    await asyncio.gather(*producers)  # their connections have ended
    for target in TARGETS:
        segments = sorted((tmp_path / "data" / str(target)).iterdir())
        ledger.check(target, b"".join(segment.read_bytes() for segment in segments))
    assert list((tmp_path / "data" / "transactions").iterdir()) == []  # a Java broker may start on it
    broker = await launch()
    await check_all(launch.dial(broker), ledger, TARGETS)
    assert await broker.stop() == 0, broker.words()
    assert "recover" not in broker.words()
