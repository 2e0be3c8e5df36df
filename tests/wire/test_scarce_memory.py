"""What is read while memory for unread replies is scarce: less at a time, but each record whole, and all of it."""

import pytest

from metaq.protocol.parts import read_parts
from metaq.record import HEADER_SIZE
from tests.embedding import Dial, Peer
from tests.wire.conftest import Serve

FLOOR = 16 << 10
LARGE = 300 << 10  # bytes of a body


@pytest.fixture(params=[256 << 20, 64 << 10], ids=["tail", "file"])
async def scarce(serve: Serve, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Dial:
    """Connect to a broker that has no more memory for replies than what is reserved; the log in memory, or in files."""
    monkeypatch.setattr("metaq.net.connections.SENDING", 96 << 20)
    return await serve.dial(await serve(pymetaq={"tailMemory": request.param}))


async def put(peer: Peer, size: int, partition: int = 0) -> None:
    await peer.asks(b"put test %d %d 0 -1 1\r\n%b" % (partition, size, b"m" * size))


def body(reply: bytes) -> bytes:
    assert reply.startswith(b"value ")
    return reply.partition(b"\r\n")[2]


async def test_a_get_brings_a_part_of_what_was_asked_for_and_the_next_goes_on_there(scarce: Dial) -> None:
    peer = await scarce()
    for _ in range(100):
        await put(peer, 1004)
    brought = 0
    while brought < 100 * 1024:
        part = body(await peer.asks(b"get test g 0 %d 65536 1\r\n" % brought))
        assert len(part) == min(FLOOR, 100 * 1024 - brought)
        brought += len(part)


async def test_a_large_message_comes_whole_if_it_was_asked_for_whole(scarce: Dial) -> None:
    peer = await scarce()
    for size in (10, LARGE, 10):
        await put(peer, size)
    assert len(body(await peer.asks(b"get test g 0 30 1048576 1\r\n"))) == HEADER_SIZE + LARGE
    assert len(body(await peer.asks(b"get test g 0 30 100000 1\r\n"))) == 100_000
    assert len(body(await peer.asks(b"get test g 0 0 1048576 1\r\n"))) == FLOOR


async def test_a_large_message_comes_whole_to_a_get_that_waited_for_it(scarce: Dial) -> None:
    peer, producer = await scarce(), await scarce()
    await put(producer, 10)
    await peer.sends(b"get test g 0 30 1048576 1 wait 20000\r\n")
    await put(producer, LARGE)
    await peer.gets(rb"value %d 1\r\n(?s:.{%d})" % (HEADER_SIZE + LARGE, HEADER_SIZE + LARGE))


async def test_an_mget_below_64_kib_has_left_nothing_out(scarce: Dial) -> None:
    peer = await scarce()
    for partition in range(4):
        for _ in range(30):
            await put(peer, 1004, partition)
    lines = b"".join(b"test %d 0 1048576\r\n" % partition for partition in range(4))
    parts = read_parts(body(await peer.asks(b"mget g 1048576 0 %d 3\r\n%b" % (len(lines), lines))))
    assert [(part.nth, len(part.data)) for part in parts] == [(0, 30 * 1024), (1, 30 * 1024), (2, 30 * 1024)]
    lines = b"test 3 0 1048576\r\n"
    await put(peer, LARGE, 3)
    await put(peer, 70_000, 3)
    lines = b"test 3 %d 1048576\r\n" % (30 * 1024)
    (part,) = read_parts(body(await peer.asks(b"mget g 1048576 0 %d 3\r\n%b" % (len(lines), lines))))
    assert len(part.data) == HEADER_SIZE + LARGE


async def test_gets_that_come_at_once_are_all_answered_in_their_order(scarce: Dial) -> None:
    peer = await scarce()
    for size in (30_000, LARGE, 30_000):
        await put(peer, size)
    offsets = [0, 30_020, 30_020 + LARGE + HEADER_SIZE] * 5
    await peer.sends(b"".join(b"get test g 0 %d 1048576 %d\r\n" % (offset, n) for n, offset in enumerate(offsets)))
    for n, offset in enumerate(offsets):
        size = HEADER_SIZE + (LARGE if offset == 30_020 else 30_000)
        await peer.gets(rb"value %d %d\r\n(?s:.{%d})" % (size, n, size))
