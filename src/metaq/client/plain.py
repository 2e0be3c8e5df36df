"""A producer for plain code: the one of `producer`, run in the background thread (see `metaq.sync`)."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from itertools import islice
from typing import Final, NamedTuple, TypeVar

from metaq.client.background import LoopThread
from metaq.client.options import ProducerOptions
from metaq.client.outcome import Outcome
from metaq.client.parcel import MOST_BYTES, MOST_RECORDS, Parcel, Receipts, anew
from metaq.client.partitioner import Place
from metaq.client.producer import Producer as CoreProducer
from metaq.client.producer import raise_unseen
from metaq.client.sending import checked
from metaq.errors import ConfigError, LinkClosed
from metaq.model import Receipt
from metaq.record import encode_body

T = TypeVar("T")

_CHUNK: Final = 4096  # messages of a generator handed to the other thread at once
_MOST_REMEMBERED: Final = 100  # parcels with errors nobody asked for, kept for `flush`
_MOST_SIZE: Final = 64 << 20  # bytes of send_nowait without an outcome; above it sending waits
_EACH: Final = 64  # bytes a message takes beside its own, for that limit


class Sent(Outcome):
    """The outcome of one `send_nowait`, much like a concurrent future.

    An error that nobody asked it for is raised by `flush` instead.
    """

    __slots__ = ()

    def result(self, timeout: float | None = None) -> Receipt:
        """Wait for the receipt and return it, or raise what went wrong; TimeoutError after `timeout` seconds."""
        outcome = self._wait(timeout)
        if isinstance(outcome, Exception):
            raise anew(outcome)
        return outcome

    def exception(self, timeout: float | None = None) -> Exception | None:
        """Wait for the outcome and return what went wrong, if something did; TimeoutError after `timeout` seconds."""
        outcome = self._wait(timeout)
        return outcome if isinstance(outcome, Exception) else None

    def add_done_callback(self, function: Callable[["Sent"], object]) -> None:
        """Have a function called with this when the outcome is known: in the background thread, or now."""
        if not self._parcel.call_when_known(self._index, lambda: function(self)):
            function(self)

    def _wait(self, timeout: float | None) -> Receipt | Exception:
        self._parcel.ask(self._index)
        if not self._parcel.wait(self._index, timeout):
            raise TimeoutError(f"the outcome is not known within {timeout:g} s")
        outcome = self._parcel.outcome(self._index)
        assert outcome is not None
        return outcome


class _Order(NamedTuple):
    """Messages on their way to the background thread.

    `data` None: they are all in the parcel. Else it is for this one, not encoded yet; the selector may want to see it.
    """

    parcel: Parcel
    place: Place | None
    data: bytes | None
    attribute: str | None


class Producer:
    """Sends the messages of one topic. See metaq.aio.Producer."""

    def __init__(self, core: CoreProducer, thread: LoopThread, options: ProducerOptions) -> None:
        self.topic = core.topic
        self._core = core
        self._thread = thread
        self._most = options.in_flight
        self._timeout = options.timeout
        self._is_free = core.is_free
        self._under_way = 0  # messages of send_nowait without an outcome; those of the open parcel left out
        self._size = 0  # bytes of them
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._waiting = 0  # threads that wait for room
        self._orders: deque[_Order] = deque()
        self._open = Parcel(options.timeout)  # the last one ordered, while more may be added
        self._open_place: Place | None = None
        self._open_most = 0  # messages it may hold
        self._open_left = 0  # bytes it may still take
        self._open_granted = 0  # bytes it might have taken at first
        self._is_pumping = False
        self._pump: asyncio.Task[None] | None = None
        self._failed: deque[Parcel] = deque(maxlen=_MOST_REMEMBERED)

    def send(
        self,
        data: bytes,
        *,
        attribute: str | None = None,
        partition: Place | None = None,
        timeout: float | None = None,
    ) -> Receipt:
        """Send a message and wait until the broker has stored it. An interrupt ends the wait, not the sending."""
        return self.send_nowait(data, attribute=attribute, partition=partition, timeout=timeout).result()

    def send_nowait(
        self,
        data: bytes,
        *,
        attribute: str | None = None,
        partition: Place | None = None,
        timeout: float | None = None,
    ) -> Sent:
        """Send a message and return what its receipt will come with; waits only while too much is in flight."""
        if attribute is None and timeout is None and type(data) is bytes:
            with self._lock:  # spelled out: this runs for every message
                parcel = self._open
                bodies = parcel.bodies
                index = len(bodies)
                left = self._open_left - len(data)
                if left >= 0 and index < self._open_most and partition == self._open_place:
                    bodies.append(data)
                    self._open_left = left - _EACH
                    if self._is_pumping:
                        return Sent(parcel, index)
                    self._is_pumping = True
                else:
                    index = -1
            if index >= 0:
                self._begin_to_pump()
                return Sent(parcel, index)
        return self._send_apart(data, attribute, partition, timeout)

    def _send_apart(self, data: bytes, attribute: str | None, partition: Place | None, timeout: float | None) -> Sent:
        """Order a message in a new parcel, to which more may be added if nothing is special about this one."""
        self._thread.check()
        is_plain = type(data) is bytes and (attribute is None or isinstance(attribute, str))
        size = _EACH + (len(data) if is_plain else 0)
        parcel = Parcel(self._timeout if timeout is None else timeout)
        parcel.watcher = self._settled
        parcel.failures = self._failed
        with self._lock:
            self._seal_open()
            self._wait_for_room(size)
            self._seal_open()  # that of another thread
            if is_plain and attribute is None and (self._is_free or partition is not None):
                parcel.add(data, 0)
                self._orders.append(_Order(parcel, partition, None, None))
                self._open, self._open_place = parcel, partition
                self._open_most = min(MOST_RECORDS, self._most - self._under_way) if timeout is None else 1
                self._open_granted = max(min(MOST_BYTES, _MOST_SIZE - self._size), size)
                self._open_left = self._open_granted - size
            else:
                self._orders.append(_Order(parcel, partition, data, attribute))
                self._count(parcel, 1, size)
            starts, self._is_pumping = not self._is_pumping, True
        if starts:
            self._begin_to_pump()
        return Sent(parcel, 0)

    def _begin_to_pump(self) -> None:
        try:
            self._thread.post(self._pump_now)
        except ConfigError:
            self._refuse_all()
            raise

    def _count(self, parcel: Parcel, count: int, size: int) -> None:
        parcel.cost = size
        self._under_way += count
        self._size += size

    def _seal_open(self) -> None:
        """Add nothing more to the open parcel (with the lock)."""
        if self._open_most:
            self._open_most = 0
            self._count(self._open, len(self._open.bodies), self._open_granted - self._open_left)

    def _wait_for_room(self, size: int) -> None:
        """Wait, with the lock, while too much is under way. Raises ConfigError if the client is closed meanwhile."""
        while self._under_way >= self._most or (self._under_way and self._size + size > _MOST_SIZE):
            self._waiting += 1
            try:
                self._room.wait()
            finally:
                self._waiting -= 1
            self._seal_open()
        if self._thread.is_closed:
            self._room.notify_all()  # nobody else will
            raise ConfigError("the client is closed")

    def send_many(
        self,
        bodies: Iterable[bytes],
        *,
        attribute: str | None = None,
        partition: Place | None = None,
        timeout: float | None = None,
    ) -> Receipts:
        """Send messages in order, many in flight, and return their receipts in the same order.

        What is no list is read in this thread, some thousand messages ahead of the answers.
        """

        def part(chunk: list[bytes]) -> Callable[[], Coroutine[object, object, Receipts]]:
            return lambda: self._core.send_many(chunk, attribute=attribute, partition=partition, timeout=timeout)

        if isinstance(bodies, list):
            return self._in_turn(part(bodies))
        receipts = Receipts()
        waiting: deque[Future[Receipts]] = deque()
        source = iter(bodies)
        try:
            while chunk := list(islice(source, _CHUNK)):
                waiting.append(self._thread.begin(self._after_pump(part(chunk))))
                if len(waiting) > 1:
                    receipts.extend(self._thread.wait(waiting[0]))
                    waiting.popleft()
            while waiting:
                receipts.extend(self._thread.wait(waiting[0]))
                waiting.popleft()
        finally:
            for future in waiting:
                future.cancel()
        return receipts

    def flush(self) -> None:
        """Wait until no message is without an outcome; raise the first error that nobody has asked for."""
        self._in_turn(self._core.flush)
        failed = list(self._failed)
        self._failed.clear()
        raise_unseen(failed)

    def _in_turn(self, call: Callable[[], Coroutine[object, object, T]]) -> T:
        return self._thread.call(self._after_pump(call))

    # in the background thread

    async def _after_pump(self, call: Callable[[], Coroutine[object, object, T]]) -> T:
        """Keep the order of the calls: what send_nowait was given goes first."""
        while self._pump is not None and not self._pump.done():
            await asyncio.wait([self._pump])
        return await call()

    def _pump_now(self) -> None:
        """Send what was ordered; leave the rest to a task as soon as something takes a wait."""
        while (order := self._next_order()) is not None:
            try:
                if not self._offer(order):
                    work = self._pump_slowly(order)
                    self._pump = asyncio.get_running_loop().create_task(work, name=f"orders for {self.topic}")
                    break
            except Exception as exc:  # noqa: BLE001 - whatever it was, the one who waits is told
                order.parcel.failed_with(exc)
        self._core.hurry()

    def _offer(self, order: _Order) -> bool:
        """Send it if that takes no wait; False: it does. It is in its parcel then."""
        parcel, place, data, attribute = order
        if data is not None:
            self._encode(parcel, data, attribute)
            if place is None and not self._is_free:
                return self._core.choose_now(parcel, data, attribute)
        return self._core.take(parcel, place)

    def _encode(self, parcel: Parcel, data: bytes, attribute: str | None) -> None:
        parcel.count = 1  # also if there is something wrong with it
        flag, body = encode_body(*checked(data, attribute))
        parcel.add(body, flag)
        parcel.seal()

    async def _pump_slowly(self, order: _Order | None) -> None:
        while order is not None:
            parcel, place, data, attribute = order
            try:
                if data is not None and not parcel.bodies:
                    self._encode(parcel, data, attribute)
                if data is not None and place is None and not self._is_free:
                    await self._core.choose(parcel, data, attribute)
                else:
                    await self._core.take_slowly(parcel, place)
            except asyncio.CancelledError:
                parcel.failed_with(LinkClosed(f"{self.topic}: not sent, the client was closed"))
                self._refuse_all()
                raise
            except Exception as exc:  # noqa: BLE001 - whatever it was, the one who waits is told
                parcel.failed_with(exc)
            order = self._next_order()

    def _next_order(self) -> _Order | None:
        """Take the next one; None: there is none, and who gives one begins to pump again."""
        with self._lock:
            if not self._orders:
                self._is_pumping = False
                return None
            order = self._orders.popleft()
            if order.parcel is self._open:
                self._seal_open()
        if order.data is None:
            order.parcel.seal()
        return order

    def _refuse_all(self) -> None:
        """The client is closed: tell all whose orders were not carried out."""
        while (order := self._next_order()) is not None:
            order.parcel.count = order.parcel.count or 1
            order.parcel.failed_with(LinkClosed(f"{self.topic}: not sent, the client was closed"))

    def _settled(self, parcel: Parcel, count: int) -> None:
        with self._lock:
            self._under_way -= count
            if parcel.is_known(-1):
                self._size -= parcel.cost
            if self._waiting:
                self._room.notify_all()
