"""What the master asks the slave of a pair, one question at a time."""

import asyncio
from collections.abc import Sequence
from typing import Final

from metaq.errors import Refused, Status
from metaq.model import TopicPartition
from metaq.net.link import Link
from metaq.protocol.commands import Get, Mget, Msync, Offset, Reply, Sync, Value, Want
from metaq.protocol.encoder import encode
from metaq.protocol.parts import Stamped, read_parts
from metaq.record import checksum
from metaq.replication.pair.comparing import Ends
from metaq.replication.pair.sending import EXTENSION, Copying, send
from metaq.store.awaiting import gate_of
from metaq.store.replicating import Run

GROUP: Final = "metaq-samsa"  # no such group exists; brokers want one named
_LATEST: Final = (1 << 63) - 1
_SLOWEST: Final = 25_000  # bytes a second, where others are on their way before them


class Slave:
    """The slave of a pair. Each method raises ClientError if there is no answer, Refused if it is no good one."""

    def __init__(self, link: Link, timeout: float) -> None:
        self.link = link
        self._timeout = timeout

    @property
    def ours(self) -> bool:
        """Whether it is a broker of ours at present."""
        return EXTENSION in self.link.extensions

    def _time_for(self, size: int) -> float:
        """Return how many seconds so many bytes may take: the way may be long and thin, and nobody waits for these."""
        return self._timeout + size / _SLOWEST

    async def ends(self, key: TopicPartition) -> Ends | None:
        """Return where a log begins and ends; None: there is none."""
        end = await self._offset(key, _LATEST)
        if end is None:
            return None
        start = await self._offset(key, 0)
        return None if start is None else Ends(start, end)

    async def load(self, key: TopicPartition) -> None:
        """Have a broker of 1.4.6.2 look for a log on its disk.

        It passes over partitions if there is something else in its folder, says that they do not exist, and finds them
        when something is put. So it gets a message whose checksum is wrong, which it refuses, but only then.
        """
        body = b"looks whether there is a log"
        wrong = checksum(body) ^ 1
        reply = await self.link.request(lambda opaque: encode(Sync(key, body, 0, 0, wrong, opaque)), self._timeout)
        if isinstance(reply, Value) or reply.status == Status.SUCCESS:
            raise Refused(Status.ERROR, f"{self.link.address} stored a message in {key} although its checksum is wrong")

    async def base(self, key: TopicPartition, offset: int) -> int:
        """Return where the segment begins that holds an offset."""
        return await self._offset(key, offset) or 0

    async def _offset(self, key: TopicPartition, offset: int) -> int | None:
        reply = await self.link.request(lambda opaque: encode(Offset(key, GROUP, offset, opaque)), self._timeout)
        if isinstance(reply, Value) or reply.status not in (Status.SUCCESS, Status.NOT_FOUND):
            raise _refused(reply)
        if reply.status == Status.NOT_FOUND:
            return None
        return int(reply.body)

    async def read(self, key: TopicPartition, offset: int, size: int) -> bytes:
        """Return bytes of a log from `offset` on, at most `size`, fewer where a segment ends."""
        reply = await self.link.request(
            lambda opaque: encode(Get(key, GROUP, offset, size, opaque)), self._time_for(size)
        )
        if not isinstance(reply, Value):
            raise _refused(reply)
        return bytes(reply.data)

    async def read_stamped(self, key: TopicPartition, offset: int, size: int) -> tuple[bytes, Sequence[Stamped]]:
        """Read, and return also the stamps of the batches that some of it is of; one of 1.4.6.2 has none."""
        if not self.ours:
            return await self.read(key, offset, size), ()
        want = (Want(key, offset, size),)
        reply = await self.link.request(
            lambda opaque: encode(Mget(GROUP, want, size, 0, opaque, stamps=True)), self._time_for(size)
        )
        if not isinstance(reply, Value):
            raise _refused(reply)
        for part in read_parts(bytes(reply.data)):
            if part.status != Status.SUCCESS:
                raise Refused(part.status, bytes(part.data).decode("utf-8", "replace"))
            return bytes(part.data), part.stamps
        return b"", ()

    def append(self, run: Run) -> asyncio.Future[None]:
        """Have records appended, which must meet the slave's end, at once; the answer is to be waited for."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        hear = gate_of(done)
        send(self.link, run, Copying(loop.time() + self._time_for(len(run.data)), str(self.link.address), hear))
        return done

    async def end_at(self, key: TopicPartition, offset: int) -> None:
        """Have what stands beyond an offset, or a whole log that ends before it, set aside. Of ours alone."""
        reply = await self.link.request(lambda opaque: encode(Msync(key, b"", offset, offset, opaque)), self._timeout)
        if isinstance(reply, Value) or reply.status != Status.SUCCESS:
            raise _refused(reply)


def _refused(reply: Reply) -> Refused:
    if isinstance(reply, Value):
        return Refused(Status.ERROR, "answered with data")
    return Refused(reply.status, reply.body.decode("utf-8", "replace"))
