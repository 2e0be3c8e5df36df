"""Conversations about many partitions at once: `mget` (docs/protocol.md §9)."""

from pathlib import Path
from random import Random
from typing import Final

import pytest

from metaq.errors import Status
from metaq.model import TopicPartition
from metaq.protocol.commands import Mget, Want
from metaq.protocol.encoder import encode
from metaq.protocol.parts import Part, read_parts
from metaq.record import pack
from tests.embedding import Dial, Serving, configured, serving, settings

HELLO: Final = rb"\x00\x00\x00\x05.{16}hello"
SEGMENT: Final = 3000
LIMIT: Final = 5000  # maxTransferSize


def mget(lines: bytes, size: int = 1 << 20, wait: int = 0) -> bytes:
    """Return an mget with opaque 3."""
    return b"mget g %d %d %d 3\r\n%b" % (size, wait, len(lines), lines)


async def put(dial: Dial, partition: int) -> None:
    peer = await dial()
    await peer.sends(b"put test %d 5 0 907060870 7\r\nhello" % partition)
    await peer.gets(rb"result 200 \d+ 7\r\n\d+ %d \d+" % partition)


async def test_parts_come_in_the_order_of_the_lines_and_those_without_are_left_out(dial: Dial) -> None:
    peer = await dial()
    await put(dial, 0)
    await put(dial, 2)
    await peer.sends(mget(b"test 2 0 1000\r\ntest 1 0 1000\r\ntest 0 0 10\r\ntest 0 25 100\r\n"))
    await peer.gets(rb"value \d+ 3\r\n0 200 0 25\r\n" + HELLO + rb"2 200 0 10\r\n.{10}")


async def test_what_is_wrong_with_a_line_is_said_in_its_part(dial: Dial, broker: Serving) -> None:
    peer = await dial()
    await put(dial, 0)
    broker.running.broker.close_partitions("test", 3, 3)
    lines = b"test 0 -1 9\r\ntest 0 0 0\r\ntest 0 25 -5\r\ntest 3 0 9\r\nnone 0 0 9\r\ntest 0 9223372036854775807 9\r\n"
    reply = await peer.asks(mget(lines))
    parts = read_parts(reply.partition(b"\r\n")[2])
    assert [(part.nth, part.status, part.base) for part in parts] == [
        (0, Status.MOVED, 0),
        (1, Status.BAD_REQUEST, 0),
        (2, Status.BAD_REQUEST, 0),
        (3, Status.FORBIDDEN, 0),
        (5, Status.MOVED, 25),
    ]
    assert [bool(part.data) for part in parts] == [False, True, True, True, False]


async def batch(dial: Dial, sequence: int, count: int) -> None:
    peer = await dial()
    records = pack(0, 0, b"hello") * count
    await peer.sends(b"mput test 0 %d %d 77 0 %d 8\r\n%b" % (len(records), count, sequence, records))
    await peer.gets(rb"result 200 .*")


async def test_a_replica_is_told_of_the_batches_that_the_data_is_of(dial: Dial) -> None:
    await put(dial, 0)
    for sequence, count in enumerate((2, 3, 1)):
        await batch(dial, sequence, count)
    await put(dial, 1)
    peer = await dial()

    async def told(lines: bytes) -> list[list[tuple[int, ...]]]:
        reply = await peer.asks(mget(lines).replace(b" 3\r\n", b" 3 stamps\r\n", 1))
        parts = read_parts(reply.partition(b"\r\n")[2])
        return [[each[:6] for each in part.stamps] for part in parts]

    two, three, one = (77, 0, 0, 25, 50, 2), (77, 0, 1, 75, 75, 3), (77, 0, 2, 150, 25, 1)
    assert await told(b"test 0 0 1000\r\ntest 1 0 1000\r\ntest 2 0 1000\r\n") == [[two, three, one], []]
    assert await told(b"test 0 74 1\r\ntest 0 74 2\r\ntest 0 0 25\r\ntest 0 0 26\r\n") == [
        [two],
        [two, three],
        [],
        [two],
    ]
    assert await told(b"test 0 175 9\r\ntest 0 999 9\r\ntest 3 0 9\r\ntest 0 80 0\r\n") == [[]]
    await batch(dial, 3, 1)
    assert await told(b"test 0 150 1000\r\n") == [[one, (77, 0, 3, 175, 25, 1)]]
    plain = await peer.asks(mget(b"test 0 25 50\r\n"))
    assert plain.startswith(b"value 62 3\r\n0 200 0 50\r\n")


async def test_batches_are_told_of_with_data_that_the_disk_has(folder: Path) -> None:
    for start in range(2):
        async with serving(configured(folder, settings(folder))) as broker:
            dial = Dial(broker.port)
            if not start:
                await batch(dial, 0, 40)
            peer = await dial()
            reply = await peer.asks(mget(b"test 0 30 9\r\n").replace(b" 3\r\n", b" 3 stamps\r\n", 1))
            (part,) = read_parts(reply.partition(b"\r\n")[2])
            assert [each[:6] for each in part.stamps] == [(77, 0, 0, 0, 1000, 40)]
            await dial.end()


