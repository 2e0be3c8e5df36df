"""Ours: the client for asyncio where somebody waits, the plain one where a loop sends."""

import time
from collections.abc import Callable
from typing import Final

import metaq
import metaq.aio
from bench.peers.work import Client, Task

LIST: Final = 100_000_000  # bytes given to one send_many at most ...
MESSAGES: Final = 100_000  # ... and messages
LOOK: Final = 256  # messages sent between two looks at the clock


class Ours(Client):
    async def open(self) -> None:
        self.mq = metaq.aio.connect(f"metaq://{self.task.address}")
        await self.mq.__aenter__()
        self.producer = self.mq.producer(self.task.topic)

    async def send(self, body: bytes, number: int) -> None:
        await self.producer.send(body)  # the client takes the partitions in turn, by the batch

    async def tail(self, count: int, ready: Callable[[], None], see: Callable[[bytes], None]) -> None:
        async with metaq.aio.connect(f"metaq://{self.task.address}") as mq:
            consumer = mq.consumer(self.task.topic, group="bench", offsets="memory")
            await consumer.join()
            ready()
            async for message in consumer:
                see(message.data)
                count -= 1
                if not count:
                    return

    async def close(self) -> None:
        if hasattr(self, "mq"):
            await self.mq.__aexit__(None, None, None)


class Plain(Client):
    """The client without asyncio."""

    async def open(self) -> None:
        self.mq = metaq.connect(f"metaq://{self.task.address}")
        self.producer = self.mq.producer(self.task.topic)

    async def alone(self, body: bytes, until: float, took: list[float]) -> None:
        send = self.producer.send
        while (start := time.perf_counter()) < until:
            send(body)
            took.append(time.perf_counter() - start)

    async def stream(self, body: bytes, until: float) -> int:
        return self.one_by_one(body, until) if self.task.mode == "send_nowait" else self.lists(body, until)

    def lists(self, body: bytes, until: float) -> int:
        bodies = [body] * min(MESSAGES, LIST // len(body))
        count = 0
        while time.perf_counter() < until:
            count += len(self.producer.send_many(bodies))
        return count

    def one_by_one(self, body: bytes, until: float) -> int:
        send, count = self.producer.send_nowait, 0
        while time.perf_counter() < until:
            for _ in range(LOOK):
                send(body)
            count += LOOK
        self.producer.flush()
        return count

    async def close(self) -> None:
        if hasattr(self, "mq"):
            self.mq.close()


def make(task: Task) -> Client:
    plain = task.verb == "stream" or task.mode == "plain"
    return (Plain if plain else Ours)(task)
