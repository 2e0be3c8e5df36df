"""What was fetched and waits to be handed out, of all partitions of one consumer together."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from metaq.errors import MetaqError

if TYPE_CHECKING:
    from metaq.client.consuming.stream import Stream

_AT_ONCE: Final = 8  # fetches under way to one broker


class Pool:
    """Keeps fetching within bounds, and the streams that have something in the order in which they got it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffered = 0  # bytes fetched and not handed out
        self._room = asyncio.Event()
        self._room.set()
        self._need = asyncio.Event()  # there is room, or somebody waits for what nobody has
        self._need.set()
        self._slots: dict[int, asyncio.Semaphore] = {}
        self._ready: deque[Stream] = deque()
        self._errors: deque[MetaqError] = deque()
        self._waiters: deque[asyncio.Future[None]] = deque()

    @property
    def has_room(self) -> bool:
        """Whether more may be fetched, of any partition."""
        return self._buffered < self._limit

    @asynccontextmanager
    async def turn(self, broker_id: int, *, is_ahead: bool) -> AsyncIterator[None]:
        """Wait until one more fetch from a broker is right, and count it while the block runs.

        `is_ahead`: something of the partition was fetched and is not dealt with. One of which there is nothing may go
        beyond the limit while somebody waits for messages: partitions that are stuck do not stop the others.
        """
        slots = self._slots.get(broker_id)
        if slots is None:
            slots = self._slots[broker_id] = asyncio.Semaphore(_AT_ONCE)
        gate = self._room if is_ahead else self._need
        while True:
            await gate.wait()
            async with slots:
                if gate.is_set():
                    yield
                    return

    def account(self, size: int) -> None:
        """Count bytes that were fetched (or, negative, that are handed out or dropped)."""
        self._buffered += size
        self._open_gates()

    def offer(self, stream: "Stream") -> None:
        """Put a stream that can be handed out at the end of the line."""
        self._ready.append(stream)
        self._wake_one()

    def fail(self, error: MetaqError) -> None:
        """Have the next one who asks get this error."""
        self._errors.append(error)
        self._wake_one()

    def take(self) -> "Stream | None":
        """Return the next stream that has something; None: none has. Raises what `fail` was given."""
        if self._errors:
            raise self._errors.popleft()
        while self._ready:
            stream = self._ready.popleft()
            if stream.can_be_taken:
                return stream
        return None

    async def wait(self, timeout: float | None) -> bool:
        """Wait until `take` may find something; False: nothing came within `timeout` seconds."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._open_gates()
        try:
            if timeout is None:
                await waiter
            else:
                async with asyncio.timeout(timeout):
                    await waiter
        except TimeoutError:
            return waiter.done() and not waiter.cancelled()
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._wake_one()  # it was meant for somebody
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            self._open_gates()
        return True

    def wake_all(self) -> None:
        """Let all who wait look again: the consumer is closed, or what is in hand has changed."""
        while self._waiters:
            self._wake_one()

    def _wake_one(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _open_gates(self) -> None:
        has_room = self.has_room
        for gate, is_open in ((self._room, has_room), (self._need, has_room or bool(self._waiters))):
            if is_open:
                gate.set()
            else:
                gate.clear()
