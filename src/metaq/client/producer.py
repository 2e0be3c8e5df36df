"""Sending messages: many in flight, each with its answer (reference: SimpleMessageProducer)."""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from metaq.client.directory import ANY_PARTITION
from metaq.client.partitioner import KeySelector, Place, Selector, parse_partition
from metaq.client.picker import Picker
from metaq.client.routes import Route, Routes
from metaq.client.sending import Batch, Put, Sent, Waiter, checked
from metaq.errors import ClientError, LinkClosed, MetaqError, NoBroker, Refused, RequestTimeout, Status
from metaq.model import BrokerPartition, Receipt, TopicPartition
from metaq.protocol.encoder import put_head

_MOST_REMEMBERED: Final = 100  # errors nobody asked for, kept for `flush`
_CHOICES: Final = 8  # how often a broker that chooses the partition itself may choose one that is closed
_TURN: Final = 256  # messages of one send_many between two looks at what else there is to do


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerOptions:
    """How a producer behaves. `retries` sends again what may have been stored already: it may then be there twice."""

    timeout: float = 20.0  # seconds one attempt may take
    retries: int = 0
    in_flight: int = 10_000  # messages without an answer; above it sending waits
    default_topic: str | None = None  # whose partitions are used as long as the topic has none


class Producer:
    """Sends the messages of one topic.

    A message that could not be sent at all waits for a broker; one whose answer did not come is not sent again unless
    `retries` allows it. The order of one partition is the order of the calls, as far as its broker keeps it: ours
    does, the original appends what is in flight at the same time in any order.
    """

    def __init__(self, topic: str, routes: Routes, selector: Selector, options: ProducerOptions) -> None:
        self.topic = topic
        self._routes = routes
        self._options = options
        self._picker = Picker(topic, routes, selector, options.default_topic)
        self._keys: KeySelector | None = None
        if isinstance(selector, KeySelector):
            self._keys = selector
            self._keyless = Picker(topic, routes, selector.keyless, options.default_topic)
        self._loop = asyncio.get_running_loop()
        self._in_flight = 0
        self._slots: deque[asyncio.Future[None]] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._failed: deque[Sent] = deque(maxlen=_MOST_REMEMBERED)
        self._order = asyncio.Lock()
        self._again: set[asyncio.Task[None]] = set()
        self._targets: dict[BrokerPartition, TopicPartition] = {}
        self._closed = False

    @property
    def is_closed(self) -> bool:
        """Whether it takes no messages any more."""
        return self._closed

    async def send(
        self,
        data: bytes,
        *,
        attribute: str | None = None,
        partition: Place | None = None,
        timeout: float | None = None,
    ) -> Receipt:
        """Send a message and wait until the broker has stored it. `timeout` in seconds; None: that of the producer.

        Raises NoBroker (it was not sent), Refused (it was not stored), RequestTimeout or LinkClosed (it may be).
        """
        sent = Sent(self._loop)
        await self.send_to(sent, data, attribute, partition, timeout)
        return await sent

    async def send_nowait(
        self,
        data: bytes,
        *,
        attribute: str | None = None,
        partition: Place | None = None,
        timeout: float | None = None,
    ) -> Sent:
        """Send a message and return the future of its receipt; waits only while too much is in flight.

        Raises NoBroker if it could not be sent. Other errors come with the future, or with `flush` if nobody asks it.
        """
        sent = Sent(self._loop, self._failed)
        await self.send_to(sent, data, attribute, partition, timeout)
        return sent

    async def send_many(
        self,
        bodies: Iterable[bytes],
        *,
        attribute: str | None = None,
        partition: Place | None = None,
        timeout: float | None = None,
    ) -> list[Receipt]:
        """Send messages in order, many in flight, and return their receipts in the same order.

        Raises, once all outcomes are known, the error of the first that failed; others may have been stored. Where it
        matters which, use send_nowait.
        """
        batch = Batch()
        timeout = self._options.timeout if timeout is None else timeout
        async with self._order:
            fixed = None if partition is None else await self._routes.resolve(partition, timeout)
            for data in bodies:
                put = Put(self, *checked(data, attribute), fixed)
                put.waiter, put.index = batch, batch.add()
                try:
                    if not self._start_now(put, timeout):
                        await self._start(put)
                except MetaqError as exc:
                    batch.failed(put.index, exc)
                    break  # the rest would wait as long, each
                if not put.index % _TURN:
                    await asyncio.sleep(0)
        return await batch.outcome()

    async def flush(self) -> None:
        """Wait until no message is without an outcome; raise the first error that nobody has asked for."""
        while self._in_flight:
            waiter = self._loop.create_future()
            self._idle.append(waiter)
            await waiter
        failed = [sent for sent in self._failed if not sent.seen]
        self._failed.clear()
        if failed:
            failed[0].result()

    async def close(self) -> None:
        """Stop: nothing is sent again any more, and nothing new is taken. Waits for nobody; see `flush`."""
        self._closed = True
        tasks = list(self._again)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    # one message

    async def send_to(
        self, waiter: Waiter, data: bytes, attribute: str | None, partition: Place | None, timeout: float | None
    ) -> None:
        """Send a message whose outcome `waiter` is told; as send_nowait, for who needs no future of this loop."""
        timeout = self._options.timeout if timeout is None else timeout
        fixed = None if partition is None else await self._routes.resolve(partition, timeout)
        put = Put(self, *checked(data, attribute), fixed)
        put.waiter = waiter
        if not self._start_now(put, timeout):
            await self._start(put)

    def offer(
        self, waiter: Waiter, data: bytes, attribute: str | None, partition: Place | None, timeout: float | None
    ) -> bool:
        """Do what send_to does if that takes no wait; False: it does, and nothing was done."""
        if isinstance(partition, int):
            return False  # of which broker, the directory knows
        fixed = parse_partition(partition) if isinstance(partition, str) else partition
        put = Put(self, *checked(data, attribute), fixed)
        put.waiter = waiter
        return self._start_now(put, self._options.timeout if timeout is None else timeout)

    def _start_now(self, put: Put, timeout: float) -> bool:
        """Send it if that takes no wait; False: it does."""
        put.timeout = timeout
        put.deadline = self._loop.time() + timeout
        put.picker = self._picker if self._keys is None else self._picker_for(put, self._keys)
        if self._closed or self._in_flight >= self._options.in_flight:
            return False
        route = put.picker.quick(put)
        if route is None:
            return False
        self._in_flight += 1
        self._submit(put, route)
        return True

    def _picker_for(self, put: Put, keys: KeySelector) -> Picker:
        return self._picker if keys.key(put.data, put.attribute) is not None else self._keyless

    async def _start(self, put: Put) -> None:
        """Send it as soon as that is possible. Raises ClientError if it never was."""
        if self._closed:
            raise NoBroker(f"{self.topic}: the producer is closed")
        if self._in_flight >= self._options.in_flight:
            await self._slot(put.deadline)
        route = await put.picker.wait(put, put.deadline)
        self._in_flight += 1
        self._submit(put, route)

    def _submit(self, put: Put, route: Route) -> None:
        partition = route.partition
        target = self._targets.get(partition)
        if target is None:
            target = self._targets[partition] = TopicPartition(self.topic, partition.partition)
        link = route.link
        opaque = link.next_opaque()
        frame = put_head(target, len(put.body), put.flag, put.checksum, opaque) + put.body
        put.route = route
        put.attempts += 1
        put.size = len(frame)
        link.send(opaque, put, frame)

    async def _slot(self, deadline: float) -> None:
        """Wait until fewer messages are in flight than the options allow."""
        try:
            async with asyncio.timeout_at(deadline):
                while self._in_flight >= self._options.in_flight:
                    waiter = self._loop.create_future()
                    self._slots.append(waiter)
                    await waiter
        except TimeoutError as exc:
            raise RequestTimeout(f"{self.topic}: not sent, {self._in_flight} messages have no answer") from exc

    # its outcomes

    def on_stored(self, put: Put, receipt: Receipt) -> None:
        """Pass a receipt on (called by the put)."""
        put.waiter.stored(put.index, receipt)
        self._settled()

    def on_failed(self, put: Put, error: ClientError) -> None:
        """Send it again where that is right, else pass the error on (called by the put)."""
        if self._closed or not self._may_repeat(put, error):
            self._give_up(put, error)
            return
        task = self._loop.create_task(self._repeat(put, error), name=f"resend to {self.topic}")
        self._again.add(task)
        task.add_done_callback(self._again.discard)

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
        if put.attempts > self._options.retries:
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
                    self._give_up(put, exc if isinstance(error, NoBroker) and isinstance(exc, ClientError) else error)
                    return
            except asyncio.CancelledError:
                self._give_up(put, error)
                raise
            else:
                self._submit(put, route)
                return

    def _give_up(self, put: Put, error: ClientError) -> None:
        if isinstance(error, NoBroker) and put.uncertain is not None:
            error = put.uncertain  # that one attempt was not sent says nothing of those before it
        put.waiter.failed(put.index, _with_place(self.topic, put, error))
        self._settled()

    def _settled(self) -> None:
        self._in_flight -= 1
        while self._slots and self._in_flight < self._options.in_flight:
            slot = self._slots.popleft()
            if not slot.done():
                slot.set_result(None)
                break
        if not self._in_flight and self._idle:
            waiters, self._idle = self._idle, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)


def _with_place(topic: str, put: Put, error: ClientError) -> ClientError:
    """Return the error with the place it concerns in its text, and itself as the cause."""
    if put.route is None or isinstance(error, NoBroker):
        return error
    chosen = put.route.partition
    where = f"{topic} {chosen}" if chosen.partition >= 0 else topic  # else the broker would have chosen
    place = f"put to {where} at {put.route.link.address}"
    named: ClientError
    if isinstance(error, Refused):
        named = Refused(error.status, f"{error.text} ({place})")
    else:
        named = type(error)(f"{place}: {error}")
    named.__cause__ = error
    return named
