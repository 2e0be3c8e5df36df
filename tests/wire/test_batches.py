"""What one connection sends at once: order, and which replies leave together (design.md §1)."""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from metaq import app
from metaq.net.streams import Streams
from metaq.record import walk
from tests.embedding import Dial, Peer, Serving
from tests.wire.conftest import Serve

Written = list[bytes]


class Spy(asyncio.Protocol):
    """Stands between a connection of the broker and its transport, and notes each write."""

    def __init__(self, inner: asyncio.Protocol, written: Written) -> None:
        self._inner = inner
        self._written = written

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        write = transport.write

        def note(data: bytes | bytearray | memoryview) -> None:
            self._written.append(bytes(data))
            write(data)

        def note_lines(parts: Iterable[bytes | bytearray | memoryview]) -> None:
            note(b"".join(parts))

        setattr(transport, "write", note)  # noqa: B010 - mypy does not want methods replaced
        setattr(transport, "writelines", note_lines)  # noqa: B010
        self._inner.connection_made(transport)


class Watched(Streams):
    """The network, with a list of all that the broker writes, one entry per write."""

    def __init__(self) -> None:
        self.written: Written = []

    async def listen(
        self, factory: Callable[[], asyncio.Protocol], host: str | None, port: int, *, backlog: int = 1000
    ) -> asyncio.AbstractServer:
        return await super().listen(lambda: Spy(factory(), self.written), host, port)


async def watched(serve: Serve) -> tuple[Written, Dial]:
    network = Watched()
    broker = await serve(world=replace(app.real_world(), network=network))
    return network.written, await serve.dial(broker)


async def replies(peer: Peer, count: int) -> list[bytes]:
    return [await peer.frame() for _ in range(count)]


def put(topic: str, partition: int, body: bytes, opaque: int) -> bytes:
    return b"put %b %d %d 0 -1 %d\r\n%b" % (topic.encode(), partition, len(body), opaque, body)


@pytest.mark.parametrize("topic", ["test", "quick"])
async def test_the_replies_to_the_puts_of_a_batch_leave_in_one_write(topic: str, serve: Serve) -> None:
    written, dial = await watched(serve)
    peer = await dial()
    await peer.sends(b"".join(put(topic, n % 4, b"body", n) for n in range(20)))
    got = await replies(peer, 20)
    assert written == [b"".join(got)]


async def test_head_and_body_of_a_reply_leave_in_one_write(serve: Serve) -> None:
    written, dial = await watched(serve)
    peer = await dial()
    await peer.asks(put("test", 0, b"body", 1))
    for question in (b"get test g 0 0 100 0\r\n", b"stats  1\r\n", b"stats config 1\r\n", b"version 1\r\n"):
        written.clear()
        answer = await peer.asks(question)
        assert written == [answer]


async def test_replies_that_need_no_disk_leave_in_one_write_and_wait_for_no_put(serve: Serve) -> None:
    written, dial = await watched(serve)
    peer = await dial()
    await peer.sends(b"version 1\r\n" + put("test", 0, b"x", 2) + b"get test g 0 0 10 3\r\nversion 4\r\n")
    got = await replies(peer, 4)
    assert [reply.split(b" ")[3][:1] for reply in got] == [b"1", b"3", b"4", b"2"]
    assert written == [b"".join(got[:3]), got[3]]


async def test_a_get_of_another_connection_does_not_wait_for_puts(serve: Serve) -> None:
    written, dial = await watched(serve)
    one, two = await dial(), await dial()
    await one.sends(put("test", 0, b"x", 1))
    await two.sends(b"version 2\r\n")
    await replies(one, 1)
    await replies(two, 1)
    assert len(written) == 2


@pytest.mark.parametrize("topic", ["test", "quick"])
async def test_puts_of_one_connection_are_stored_in_the_order_they_came(topic: str, serve: Serve) -> None:
    """Q4: the original permutes them."""
    dial = await serve.dial(await serve())
    peer = await dial()
    chance = random.Random(4)
    wire = b"".join(put(topic, 0, b"%d" % n, n) for n in range(2000))
    position = 0
    while position < len(wire):
        step = 1 + chance.randrange(3000)
        await peer.sends(wire[position : position + step])
        position += step
        await asyncio.sleep(0)
    got = [(reply.split()[3], int(reply.split()[-1])) for reply in await replies(peer, 2000)]
    assert [opaque for opaque, _ in got] == [b"%d" % n for n in range(2000)]
    assert [offset for _, offset in got] == sorted(offset for _, offset in got)
    await peer.sends(b"get %b g 0 0 1000000 1\r\n" % topic.encode())
    data = (await peer.gets(rb"value \d+ 1\r\n(.*)"))[1]
    assert [record.body for record in walk(data)] == [b"%d" % n for n in range(2000)]


