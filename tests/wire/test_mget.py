"""Conversations about many partitions at once: `mget` (docs/protocol.md §9)."""

from tests.embedding import Dial

HELLO = rb"\x00\x00\x00\x05.{16}hello"


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


async def test_an_mget_waits_until_one_of_its_partitions_has_something(dial: Dial) -> None:
    peer, other = await dial(), await dial()
    await put(dial, 0)
    await peer.sends(mget(b"test 0 25 1000\r\ntest 1 0 1000\r\n", wait=30000))
    await peer.stays_silent_until(other.asks(b"version 1\r\n"))
    await put(dial, 1)
    await peer.gets(rb"value 37 3\r\n1 200 0 25\r\n" + HELLO)


async def test_an_mget_whose_time_is_up_is_answered_with_an_empty_value(dial: Dial) -> None:
    peer = await dial()
    await peer.sends(mget(b"test 0 0 1000\r\n", wait=10))
    await peer.gets(rb"value 0 3\r\n")
