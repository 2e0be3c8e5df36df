"""Messages that go one by one, as a put each: to brokers that know no batches (reference: SimpleMessageProducer)."""

import asyncio
from collections import deque
from typing import Final

from metaq.client.directory import ANY_PARTITION
from metaq.client.flight import Flight
from metaq.client.routes import Route
from metaq.client.sending import Put
from metaq.errors import ClientError, LinkClosed, MetaqError, NoBroker, Refused, RequestTimeout, Status
from metaq.model import BrokerAddress, BrokerPartition, Receipt, TopicPartition
from metaq.protocol.encoder import put_head
from metaq.record import checksum

_CHOICES: Final = 8  # how often a broker that chooses the partition itself may choose one that is closed


class Putting:
    """Sends puts and decides what becomes of those that failed.

    What could not be sent at all waits for a broker; what may be stored is sent again only as often as `retries` says.
    """

    def __init__(self, topic: str, flight: Flight, retries: int) -> None:
        self._topic = topic
        self._flight = flight
        self._retries = retries
        self._loop = asyncio.get_running_loop()
        self._targets: dict[BrokerPartition, TopicPartition] = {}
        self._queue: deque[Put] = deque()  # those that cannot go at once, nor before those ahead of them
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def submit(self, put: Put, route: Route) -> None:
        """Send it; it is counted as under way already."""
        partition = route.partition
        target = self._targets.get(partition)
        if target is None:
            target = self._targets[partition] = TopicPartition(self._topic, partition.partition)
        link = route.link
        opaque = link.next_opaque()
        put.owner = self
        put.route = route
        put.attempts += 1
        link.send(opaque, put, put_head(target, len(put.body), put.flag, checksum(put.body), opaque) + put.body)

    def follow(self, put: Put) -> None:
        """Send it as soon as that is possible, behind those that wait already."""
        put.owner = self
        route = None if self._queue else put.picker.quick(put)
        if route is not None and not self._closed:
            self.submit(put, route)
            return
        self._queue.append(put)
        if len(self._queue) == 1:
            self._begin(self._follow(), f"messages for {self._topic}")

    async def close(self) -> None:
        """Send nothing again any more."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _begin(self, work: "asyncio._CoroutineLike[None]", name: str) -> None:
        task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self) -> None:
        try:
            while self._queue:
                put = self._queue[0]
                try:
                    route = put.picker.quick(put) or await put.picker.wait(put, put.deadline)
                except MetaqError as exc:
                    self._give_up(self._queue.popleft(), exc)
                else:
                    self.submit(self._queue.popleft(), route)
        finally:
            while self._queue:
                self._give_up(self._queue.popleft(), NoBroker(f"{self._topic}: not sent, the producer is closed"))

    # outcomes

    def on_stored(self, put: Put, receipt: Receipt) -> None:
        """Pass a receipt on (called by the put)."""
        put.waiter.stored(put.index, receipt)
        self._flight.end(1, put.size)

    def on_failed(self, put: Put, error: ClientError) -> None:
        """Send it again where that is right, else pass the error on (called by the put)."""
        if self._closed or not self._may_repeat(put, error):
            self._give_up(put, error)
        else:
            self._begin(self._repeat(put, error), f"resend to {self._topic}")

    def _may_repeat(self, put: Put, error: ClientError) -> bool:
        """Decide, and prepare the put for it."""
        assert put.route is not None
        partition = put.route.partition
        match error:
            case NoBroker():
                return True  # it was not sent
            case Refused(status=Status.FORBIDDEN):
                if put.fixed is not None or not put.picker.is_free:
                    return False
                if partition.partition != ANY_PARTITION:
                    put.avoid |= {partition}
                elif put.attempts >= _CHOICES:
                    return False
                return True
            case LinkClosed() | RequestTimeout():
                put.uncertain = error
                if not put.picker.is_free:
                    put.fixed = partition  # what a function of the user's chose stays chosen
                return self._has_attempt(put)
            case _:
                return False

    def _has_attempt(self, put: Put) -> bool:
        """Give the put the time of another attempt, if the options allow one."""
        if put.attempts > self._retries:
            return False
        put.deadline = self._loop.time() + put.timeout
        return True

    async def _repeat(self, put: Put, error: ClientError) -> None:
        while True:
            try:
                route = put.picker.quick(put) or await put.picker.wait(put, put.deadline)
            except MetaqError as exc:
                exc.__context__ = error
                put.attempts += 1
                if put.uncertain is None or not self._has_attempt(put):
                    self._give_up(put, exc if isinstance(error, NoBroker) else error)
                    return
            except asyncio.CancelledError:
                self._give_up(put, error)
                raise
            else:
                self.submit(put, route)
                return

    def _give_up(self, put: Put, error: MetaqError) -> None:
        if isinstance(error, NoBroker) and put.uncertain is not None:
            error = put.uncertain  # that one attempt was not sent says nothing of those before it
        if put.route is not None and isinstance(error, ClientError):
            error = named(error, self._topic, put.route.partition, put.route.link.address)
        put.waiter.failed(put.index, error)
        self._flight.end(1, put.size)


def named(error: ClientError, topic: str, partition: BrokerPartition, address: BrokerAddress | None) -> ClientError:
    """Return the error with the place it concerns in its text, and itself as the cause."""
    if isinstance(error, NoBroker):
        return error
    where = f"{topic} {partition}" if partition.partition >= 0 else topic  # else the broker would have chosen
    place = f"put to {where}" if address is None else f"put to {where} at {address}"
    told: ClientError
    if isinstance(error, Refused):
        told = Refused(error.status, f"{error.text} ({place})")
    else:
        told = type(error)(f"{place}: {error}")
    told.__cause__ = error
    return told
