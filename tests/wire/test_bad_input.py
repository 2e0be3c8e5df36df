"""Bad input from one peer: the documented answer, bounded memory, and the others notice nothing (protocol.md §1.7)."""

import asyncio
import errno
import random
import resource
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from metaq.net.loop import loop_factory
from tests.embedding import HERE, Dial, Serving, configured, serving, settings
from tests.wire.conftest import Serve

MIB = 1 << 20
PAGE = resource.getpagesize()


def memory() -> int:
    """Return the bytes of memory that this process, test and broker, has in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


@asynccontextmanager
async def unaffected(dial: Dial) -> AsyncIterator[list[float]]:
    """Let another peer put and get while the block runs; each of its messages must be answered, and soon.

    Both and the broker are one thread: how long an answer took is told by its processor time, whatever else runs.
    """
    peer = await dial()
    took: list[float] = []
    done = asyncio.Event()

    async def work() -> None:
        while not done.is_set():
            began = time.thread_time()
            assert (await peer.asks(b"put quick 0 5 0 -1 1\r\nhello")).startswith(b"result 200 ")
            assert (await peer.asks(b"get quick g 0 0 25 2\r\n")).startswith(b"value 25 2\r\n")
            took.append(time.thread_time() - began)
            await asyncio.sleep(0.001)

    task = asyncio.ensure_future(work())
    try:
        yield took
    finally:
        done.set()
        await task
    assert took
    assert max(took) < 0.5


@pytest.mark.parametrize(
    "sent",
    [
        b"put test 0 -1 0 1\r\n",
        b"put test 0 -2147483648 0 1\r\n",
        b"put test 0 2147483648 0 1\r\nx",
        b"put test x 5 0 1\r\nhello",
        b"put test 99999999999 5 0 1\r\nhello",
        b"put test 0 5 0 2147483648 1\r\nhello",
        b"put test 0 5 0 1 2147483648\r\nhello",
        b"sync test 0 -5 0 1 1 1\r\n",
        b"sync test 0 5 0 1\r\nhello",
        b"get test g 0 0\r\n",
        b"get test g 0 9223372036854775808 1 1\r\n",
        b"get test g 0 0 2147483648 1\r\n",
        b"offset test g 0\r\n",
        b"offset test g 0 0x10 1\r\n",
        b"stats topics x\r\n",
        b"transaction TX:a:1 s\r\n",
        b"value 5\r\nhello",
        b"result 200 x 1\r\n",
        b"\0\0\0\0\r\n",
        b"\xff\xfe\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n",
    ],
)
async def test_a_malformed_frame_ends_the_connection_after_the_replies_before_it(sent: bytes, dial: Dial) -> None:
    peer, other = await dial(), await dial()
    await peer.sends(b"version 1\r\n" + sent + b"version 2\r\n")
    assert await peer.frame() == b"result 200 7 1\r\n1.4.6.2"
    await peer.closes()
    assert await other.asks(b"version 1\r\n") == b"result 200 7 1\r\n1.4.6.2"


async def test_random_bytes_harm_nobody_but_their_sender(dial: Dial) -> None:
    chance = random.Random(17)
    words = [b"put", b"get", b"test", b"0", b"-1", b"5", b"\r\n", b" ", b"hello", b"stats", b"transaction", b"value"]
    async with unaffected(dial):
        for _ in range(60):
            peer = await dial()
            junk = b"".join(chance.choice([*words, chance.randbytes(3)]) + b" " for _ in range(50))
            await peer.sends(junk + b"\r\n\r\n" + b"x" * 70000)
            while not peer.lost:
                peer.received.clear()
                await peer.more()


async def test_a_hundred_megabytes_without_a_line_end_cost_neither_memory_nor_time(dial: Dial) -> None:
    block = b"x" * MIB
    before, began = memory(), time.thread_time()
    async with unaffected(dial):
        peer = await dial()
        for _ in range(100):
            await peer.sends(block)
            await peer.drained()
            if peer.lost:
                break
        await peer.closes()
    assert memory() - before < 8 * MIB
    assert time.thread_time() - began < 2


async def test_a_hundred_megabytes_of_a_body_that_is_too_large_are_skipped_in_bounded_memory(dial: Dial) -> None:
    block = b"x" * MIB
    before = memory()
    async with unaffected(dial):
        peer = await dial()
        await peer.sends(b"put test 0 %d 0 -1 1\r\n" % (100 * MIB))
        await peer.gets(rb"result 500 \d+ 1\r\n.*message of 104857600 bytes is larger than the limit of 1048556")
        for _ in range(100):
            await peer.sends(block)
            await peer.drained()
        assert await peer.asks(b"version 2\r\n") == b"result 200 7 2\r\n1.4.6.2"
    assert memory() - before < 8 * MIB


async def test_half_a_body_and_the_end_of_the_connection_store_nothing(dial: Dial) -> None:
    peer, other = await dial(), await dial()
    await peer.sends(b"put test 0 5 0 -1 1\r\nhello" + b"put test 0 100000 0 -1 2\r\n" + bytes(99999))
    await peer.gets(rb"result 200 \d+ 1\r\n\d+ 0 0")
    peer.transport.abort()
    assert await other.asks(b"offset test g 0 1000000 1\r\n") == b"result 200 2 1\r\n25"


def deaf(port: int) -> socket.socket:
    """Return a connection that takes a few kilobytes of replies and then no more."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect((HERE, port))
    sock.setblocking(False)
    return sock


