"""What a store tells by a callback, as something to await: for work that is done for one log at a time."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from metaq.ports import World
from metaq.store.log import Gate, PartitionLog
from metaq.store.mover import call
from metaq.store.reader import Cold, Parts, Reader

T = TypeVar("T")


def gate_of(future: asyncio.Future[None]) -> Gate:
    """Return a gate that settles a future, unless that is done already: somebody has ceased to wait."""

    def gate(error: Exception | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    return gate


async def told(begin: Callable[[Gate], object]) -> None:
    """Begin what tells a gate, and wait until it has. Raises what `begin` raises, and what the gate is told."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    begin(gate_of(future))
    await future


async def in_thread(world: World, name: str, work: Callable[[], T]) -> T:
    """Return what blocking `work` does in a thread of its own, of that name."""
    worker = world.threads.worker(name)
    try:
        return await call(worker, work)
    finally:
        worker.close()


async def read(reader: Reader, log: PartitionLog, offset: int, size: int) -> bytes:
    """Return bytes of a log up to its visible end, from files too. See `MessageStore.read`."""
    found = reader.slice(log, offset, size, log.visible)
    if not isinstance(found, Cold):
        return b"".join(found)
    future: asyncio.Future[Parts] = asyncio.get_running_loop().create_future()

    def done(parts: Parts | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(parts or [])

    reader.read_cold(found, done)
    return b"".join(await future)


async def read_last(reader: Reader, log: PartitionLog, size: int) -> bytes:
    """Return the last bytes of a log. See `MessageStore.read_last`."""
    end = log.visible
    if end == log.start:
        return b""
    base, _ = log.segment_of(end - 1)
    return await read(reader, log, max(base, end - size), size)
