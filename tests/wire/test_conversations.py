"""What a fresh connection sends and what comes back (protocol.md §7.6), against a live broker."""

import time
from pathlib import Path

import pytest

from metaq.record import HEADER_SIZE, checksum, walk
from tests.embedding import Dial, configured, serving, settings
from tests.wire.conftest import Serve
from tests.wire.vectors import CONVERSATIONS, MORE_THAN_THE_ORIGINAL, Conversation

HELLO_REPLY = rb"result 200 \d+ 1\r\n\d+ 0 0"
BEGIN_REPLY = rb"result 500 \d+ 1\r\ntransactions are not supported by this broker: BEGIN"

# Answers that depend on what the broker stores, in the order in which this broker gives them.
STORED = {
    b"put test 0 5 0 1 \r\nhello": (HELLO_REPLY,),
    b"put test 1 5 0 -1 1\r\nhelloversion 2\r\nget test g 1 0 100 3\r\nversion 4\r\n": (
        rb"result 200 7 2\r\n1\.4\.6\.2",
        rb"result 404 36 3\r\nCould not find message at position 0",
        rb"result 200 7 4\r\n1\.4\.6\.2",
        rb"result 200 \d+ 1\r\n\d+ 1 0",
    ),
    b"get test g 0 0 1024 1 extra\r\n": (rb"result 404 \d+ 1\r\nThe topic `test` in partition `0` is not exists",),
    b"stats 1\r\n": (rb"result 200 \d+ 2147483647\r\nSTATS\r\n1\r\nresultCode 1\r\n.*END\r\n",),
    b"stats a\nb 5\r\n": (rb"result 200 \d+ 5\r\nSTATS\r\na\nb\r\nresultCode 1\r\n.*END\r\n",),
}


def expected(conversation: Conversation) -> tuple[bytes, ...]:
    """Return patterns of the replies that depend on the broker."""
    if conversation.sent.startswith(b"transaction"):
        return (BEGIN_REPLY,)
    return STORED[conversation.sent]


@pytest.mark.parametrize("conversation", [*CONVERSATIONS, *MORE_THAN_THE_ORIGINAL], ids=lambda c: repr(c.sent)[2:-1])
async def test_a_conversation_of_the_original_goes_as_it_went_there(conversation: Conversation, dial: Dial) -> None:
    peer, other = await dial(), await dial()
    await peer.sends(conversation.sent)
    if conversation.answers is None:
        for pattern in expected(conversation):
            await peer.gets(pattern)
    else:
        await peer.gets_exactly(conversation.answers)
    if conversation.closed:
        await peer.closes()
    else:
        await peer.stays_silent_until(other.asks(b"version 1\r\n"))


async def test_a_broker_starts_within_a_moment(folder: Path) -> None:
    took = []
    for _ in range(5):
        began = time.process_time()
        async with serving(configured(folder, settings(folder))):
            took.append(time.process_time() - began)
    assert min(took) < 0.05


async def fill(dial: Dial, count: int = 8, size: int = 200) -> list[bytes]:
    """Put bodies into partition 0 of topic test, one after the other; return them."""
    peer = await dial()
    bodies = [bytes([65 + n]) * size for n in range(count)]
    for n, body in enumerate(bodies):
        await peer.sends(b"put test 0 %d 0 %d 1\r\n%b" % (size, checksum(body), body))
        await peer.gets(rb"result 200 \d+ 1\r\n\d+ 0 %d" % (n * (size + HEADER_SIZE)))
    return bodies


async def test_segments_of_1000_bytes_answer_as_those_of_the_original(serve: Serve, folder: Path) -> None:
    dial = await serve.dial(await serve(system={"maxSegmentSize": 1000}))
    bodies = await fill(dial)
    peer = await dial()
    whole = b""
    for offset, size, length in ((0, 1048576, 1100), (1100, 1048576, 660)):
        await peer.sends(b"get test g 0 %d %d 1\r\n" % (offset, size))
        whole += (await peer.gets(rb"value %d 1\r\n(.*)" % length))[1]
    assert [record.body for record in walk(whole)] == bodies
    for offset, size, length in ((0, 100, 100), (0, 300, 300), (880, 10000, 220), (5, 19, 19), (1759, 100, 1)):
        answer = await peer.asks(b"get test g 0 %d %d 1\r\n" % (offset, size))
        assert answer == b"value %d 1\r\n%b" % (length, whole[offset : offset + length])
    for sent, answer in (
        (b"get test g 0 1760 100 1", b"404 39 1\r\nCould not find message at position 1760"),
        (b"get test g 0 9223372036854775807 100 1", b"301 4 1\r\n1760"),
        (b"get test g 0 -1 100 1", b"301 1 1\r\n0"),
        (b"offset test g 0 500 1", b"200 1 1\r\n0"),
        (b"offset test g 0 1200 1", b"200 4 1\r\n1100"),
        (b"offset test g 0 100000 1", b"200 4 1\r\n1760"),
        (b"offset test g 0 -1 1", b"200 1 1\r\n0"),
    ):
        assert await peer.asks(sent + b"\r\n") == b"result " + answer
    assert await peer.asks(b"stats offsets 1\r\n") == (
        b"result 200 54 1\r\nSTATS\r\ntest part 0 min_offset 0 max_offset 1760\r\nEND\r\n"
    )


async def test_a_stopped_broker_leaves_segments_named_by_their_first_offset(serve: Serve, folder: Path) -> None:
    config = configured(folder, settings(folder, system={"maxSegmentSize": 1000}))
    async with serving(config) as broker:
        dial = Dial(broker.port)
        await fill(dial)
        await dial.end()
    found = {file.name: file.stat().st_size for file in (folder / "data" / "test-0").iterdir()}
    assert found == {"00000000000000000000.meta": 1100, "00000000000000001100.meta": 660}
    async with serving(config) as broker:
        dial = Dial(broker.port)
        peer = await dial()
        await peer.sends(b"get test g 0 1100 1000 1\r\n")
        data = (await peer.gets(rb"value 660 1\r\n(.*)"))[1]
        assert [record.body[:1] for record in walk(data)] == [b"F", b"G", b"H"]
        await dial.end()
