"""Kafka with confluent-kafka (librdkafka).

Many coroutines share a thread that polls. Nagle's algorithm is off, which costs a factor where it is on, as it comes.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from bench.peers.work import MANY, Client, Task

LOOK: Final = 500  # messages sent between two looks at the clock
RUN: Final = 1000  # messages that go to one partition before the next has its turn
RUN_OF_MANY: Final = MANY  # the same where many wait
AT_ONCE: Final = 4000  # partitions one request makes; a broker refuses more than about 10,000
SETTLE: Final = 500.0  # partitions per second that a broker makes after it has said yes; it stalls for so long


def make_topic(task: Task) -> None:
    admin = AdminClient({"bootstrap.servers": task.address})
    if task.topic in admin.list_topics(timeout=60).topics:
        return
    first = NewTopic(task.topic, min(task.partitions, AT_ONCE), 1)
    admin.create_topics([first], request_timeout=180, operation_timeout=180)[task.topic].result()
    for most in range(2 * AT_ONCE, task.partitions + AT_ONCE, AT_ONCE):
        more = NewPartitions(task.topic, min(most, task.partitions))
        admin.create_partitions([more], request_timeout=180)[task.topic].result()
    time.sleep(0.3 + task.partitions / SETTLE)


class Kafka(Client):
    producer: Any = None
    stopped = False

    async def prepare(self) -> None:
        await asyncio.to_thread(make_topic, self.task)

    async def open(self) -> None:
        settings = {
            "bootstrap.servers": self.task.address,
            "acks": "all",
            "linger.ms": 5 if self.task.verb == "stream" else 0,
            "socket.nagle.disable": True,
            "queue.buffering.max.messages": 500_000,
            "queue.buffering.max.kbytes": 1 << 20,
        }
        self.producer = Producer(settings)
        self.producer.list_topics(self.task.topic, timeout=30)
        self.done: list[asyncio.Future[None]] = []
        if self.task.verb in ("many", "pace"):
            self.loop = asyncio.get_running_loop()
            self.poller = threading.Thread(target=self._poll, daemon=True)
            self.poller.start()

    def _poll(self) -> None:
        while not self.stopped:
            if self.producer.poll(0.05):
                self.loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        done, self.done = self.done, []
        for future in done:
            if not future.done():
                future.set_result(None)

    async def send(self, body: bytes, number: int) -> None:
        future = self.loop.create_future()
        place = number // RUN_OF_MANY % self.task.partitions
        self.producer.produce(
            self.task.topic, body, partition=place, on_delivery=lambda _e, _m: self.done.append(future)
        )
        await future

    async def alone(self, body: bytes, until: float, took: list[float]) -> None:
        """Poll in the thread that sends: no other has to be woken."""
        done: list[object] = []
        number = 0
        produce, poll, task = self.producer.produce, self.producer.poll, self.task
        while (start := time.perf_counter()) < until:
            place = number % task.partitions
            produce(task.topic, body, partition=place, on_delivery=lambda error, _: done.append(error))
            while not done:
                poll(1)
            if (error := done.pop()) is not None:
                raise RuntimeError(str(error))
            took.append(time.perf_counter() - start)
            number += 1

    async def stream(self, body: bytes, until: float) -> int:
        count = acknowledged = 0

        def answered(error: object, _: object) -> None:
            nonlocal acknowledged
            acknowledged += error is None

        produce, task = self.producer.produce, self.task
        while time.perf_counter() < until:
            for _ in range(LOOK):
                while True:
                    try:
                        produce(task.topic, body, partition=count // RUN % task.partitions, on_delivery=answered)
                        break
                    except BufferError:
                        self.producer.poll(0.01)
                count += 1
            self.producer.poll(0)
        self.producer.flush()
        return acknowledged

    async def tail(self, count: int, ready: Callable[[], None], see: Callable[[bytes], None]) -> None:
        settings = {"bootstrap.servers": self.task.address, "group.id": "latency", "enable.auto.commit": False}
        consumer = Consumer(settings)
        consumer.list_topics(self.task.topic)
        consumer.assign([TopicPartition(self.task.topic, number, 0) for number in range(self.task.partitions)])
        consumer.poll(0.5)
        ready()
        silent = 0
        while count > 0 and silent < 10:
            message = consumer.poll(1.0)
            silent = silent + 1 if message is None else 0
            if message is not None and message.error() is None:
                see(message.value())
                count -= 1
        consumer.close()

    async def close(self) -> None:
        self.stopped = True


def make(task: Task) -> Client:
    return Kafka(task)
