"""Workloads of producers, the same for every client: who waits for each answer, many who wait, as fast as it goes.

`python -m bench.peers.work CLIENT VERB ADDRESS TOPIC SIZE PARTITIONS SECONDS WARM [MODE]` prints one line of JSON.
"""

import argparse
import asyncio
import importlib
import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import Final, TypeAlias

import uvloop

MANY: Final = 50  # coroutines of the workload `many`
RATE: Final = 1000  # messages per second of the workload `latency`
SETTLE: Final = 1.0  # seconds of it that are not counted
SILENCE: Final = 15.0  # seconds after the last message is due until the reader gives up
STAMP: Final = struct.Struct("<Q")
PACE: Final = 0.0002  # seconds before a message is due that are spent turning

Figures: TypeAlias = dict[str, float]


@dataclass(frozen=True, slots=True)
class Task:
    """What one driver does: a verb of VERBS, on messages of `size` bytes in `partitions` of `topic`."""

    verb: str
    address: str
    topic: str
    size: int
    partitions: int
    seconds: float
    warm: float  # seconds before, uncounted
    mode: str = ""  # of the client, where it has several ways

    @property
    def body(self) -> bytes:
        return b"x" * self.size


class Client:
    """One library of one system. A driver fills in what it supports; what is missing raises NotImplementedError."""

    def __init__(self, task: Task) -> None:
        self.task = task

    async def prepare(self) -> None:
        """Make the topic with its partitions where they do not come by themselves."""

    async def open(self) -> None:
        """Connect for sending."""
        raise NotImplementedError

    async def send(self, body: bytes, number: int) -> None:
        """Send one message, to the partition that `number` falls to; return when it is acknowledged."""
        raise NotImplementedError

    async def alone(self, body: bytes, until: float, took: list[float]) -> None:
        """Send one after the other; note how long each took. For clients whose fastest way is not a coroutine."""
        number = 0
        while (start := time.perf_counter()) < until:
            await self.send(body, number)
            took.append(time.perf_counter() - start)
            number += 1

    async def stream(self, body: bytes, until: float) -> int:
        """Send as fast as it goes; return how many were acknowledged, all of them."""
        raise NotImplementedError

    async def tail(self, count: int, ready: Callable[[], None], see: Callable[[bytes], None]) -> None:
        """Call `ready` when connected, and `see` with each of so many messages from the start of the topic on."""
        raise NotImplementedError

    async def close(self) -> None:
        """Let go of what `open` or `tail` made."""


def figures(count: int, seconds: float, took: list[float]) -> Figures:
    """Return the rate and, in milliseconds, the percentiles."""
    found = {"messages": float(count), "rate": count / seconds if seconds else 0.0}
    if took:
        ordered = sorted(took)
        found["p50"] = median(ordered) * 1e3
        found["p99"] = ordered[int(len(ordered) * 0.99)] * 1e3
    return found


async def prepare(client: Client) -> Figures:
    start = time.perf_counter()
    await client.prepare()
    return {"seconds": time.perf_counter() - start}


async def one(client: Client) -> Figures:
    """One producer, one message in flight."""
    await client.open()
    took: list[float] = []
    start = time.perf_counter()
    for seconds in (client.task.warm, client.task.seconds):
        took.clear()
        start = time.perf_counter()
        await client.alone(client.task.body, start + seconds, took)
    return figures(len(took), time.perf_counter() - start, took)


async def many(client: Client) -> Figures:
    """Coroutines that each wait for their answer; the partitions take turns."""
    await client.open()
    took: list[float] = []
    number = 0
    body = client.task.body

    async def each(until: float) -> None:
        nonlocal number
        while (start := time.perf_counter()) < until:
            number += 1
            await client.send(body, number)
            took.append(time.perf_counter() - start)

    start = time.perf_counter()
    for seconds in (client.task.warm, client.task.seconds):
        took.clear()
        start = time.perf_counter()
        await asyncio.gather(*(each(start + seconds) for _ in range(MANY)))
    return figures(len(took), time.perf_counter() - start, took)


async def stream(client: Client) -> Figures:
    """As fast as the client takes messages, every one acknowledged."""
    await client.open()
    await client.stream(client.task.body, time.perf_counter() + client.task.warm)
    start = time.perf_counter()
    count = await client.stream(client.task.body, start + client.task.seconds)
    return figures(count, time.perf_counter() - start, [])


async def latency(client: Client) -> Figures:
    """From just before the sending in one process until another has the message, at RATE."""
    task = client.task
    count = int(RATE * (task.seconds + SETTLE))
    took: list[float] = []

    def see(body: bytes) -> None:
        took.append((time.time_ns() - STAMP.unpack_from(body)[0]) / 1e9)

    sender: list[subprocess.Popen[bytes]] = []

    def start_sender() -> None:  # at once: a client without asyncio does not let the loop run
        words = [sys.executable, "-m", "bench.peers.work", *sys.argv[1:]]
        words[words.index("latency")] = "pace"
        sender.append(subprocess.Popen(words, stdout=subprocess.DEVNULL))

    try:
        async with asyncio.timeout(task.seconds + SETTLE + SILENCE):
            await client.tail(count, start_sender, see)
        if len(took) < count:
            raise RuntimeError(f"{len(took)} of {count} messages came")
        return figures(len(took), 0.0, took[int(RATE * SETTLE) :])
    finally:
        for process in sender:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


async def pace(client: Client) -> Figures:
    """The sending half of `latency`."""
    await client.open()
    task = client.task
    count = int(RATE * (task.seconds + SETTLE))
    filling = b"x" * (task.size - STAMP.size)
    under_way: set[asyncio.Task[None]] = set()
    start = time.perf_counter()
    for number in range(count):
        while (wait := start + number / RATE - time.perf_counter()) > 0:
            await asyncio.sleep(wait - PACE if wait > 2 * PACE else 0)
        sending = asyncio.ensure_future(client.send(STAMP.pack(time.time_ns()) + filling, number))
        under_way.add(sending)
        sending.add_done_callback(under_way.discard)
    if under_way:
        await asyncio.wait(under_way, timeout=10)
    return {"messages": float(count)}


VERBS: Final = {each.__name__: each for each in (prepare, one, many, stream, latency, pace)}


async def work(name: str, task: Task) -> Figures:
    made: Client = importlib.import_module(f"bench.peers.{name}").make(task)
    try:
        return await VERBS[task.verb](made)
    finally:
        await made.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("client")
    parser.add_argument("verb", choices=VERBS)
    parser.add_argument("address")
    parser.add_argument("topic")
    parser.add_argument("size", type=int)
    parser.add_argument("partitions", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("warm", type=float)
    parser.add_argument("mode", nargs="?", default="")
    words = vars(parser.parse_args())
    name = words.pop("client")
    task = replace(Task(**words))
    print(json.dumps(uvloop.run(work(name, task))), flush=True)
    os._exit(0)  # threads of libraries may take seconds to end


if __name__ == "__main__":
    main()
