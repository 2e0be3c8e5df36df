"""Defects of the original that this broker does not have (protocol.md §8, those marked F that have a broker side)."""

import asyncio
import errno
import time
from pathlib import Path

import pytest

from metaq.files import OsFiles
from metaq.record import HEADER, HEADER_SIZE, walk
from tests.embedding import HERE, Dial, Peer, Serving, configured, serving, settings
from tests.wire.conftest import Serve

EPOCH_MS = 1303895660503


async def put(peer: Peer, body: bytes, topic: bytes = b"test", partition: int = 0) -> tuple[int, int]:
    """Store a message; return its id and offset."""
    await peer.sends(b"put %b %d %d 0 -1 1\r\n%b" % (topic, partition, len(body), body))
    match = await peer.gets(rb"result 200 \d+ 1\r\n(-?\d+) %d (\d+)" % partition)
    return int(match[1]), int(match[2])


async def test_q3_ids_are_positive_and_ascend_and_tell_the_time_and_the_broker(serve: Serve) -> None:
    dial = await serve.dial(await serve(system={"brokerId": 7}))
    peer = await dial()
    before = int(time.time() * 1000)
    ids = [(await put(peer, b"x"))[0] for _ in range(50)]
    assert ids == sorted(set(ids))
    assert {(id >> 12) & 1023 for id in ids} == {7}
    assert before <= (ids[0] >> 22) + EPOCH_MS <= int(time.time() * 1000)


async def test_q3_ids_go_on_ascending_over_a_restart(folder: Path) -> None:
    config = configured(folder, settings(folder))
    ids = []
    for _ in range(3):
        async with serving(config) as broker:
            dial = Dial(broker.port)
            ids.append((await put(await dial(), b"x"))[0])
            await dial.end()
    assert ids == sorted(set(ids))


async def test_q6_offset_answers_with_a_boundary_between_messages(dial: Dial) -> None:
    peer = await dial()
    boundaries = {b"0"} | {b"%d" % ((await put(peer, b"x" * n))[1] + n + HEADER_SIZE) for n in range(10)}
    for offset in range(0, 250, 7):
        await peer.sends(b"offset test g 0 %d 1\r\n" % offset)
        assert (await peer.gets(rb"result 200 \d+ 1\r\n(\d+)"))[1] in boundaries


async def test_q9_every_message_that_is_stored_can_be_fetched(serve: Serve) -> None:
    dial = await serve.dial(await serve(system={"maxTransferSize": 1000}))
    peer = await dial()
    _, offset = await put(peer, b"x" * (1000 - HEADER_SIZE))
    assert (await peer.asks(b"put test 0 981 0 -1 1\r\n" + bytes(981))).startswith(b"result 500 ")
    await peer.sends(b"get test g 0 %d 2000 1\r\n" % offset)
    data = (await peer.gets(rb"value 1000 1\r\n(.*)"))[1]
    assert [len(record.body) for record in walk(data)] == [980]


async def test_q11_a_line_above_the_limit_ends_the_connection(dial: Dial) -> None:
    peer, other = await dial(), await dial()
    await peer.sends(b"version 5" + b" " * 65000 + b"\r\n")
    await peer.gets(rb"result 200 7 -?\d+\r\n1.4.6.2")
    await peer.sends(b"version 1 " + b"x" * 70000)
    await peer.closes()
    assert await other.asks(b"version 1\r\n") == b"result 200 7 1\r\n1.4.6.2"


@pytest.mark.parametrize(
    "body", [b"hello", b"", b"\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x05hell", b"\x7f\xff\xff\xffx"]
)
async def test_q12_a_body_without_the_attribute_its_flag_announces_is_refused(body: bytes, dial: Dial) -> None:
    peer = await dial()
    await peer.sends(b"put test 0 %d 1 -1 1\r\n%b" % (len(body), body))
    await peer.gets(rb"result 500 .*Detail:the attribute that the flag announces does not fit into the body")
    await peer.sends(b"put test 0 %d 2 -1 1\r\n%b" % (len(body), body))  # other bits are nobody's business
    await peer.gets(rb"result 200 \d+ 1\r\n\d+ 0 0")
    await peer.sends(b"get test g 0 0 100 1\r\n")
    data = (await peer.gets(rb"value \d+ 1\r\n(.*)"))[1]
    assert HEADER.unpack_from(data)[3] == 2


@pytest.mark.parametrize("topic", [b"test", b"quick"])
async def test_q13_what_is_acknowledged_can_be_read_at_once(topic: bytes, dial: Dial) -> None:
    peer, reader = await dial(), await dial()
    for n in range(50):
        _, offset = await put(peer, b"%d" % n, topic)
        await reader.sends(b"get %b g 0 %d 1000 1\r\n" % (topic, offset))
        data = (await reader.gets(rb"value \d+ 1\r\n(.*)"))[1]
        assert [record.body for record in walk(data)] == [b"%d" % n]


