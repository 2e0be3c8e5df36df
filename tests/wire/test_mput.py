"""Batches: what a producer that packs messages sends and is answered (protocol.md §9), against a live broker."""

from collections.abc import Sequence
from dataclasses import dataclass
from struct import pack_into
from typing import Final

import pytest

from metaq.errors import Status
from metaq.model import TopicPartition
from metaq.protocol.commands import Mput
from metaq.protocol.encoder import encode
from metaq.record import HEADER_SIZE, checksum, pack, walk
from tests.embedding import Dial, Peer
from tests.wire.conftest import Serve

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


@pytest.mark.parametrize("bodies", [[b"x" * 100] * 4096, [b""] * 33, [b"y"], [b"z" * n for n in range(70)]], ids=len)
async def test_batches_of_any_shape_get_ids_that_follow_one_by_one(bodies: list[bytes], dial: Dial) -> None:
    producer = Producer(await dial())
    first_id, _ = await producer.stores(bodies)
    assert await content(producer.peer) == [(first_id + n, body) for n, body in enumerate(bodies)]


def damaged(records: bytes, at: int, value: int) -> bytes:
    changed = bytearray(records)
    pack_into(">i", changed, at, value)
    return bytes(changed)


GOOD = packed(b"hello", b"world")
SIZE = len(GOOD) // 2
BAD: Final = {
    "wrong checksum": (damaged(GOOD, SIZE + 4, 7), 2, rb"record 1 of 5 bytes fails its checksum"),
    "cut record": (GOOD[:-1], 2, rb"record 1 has a length of 5, 4 bytes are there"),
    "cut header": (GOOD[: SIZE + 3], 2, rb"2 records are announced, 1 are there and 3 bytes"),
    "too few": (GOOD, 3, rb"3 records are announced, 2 are there and 0 bytes"),
    "too many": (GOOD, 1, rb"25 bytes stand behind the 1 records that are announced"),
    "none": (b"", 0, rb"a batch has 1 to 4096 records, not 0"),
    "none, but one announced": (b"", 1, rb"1 records are announced, 0 are there and 0 bytes"),
    "too long a batch": (packed(b"") * 4097, 4097, rb"a batch has 1 to 4096 records, not 4097"),
    "negative count": (GOOD, -2, rb"a batch has 1 to 4096 records, not -2"),
    "negative length": (damaged(GOOD, SIZE, -5), 2, rb"record 1 has a length of -5, 5 bytes are there"),
    "lengths that lie": (damaged(damaged(GOOD, 0, 6), SIZE, 4), 2, rb"record 0 of 6 bytes fails its checksum"),
    "attribute": (packed(b"\0\0\0\x02x", b"\0\0\0\x02x", flag=1), 2, rb"record 0 of 5 bytes has an attribute .*"),
    "attribute in one": (packed(b"\0\0\0\x01x", b"ab", flag=1), 2, rb"record 1 of 2 bytes has an attribute .*"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_batch_that_is_not_what_it_says_is_refused_and_nothing_of_it_is_stored(name: str, dial: Dial) -> None:
    records, count, text = BAD[name]
    producer = Producer(await dial(), 77)
    await producer.sends(records, count)
    await producer.is_refused(Status.BAD_REQUEST, text)
    assert await content(producer.peer) == []
    assert (await producer.stores([b"next"]))[1] == 0, "the producer goes on with the same number"


@pytest.mark.parametrize("stamp", [(-1, 0, 0), (7, -1, 0), (7, 0, -1), (0, 1, 0), (0, 0, 1)])
async def test_a_stamp_that_is_none_is_refused(stamp: tuple[int, int, int], dial: Dial) -> None:
    number, epoch, sequence = stamp
    producer = Producer(await dial(), number)
    await producer.sends(GOOD, 2, sequence, epoch)
    await producer.is_refused(Status.BAD_REQUEST, rb"producer -?\d+, epoch -?\d+, sequence -?\d+ are no stamp")


async def test_a_batch_names_its_partition_and_one_that_exists(dial: Dial) -> None:
    peer = await dial()
    await Producer(peer, 7, TopicPartition("test", -1)).sends(GOOD, 2)
    await peer.gets(rb"result 400 \d+ 5\r\na batch goes to a partition that it names, not to -1")
    await Producer(peer, 7, TopicPartition("test", 4)).sends(GOOD, 2)
    await peer.gets(rb"result 500 \d+ 5\r\nPut message to .*wrong partition 4")
    await Producer(peer, 7, TopicPartition("unknown", 0)).sends(GOOD, 2)
    await peer.gets(rb"result 500 \d+ 5\r\nPut message to .*do not accept topic unknown")


async def test_messages_and_batches_over_the_limits_are_refused_as_puts_are(serve: Serve) -> None:
    dial = await serve.dial(await serve(pymetaq={"maxMessageSize": 1000}))
    producer = Producer(await dial(), 7)
    await producer.sends(packed(b"x" * 1001), 1)
    await producer.is_refused(Status.ERROR, rb".*message of 1001 bytes is larger than the limit of 1000")
    await producer.sends(packed(b"x" * 1000) * 8300, 8300)  # 8 MiB are the limit of a batch
    await producer.is_refused(Status.ERROR, rb".*batch of 8466000 bytes is larger than the limit of 8388608")
    assert await producer.stores([b"x" * 1000] * 2) is not None


async def test_a_batch_sent_again_is_answered_with_its_first_result_and_stored_once(dial: Dial) -> None:
    one, other = Producer(await dial(), 7), Producer(await dial(), 7)
    first = await one.stores([b"a", b"b"])
    second = await one.stores([b"c"], 1)
    assert await other.stores([b"a", b"b"]) == first
    assert await other.stores([b"c"], 1) == second
    assert [body for _, body in await content(one.peer)] == [b"a", b"b", b"c"]


async def test_a_batch_sent_again_while_it_is_under_way_is_stored_once(dial: Dial) -> None:
    one, other = Producer(await dial(), 7), Producer(await dial(), 7)
    for producer in (one, one, other):
        await producer.sends(packed(b"a" * 300_000), 1)
    answers = [await producer.answered() for producer in (one, one, other)]
    assert len(set(answers)) == 1
    assert len(await content(one.peer)) == 1


@pytest.mark.parametrize(
    ("sequence", "epoch", "next_"),
    [(3, 4, b"4 2"), (0, 3, b"4 2"), (2, 3, b"4 2"), (1, 5, b"4 2"), (7, 0, b"4 2")],
)
async def test_a_batch_that_is_not_the_next_is_refused_and_told_which_would_be(
    sequence: int, epoch: int, next_: bytes, dial: Dial
) -> None:
    producer = Producer(await dial(), 7)
    await producer.stores([b"a"], 0, 4)
    await producer.stores([b"b"], 1, 4)
    await producer.sends(GOOD, 2, sequence, epoch)
    await producer.is_refused(Status.CONFLICT, next_ + rb" would be next, not batch \d+ of epoch \d+")
    assert len(await content(producer.peer)) == 2
    assert await producer.stores([b"c"], 2, 4) is not None


async def test_an_unknown_producer_begins_with_0_of_any_epoch_and_each_partition_counts_by_itself(dial: Dial) -> None:
    producer = Producer(await dial(), 7)
    await producer.sends(GOOD, 2, 1, 3)
    await producer.is_refused(Status.CONFLICT, rb"0 0 would be next, not batch 1 of epoch 3")
    await producer.stores([b"a"], 0, 3)
    await producer.stores([b"b"], 1, 3)
    await Producer(producer.peer, 7, TopicPartition("test", 2)).stores([b"c"], 0, 0)
    stranger = Producer(producer.peer, 8)
    await stranger.sends(GOOD, 2, 2, 3)
    await stranger.is_refused(Status.CONFLICT, rb"0 0 would be next, .*")


@pytest.mark.parametrize(
    ("bodies", "text"), [([b"ab"], rb".*2 records in 42.*"), ([b"abc", b""], rb".*2 records in 42.*")]
)
async def test_another_batch_under_the_same_stamp_is_refused(bodies: list[bytes], text: bytes, dial: Dial) -> None:
    producer = Producer(await dial(), 7)
    await producer.stores([b"a", b"b"])
    await producer.sends(packed(*bodies), len(bodies))
    await producer.is_refused(Status.BAD_REQUEST, text)


async def test_puts_and_batches_of_a_connection_are_stored_in_order_and_answered_together(dial: Dial) -> None:
    peer = await dial()
    put = b"put test 1 1 0 %d 5\r\n%b"
    wire = [
        put % (checksum(b"a"), b"a"),
        encode(Mput(TEST, packed(b"b", b"c"), 2, 7, 0, 0, 5)),
        encode(Mput(TEST, packed(b"d"), 1, 7, 0, 5, 5)),
        encode(Mput(TEST, packed(b"e"), 1, 7, 0, 1, 5)),
        put % (checksum(b"f"), b"f"),
        b"version 6\r\n",
    ]
    await peer.sends(b"".join(wire))
    await peer.gets(rb"result 200 \d+ 6\r\n1\.4\.6\.2")
    for pattern in (
        rb"200 \d+ 5\r\n\d+ 1 0",
        rb"200 \d+ 5\r\n\d+ 1 21",
        rb"409 \d+ 5\r\n0 1 .*",
        rb"200 \d+ 5\r\n\d+ 1 63",
        rb"200 \d+ 5\r\n\d+ 1 84",
    ):
        await peer.gets(rb"result " + pattern)
    assert [body for _, body in await content(peer)] == [b"a", b"b", b"c", b"e", b"f"]
    ids = [id for id, _ in await content(peer)]
    assert ids == sorted(ids)


async def test_a_closed_partition_takes_no_new_batch_and_answers_for_an_old_one(serve: Serve) -> None:
    broker = await serve()
    producer = Producer(await (await serve.dial(broker))(), 7)
    first = await producer.stores([b"a"])
    broker.running.broker.close_partitions("test", 1, 1)
    assert await producer.stores([b"a"]) == first
    await producer.sends(GOOD, 2, 1)
    await producer.is_refused(Status.FORBIDDEN, rb".*has been closed")


async def test_batches_count_as_so_many_messages(serve: Serve) -> None:
    broker = await serve()
    producer = Producer(await (await serve.dial(broker))(), 7)
    await producer.stores([b"abc", b"de"])
    await producer.stores([b"abc", b"de"])
    await producer.sends(GOOD, 2, 9)
    await producer.is_refused(Status.CONFLICT, b".*")
    tally = broker.running.broker.statistics.tally("test")
    assert (tally.puts, tally.bytes, tally.put_failures) == (3, 5, 1), "two messages and one refusal"
    log = broker.running.broker.store.get(TEST)
    assert log is not None and log.messages == 2


async def test_a_broker_stopped_in_order_knows_its_producers_when_it_starts_again(serve: Serve) -> None:
    broker = await serve()
    producer = Producer(await (await serve.dial(broker))(), 7)
    first = [await producer.stores([b"a" * n], n) for n in range(7)]
    await broker.end()
    again = Producer(await (await serve.dial(await serve()))(), 7)
    assert [await again.stores([b"a" * n], n) for n in range(2, 7)] == first[2:]
    await again.sends(GOOD, 2, 8)
    await again.is_refused(Status.CONFLICT, rb"0 7 .*")
    assert (await again.stores([b"b"], 7))[1] == first[6][1] + HEADER_SIZE + 6
