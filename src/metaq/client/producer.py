"""Sending messages: many in flight, each with its answer (reference: SimpleMessageProducer)."""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final, TypeAlias

from metaq.client.batch import pieces
from metaq.client.flight import Flight
from metaq.client.options import ProducerOptions
from metaq.client.parcel import MOST_RECORDS, Parcel, Receipts, Span, anew
from metaq.client.partitioner import KeySelector, Place, Selector, parse_partition
from metaq.client.picker import Picker, takes_batches
from metaq.client.putting import Putting
from metaq.client.routes import Route, Routes
from metaq.client.sending import Put, Sent, Waiter, checked, known
from metaq.client.shipping import Shipping, ShippingOptions
from metaq.errors import MetaqError, NoBroker
from metaq.model import BrokerPartition, Receipt
from metaq.ports import Random
from metaq.record import HEADER_SIZE, encode_body

_MOST_REMEMBERED: Final = 100  # parcels with errors nobody asked for, kept for `flush`
_TURN: Final = 256  # messages of one send_many between two looks at what else there is to do

Spot: TypeAlias = tuple[Parcel, int]  # where a message is: in which parcel, and which it is there


class Producer:
    """Sends the messages of one topic.

    To brokers of ours messages go in batches that come from waiting: what is sent while a batch is under way goes with
    the next. A batch without an answer is sent again until its outcome is known or the time of its messages over; it
    is never stored twice, and the order of a partition is that of the calls.

    To a broker 1.4.6.2 each message goes as a put. One that could not be sent at all waits for a broker; one whose
    answer did not come is not sent again unless `retries` allows it, and what is in flight at the same time is
    appended in any order.
    """

    def __init__(
        self, topic: str, routes: Routes, selector: Selector, options: ProducerOptions, random: Random
    ) -> None:
        self.topic = topic
        self._routes = routes
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._picker = self._keyless = Picker(topic, routes, selector, options.default_topic)
        self._keys: KeySelector | None = None
        if isinstance(selector, KeySelector):
            self._keys = selector
            self._keyless = Picker(topic, routes, selector.keyless, options.default_topic)
        self._flight = Flight(topic, options.in_flight)
        self._putting = Putting(topic, self._flight, options.retries)
        number = random.randrange((1 << 63) - 1) + 1
        shipping = ShippingOptions(number, options.linger, options.retries)
        self._shipping = Shipping(topic, (self._picker, self._keyless), self._flight, self._putting, shipping)
        self._failed: deque[Parcel] = deque(maxlen=_MOST_REMEMBERED)
        self._order = asyncio.Lock()
        self._numbers: tuple[int, dict[int, BrokerPartition]] = (-1, {})  # of the only broker, at a generation
        self._is_plain = self.is_free
        self._closed = False

    @property
    def is_closed(self) -> bool:
        """Whether it takes no messages any more."""
        return self._closed

    @property
    def is_free(self) -> bool:
        """Whether any partition will do for a message for which none is named, whatever it is."""
        return self._keys is None and self._picker.is_free

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
        spot = self._start_now(data, attribute, partition, timeout)
        if spot is None:
            spot = await self._start(data, attribute, partition, timeout)
        self._shipping.leave()
        parcel, index = spot
        answer: asyncio.Future[Receipt] = self._loop.create_future()
        parcel.tell(index, answer)
        return await answer

    async def send_nowait(
        self,
        data: bytes,
        *,
        attribute: str | None = None,
        partition: Place | None = None,
        timeout: float | None = None,
    ) -> Sent:
        """Send a message and return what its receipt will come with; waits only while too much is in flight.

        Raises NoBroker if it could not be sent. Other errors come with the result, or with `flush` if nobody asks it.
        """
        spot = self._start_now(data, attribute, partition, timeout)
        if spot is None:
            spot = await self._start(data, attribute, partition, timeout)
        self._shipping.wake()
        return Sent(*spot)

    async def send_many(
        self,
        bodies: Iterable[bytes],
        *,
        attribute: str | None = None,
        partition: Place | None = None,
        timeout: float | None = None,
    ) -> Receipts:
        """Send messages in order, many in flight, and return their receipts in the same order.

        Raises, once all outcomes are known, the error of the first that failed; others may have been stored. Where it
        matters which, use send_nowait.
        """
        receipts = Receipts()
        timeout = self._options.timeout if timeout is None else timeout
        unsent: MetaqError | None = None
        async with self._order:
            fixed = None if partition is None else await self._place(partition, timeout)
            try:
                if fixed is None and not self.is_free:
                    await self._send_each(receipts, bodies, attribute, timeout)
                else:
                    await self._send_parcels(receipts, bodies, attribute, fixed, timeout)
            except NoBroker as exc:
                unsent = exc
        for parcel in dict.fromkeys(span.parcel for span in receipts.spans):
            if not parcel.is_known(-1):
                await known(parcel, -1)
        failed = receipts.first_error()
        if failed is not None:
            index, count, error = failed
            error = anew(error)
            error.add_note(f"message {index} of {len(receipts)}; {count} were not acknowledged")
            raise error
        if unsent is not None:
            raise unsent
        return receipts

    async def _send_parcels(
        self,
        receipts: Receipts,
        bodies: Iterable[bytes],
        attribute: str | None,
        fixed: BrokerPartition | None,
        timeout: float,
    ) -> None:
        most = min(MOST_RECORDS, self._options.in_flight)
        for piece in pieces(bodies, attribute, most):
            deadline = self._loop.time() + timeout
            parcel = Parcel.of(piece, 0 if attribute is None else 1, timeout, fixed)
            if not self._ready():
                await self._flight.slot(deadline)
            self._ship(parcel, deadline)
            self._shipping.wake()
            receipts.append(Span(parcel, 0, parcel.count))
            await asyncio.sleep(0)

    async def _send_each(
        self, receipts: Receipts, bodies: Iterable[bytes], attribute: str | None, timeout: float
    ) -> None:
        for number, data in enumerate(bodies):
            parcel, index = await self._start(data, attribute, None, timeout)
            self._shipping.wake()
            parcel.ask(index)
            receipts.append(Span(parcel, index, 1))
            if not number % _TURN:
                await asyncio.sleep(0)

    async def flush(self) -> None:
        """Wait until no message is without an outcome; raise the first error that nobody has asked for."""
        self._shipping.flush()
        await self._flight.idle()
        failed = list(self._failed)
        self._failed.clear()
        raise_unseen(failed)

    async def close(self) -> None:
        """Stop: nothing is sent again any more, and nothing new is taken. Waits for nobody; see `flush`."""
        self._closed = True
        await self._shipping.close()
        await self._putting.close()

    # one message

    def _start_now(
        self, data: bytes, attribute: str | None, partition: Place | None, timeout: float | None
    ) -> Spot | None:
        """Send a message if that takes no wait; None: it does, and nothing was done."""
        if self._is_plain and attribute is None and partition is None and timeout is None and type(data) is bytes:
            spot = self._shipping.add_quickly(data, self._options.timeout)
            if spot is not None:
                return spot
        checked(data, attribute)
        if timeout is None:
            timeout = self._options.timeout
        if self._closed or not self._flight.has_room:
            return None
        if partition is None and self._keys is None and self._picker.is_batching:
            flag, body = (0, data) if attribute is None else encode_body(data, attribute)
            self._flight.begin(1, len(body) + HEADER_SIZE)
            parcel, index = self._shipping.add(body, flag, timeout)
            parcel.failures = self._failed
            return parcel, index
        fixed = self._known_place(partition)
        if fixed is None and partition is not None:
            return None
        if fixed is not None:
            route = self._picker.to(fixed)
            if route is not None and takes_batches(route):
                return self._add_to(fixed, *encode_body(data, attribute), timeout)
        put = self._put(data, attribute, fixed, timeout)
        if fixed is None and put.picker.is_batching:
            parcel = Parcel.of([put.body], put.flag, put.timeout, None)
            parcel.failures = self._failed
            self._ship(parcel, put.deadline)
            return parcel, 0
        route = put.picker.quick(put)
        return None if route is None else self._dispatch(put, route)

    async def _start(self, data: bytes, attribute: str | None, partition: Place | None, timeout: float | None) -> Spot:
        """Send a message as soon as that is possible. Raises ClientError if it never was."""
        spot = self._start_now(data, attribute, partition, timeout)
        if spot is None:
            put, route = await self._find_route(data, attribute, partition, timeout)
            spot = self._dispatch(put, route)
        return spot

    async def _find_route(
        self, data: bytes, attribute: str | None, partition: Place | None, timeout: float | None
    ) -> tuple[Put, Route]:
        timeout = self._options.timeout if timeout is None else timeout
        fixed = None if partition is None else await self._place(partition, timeout)
        put = self._put(*checked(data, attribute), fixed, timeout)
        if not self._ready():
            await self._flight.slot(put.deadline)
        return put, await put.picker.wait(put, put.deadline)

    def _ready(self) -> bool:
        """Say whether more may be sent now. Raises NoBroker if nothing is any more."""
        if self._closed:
            raise NoBroker(f"{self.topic}: the producer is closed")
        return self._flight.has_room

    def _put(self, data: bytes, attribute: str | None, fixed: BrokerPartition | None, timeout: float) -> Put:
        put = Put(data, attribute, fixed)
        put.timeout = timeout
        put.deadline = self._loop.time() + timeout
        keyless = self._keys is not None and self._keys.key(data, attribute) is None
        put.picker = self._keyless if keyless else self._picker
        return put

    def _known_place(self, place: Place | None) -> BrokerPartition | None:
        """Return the partition that is meant, if it takes no look into the directory. Raises ConfigError."""
        if isinstance(place, int):
            generation, numbers = self._numbers
            return numbers.get(place) if generation == self._routes.changes.generation else None
        return parse_partition(place) if isinstance(place, str) else place

    async def _place(self, place: Place, timeout: float) -> BrokerPartition:
        """Return the partition that is meant. Raises ConfigError, NoBroker."""
        generation = self._routes.changes.generation
        partition = await self._routes.resolve(place, timeout)
        if isinstance(place, int):
            if self._numbers[0] != generation:
                self._numbers = (generation, {})
            self._numbers[1][place] = partition
        return partition

    def _dispatch(self, put: Put, route: Route) -> Spot:
        """Send a message this way."""
        if takes_batches(route) and (put.fixed is not None or not put.picker.is_free):
            return self._add_to(route.partition, put.flag, put.body, put.timeout)
        parcel = Parcel.of([put.body], put.flag, put.timeout, None)
        parcel.failures = self._failed
        if takes_batches(route):
            self._ship(parcel, put.deadline)
        else:
            put.waiter = parcel
            self._flight.begin(1, put.size)
            self._putting.submit(put, route)
        return parcel, 0

    def _add_to(self, partition: BrokerPartition, flag: int, body: bytes, timeout: float) -> Spot:
        self._flight.begin(1, len(body) + HEADER_SIZE)
        parcel, index = self._shipping.add_to(partition, body, flag, timeout)
        parcel.failures = self._failed
        return parcel, index

    def _ship(self, parcel: Parcel, deadline: float) -> None:
        parcel.expires = deadline
        self._flight.begin(parcel.count, parcel.size)
        self._shipping.put(parcel)

    # parcels of plain code

    def take(self, parcel: Parcel, place: Place | None) -> bool:
        """Send a sealed parcel, to a place if one is named, with `hurry`; False: that takes a wait.

        Raises ConfigError, NoBroker.
        """
        if not self._ready():
            return False
        fixed = self._known_place(place)
        if fixed is None and place is not None:
            return False
        parcel.fixed = fixed
        self._ship(parcel, self._loop.time() + parcel.timeout)
        return True

    async def take_slowly(self, parcel: Parcel, place: Place | None) -> None:
        """Do the same as soon as it is possible. Raises ClientError, ConfigError: nothing was sent."""
        deadline = self._loop.time() + parcel.timeout
        if place is not None:
            parcel.fixed = await self._place(place, parcel.timeout)
        if not self._ready():
            await self._flight.slot(deadline)
        self._ship(parcel, deadline)
        self._shipping.wake()

    async def choose(self, parcel: Parcel, data: bytes, attribute: str | None) -> None:
        """Send a parcel of one message where the selector says. Raises ClientError: it was not sent."""
        put, route = await self._find_route(data, attribute, None, parcel.timeout)
        self._choose(parcel, put, route)
        self._shipping.wake()

    def choose_now(self, parcel: Parcel, data: bytes, attribute: str | None) -> bool:
        """Do the same if that takes no wait; False: it does."""
        if not self._ready():
            return False
        put = self._put(data, attribute, None, parcel.timeout)
        if put.picker.is_batching:
            self._ship(parcel, put.deadline)
            return True
        route = put.picker.quick(put)
        if route is not None:
            self._choose(parcel, put, route)
        return route is not None

    def _choose(self, parcel: Parcel, put: Put, route: Route) -> None:
        if takes_batches(route):
            parcel.fixed = None if put.picker.is_free else route.partition
            self._ship(parcel, put.deadline)
        else:
            put.waiter = parcel
            self._flight.begin(1, put.size)
            self._putting.submit(put, route)

    def hurry(self) -> None:
        """Have sent what was taken in this turn."""
        if self._options.linger:
            self._shipping.wake()
        else:
            self._shipping.flush()

    # puts for others

    async def send_to(
        self, waiter: Waiter, data: bytes, attribute: str | None, partition: Place | None, timeout: float | None
    ) -> None:
        """Put a message whose outcome `waiter` is told. Raises ClientError if it was never sent."""
        put, route = await self._find_route(data, attribute, partition, timeout)
        put.waiter = waiter
        self._flight.begin(1, put.size)
        self._putting.submit(put, route)

    def offer(
        self, waiter: Waiter, data: bytes, attribute: str | None, partition: Place | None, timeout: float | None
    ) -> bool:
        """Do what send_to does if that takes no wait; False: it does, and nothing was done."""
        fixed = self._known_place(partition)
        if (fixed is None and partition is not None) or self._closed or not self._flight.has_room:
            return False
        put = self._put(*checked(data, attribute), fixed, self._options.timeout if timeout is None else timeout)
        route = put.picker.quick(put)
        if route is None:
            return False
        put.waiter = waiter
        self._flight.begin(1, put.size)
        self._putting.submit(put, route)
        return True


def raise_unseen(failed: Iterable[Parcel]) -> None:
    """Raise the first error in these parcels that nobody asked for."""
    for parcel in failed:
        error = parcel.unseen_error()
        if error is not None:
            raise anew(error)
