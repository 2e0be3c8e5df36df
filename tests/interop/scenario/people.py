"""Who uses the deployment: producers, consumers of both languages, and what they were promised and given."""

import asyncio
import logging
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from metaq import aio
from metaq.client import Message
from tests.interop.conftest import Judge
from tests.interop.jvm import Command
from tests.interop.scenario.sites import Deployment

log = logging.getLogger(__name__)

SIZE: Final = 100  # bytes of a body
FETCH: Final = 2 * (SIZE + 20) + 20  # bytes a consumer asks for at once: two messages
IN_HAND: Final = 2 * 48 + 1  # messages at most that a consumer has when it sleeps: two of each partition, and one


@dataclass(frozen=True, slots=True)
class Promise:
    """What a producer was told: this message is stored, there."""

    log: str  # <topic>-<partition>
    offset: int
    id: int


class Producers:
    """Publish through ZooKeeper, in both languages; `promised` has what was acknowledged, by the heads of the texts."""

    def __init__(self, deployment: Deployment, judge: Judge, mq: aio.MessageQueue) -> None:
        self.promised: dict[str, Promise] = {}
        self._zk = deployment.zk
        self._judge = judge
        self._mq = mq

    async def from_java(self, prefix: str, topics: Sequence[str], count: int) -> None:
        """Publish `count` messages, in turn to each topic."""
        told = await self._judge("Produce", topic=",".join(topics), prefix=prefix, count=count, size=SIZE)
        for event in told.of("sent"):
            partition = str(event["partition"]).partition("-")[2]
            promise = Promise(f"{event['topic']}-{partition}", int(event["offset"] or 0), int(event["id"] or 0))
            self.promised[f"{prefix}-{event['n']}"] = promise

    async def from_python(self, prefix: str, topics: Sequence[str], count: int) -> None:
        """Publish `count` messages, in turn to each topic."""
        for number, topic in enumerate(topics):
            heads = [f"{prefix}-{n}" for n in range(number, count, len(topics))]
            bodies = [f"{head}|".ljust(SIZE, "x").encode() for head in heads]
            told = await self._mq.producer(topic).send_many(bodies)
            for head, sent in zip(heads, told, strict=True):
                partition = sent.partition.partition("-")[2]
                self.promised[head] = Promise(f"{topic}-{partition}", sent.offset, sent.id)


class Consumer:
    """One consumer, and the heads of what it was given, in order."""

    def __init__(self, deployment: Deployment) -> None:
        self.given: list[str] = []
        self.deployment = deployment
        self._working: asyncio.Task[None] | None = None
        deployment.guests.push_async_callback(self.leave)

    async def has(self, heads: Iterable[str]) -> None:
        """Wait until it was given all of these."""
        wanted = set(heads)

        async def complete() -> bool:
            return wanted <= set(self.given)

        await self.deployment.until(complete, lambda: f"{len(wanted - set(self.given))} of {len(wanted)} are missing")

    async def leave(self) -> None:
        """End it; fine if it has ended."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.gather(self._working, return_exceptions=True)


class PythonConsumer(Consumer):
    """`mq.consumer(topics, group=…)`."""

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(deployment)
        self._consumer: aio.Consumer | None = None
        self._awake = asyncio.Event()
        self._awake.set()

    def sleep(self) -> None:
        """Take no more messages; one that is handled may still be in hand."""
        self._awake.clear()
        if self._consumer is not None:
            self._consumer.pause()

    def wake(self) -> None:
        """Go on."""
        self._awake.set()
        if self._consumer is not None:
            self._consumer.resume()

    async def join(self, topics: Iterable[str], group: str, read_from: str = "master") -> None:
        times = self.deployment.times
        joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def handle(message: Message) -> None:
            await self._awake.wait()
            self.given.append(bytes(message.data).partition(b"|")[0].decode())

        async def work() -> None:
            # a client of its own: with its connections go the questions that still wait at brokers
            async with aio.connect(f"zk://{self.deployment.zk}/meta", session_timeout=times.session / 1000) as mq:
                consumer = mq.consumer(
                    topics, group=group, read_from=read_from, max_size=FETCH, prefetch=4 * FETCH,
                    sync_time=times.sync / 1000,
                )  # fmt: skip
                await consumer.join()
                self._consumer = consumer
                joined.set_result(None)
                await consumer.run(handle)

        self._working = asyncio.create_task(work())
        await asyncio.wait([joined, self._working], return_when=asyncio.FIRST_COMPLETED)
        if self._working.done():
            await self._working


class JavaConsumer(Consumer):
    """The consumer of 1.4.6.2 in a process. It has no word for whom to read from but its zk.zkConnect."""

    command: Command | None = None

    def sleep(self) -> None:
        """Stop its process; what has come already may still be in hand."""
        if self.command is not None:
            self.command.java.process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Let its process go on."""
        if self.command is not None:
            self.command.java.process.send_signal(signal.SIGCONT)

    async def join(self, judge: Judge, topics: Iterable[str], group: str, read_root: str = "") -> None:
        times = self.deployment.times
        command = self.command = await judge.start(
            "Consume", topic=",".join(topics), group=group, zk=self.deployment.zk + read_root,
            buffer=FETCH, max_delay_ms=50, idle_ms=600_000,
            zk_session_ms=times.session, zk_sync_ms=times.sync,
        )  # fmt: skip
        await command.until("subscribed")

        async def read() -> None:
            async for event in command:
                if event["event"] == "message":
                    self.given.append(str(event["head"]))
            if self.command is not None:  # nobody told it to leave
                log.warning("the Java consumer has ended: %s", command.java.words())

        self._working = asyncio.create_task(read())

    async def leave(self) -> None:
        command, self.command = self.command, None
        if command is not None:
            await command.java.kill()
        await super().leave()
