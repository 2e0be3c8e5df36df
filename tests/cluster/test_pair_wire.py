"""What a slave of ours says to its master, byte by byte; the first as a master of 1.4.6.2 asks."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from metaq.protocol.parts import Stamped, pack_stamps
from metaq.record import checksum, pack
from tests.cluster.pair import slave
from tests.embedding import Dial, Peer


@pytest.fixture
async def peer(tmp_path: Path) -> AsyncIterator[Peer]:
    """A master's connection to a slave of ours with topic test, 2 partitions."""
    async with slave(tmp_path) as broker:
        dial = Dial(broker.port)
        yield await dial()
        await dial.end()


async def test_messages_are_stored_in_order_under_the_ids_the_master_gave(peer: Peer) -> None:
    crc = checksum(b"hello")
    await peer.sends(
        b"sync test 0 5 0 7001 %d 1\r\nhello" % crc
        + b"sync test 0 5 0 -7002 -1 2\r\nworld"  # ids of 1.4.6.2 may be negative
        + b"sync test 1 3 0 7003 3\r\nold"  # as before 1.4.4, without a checksum
    )
    await peer.gets_exactly(
        b"result 200 8 1\r\n7001 0 0" + b"result 200 10 2\r\n-7002 0 25" + b"result 200 8 3\r\n7003 1 0"
    )
    stored = pack(7001, 0, b"hello") + pack(-7002, 0, b"world")
    assert await peer.asks(b"get test g 0 0 1000 4\r\n") == b"value %d 4\r\n%b" % (len(stored), stored)


async def test_a_copy_that_is_damaged_or_for_a_topic_that_is_not_here_is_refused(peer: Peer) -> None:
    await peer.sends(b"sync test 0 5 0 1 12345 1\r\nhello")
    await peer.gets(rb"result 500 \d+ 1\r\n.*Checksum failure.*")
    await peer.sends(b"sync other 0 5 0 1 -1 2\r\nhello")
    await peer.gets(rb"result 500 \d+ 2\r\n.*do not accept topic other")
    await peer.sends(b"sync test 2 5 0 1 -1 3\r\nhello")
    await peer.gets(rb"result 500 \d+ 3\r\n.*wrong partition 2")


async def test_the_message_with_which_a_master_tries_its_slave_is_answered_and_not_kept(peer: Peer) -> None:
    for number in range(3):
        await peer.sends(b"sync _metaq_slave_status_test 0 4 0 %d -1 %d\r\ntest" % (number, number))
        await peer.gets(rb"result 200 5 %d\r\n%d 0 0" % (number, number))
    await peer.sends(b"offset _metaq_slave_status_test g 0 0 9\r\n")
    await peer.gets(rb"result 404 .*")


async def test_a_piece_of_a_log_is_taken_only_where_it_belongs(peer: Peer) -> None:
    assert (await peer.asks(b"version 1 metaq\r\n")).split(b" ")[-1] == b"msync"
    one, two = pack(1, 0, b"one"), pack(2, 0, b"two")
    assert await peer.asks(b"msync test 0 46 500 500 2\r\n" + one + two) == b"result 200 3 2\r\n546"
    await peer.sends(b"msync test 0 23 500 600 3\r\n" + one)
    await peer.gets(rb"result 409 \d+ 3\r\n546 is the end of test-0 here, not 600")
    assert await peer.asks(b"msync test 0 23 546 546 4\r\n" + two) == b"result 200 3 4\r\n569"
    await peer.sends(b"msync test 0 22 546 569 5\r\n" + one[:22])
    await peer.gets(rb"result 400 \d+ 5\r\n.*22 bytes after the last whole record.*")
    await peer.sends(b"msync test 0 23 546 569 6\r\n" + one[:22] + b"X")
    await peer.gets(rb"result 400 \d+ 6\r\n.*checksum.*")
    assert await peer.asks(b"msync test 0 0 546 546 7\r\n") == b"result 200 3 7\r\n546"
    assert await peer.asks(b"offset test g 0 9223372036854775807 8\r\n") == b"result 200 3 8\r\n546"
    assert await peer.asks(b"msync test 0 0 900 900 9\r\n") == b"result 200 3 9\r\n900"
    assert (await peer.asks(b"offset test g 0 0 10\r\n")).startswith(b"result 404")


LIES = [
    (Stamped(9, 0, 0, 0, 45, 2, 7), "ends with no record"),
    (Stamped(9, 0, 0, 0, 46, 3, 7), "is not what stands there"),
    (Stamped(9, 0, 0, 0, 46, 2, 8), "is not what stands there"),
    (Stamped(9, 0, 0, 7, 39, 2, 7), "is not what stands there"),
    (Stamped(0, 0, 0, 0, 46, 2, 7), "no stamp"),
    (Stamped(9, 0, 0, 0, 5, 2, 7), "no stamp"),
]


async def test_a_piece_whose_stamps_lie_is_refused_and_nothing_of_it_stored(peer: Peer) -> None:
    records = pack(7, 0, b"one") + pack(8, 0, b"two")
    for lie, why in LIES:
        await peer.sends(b"msync test 0 90 0 0 1 1\r\n" + records + pack_stamps([lie]))
        await peer.gets(rb"result 400 \d+ 1\r\n.*" + why.encode() + b".*")
    good = Stamped(9, 0, 0, 0, 46, 2, 7)
    await peer.sends(b"msync test 0 134 0 0 2 2\r\n" + records + pack_stamps([good, good]))
    await peer.gets(rb"result 400 \d+ 2\r\n.*no stamp behind the end of a batch.*")
    assert (await peer.asks(b"offset test g 0 0 3\r\n")).startswith(b"result 404")
    assert await peer.asks(b"msync test 0 90 0 0 4 1\r\n" + records + pack_stamps([good])) == b"result 200 2 4\r\n46"


async def test_more_stamps_than_bytes_end_the_connection(peer: Peer) -> None:
    await peer.sends(b"msync test 0 43 0 0 1 1\r\n" + bytes(43))
    await peer.closes()