class Broken(OsFiles):
    """A disk on which message files cannot be read."""

    def pread(self, fd: int, size: int, position: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")


async def test_q14_a_get_that_fails_says_that_a_get_failed(folder: Path) -> None:
    config = configured(folder, settings(folder))
    async with serving(config) as broker:
        dial = Dial(broker.port)
        await put(await dial(), b"hello")
        await dial.end()
    async with serving(config) as broker:
        store = broker.running.broker.store
        store.reader._files = Broken()
        dial = Dial(broker.port)
        peer = await dial()
        await peer.sends(b"get test g 0 0 100 1\r\n")
        await peer.gets(
            rb"result 500 \d+ 1\r\nGet message from \[broker 'meta://127.0.0.1:\d+'\] \[partition 'test-0'\] .*"
        )
        assert await peer.asks(b"version 1\r\n") == b"result 200 7 1\r\n1.4.6.2"
        await dial.end()


async def test_q26_a_put_for_no_transaction_is_refused_in_plain_words(dial: Dial) -> None:
    peer = await dial()
    answer = await peer.asks(b"put test 0 5 0 -1 null 1\r\nhello")
    assert answer.startswith(b"result 500 ")
    assert b"com.taobao" not in answer


async def test_q30_topics_beyond_ascii_are_served(serve: Serve) -> None:
    topic = "主题".encode()
    dial = await serve.dial(await serve(topics="[topic=*]\n"))
    peer = await dial()
    _, offset = await put(peer, b"x", topic)
    await peer.sends(b"get %b g 0 %d 100 1\r\n" % (topic, offset))
    assert [record.body for record in walk((await peer.gets(rb"value 21 1\r\n(.*)"))[1])] == [b"x"]


@pytest.mark.parametrize(
    "topic", [b"../../evil", b"a/b", b"a\\b", b"a\0b", b".", b"..", b"x" * 245, b"a\xffb", b"a\tb"]
)
async def test_q32_topics_that_no_folder_can_be_named_after_are_refused(
    topic: bytes, serve: Serve, folder: Path
) -> None:
    dial = await serve.dial(await serve(topics="[topic=*]\n"))
    peer = await dial()
    answer = await peer.asks(b"put %b 0 5 0 -1 1\r\nhello" % topic)
    assert answer.startswith(b"result 500 ")
    assert b"The server do not accept topic" in answer
    assert list((folder / "data").glob("*-0")) == []


async def test_q34_a_connection_ends_with_an_ordinary_close(dial: Dial, broker: Serving) -> None:
    reader, writer = await asyncio.open_connection(HERE, broker.port)
    writer.write(b"version 1\r\nquit\r\n")
    assert await reader.read() == b"result 200 7 1\r\n1.4.6.2"  # to the end; a reset would raise
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("size", [1000, 300 << 10, 1 << 20])
async def test_q40_puts_of_any_size_keep_their_order_in_one_partition(size: int, serve: Serve) -> None:
    dial = await serve.dial(await serve(system={"maxTransferSize": 4 << 20}))
    peer = await dial()
    bodies = [bytes([n]) * (size if n % 3 == 1 else 100) for n in range(12)]
    await peer.sends(b"".join(b"put test 0 %d 0 -1 %d\r\n%b" % (len(body), n, body) for n, body in enumerate(bodies)))
    offsets = {}
    for _ in bodies:
        match = await peer.gets(rb"result 200 \d+ (\d+)\r\n\d+ 0 (\d+)")
        offsets[int(match[1])] = int(match[2])
    expected = 0
    for n, body in enumerate(bodies):
        assert offsets[n] == expected
        expected += len(body) + HEADER_SIZE
    found = b""
    while len(found) < expected:
        await peer.sends(b"get test g 0 %d 4000000 1\r\n" % len(found))
        found += (await peer.gets(rb"value \d+ 1\r\n(.*)"))[1]
    assert [record.body for record in walk(found)] == bodies


async def test_q15_messages_are_counted_in_all_segments(serve: Serve) -> None:
    dial = await serve.dial(await serve(system={"maxSegmentSize": 100}))
    peer = await dial()
    for _ in range(20):
        await put(peer, b"x" * 30)
    assert b"\r\ntotal_messages 20\r\n" in await peer.asks(b"stats  1\r\n")
    assert b"test partitions 1 message_count 20 message_bytes 1000 " in await peer.asks(b"stats topics 1\r\n")
