"""Redis streams with redis-py and hiredis: the plain client for one producer, else that for asyncio."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import redis
import redis.asyncio

from bench.peers.work import Client, Task

CONNECTIONS: Final = 64  # for those that wait at the same time; others wait for one
BATCH: Final = 500  # entries in one pipeline
PIPELINES: Final = 2  # that take turns
COUNT: Final = 100  # entries of each stream in one answer


class Streams(Client):
    client: Any = None

    def key(self, number: int) -> str:
        return f"{self.task.topic}-{number % self.task.partitions}"

    async def open(self) -> None:
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            f"redis://{self.task.address}", max_connections=CONNECTIONS, timeout=60
        )
        self.client = redis.asyncio.Redis(connection_pool=pool)
        self.plain: Any = redis.Redis.from_url(f"redis://{self.task.address}")

    async def send(self, body: bytes, number: int) -> None:
        await self.client.xadd(self.key(number), {b"b": body})

    async def alone(self, body: bytes, until: float, took: list[float]) -> None:
        number = 0
        while (start := time.perf_counter()) < until:
            self.plain.xadd(self.key(number), {b"b": body})
            took.append(time.perf_counter() - start)
            number += 1

    async def stream(self, body: bytes, until: float) -> int:
        count = 0

        async def pipe() -> None:
            nonlocal count
            while time.perf_counter() < until:
                key = self.key(count // BATCH)
                pipeline = self.client.pipeline(transaction=False)
                for _ in range(BATCH):
                    pipeline.xadd(key, {b"b": body})
                count += len(await pipeline.execute())

        await asyncio.gather(*(pipe() for _ in range(PIPELINES)))
        return count

    async def tail(self, count: int, ready: Callable[[], None], see: Callable[[bytes], None]) -> None:
        client: Any = redis.Redis.from_url(f"redis://{self.task.address}")
        client.ping()
        places: dict[bytes, bytes] = {self.key(number).encode(): b"0" for number in range(self.task.partitions)}
        ready()
        silent = 0
        while count > 0 and silent < 10:
            found = client.xread(places, block=1000, count=COUNT)
            silent = 0 if found else silent + 1
            for key, entries in found.items() if isinstance(found, dict) else found or ():
                # with RESP 3 the entries are in a list of their own
                rows = entries[0] if entries and isinstance(entries[0], list) else entries
                for _, fields in rows:
                    see(fields[b"b"])
                count -= len(rows)
                places[key] = rows[-1][0]

    async def close(self) -> None:
        if self.client is not None:
            await self.client.aclose()


def make(task: Task) -> Client:
    return Streams(task)
