"""NATS JetStream with nats-py; a partition is a stream of its own, in files."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import nats
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StorageType, StreamConfig

from bench.peers.work import Client, Task

LOOK: Final = 500  # messages sent between two looks at the clock
RUN: Final = 1000  # messages that go to one partition before the next has its turn
OPEN: Final = 2000  # messages without an answer
AT_ONCE: Final = 50  # streams made at once


class JetStream(Client):
    connection: Any = None

    def subject(self, number: int) -> str:
        return f"{self.task.topic}.{number % self.task.partitions}"

    async def open(self) -> None:
        self.connection = await nats.connect(f"nats://{self.task.address}", pending_size=64 << 20)
        self.stream_: Any = self.connection.jetstream(timeout=60, publish_async_max_pending=OPEN)

    async def prepare(self) -> None:
        await self.open()
        for first in range(0, self.task.partitions, AT_ONCE):
            some = range(first, min(first + AT_ONCE, self.task.partitions))
            await asyncio.gather(*(self._add(self.subject(number)) for number in some))

    async def _add(self, subject: str) -> None:
        name = subject.replace(".", "-")
        await self.stream_.add_stream(StreamConfig(name=name, subjects=[subject], storage=StorageType.FILE))

    async def send(self, body: bytes, number: int) -> None:
        await self.stream_.publish(self.subject(number), body)

    async def stream(self, body: bytes, until: float) -> int:
        count = 0
        while time.perf_counter() < until:
            subject = self.subject(count // RUN)
            for _ in range(LOOK):
                await self.stream_.publish_async(subject, body)
                count += 1
        await self.stream_.publish_async_completed()
        return count

    async def tail(self, count: int, ready: Callable[[], None], see: Callable[[bytes], None]) -> None:
        await self.open()
        done = asyncio.Event()

        async def receive(message: Any) -> None:
            nonlocal count
            see(message.data)
            count -= 1
            if not count:
                done.set()

        config = ConsumerConfig(deliver_policy=DeliverPolicy.ALL, ack_policy=AckPolicy.NONE)
        for number in range(self.task.partitions):
            await self.stream_.subscribe(self.subject(number), cb=receive, config=config)
        await self.connection.flush()
        ready()
        await done.wait()

    async def close(self) -> None:
        if self.connection is not None:
            await self.connection.close()


def make(task: Task) -> Client:
    return JetStream(task)