@pytest.mark.parametrize("size", [0, -1])
async def test_an_mget_of_no_size_is_refused(size: int, dial: Dial) -> None:
    peer = await dial()
    await peer.sends(mget(b"test 0 0 100\r\n", size=size))
    await peer.gets(rb"result 400 \d+ 3\r\n.*")


async def test_an_mget_without_lines_is_answered_at_once(dial: Dial) -> None:
    peer = await dial()
    assert await peer.asks(mget(b"", wait=60000)) == b"value 0 3\r\n"


@pytest.mark.parametrize(
    "lines",
    [
        b"test 0 0 100\r\n" * 1025,
        b"test 0 0 100",
        b"test 0 0\r\n",
        b"test 0 0 100 1\r\n",
        b"test zero 0 100\r\n",
        b"test 0 0 99999999999\r\n",
        b"\r\n",
    ],
)
async def test_lines_that_are_none_end_the_connection(lines: bytes, dial: Dial) -> None:
    peer = await dial()
    await peer.sends(mget(lines))
    await peer.closes()


async def test_an_mget_waits_until_one_of_its_partitions_has_something(dial: Dial) -> None:
    peer, other = await dial(), await dial()
    await put(dial, 0)
    await peer.sends(mget(b"test 0 25 1000\r\ntest 1 0 1000\r\n", wait=30000))
    await peer.stays_silent_until(other.asks(b"version 1\r\n"))
    await put(dial, 1)
    await peer.gets(rb"value 37 3\r\n1 200 0 25\r\n" + HELLO)


async def test_an_mget_that_waits_has_all_that_one_batch_brings(dial: Dial) -> None:
    peer, producer = await dial(), await dial()
    await peer.sends(mget(b"test 0 0 1000\r\ntest 1 0 1000\r\ntest 2 0 1000\r\n", wait=30000))
    await peer.stays_silent_until(producer.asks(b"version 1\r\n"))
    await producer.sends(b"".join(b"put test %d 5 0 -1 7\r\nhello" % number for number in range(3)))
    await peer.gets(rb"value 111 3\r\n0 200 0 25\r\n" + HELLO + rb"1 200 0 25\r\n" + HELLO + rb"2 200 0 25\r\n" + HELLO)


async def test_an_mget_whose_time_is_up_is_answered_with_an_empty_value(dial: Dial) -> None:
    peer = await dial()
    await peer.sends(mget(b"test 0 0 1000\r\n", wait=10))
    await peer.gets(rb"value 0 3\r\n")


async def fill(dial: Dial, chance: Random, count: int) -> None:
    peer = await dial()
    for _ in range(count):
        size = chance.choice([0, 1, 50, 700, 1500])
        await peer.asks(b"put test %d %d 0 -1 1\r\n%b" % (chance.randrange(4), size, chance.randbytes(size)))


async def expected(dial: Dial, wants: tuple[Want, ...], room: int) -> list[Part]:
    """Return the parts that the answers to gets make."""
    peer = await dial()
    parts = []
    for nth, (target, offset, size) in enumerate(wants):
        reply = await peer.asks(b"get test g %d %d %d 1\r\n" % (target.partition, offset, size))
        head, _, data = reply.partition(b"\r\n")
        if head.startswith(b"value"):
            base = await peer.asks(b"offset test g %d %d 1\r\n" % (target.partition, offset))
            parts.append(Part(nth, Status.SUCCESS, int(base.partition(b"\r\n")[2]), data))
        elif head.startswith(b"result 301"):
            parts.append(Part(nth, Status.MOVED, int(data), b""))
        elif not head.startswith(b"result 404"):
            parts.append(Part(nth, int(head.split()[1]), 0, data))
        room -= len(parts[-1].data) if parts and parts[-1].nth == nth else 0
        if room <= 0:
            break
    return parts


@pytest.mark.parametrize("pymetaq", [{}, {"tailMemory": 1 << 14}], ids=["in memory", "half in files"])
async def test_an_mget_returns_what_gets_return(pymetaq: dict[str, object], folder: Path) -> None:
    chance = Random(5)
    config = configured(folder, settings(folder, {"maxSegmentSize": SEGMENT, "maxTransferSize": LIMIT}, pymetaq))
    for _ in range(2):
        async with serving(config) as broker:
            dial = Dial(broker.port)
            await fill(dial, chance, 60)
            peer = await dial()
            for _ in range(60):
                wants = tuple(
                    Want(
                        TopicPartition("test", chance.randrange(5)),
                        chance.randrange(-1, 20000),
                        chance.choice([-1, 0, 1, 20, 1000, 100000]),
                    )
                    for _ in range(chance.randrange(12))
                )
                size = chance.choice([1, 500, 4000, 100000])
                reply = await peer.asks(encode(Mget("g", wants, size, 0, 3)))
                assert read_parts(reply.partition(b"\r\n")[2]) == await expected(dial, wants, min(size, LIMIT))
            await dial.end()
