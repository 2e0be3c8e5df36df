"""Reading our own log up to where it is safe here, which is further than readers see."""

from typing import Final

from metaq.errors import MetaqError
from metaq.replication.pair.records import first_size, whole
from metaq.store.entries import Batch
from metaq.store.log import PartitionLog
from metaq.store.store import MessageStore

CHUNK: Final = 1 << 20  # bytes that are read, and copied, at a time


class Fault(MetaqError):
    """A partition cannot be made the same on both; the text says what to do."""


async def read_records(store: MessageStore, log: PartitionLog, offset: int) -> bytes:
    """Return whole records from `offset` on: a chunk, or one that is larger. Raises Fault, RequestError."""
    data = await store.read(log, offset, CHUNK)
    size = whole(data)
    if not size and first_size(data) > len(data):
        data = await store.read(log, offset, first_size(data))
        size = whole(data)
    if not size:
        raise Fault(f"{log.key}: no record at {offset}, nothing behind it can be copied")
    return data[:size]


async def read_batches(store: MessageStore, log: PartitionLog, offset: int) -> tuple[bytes, list[Batch]]:
    """Return as `read_records`, but none of a batch that is not whole; and the batches that end in it."""
    data = await read_records(store, log, offset)
    batches = list(store.producers.between(log.id, offset, offset + len(data)))
    if batches and (end := batches[-1].offset + batches[-1].length) > offset + len(data):
        last = batches.pop()
        if last.offset > offset:
            return data[: last.offset - offset], batches
        rest = await store.read(log, offset, end - offset)
        if len(rest) == end - offset:
            return rest, [last]
    return data, batches
