"""Batches: what a producer that packs messages sends and is answered (protocol.md §9), against a live broker."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from metaq.model import TopicPartition
from metaq.protocol.commands import Mput
from metaq.protocol.encoder import encode
from metaq.record import pack, walk
from tests.embedding import Dial, Peer

TEST: Final = TopicPartition("test", 1)
BODIES: Final = (b"one", b"two", b"three", b"", b"five" * 30)


def packed(*bodies: bytes, flag: int = 0) -> bytes:
    return b"".join(pack(0, flag, body) for body in bodies)


@dataclass(frozen=True)
class Producer:
    """Sends batches to one partition; `number` 0: without a stamp."""

    peer: Peer
    number: int = 0
    target: TopicPartition = TEST

    async def sends(self, records: bytes, count: int, sequence: int = 0, epoch: int = 0) -> None:
        await self.peer.sends(encode(Mput(self.target, records, count, self.number, epoch, sequence, 5)))

    async def stores(self, bodies: Sequence[bytes], sequence: int = 0, epoch: int = 0) -> tuple[int, int]:
        """Send a batch; return (id, offset) of its first message, as they are answered."""
        await self.sends(packed(*bodies), len(bodies), sequence, epoch)
        return await self.answered()

    async def answered(self) -> tuple[int, int]:
        found = await self.peer.gets(rb"result 200 \d+ 5\r\n(\d+) %d (\d+)" % self.target.partition)
        return int(found[1]), int(found[2])

    async def is_refused(self, status: int, text: bytes) -> None:
        await self.peer.gets(rb"result %d \d+ 5\r\n%b" % (status, text))


async def content(peer: Peer, target: TopicPartition = TEST) -> list[tuple[int, bytes]]:
    """Return id and body of everything in a partition."""
    await peer.sends(b"get %b g %d 0 1048576 6\r\n" % (target.topic.encode(), target.partition))
    found = await peer.gets(rb"(?s:value \d+ 6\r\n(.*)|result 404 \d+ 6\r\n.*)")
    return [(record.id, record.body) for record in walk(found[1] or b"")]


async def test_a_batch_is_stored_as_so_many_puts_would_be(dial: Dial) -> None:
    producer = Producer(await dial())
    first_id, offset = await producer.stores(BODIES)
    assert offset == 0
    assert await content(producer.peer) == [(first_id + n, body) for n, body in enumerate(BODIES)]
    again, end = await producer.stores(BODIES)
    assert end == len(packed(*BODIES)) and again > first_id + len(BODIES) - 1
