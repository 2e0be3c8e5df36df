"""Kafka with aiokafka; confluent-kafka makes the topic."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.peers.with_confluent import make_topic
from bench.peers.work import MANY, Client, Task

LOOK: Final = 500  # messages sent between two looks at the clock
RUN: Final = 1000  # messages that go to one partition before the next has its turn
RUN_OF_MANY: Final = MANY  # the same where many wait: twice as fast as a partition for each in turn, or by chance
OPEN: Final = 50_000  # messages without an answer


class Kafka(Client):
    producer: Any = None
    consumer: Any = None

    async def prepare(self) -> None:
        await asyncio.to_thread(make_topic, self.task)

    async def open(self) -> None:
        gathering = self.task.verb == "stream"
        self.producer = AIOKafkaProducer(
            bootstrap_servers=self.task.address,
            acks="all",
            linger_ms=5 if gathering else 0,
            max_batch_size=1 << 20 if gathering else 16384,
        )
        await self.producer.start()
        await self.producer.partitions_for(self.task.topic)

    async def send(self, body: bytes, number: int) -> None:
        await self.producer.send_and_wait(self.task.topic, body, partition=number // RUN_OF_MANY % self.task.partitions)

    async def stream(self, body: bytes, until: float) -> int:
        count, open_ = 0, []
        send, task = self.producer.send, self.task
        while time.perf_counter() < until:
            for _ in range(LOOK):
                open_.append(await send(task.topic, body, partition=count // RUN % task.partitions))
                count += 1
            if len(open_) >= OPEN:
                await asyncio.gather(*open_)
                open_.clear()
        await asyncio.gather(*open_)
        return count

    async def tail(self, count: int, ready: Callable[[], None], see: Callable[[bytes], None]) -> None:
        self.consumer = AIOKafkaConsumer(bootstrap_servers=self.task.address, enable_auto_commit=False)
        await self.consumer.start()
        places = [TopicPartition(self.task.topic, number) for number in range(self.task.partitions)]
        self.consumer.assign(places)
        await self.consumer.seek_to_beginning(*places)
        await self.consumer.getmany(timeout_ms=500)
        ready()
        while count > 0:
            for messages in (await self.consumer.getmany(timeout_ms=1000)).values():
                for message in messages:
                    see(message.value)
                    count -= 1

    async def close(self) -> None:
        for each in (self.producer, self.consumer):
            if each is not None:
                await each.stop()


def make(task: Task) -> Client:
    return Kafka(task)
