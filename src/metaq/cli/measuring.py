"""The work of `metaq bench`: send, read, or both, and count."""

import asyncio
import secrets
import struct
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Final

from metaq.aio import Message, MessageQueue, NoBroker, Producer, Reader, connect
from metaq.cli.commands import CONNECT_TIMEOUT
from metaq.cli.consume import Gathering
from metaq.cli.consume import Job as Reading
from metaq.cli.meter import Meter
from metaq.cli.output import Failure, emit, say
from metaq.errors import ClientError

MARK: Final = struct.Struct(">8sq")  # of which run a message is, and when it was sent: nanoseconds of a clock of ours
_LIST: Final = 1000  # messages in one call where nothing else is said, and ...
_LISTS: Final = 4  # ... calls under way
_LATE: Final = 5.0  # seconds after the last message of `latency` was sent until it counts as lost
_BATCH: Final = 1000  # messages of a group taken at once
_GATHER: Final = 0.05  # seconds to wait for more of them


@dataclass(slots=True)
class Result:
    """What was measured so far: `began` and `ended` of the monotonic clock; `took` in seconds, of single messages."""

    what: str
    messages: int = 0
    bytes: int = 0
    began: float = 0.0
    ended: float = 0.0
    took: list[float] = field(default_factory=list)

    def count(self, messages: int, size: int) -> None:
        """So many more messages, of so many bytes in all, have come or were acknowledged."""
        self.messages += messages
        self.bytes += size
        self.ended = time.monotonic()

    def values(self) -> dict[str, object]:
        """Return it as `--json` shows it."""
        seconds = max(self.ended - self.began, 0.0)
        rates = {"per_second": self.messages / seconds, "mb_per_second": self.bytes / seconds / 1e6} if seconds else {}
        shown = {name: round(value, 3) for name, value in ({"seconds": seconds} | rates | self._percentiles()).items()}
        return {"messages": self.messages, "bytes": self.bytes, **shown}

    def show(self, as_json: bool) -> None:
        """Print it."""
        if as_json:
            emit(self.values())
            return
        seconds = self.ended - self.began
        if self.messages and seconds > 0:
            rates = f"{self.messages / seconds:,.0f} messages/s, {self.bytes / seconds / 1e6:,.2f} MB/s"
            say(f"{self.messages:,} messages {self.what} in {seconds:.2f} s: {rates}")
        else:
            say(f"{self.messages:,} messages {self.what}")
        if self.took:
            say(", ".join(f"{name.removesuffix('_ms')} {value:.3f} ms" for name, value in self._percentiles().items()))

    def _percentiles(self) -> dict[str, float]:
        ordered = sorted(self.took)
        if not ordered:
            return {}
        found = {f"p{part}_ms": ordered[len(ordered) * part // 100] * 1e3 for part in (50, 90, 99)}
        return found | {"max_ms": ordered[-1] * 1e3}


@dataclass(frozen=True, slots=True)
class Limits:
    """When a measurement ends: after so many messages or seconds; None: that is no limit."""

    count: int | None
    seconds: float | None

    def reached(self, messages: int, began: float) -> bool:
        """Say whether this was enough."""
        return (self.count is not None and messages >= self.count) or (
            self.seconds is not None and time.monotonic() >= began + self.seconds
        )

    def left(self, messages: int) -> int:
        """Return how many messages may still be begun, at most a list."""
        return _LIST if self.count is None else min(_LIST, self.count - messages)


@dataclass(frozen=True, slots=True)
class Putting:
    """What `bench produce` sends, and how."""

    topic: str
    body: bytes
    partition: int | str | None
    in_flight: int | None
    limits: Limits


async def first_message(producer: Producer, body: bytes, partition: int | str | None, topic: str) -> None:
    """Send one message that is not counted: whether the topic takes them is known then. Raises Failure."""
    try:
        await producer.send(body, partition=partition)
    except ClientError as exc:
        todo = f"; a topic that is new is added with [topic={topic}] in server.ini and `metaq server reload`"
        unknown = isinstance(exc, NoBroker) or "accept topic" in str(exc)
        raise Failure(f"{topic}: {exc}{todo if unknown else ''}") from exc


async def put(url: str, job: Putting, result: Result) -> None:
    """Send until the limits are reached. Raises Failure, or the first error of a message."""
    async with connect(url, connect_timeout=CONNECT_TIMEOUT) as mq:
        producer = mq.producer(job.topic)
        await first_message(producer, job.body, job.partition, job.topic)
        result.began = result.ended = time.monotonic()
        sender, many = (one_by_one, job.in_flight) if job.in_flight is not None else (in_lists, _LISTS)
        with Meter(f"to {job.topic}", None) as meter:
            begun = Begun(job.limits, result.began)
            try:
                async with asyncio.TaskGroup() as senders:
                    for _ in range(many):
                        senders.create_task(sender(producer, job, begun, result, meter))
            except ExceptionGroup as failed:
                raise failed.exceptions[0] from None


@dataclass(slots=True)
class Begun:
    """How many messages of a measurement were begun by all who send."""

    limits: Limits
    began: float
    messages: int = 0

    def take(self, most: int) -> int:
        """Return how many messages to send now, at most so many; 0: it is enough."""
        if self.limits.reached(self.messages, self.began):
            return 0
        count = min(most, self.limits.left(self.messages))
        self.messages += count
        return count


async def in_lists(producer: Producer, job: Putting, begun: Begun, result: Result, meter: Meter) -> None:
    while count := begun.take(_LIST):
        await producer.send_many([job.body] * count, partition=job.partition)
        result.count(count, count * len(job.body))
        meter.add(count)


async def one_by_one(producer: Producer, job: Putting, begun: Begun, result: Result, meter: Meter) -> None:
    while begun.take(1):
        start = time.perf_counter()
        await producer.send(job.body, partition=job.partition)
        result.took.append(time.perf_counter() - start)
        result.count(1, len(job.body))
        meter.add(1)


async def get(url: str, job: Reading, limits: Limits, result: Result) -> None:
    """Read until the limits are reached or nothing comes any more. Raises Failure if nothing came at all."""
    async with connect(url, connect_timeout=CONNECT_TIMEOUT) as mq:
        with Meter(f"from {job.topic}", None) as meter, suppress(TimeoutError):
            result.began = result.ended = time.monotonic()
            async with aclosing(batches(mq, job)) as found, asyncio.timeout(limits.seconds):
                async for messages in found:
                    counted = messages if job.count is None else messages[: job.count - result.messages]
                    result.count(len(counted), sum(len(message.data) for message in counted))
                    meter.add(len(counted))
                    if limits.reached(result.messages, result.began):
                        break
    if not result.messages:
        raise Failure(f"{job.topic}: no message came within {job.idle:g} s; `metaq topics list` shows what there is")


async def batches(mq: MessageQueue, job: Reading) -> AsyncGenerator[list[Message], None]:
    """Yield messages as they come, of a group's share or of all partitions, until none came for `job.idle` seconds."""
    if job.group is None:
        gathering = Gathering(mq, job)
        try:
            await gathering.begin()
            while messages := await gathering.next():
                yield messages
        finally:
            await gathering.close()
        return
    async with mq.consumer(job.topic, group=job.group, start=job.start) as consumer:
        while True:
            try:
                async with asyncio.timeout(job.idle):
                    messages = await consumer.batch(_BATCH, _GATHER)
            except TimeoutError:
                return
            yield messages
            for message in messages:
                consumer.ack(message)


@dataclass(slots=True)
class Trip:
    """Messages that are sent evenly, and read by ourselves."""

    topic: str
    size: int
    rate: float
    total: int
    partition: int | str | None
    run: bytes = field(default_factory=lambda: secrets.token_bytes(8))
    sending: set["asyncio.Task[object]"] = field(default_factory=set)
    all_there: asyncio.Event = field(default_factory=asyncio.Event)

    def body(self) -> bytes:
        """Return a message that says when it was made."""
        return MARK.pack(self.run, time.perf_counter_ns()).ljust(self.size, b"x")

    async def travel(self, url: str, result: Result) -> None:
        """Send and read all. Raises Failure if some do not come."""
        async with connect(url, connect_timeout=CONNECT_TIMEOUT) as mq:
            producer = mq.producer(self.topic)
            await first_message(producer, bytes(self.size), self.partition, self.topic)
            ends = await self._ends(mq)
            result.began = result.ended = time.monotonic()
            with Meter(f"through {self.topic}", None) as meter:

                def note(seconds: float) -> None:
                    result.took.append(seconds)
                    result.count(1, self.size)
                    meter.add(1)
                    if result.messages >= self.total:
                        self.all_there.set()

                readers = [
                    asyncio.ensure_future(self._read(mq.reader(self.topic, name, end), note))
                    for name, end in ends.items()
                ]
                try:
                    await self._send(producer, list(ends))
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self.all_there.wait(), _LATE)
                finally:
                    for task in (*readers, *self.sending):
                        task.cancel()
                    await asyncio.gather(*readers, *self.sending, return_exceptions=True)
        if result.messages < self.total:
            raise Failure(f"{self.topic}: {result.messages:,} of {self.total:,} messages came")

    async def _ends(self, mq: MessageQueue) -> dict[int | str, int]:
        """Return the partitions to use and where each ends now: those that are there, since others cannot be read."""
        names = await mq.partitions(self.topic) if self.partition is None else [self.partition]
        return {name: (await mq.offsets(self.topic, name))[1] for name in names}

    async def _send(self, producer: Producer, places: list[int | str]) -> None:
        start = time.perf_counter()
        for number in range(self.total):
            if (wait := start + number / self.rate - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            task: asyncio.Task[object] = asyncio.ensure_future(
                producer.send(self.body(), partition=places[number % len(places)])
            )
            self.sending.add(task)
            task.add_done_callback(self._sent)
        while self.sending:
            await asyncio.wait(self.sending)

    def _sent(self, task: "asyncio.Task[object]") -> None:
        self.sending.discard(task)
        if not task.cancelled():
            task.exception()  # one that fails does not come; that is said at the end

    async def _read(self, reader: Reader, note: Callable[[float], None]) -> None:
        """Read a partition for ever; note how long each message of ours was under way."""
        while messages := await reader.fetch():
            now = time.perf_counter_ns()
            for message in messages:
                data = message.data
                if len(data) >= MARK.size and (mark := MARK.unpack_from(data))[0] == self.run:
                    note((now - mark[1]) / 1e9)
