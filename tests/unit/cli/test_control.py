"""The control socket: what it answers, whatever it is sent, and who may open it."""

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.admin.control import LONGEST_LINE, ControlServer, bind
from metaq.admin.wire import Values, short_address
from metaq.cli.control import ControlClient, Refusal, Unreachable
from metaq.config.editing import TopicChange
from metaq.errors import ConfigError

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class FakeBroker:
    """Operations that note what they are asked."""

    calls: list[tuple[object, ...]] = field(default_factory=list)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    def status(self) -> Values:
        return {"state": "serving"}

    async def stats(self, item: str) -> str:
        return f"STATS\r\nitem {item}\r\nEND\r\n"

    async def slave_status(self) -> Values:
        return {"slave_id": 2}

    async def promote(self, *, force: bool, wait: float, rest: Sequence[str]) -> Values:
        return {"lost": f"{force} {wait:g} {' '.join(rest)}"}

    async def reload(self) -> Values:
        raise ConfigError("server.ini:3: no")

    def close_partitions(self, topic: str, first: int, last: int) -> None:
        self.calls.append(("close", topic, first, last))

    def open_partitions(self, topic: str) -> None:
        self.calls.append(("open", topic))

    async def change_topic(self, change: TopicChange) -> Values:
        self.calls.append(("change", change))
        return {"text": str(change), "kept": None}

    async def stop(self) -> None:
        await self.stopped.wait()


@asynccontextmanager
async def served(path: Path, broker: FakeBroker) -> AsyncIterator[None]:
    server = ControlServer(str(path), broker)
    await server.open()
    try:
        yield
    finally:
        await server.close()


async def dial(path: Path) -> Streams:
    with short_address(str(path)) as address:
        return await asyncio.open_unix_connection(address)


async def ask(streams: Streams, line: bytes) -> dict[str, object]:
    streams[1].write(line + b"\n")
    reply: object = json.loads(await streams[0].readline())
    assert isinstance(reply, dict)
    return reply


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        ({"command": "status"}, {"ok": True, "state": "serving"}),
        ({"command": "stats", "item": "topics"}, {"ok": True, "text": "STATS\r\nitem topics\r\nEND\r\n"}),
        ({"command": "slave-status"}, {"ok": True, "slave_id": 2}),
        ({"command": "stats"}, {"ok": True, "text": "STATS\r\nitem \r\nEND\r\n"}),
        ({"command": "open-partitions", "topic": "t"}, {"ok": True}),
        ({"command": "close-partitions", "topic": "t", "start": 0, "end": 3}, {"ok": True}),
        ({"command": "promote"}, {"ok": True, "lost": "False 0 "}),
        ({"command": "promote", "force": True, "wait": 1.5, "rest": ["a", "b"]}, {"ok": True, "lost": "True 1.5 a b"}),
        (
            {"command": "promote", "wait": -1},
            {"ok": False, "error": "wait must be a number of seconds, 86400 at most"},
        ),
        ({"command": "promote", "rest": "a"}, {"ok": False, "error": "rest must be a list of texts"}),
        ({"command": "reload"}, {"ok": False, "error": "server.ini:3: no"}),
        (
            {"command": "change-topic", "action": "alter", "topic": "t", "settings": {"stat": "true"}},
            {"ok": True, "text": "alter t stat=true", "kept": None},
        ),
        (
            {"command": "change-topic", "action": "rename", "topic": "t", "settings": {}},
            {"ok": False, "error": "'rename' is not a valid Action"},
        ),
        (
            {"command": "change-topic", "action": "alter", "topic": "t", "settings": {"numPartitions": 3}},
            {"ok": False, "error": "settings must be an object of texts"},
        ),
        ({"command": "open-partitions"}, {"ok": False, "error": "topic must be a text"}),
        (
            {"command": "close-partitions", "topic": "t", "start": True, "end": 3},
            {"ok": False, "error": "start must be a whole number"},
        ),
        ({"command": "nonsense"}, {"ok": False, "error": "no such command: 'nonsense'"}),
        ({}, {"ok": False, "error": "no such command: None"}),
        ([1], {"ok": False, "error": "a request is a JSON object"}),
    ],
)
async def test_each_request_has_its_reply(request_: object, reply: Values) -> None:
    assert await ControlServer("", FakeBroker()).answer(json.dumps(request_).encode()) == reply


