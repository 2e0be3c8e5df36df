"""Pressure: slow disks, deaf readers, crowds and greed. Memory stays bounded, nothing is dropped, shares are fair."""

import asyncio
import sys
from pathlib import Path
from random import Random
from statistics import median
from typing import Final

import pytest

from metaq.model import TopicPartition
from tests.faults.checker import read_log
from tests.faults.conftest import Launch
from tests.faults.looker import resident
from tests.faults.pressing import MIB, Client, Look, Pressing, dial_many, jain, looking, most_connections
from tests.faults.processes import Process

RESPONSIVE: Final = 0.1  # seconds within which `version` is answered in 99 of 100 cases
TAIL: Final = 8 * MIB  # tailMemory here
LARGE: Final = 4 * MIB  # bytes of a large body


async def slow(launch: Launch, folder: Path, rate: int) -> Process:
    """Start a broker on a disk that writes so many bytes per second."""
    launch.ini(pymetaq={"tailMemory": TAIL, "journalFileSize": MIB, "journalLimit": 16 * MIB})
    prefix = ("sh", "-c", f'exec "{sys.executable}" -m tests.faults.slow_broker "{folder}/server.ini" {rate}')
    return await launch(prefix=prefix)


def check_responsive(look: Look) -> None:
    late = look.quantile(0.99)
    assert late < RESPONSIVE * look.stretch, f"p99 of version: {late:.3f} s, on processors shared {look.stretch:.1f}"


async def check_kept(launch: Launch, broker: Process, producers: list[Pressing], targets: list[TopicPartition]) -> None:
    """See that what was acknowledged is in the logs, where the broker said."""
    peer = await launch.dial(broker)()
    logs = {target: await read_log(peer, target) for target in targets}
    for producer in producers:
        log = logs[TopicPartition(*producer.target)]
        assert producer.acknowledged, f"{producer.name} got nothing acknowledged"
        for offset, body in producer.acknowledged.items():
            assert log[offset + 20 : offset + 20 + len(body)] == body, f"{producer.name}: {offset} is another message"


async def until_acknowledged(producers: list[Pressing], count: int) -> None:
    """Wait until so many messages of all of them together are acknowledged."""
    while sum(len(producer.acknowledged) for producer in producers) < count:
        await asyncio.sleep(0.02)


