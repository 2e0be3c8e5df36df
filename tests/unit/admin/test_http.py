"""The server of one document: what clients may send, and what becomes of those who send something else."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from metaq.admin.families import STATES
from metaq.admin.http import Server
from metaq.net.streams import Streams
from metaq.replication.status import State

HERE = "127.0.0.1"
GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n"


class Document:
    """What is served. `failure`: it cannot be made; `gate`: when it can."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def make(self, accept: str) -> tuple[str, bytes]:
        self.asked.append(accept)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return "text/x", b"number %d\n" % len(self.asked)


@pytest.fixture
def document() -> Document:
    return Document()


@pytest.fixture
async def server(document: Document) -> AsyncIterator[Server]:
    server = Server(Streams(), "/metrics", document.make)
    await server.open(HERE, 0)
    yield server
    await server.close()


async def says(server: Server, data: bytes) -> bytes:
    """Return all that a client gets that sends this, and nothing more."""
    reader, writer = await asyncio.open_connection(HERE, server.port)
    writer.write(data)
    writer.write_eof()
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_a_connection_serves_one_request_after_the_other(server: Server, document: Document) -> None:
    last = GET + b"Accept: a/b\r\nAccept: c/d\r\nContent-Length: 3\r\n\r\nxyz"
    answer = await says(server, GET + b"\r\n" + b"HEAD" + GET[3:] + b"\r\n" + last)
    nothing, first, second, third = answer.split(b"HTTP/1.1 200 \r\n")
    assert first.endswith(b"\r\n\r\nnumber 1\n")
    assert b"Content-Type: text/x\r\nContent-Length: 9\r\n" in second
    assert second.endswith(b"\r\n\r\n")
    assert third.endswith(b"\r\n\r\nnumber 3\n")
    assert nothing == b""
    assert document.asked == ["", "", "a/b,c/d"]


async def test_who_wants_no_more_is_let_go(server: Server) -> None:
    reader, writer = await asyncio.open_connection(HERE, server.port)
    writer.write(GET + b"Connection: close\r\n\r\n")
    async with asyncio.timeout(5):
        assert (await reader.read()).endswith(b"number 1\n")
    writer.close()
    await writer.wait_closed()
    assert not server.connections


@pytest.mark.parametrize(
    ("request_", "status", "text"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404, b"what there is is at /metrics\n"),
        (b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405, b"only GET and HEAD\n"),
        (b"get test g 0 0 100 1\r\n\r\n", 400, b""),
        (b"GET /metrics HTTP/1.1\r\nX: " + bytes(20_000), 431, b""),
        (b"GET /metrics HT", 400, b""),
    ],
)
async def test_what_is_no_scrape_is_answered_and_makes_nothing(
    server: Server, document: Document, request_: bytes, status: int, text: bytes
) -> None:
    answer = await says(server, request_)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.endswith(text)
    assert document.asked == []
    assert (await says(server, GET + b"\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_what_cannot_be_made_is_logged_and_the_next_may_be(
    server: Server, document: Document, caplog: pytest.LogCaptureFixture
) -> None:
    document.failure = RuntimeError("no view")
    assert (await says(server, GET + b"\r\n")).startswith(b"HTTP/1.1 500 ")
    assert "metrics could not be made" in caplog.text
    assert "no view" in caplog.text
    document.failure = None
    assert (await says(server, GET + b"\r\n")).endswith(b"number 2\n")


async def test_clients_beyond_64_are_closed_and_the_others_get_their_answers_in_turn(
    server: Server, document: Document
) -> None:
    document.gate.clear()
    clients = [asyncio.create_task(says(server, GET + b"\r\n")) for _ in range(64)]
    async with asyncio.timeout(5):
        while len(server.connections) < 64:
            await asyncio.sleep(0.001)
        reader, writer = await asyncio.open_connection(HERE, server.port)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    document.gate.set()
    answers = await asyncio.gather(*clients)
    assert sorted(int(answer.split()[-1]) for answer in answers) == list(range(1, 65))


async def test_closing_waits_for_the_answer_that_is_being_made_and_makes_no_other(document: Document) -> None:
    server = Server(Streams(), "/metrics", document.make)
    await server.open(HERE, 0)
    document.gate.clear()
    clients = [asyncio.create_task(says(server, GET + b"\r\n")) for _ in range(2)]
    async with asyncio.timeout(5):
        while sum(each.task is not None for each in server.connections) < 2:
            await asyncio.sleep(0.001)
        closing = asyncio.create_task(server.close())
        await asyncio.gather(*clients, return_exceptions=True)
        assert not closing.done()
        document.gate.set()
        await closing
    assert len(document.asked) == 1


def test_metrics_have_all_states_of_a_slave() -> None:
    assert list(STATES) == [state.value for state in State]