async def test_partitions_are_closed_and_opened_as_asked() -> None:
    broker = FakeBroker()
    server = ControlServer("", broker)
    await server.answer(b'{"command": "close-partitions", "topic": "t", "start": 1, "end": 2}')
    await server.answer(b'{"command": "open-partitions", "topic": "t"}')
    assert broker.calls == [("close", "t", 1, 2), ("open", "t")]


@given(st.binary(max_size=80))
def test_any_line_is_answered(line: bytes) -> None:
    async def answer() -> Values:
        return await ControlServer("", FakeBroker()).answer(line)

    assert asyncio.run(answer())["ok"] in (True, False)


async def test_a_line_of_brackets_without_end_is_answered() -> None:
    reply = await ControlServer("", FakeBroker()).answer(b"[" * 60_000)
    assert reply == {"ok": False, "error": "a request is one line of JSON"}


async def test_bad_input_does_not_end_the_connection(tmp_path: Path) -> None:
    async with served(tmp_path / "s", FakeBroker()):
        streams = await dial(tmp_path / "s")
        assert (await ask(streams, b"\xff{"))["ok"] is False
        assert (await ask(streams, b'{"command": "status"}'))["ok"] is True
        streams[1].close()


async def test_a_line_without_end_is_refused_and_the_connection_closed(tmp_path: Path) -> None:
    async with served(tmp_path / "s", FakeBroker()):
        reader, writer = await dial(tmp_path / "s")
        writer.write(b"x" * (LONGEST_LINE + 10))
        assert b"a request has at most" in await reader.readline()
        assert await reader.read() == b""
        writer.close()


async def test_who_waits_for_the_stop_holds_up_nobody_and_gets_the_last_word(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with served(tmp_path / "s", broker):
        waits, asks, idle = [await dial(tmp_path / "s") for _ in range(3)]
        waits[1].write(b'{"command": "stop"}\n')
        assert (await ask(asks, b'{"command": "status"}'))["state"] == "serving"
        broker.stopped.set()
    assert json.loads(await waits[0].readline()) == {"ok": True}
    for reader, writer in (waits, asks, idle):
        assert await reader.read() == b""
        writer.close()
    assert not (tmp_path / "s").exists()


async def test_only_the_owner_may_open_it_and_a_stale_one_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    bind(str(path)).close()  # its process has gone: the name stays behind
    with pytest.raises(ConnectionRefusedError):
        await dial(path)
    before = os.umask(0)
    try:
        async with served(path, FakeBroker()):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            streams = await dial(path)
            assert (await ask(streams, b'{"command": "status"}'))["ok"] is True
            streams[1].close()
    finally:
        os.umask(before)


async def test_a_path_too_long_for_an_address_works_all_the_same(tmp_path: Path) -> None:
    folder = tmp_path / ("deep" * 30)
    folder.mkdir()
    async with served(folder / "s", FakeBroker()):
        streams = await dial(folder / "s")
        assert (await ask(streams, b'{"command": "status"}'))["ok"] is True
        streams[1].close()
    assert not (folder / "s").exists()


async def test_the_client_raises_what_the_broker_refuses(tmp_path: Path) -> None:
    def talk() -> dict[str, object]:
        with ControlClient(tmp_path / "s") as client:
            with pytest.raises(Refusal, match=r"server\.ini:3: no"):
                client.ask("reload")
            return client.ask("status")

    async with served(tmp_path / "s", FakeBroker()):
        assert await asyncio.to_thread(talk) == {"state": "serving"}


async def test_the_client_waits_no_longer_than_it_is_told(tmp_path: Path) -> None:
    def talk() -> None:
        with ControlClient(tmp_path / "s") as client:
            client.ask("stop", within=0.05)

    broker = FakeBroker()
    async with served(tmp_path / "s", broker):
        with pytest.raises(Unreachable, match=r"did not answer `stop` within 0\.05 s"):
            await asyncio.to_thread(talk)
        broker.stopped.set()


def test_the_client_says_when_there_is_no_socket(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="No such file"):
        ControlClient(tmp_path / "s")
