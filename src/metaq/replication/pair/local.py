"""Reading our own log up to where it is safe here, which is further than readers see."""

import asyncio
from typing import Final

from metaq.errors import MetaqError
from metaq.replication.pair.records import first_size, whole
from metaq.store.log import PartitionLog
from metaq.store.reader import Cold, Parts
from metaq.store.store import MessageStore

CHUNK: Final = 1 << 20  # bytes that are read, and copied, at a time


class Fault(MetaqError):
    """A partition cannot be made the same on both; the text says what to do."""


async def read(store: MessageStore, log: PartitionLog, offset: int, size: int) -> bytes:
    """Return what the log has from `offset` on, at most `size`, less where a segment ends. Raises RequestError."""
    found = store.slice(log, offset, size, log.visible)
    if not isinstance(found, Cold):
        return b"".join(found)
    wanted: asyncio.Future[Parts] = asyncio.get_running_loop().create_future()

    def done(parts: Parts | None, error: BaseException | None) -> None:
        if wanted.done():
            return
        if parts is None:
            wanted.set_exception(error or OSError("nothing read"))
        else:
            wanted.set_result(parts)

    store.read_cold(found, done)
    return b"".join(await wanted)


async def read_records(store: MessageStore, log: PartitionLog, offset: int) -> bytes:
    """Return whole records from `offset` on: a chunk, or one that is larger. Raises Fault, RequestError."""
    data = await read(store, log, offset, CHUNK)
    size = whole(data)
    if not size and first_size(data) > len(data):
        data = await read(store, log, offset, first_size(data))
        size = whole(data)
    if not size:
        raise Fault(f"{log.key}: no record at {offset}, nothing behind it can be copied")
    return data[:size]
