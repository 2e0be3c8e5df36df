"""How much a producer has under way, and who waits for that to become less."""

import asyncio
from collections import deque
from typing import Final

from metaq.errors import RequestTimeout

MOST_IN_FLIGHT: Final = 16 << 20


class Flight:
    """Messages without an outcome, counted; bytes of records too."""

    __slots__ = ("_idle", "_loop", "_slots", "_topic", "bytes", "count", "most")

    def __init__(self, topic: str, most: int) -> None:
        self.count = 0
        self._topic = topic
        self.most = most
        self.bytes = 0
        self._loop = asyncio.get_running_loop()
        self._slots: deque[asyncio.Future[None]] = deque()
        self._idle: list[asyncio.Future[None]] = []

    @property
    def has_room(self) -> bool:
        """Whether another message may be sent."""
        return self.count < self.most and self.bytes < MOST_IN_FLIGHT

    def begin(self, count: int, size: int) -> None:
        """Count messages that are sent."""
        self.count += count
        self.bytes += size

    def end(self, count: int, size: int) -> None:
        """Count messages that have an outcome."""
        self.count -= count
        self.bytes -= size
        while self._slots and self.has_room:
            slot = self._slots.popleft()
            if not slot.done():
                slot.set_result(None)
                break
        if not self.count and self._idle:
            waiters, self._idle = self._idle, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    async def slot(self, deadline: float) -> None:
        """Wait until there is room. Raises RequestTimeout if there is none before `deadline` (loop time)."""
        try:
            async with asyncio.timeout_at(deadline):
                while not self.has_room:
                    waiter = self._loop.create_future()
                    self._slots.append(waiter)
                    await waiter
        except TimeoutError as exc:
            raise RequestTimeout(f"{self._topic}: not sent, {self.count} messages have no answer") from exc

    async def idle(self) -> None:
        """Wait until nothing is under way."""
        while self.count:
            waiter = self._loop.create_future()
            self._idle.append(waiter)
            await waiter
