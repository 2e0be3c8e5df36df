"""RabbitMQ queues with aio-pika, messages persistent, all confirmed; a partition is a queue, MODE its kind."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import aio_pika

from bench.peers.work import Client, Task

AT_ONCE: Final = 16  # queues declared at once


class Queues(Client):
    connection: Any = None

    def name(self, number: int) -> str:
        return f"{self.task.topic}-{self.task.mode}-{number % self.task.partitions}"

    async def open(self) -> None:
        self.connection = await aio_pika.connect(f"amqp://guest:guest@{self.task.address}/")
        self.channel: Any = await self.connection.channel(publisher_confirms=True)
        self.exchange: Any = self.channel.default_exchange

    async def prepare(self) -> None:
        await self.open()
        some = asyncio.Semaphore(AT_ONCE)

        async def declare(number: int) -> None:
            async with some:
                kind = {"x-queue-type": self.task.mode}
                await self.channel.declare_queue(self.name(number), durable=True, arguments=kind)

        await asyncio.gather(*(declare(number) for number in range(self.task.partitions)))

    async def send(self, body: bytes, number: int) -> None:
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await self.exchange.publish(message, self.name(number))

    async def tail(self, count: int, ready: Callable[[], None], see: Callable[[bytes], None]) -> None:
        await self.open()
        done = asyncio.Event()

        async def receive(message: Any) -> None:
            nonlocal count
            see(message.body)
            count -= 1
            if not count:
                done.set()

        below: Any = await self.channel.get_underlay_channel()
        for number in range(self.task.partitions):
            await below.basic_consume(self.name(number), receive, no_ack=True)
        ready()
        await done.wait()

    async def close(self) -> None:
        if self.connection is not None:
            await self.connection.close()


def make(task: Task) -> Client:
    return Queues(task)
