"""RabbitMQ streams with rstream; a partition is a stream."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from rstream import Consumer, ConsumerOffsetSpecification, OffsetType, Producer

from bench.peers.work import Client, Task

BATCH: Final = 500  # messages of one call
OPEN: Final = 2000  # messages without an answer


class Streams(Client):
    producer: Any = None
    consumer: Any = None
    acknowledged = 0

    def login(self) -> dict[str, Any]:
        host, _, port = self.task.address.partition(":")
        return {"host": host, "port": int(port), "username": "guest", "password": "guest"}

    def name(self, number: int) -> str:
        return f"{self.task.topic}-{number % self.task.partitions}"

    async def open(self) -> None:
        self.producer = Producer(**self.login())
        await self.producer.start()

    async def prepare(self) -> None:
        await self.open()
        for number in range(self.task.partitions):
            await self.producer.create_stream(self.name(number), exists_ok=True)

    async def send(self, body: bytes, number: int) -> None:
        await self.producer.send_wait(self.name(number), body)

    async def stream(self, body: bytes, until: float) -> int:
        async def confirm(_: object) -> None:
            self.acknowledged += 1

        sent, before = 0, self.acknowledged
        batch = [body] * BATCH
        while time.perf_counter() < until:
            await self.producer.send_batch(self.name(sent // BATCH), batch, on_publish_confirm=confirm)
            sent += BATCH
            while sent - (self.acknowledged - before) > OPEN:
                await asyncio.sleep(0)
        while sent > self.acknowledged - before:
            await asyncio.sleep(0.001)
        return sent

    async def tail(self, count: int, ready: Callable[[], None], see: Callable[[bytes], None]) -> None:
        done = asyncio.Event()

        async def receive(message: Any, _context: object) -> None:
            nonlocal count
            see(bytes(message))
            count -= 1
            if not count:
                done.set()

        self.consumer = Consumer(**self.login())
        await self.consumer.start()
        for number in range(self.task.partitions):
            start = ConsumerOffsetSpecification(OffsetType.FIRST, None)
            await self.consumer.subscribe(self.name(number), receive, decoder=bytes, offset_specification=start)
        ready()
        await done.wait()

    async def close(self) -> None:
        for each in (self.producer, self.consumer):
            if each is not None:
                await each.close()


def make(task: Task) -> Client:
    return Streams(task)