async def test_a_refused_put_keeps_its_place_among_the_replies_and_stores_nothing(dial: Dial) -> None:
    peer = await dial()
    bad = (put("test", 99, b"x", 2), put("nothing", 0, b"x", 3), b"put test 0 1 0 5 4\r\nx")
    await peer.sends(put("test", 0, b"a", 1) + b"".join(bad) + put("test", 0, b"b", 5))
    got = await replies(peer, 5)
    assert [reply.split()[1] for reply in got] == [b"200", b"500", b"500", b"500", b"200"]
    assert [reply.split()[3] for reply in got] == [b"1", b"2", b"3", b"4", b"5"]
    assert got[-1].endswith(b" 0 21")


async def test_topics_that_match_a_wildcard_have_the_partitions_of_the_system(dial: Dial) -> None:
    """Q18: not those of the wildcard's section, which says 9."""
    peer = await dial()
    await peer.sends(put("wildlife", 3, b"x", 1) + put("wildlife", 4, b"x", 2) + put("wild", 0, b"x", 3))
    got = await replies(peer, 3)
    assert [reply.split()[1] for reply in got] == [b"200", b"500", b"200"]
    assert got[1].endswith(b"Detail:wrong partition 4")
    await peer.sends(b"get wildlife g 3 0 100 4\r\n")
    assert [record.body for record in walk((await peer.gets(rb"value 21 4\r\n(.*)"))[1])] == [b"x"]


async def test_partition_minus_one_goes_to_any_partition_that_is_open(broker: Serving, dial: Dial) -> None:
    """Q17: the original may choose one that is closed."""
    peer = await dial()
    broker.running.broker.close_partitions("test", 1, 2)
    await peer.sends(b"".join(put("test", -1, b"x", n) for n in range(60)))
    got = [reply.split() for reply in await replies(peer, 60)]
    assert {fields[1] for fields in got} == {b"200"}
    assert {fields[-2] for fields in got} == {b"0", b"3"}
    broker.running.broker.close_partitions("test", 0, 3)
    assert (await peer.asks(put("test", -1, b"x", 1))).endswith(b"Detail:partition[0--1] has been closed")


async def test_a_body_that_is_too_large_is_skipped_and_the_connection_goes_on(dial: Dial) -> None:
    peer = await dial()
    await peer.sends(put("test", 0, b"a", 1) + put("test", 0, bytes(9 << 20), 2) + put("test", 0, b"b", 3))
    got = {reply.split()[3]: reply for reply in await replies(peer, 3)}
    assert got[b"2"].startswith(b"result 500 ")
    assert got[b"2"].endswith(b"Detail:message of 9437184 bytes is larger than the limit of 1048556")
    assert got[b"1"].endswith(b" 0 0")
    assert got[b"3"].endswith(b" 0 21")


async def test_messages_too_large_for_java_are_stored_with_one_warning_per_topic(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    dial = await serve.dial(await serve(system={"maxTransferSize": 8 << 20}))
    peer = await dial()
    body = bytes(2 << 20) + b"x"
    with caplog.at_level(logging.WARNING, "metaq"):
        for topic, partition in (("test", 0), ("test", 1), ("test", 0), ("quick", 0)):
            assert (await peer.asks(put(topic, partition, body, 1))).startswith(b"result 200 ")
        assert (await peer.asks(put("test", 2, body[:-1], 1))).startswith(b"result 200 ")
    warned = [record.getMessage() for record in caplog.records]
    assert len(warned) == 2
    assert warned[0].startswith("test-0: a message of 2097153 bytes")
    assert warned[1].startswith("quick-0: ")
    await peer.sends(b"get test g 1 0 3000000 1\r\n")
    assert [record.body for record in walk((await peer.gets(rb"value \d+ 1\r\n(.*)"))[1])] == [body]
