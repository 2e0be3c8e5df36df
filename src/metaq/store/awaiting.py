"""What a store tells by a callback, as something to await: for work that is done for one log at a time."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from metaq.ports import Worker, World
from metaq.store.log import Gate, PartitionLog
from metaq.store.reader import Cold, Parts, Reader

T = TypeVar("T")


def settle(future: asyncio.Future[T], result: T | None, error: BaseException | None) -> None:
    """Settle a future, unless that is done already: somebody has ceased to wait."""
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)  # type: ignore[arg-type]  # None is a T where there is no other result


def gate_of(future: asyncio.Future[None]) -> Gate:
    """Return a gate that settles a future."""
    return partial(settle, future, None)


async def told(begin: Callable[[Gate], object]) -> None:
    """Begin what tells a gate, and wait until it has. Raises what `begin` raises, and what the gate is told."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    begin(gate_of(future))
    await future


async def call(worker: Worker, work: Callable[[], T]) -> T:
    """Run blocking work in a worker and wait for it."""
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    worker.submit(work, partial(settle, future))
    return await future


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
    reader.read_cold(found, partial(settle, future))
    return b"".join(await future)


async def read_last(reader: Reader, log: PartitionLog, size: int) -> bytes:
    """Return the last bytes of a log. See `MessageStore.read_last`."""
    end = log.visible
    if end == log.start:
        return b""
    base, _ = log.segment_of(end - 1)
    return await read(reader, log, max(base, end - size), size)
