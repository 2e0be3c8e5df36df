"""Where topics are served: what the client needs to know of the cluster, whoever knows it."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from metaq.model import BrokerAddress, BrokerPartition

ANY_PARTITION = -1  # in a BrokerPartition of a directory: the broker chooses


class Changes:
    """Counts what happened to brokers, partitions and links, so that what was derived from them can be derived anew."""

    def __init__(self) -> None:
        self.generation = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._closed = False

    def bump(self) -> None:
        """Note that something changed and wake those who wait for it."""
        self.generation += 1
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def close(self) -> None:
        """Let all waiters go: nothing changes any more."""
        self._closed = True
        self.bump()

    async def wait(self, seen: int, timeout: float) -> bool:
        """Wait until the generation is another than `seen`; False if that took longer than `timeout` seconds."""
        if self._closed or self.generation != seen:
            return not self._closed
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(max(timeout, 0)):
                await waiter
        except TimeoutError:
            return False
        finally:
            if not waiter.done():
                waiter.cancel()
        return not self._closed


class Directory(Protocol):
    """Who serves what. Answers may be empty while brokers are away; it tells `Changes` when asking again pays.

    All are quick once a topic was asked for: what a directory knows, it keeps up to date by itself.
    """

    async def open(self, timeout: float) -> None:
        """Begin. Raises NoBroker or RegistryError if nobody answers within `timeout` seconds."""

    async def close(self) -> None: ...

    async def brokers(self) -> Mapping[int, BrokerAddress]:
        """Return the masters by broker id."""

    async def ids(self) -> Collection[int]:
        """Return the ids of which there is a master or a slave."""

    async def slaves(self, broker_id: int) -> Mapping[int, BrokerAddress]:
        """Return who holds copies of a broker's partitions, by number; below 0 are numbers that nobody tells."""

    async def writable(self, topic: str) -> Sequence[BrokerPartition]:
        """Return the partitions messages can be sent to, sorted; partition -1: the broker chooses."""

    async def all_writable(self, topic: str) -> Sequence[BrokerPartition]:
        """Return the same, but each partition by its number: what a selector of the user's own chooses from."""

    async def readable(self, topic: str) -> Sequence[BrokerPartition]:
        """Return the partitions that can be read, sorted."""