async def press_on_a_slow_disk(launch: Launch, folder: Path, producers: int, each: int) -> None:
    """Let equal producers and a greedy one use a broker whose disk is slower, until equals have `each` on average.

    Each has more under way than is read of it at once, so it is the broker alone that shares out.
    """
    broker = await slow(launch, folder, 8 * MIB)
    before = resident(broker.pid)
    clients = await dial_many(broker.port, producers + 1)
    targets = [TopicPartition("test", number % 4) for number in range(producers)]
    async with looking(broker.port, broker.pid) as look:
        greedy = Pressing(clients[0], "greedy", TopicPartition("test", 0), window=4000, size=2000)
        equals = [
            Pressing(client, f"p{number}", target, window=300, size=2000)
            for number, (client, target) in enumerate(zip(clients[1:], targets, strict=True))
        ]
        async with asyncio.timeout(600):
            await until_acknowledged(equals, each * producers // 5)
            # what came in before all of them were there is no unfairness
            before_that = [len(producer.acknowledged) for producer in (greedy, *equals)]
            await until_acknowledged(equals, each * producers)
        greed, *shares = (
            len(producer.acknowledged) - count for producer, count in zip((greedy, *equals), before_that, strict=True)
        )
        await asyncio.gather(*(producer.stop() for producer in (greedy, *equals)))
    assert look.peak - before < 8 * TAIL / MIB + 60
    check_responsive(look)
    assert jain(shares) > 0.95 and max(shares) <= 2 * min(shares), f"shares of equals: {sorted(shares)}"
    assert greed < 2 * median(shares), f"the greedy one got {greed}, with 13 times as many under way: {sorted(shares)}"
    await check_kept(launch, broker, [greedy, *equals], [TopicPartition("test", number) for number in range(4)])


async def test_a_slow_disk_bounds_memory_and_treats_producers_alike(launch: Launch, tmp_path: Path) -> None:
    await press_on_a_slow_disk(launch, tmp_path, 20, 500)


async def press_with_deaf_readers(launch: Launch, readers: int, gets: int) -> None:
    """Let many ask for much and read nothing, beside one that reads; in the end all read."""
    launch.ini(pymetaq={"tailMemory": MIB // 4})  # what is read from tails is shared, what is read from files is not
    broker = await launch()
    peer = await launch.dial(broker)()
    for number in range(20):
        assert (await peer.asks(b"put quick 0 100000 0 -1 %d\r\n%b" % (number, bytes(100_000)))).startswith(
            b"result 200"
        )
    clients = await dial_many(broker.port, readers, deaf=True)
    before = resident(broker.pid)
    async with looking(broker.port, broker.pid) as look:
        for client in clients:
            client.transport.write(b"get quick g 0 0 1048576 1\r\n" * gets)
        await asyncio.sleep(1.0)
        for client in clients[-3:]:
            client.hear()
        await asyncio.gather(*(client.until(gets) for client in clients[-3:]))
        for client in clients:
            client.hear()
        await asyncio.gather(*(client.until(gets) for client in clients))
    assert look.peak - before < 256 + 80
    check_responsive(look)


async def test_readers_that_do_not_read_bound_memory_and_lose_no_reply(launch: Launch) -> None:
    await press_with_deaf_readers(launch, 200, 3)


async def press_with_bodies(launch: Launch, senders: int) -> None:
    """Let many begin a large body, a part of each; then all of them end it."""
    launch.ini(system={"maxTransferSize": 2 * LARGE})
    broker = await launch()
    clients = await dial_many(broker.port, senders)
    before = resident(broker.pid)
    body = Random(1).randbytes(LARGE)
    begun = len(body) * 3 // 4
    async with looking(broker.port, broker.pid) as look:
        for number, client in enumerate(clients):
            client.transport.write(b"put quick %d %d 0 -1 1\r\n" % (number % 4, len(body)) + body[:begun])
        await asyncio.sleep(1.0)
        for client in clients:
            client.transport.write(body[begun:])
        await asyncio.gather(*(client.until(1) for client in clients))
    assert look.peak - before < 4 * 32 + 2 * 64 + 40  # what is received, journaled, written; tails
    assert all(client.replies == {b"200": 1} for client in clients)
    check_responsive(look)


async def test_large_bodies_that_come_at_once_bound_memory_and_are_all_stored(launch: Launch) -> None:
    await press_with_bodies(launch, 60)


async def storm(launch: Launch, connections: int) -> None:
    """Connections that come and vanish, half requests, and a byte at a time, beside one that works."""
    broker = await launch()
    before = resident(broker.pid)
    client = await Client.dial(broker.port)
    worker = Pressing(client, "worker", TopicPartition("test", 0), window=1, size=100)
    async with looking(broker.port, broker.pid) as look:
        for client in await dial_many(broker.port, connections):
            client.transport.abort()
        lorises = await dial_many(broker.port, connections)
        for part in (b"put test ", b"0 ", b"1000000 0 -1 1\r", b"\n", b"x", b"y"):
            for client in lorises:
                client.transport.write(part)
            await asyncio.sleep(0.05)
        done = len(worker.acknowledged)
        await asyncio.sleep(0.5)
        assert len(worker.acknowledged) > done, "the one that works gets nothing"
        for client in lorises:
            client.transport.abort()
        await worker.stop()
    assert look.peak - before < 20 + connections / 25
    check_responsive(look)


async def test_connections_that_vanish_or_send_a_byte_at_a_time_cost_little(launch: Launch) -> None:
    await storm(launch, most_connections(1000))


async def test_more_connections_than_files_are_refused_once_said_and_taken_when_there_is_room(launch: Launch) -> None:
    launch.ini()
    broker = await launch(prefix=("sh", "-c", 'ulimit -n 256; exec "$0" "$@"'))
    first = await Client.dial(broker.port)
    worker = Pressing(first, "worker", TopicPartition("test", 0), window=1, size=100)
    crowd = await dial_many(broker.port, 300)
    async with asyncio.timeout(10):
        while sum(client.lost for client in crowd) < 150:
            await asyncio.sleep(0.01)
    done = len(worker.acknowledged)
    async with asyncio.timeout(10):
        while len(worker.acknowledged) < done + 10:  # those that are there go on
            await asyncio.sleep(0.01)
    for client in crowd:
        client.transport.abort()
    async with asyncio.timeout(10):
        while True:  # and there is room again, as soon as the broker has noticed
            late = await Client.dial(broker.port)
            late.transport.write(b"version 1\r\n")
            while not late.lost and not late.count:
                await asyncio.sleep(0.01)
            if late.count:
                break
    await worker.stop()
    assert broker.words().count("limit of open files") == 1
    assert await broker.stop() == 0, broker.words()


@pytest.mark.soak
async def test_a_slow_disk_for_longer(launch: Launch, tmp_path: Path) -> None:
    await press_on_a_slow_disk(launch, tmp_path, 200, 500)


@pytest.mark.soak
async def test_hundreds_of_readers_that_do_not_read(launch: Launch) -> None:
    await press_with_deaf_readers(launch, 200, 8)


@pytest.mark.soak
async def test_a_thousand_large_bodies(launch: Launch) -> None:
    await press_with_bodies(launch, 1000)


@pytest.mark.soak
async def test_a_storm_of_thousands_of_connections(launch: Launch) -> None:
    await storm(launch, most_connections(5000))
