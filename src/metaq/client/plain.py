"""A producer for plain code: the one of `producer`, run in the background thread (see `metaq.sync`)."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from itertools import islice
from sys import getsizeof
from typing import Final, NamedTuple, TypeVar

from metaq.client.background import LoopThread
from metaq.client.partitioner import Place
from metaq.client.producer import Producer as CoreProducer
from metaq.errors import ConfigError, LinkClosed, MetaqError
from metaq.model import Receipt

T = TypeVar("T")

_CHUNK: Final = 4096  # messages of a generator handed to the other thread at once
_MOST_REMEMBERED: Final = 100  # errors nobody asked for, kept for `flush`
_MOST_SIZE: Final = 64 << 20  # bytes of send_nowait without an outcome; above it sending waits


class Sent(Future[Receipt]):
    """The outcome of one `send_nowait`. An error that nobody asked it for is raised by `flush` instead."""

    def __init__(self, settled: "Callable[[Sent], None]", size: int) -> None:
        super().__init__()
        self.size = size  # bytes that are held meanwhile
        self.seen = False  # whether somebody asked
        self.is_failed = False
        self._tell = settled

    def cancel(self) -> bool:
        """Return False: what is on its way cannot be called back."""
        return False

    def stored(self, index: int, receipt: Receipt) -> None:
        """Hand the receipt over (called in the background thread)."""
        self.set_result(receipt)
        self._tell(self)

    def failed(self, index: int, error: MetaqError) -> None:
        """Hand the error over (called in the background thread)."""
        self.refuse(error)

    def refuse(self, error: Exception) -> None:
        """Hand any error over, if there is no outcome yet."""
        if self.done():
            return
        self.is_failed = True
        self.set_exception(error)
        self._tell(self)

    def result(self, timeout: float | None = None) -> Receipt:
        """Wait for the receipt and return it, or raise what went wrong."""
        self.seen = True
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the outcome and return what went wrong, if something did."""
        self.seen = True
        return super().exception(timeout)


class _Order(NamedTuple):
    """A send_nowait on its way to the background thread."""

    sent: Sent
    data: bytes
    attribute: str | None
    partition: Place | None
    timeout: float | None


class Producer:
    """Sends the messages of one topic. See metaq.aio.Producer."""

    def __init__(self, core: CoreProducer, thread: LoopThread, in_flight: int) -> None:
        self.topic = core.topic
        self._core = core
        self._thread = thread
        self._most = in_flight
        self._under_way = 0  # messages of send_nowait without an outcome
        self._size = 0  # bytes of them
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._waiting = 0  # threads that wait for room
        self._orders: deque[_Order] = deque()
        self._is_pumping = False
        self._pump: asyncio.Task[None] | None = None
        self._failed: deque[Sent] = deque(maxlen=_MOST_REMEMBERED)

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
        """Send a message and return the future of its receipt; waits only while too much is in flight."""
        self._thread.check()
        sent = Sent(self._settled, getsizeof(data))
        with self._lock:
            self._wait_for_room(sent.size)
            self._under_way += 1
            self._size += sent.size
            self._orders.append(_Order(sent, data, attribute, partition, timeout))
            starts, self._is_pumping = not self._is_pumping, True
        if starts:
            try:
                self._thread.post(self._pump_now)
            except ConfigError:
                self._refuse_all()
                raise
        return sent

    def _wait_for_room(self, size: int) -> None:
        """Wait, with the lock, while too much is under way. Raises ConfigError if the client is closed meanwhile."""
        while self._under_way >= self._most or (self._under_way and self._size + size > _MOST_SIZE):
            self._waiting += 1
            try:
                self._room.wait()
            finally:
                self._waiting -= 1
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
    ) -> list[Receipt]:
        """Send messages in order, many in flight, and return their receipts in the same order.

        What is no list is read in this thread, some thousand messages ahead of the answers.
        """

        def part(chunk: list[bytes]) -> Callable[[], Coroutine[object, object, list[Receipt]]]:
            return lambda: self._core.send_many(chunk, attribute=attribute, partition=partition, timeout=timeout)

        if isinstance(bodies, list):
            return self._in_turn(part(bodies))
        receipts: list[Receipt] = []
        waiting: deque[Future[list[Receipt]]] = deque()
        source = iter(bodies)
        try:
            while chunk := list(islice(source, _CHUNK)):
                waiting.append(self._thread.begin(self._after_pump(part(chunk))))
                if len(waiting) > 1:
                    done = self._thread.wait(waiting.popleft())
                    receipts += done
            while waiting:
                done = self._thread.wait(waiting.popleft())
                receipts += done
        finally:
            for future in waiting:
                future.cancel()
        return receipts

    def flush(self) -> None:
        """Wait until no message is without an outcome; raise the first error that nobody has asked for."""
        self._in_turn(self._core.flush)
        failed = [sent for sent in list(self._failed) if not sent.seen]
        self._failed.clear()
        if failed:
            failed[0].result()

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
                if not self._core.offer(*order):
                    work = self._pump_slowly(order)
                    self._pump = asyncio.get_running_loop().create_task(work, name=f"orders for {self.topic}")
                    return
            except Exception as exc:  # noqa: BLE001 - whatever it was, the one who waits is told
                order.sent.refuse(exc)

    async def _pump_slowly(self, order: _Order | None) -> None:
        while order is not None:
            try:
                await self._core.send_to(*order)
            except asyncio.CancelledError:
                order.sent.refuse(LinkClosed(f"{self.topic}: not sent, the client was closed"))
                self._refuse_all()
                raise
            except Exception as exc:  # noqa: BLE001 - whatever it was, the one who waits is told
                order.sent.refuse(exc)
            order = self._next_order()

    def _next_order(self) -> _Order | None:
        """Take the next one; None: there is none, and who gives one begins to pump again."""
        with self._lock:
            if self._orders:
                return self._orders.popleft()
            self._is_pumping = False
            return None

    def _refuse_all(self) -> None:
        """The client is closed: tell all whose orders were not carried out."""
        while (order := self._next_order()) is not None:
            order.sent.refuse(LinkClosed(f"{self.topic}: not sent, the client was closed"))

    def _settled(self, sent: Sent) -> None:
        with self._lock:
            self._under_way -= 1
            self._size -= sent.size
            if self._waiting:
                self._room.notify()
        if sent.is_failed:
            self._failed.append(sent)