@pytest.mark.parametrize("restart", [False, True], ids=["from memory", "from disk"])
@pytest.mark.parametrize("factory", [loop_factory(), asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def test_a_peer_that_never_reads_costs_bounded_memory(
    factory: Callable[[], asyncio.AbstractEventLoop], restart: bool, folder: Path
) -> None:
    async def scene() -> None:
        config = configured(folder, settings(folder))
        async with serving(config) as broker:
            dial = Dial(broker.port)
            peer = await dial()
            for _ in range(3):
                await peer.asks(b"put test 0 1000000 0 -1 1\r\n" + bytes(1000000))
            if not restart:
                await never_read(broker, dial)
            await dial.end()
        if restart:
            async with serving(config) as broker:
                dial = Dial(broker.port)
                await never_read(broker, dial)
                await dial.end()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(scene())


async def never_read(broker: Serving, dial: Dial) -> None:
    """Ask for many times 300 MB of messages and read nothing."""
    asked = b"get test g 0 0 1000020 1\r\n" * 300 + b"stats config 2\r\n" * 200
    before = memory()
    async with unaffected(dial) as took:
        socks = {deaf(broker.port): asked for _ in range(3)}
        for _ in range(100):
            for sock, rest in socks.items():
                with suppress(BlockingIOError):
                    socks[sock] = rest[sock.send(rest) :] + asked
            await asyncio.sleep(0)
        while len(took) < 50:
            await asyncio.sleep(0)
        grown = memory() - before
        for sock in socks:
            sock.close()
    assert grown < len(socks) * 8 * MIB


async def test_a_peer_that_reads_late_gets_all_it_asked_for(dial: Dial) -> None:
    peer = await dial()
    for _ in range(2):
        await peer.asks(b"put test 0 1000000 0 -1 1\r\n" + bytes(1000000))
    peer.transport.pause_reading()
    await peer.sends(b"".join(b"get test g 0 0 1000000 %d\r\n" % n for n in range(40)) + b"quit\r\n")
    assert await (await dial()).asks(b"version 1\r\n") == b"result 200 7 1\r\n1.4.6.2"
    peer.transport.resume_reading()
    for n in range(40):
        assert (await peer.frame()).startswith(b"value 1000000 %d\r\n" % n)
    await peer.closes()


@contextmanager
def many_files(count: int) -> Iterator[None]:
    """Let this process open `count` files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), max(hard, count)))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_five_thousand_idle_connections_leave_the_others_alone(serve: Serve) -> None:
    with many_files(10_500):
        dial = await serve.dial(broker := await serve())
        socks: list[socket.socket] = []

        def connect(source: str) -> None:
            sock = socket.socket()
            socks.append(sock)
            sock.setblocking(False)
            sock.bind((source, 0))
            assert sock.connect_ex((HERE, broker.port)) in (0, errno.EINPROGRESS)

        before = memory()
        peer = await dial()
        async with unaffected(dial) as took:
            for batch in range(25):
                for _ in range(200):
                    connect(f"127.0.{batch % 5}.7")
                await peer.asks(b"version 1\r\n")
            while b"\r\ncurr_connections 5002\r\n" not in await peer.asks(b"stats  1\r\n"):
                pass
            took.clear()
            while len(took) < 20:
                await asyncio.sleep(0.001)
        assert memory() - before < 5000 * 16384
        for sock in socks:
            sock.close()
        while b"\r\ncurr_connections 2\r\n" not in await peer.asks(b"stats  1\r\n"):
            pass
