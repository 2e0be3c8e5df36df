"""Connections, rounds and the clock, on a log that writes when it is told to and transports that show what is sent."""

import asyncio
from collections import deque
from collections.abc import Callable
from random import Random
from typing import cast

import pytest

from metaq.files import OsFiles, OsThreads, SystemClock
from metaq.net.streams import Streams
from metaq.ports import World
from metaq.registry.changes import Change
from metaq.registry.connection import Connection
from metaq.registry.jute import INT
from metaq.registry.options import RegistryOptions
from metaq.registry.requests import Op, SetData
from metaq.registry.server import Server
from metaq.registry.state import State
from tests.unit.registry.talk import change, create, decoded, greeting, look, packet

QUIET = RegistryOptions(tick=1_000_000)  # its clock stands still


class SlowLog:
    """Writes one commit each time it is told to."""

    def __init__(self) -> None:
        self.appended: list[Change] = []
        self.commits: deque[tuple[int, Callable[[], None]]] = deque()

    def append(self, change: Change) -> None:
        self.appended.append(change)

    def commit(self, done: Callable[[], None]) -> None:
        self.commits.append((len(self.appended), done))

    def write(self) -> None:
        _, done = self.commits.popleft()
        done()


class Wire(asyncio.Transport):
    """The other end of a connection: what it was sent, and whether it reads."""

    def __init__(self, address: str) -> None:
        super().__init__({"peername": (address, 5)})
        self.sent = b""
        self.lengths: list[int] = []
        self.closed: str = ""
        self._paused = False
        self.stuck = 0  # bytes that the other end has not read
        self.lost: Callable[[], None] = lambda: None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.sent += bytes(data)
        self.lengths.append(len(data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == 1 << 20

    def get_write_buffer_size(self) -> int:
        return self.stuck

    def is_closing(self) -> bool:
        return bool(self.closed)

    def is_reading(self) -> bool:
        return not self._paused

    def pause_reading(self) -> None:
        assert not self._paused
        self._paused = True

    def resume_reading(self) -> None:
        assert self._paused
        self._paused = False

    def close(self) -> None:
        self._end("closed")

    def abort(self) -> None:
        self._end("aborted")

    def _end(self, how: str) -> None:
        if not self.closed:
            self.closed = how
            asyncio.get_running_loop().call_soon(self.lost)


class Caller:
    """A client: sends packets, shows what came back."""

    def __init__(self, server: Server, address: str = "10.0.0.1") -> None:
        self.wire = Wire(address)
        self.connection = Connection(server)
        self.wire.lost = lambda: self.connection.connection_lost(None)
        self.connection.connection_made(self.wire)

    def send(self, *packets: bytes) -> None:
        self.send_bytes(b"".join(INT.pack(len(each)) + each for each in packets))

    def send_bytes(self, data: bytes) -> None:
        self.connection.data_received(data)

    def got(self) -> list[tuple[object, ...]]:
        """Return what was sent, as `decoded`, since this was last asked."""
        data, self.wire.sent = self.wire.sent, b""
        found = []
        start = 0
        while start < len(data):
            end = start + 4 + INT.unpack_from(data, start)[0]
            found.append(decoded(data[start:end]))
            start = end
        return found


class Stage:
    """A server on a slow log, and its callers."""

    def __init__(self, options: RegistryOptions = QUIET) -> None:
        self.log = SlowLog()
        self.state = State.fresh()
        world = World(SystemClock(), Random(1), OsFiles(), OsThreads(asyncio.get_running_loop()), Streams())
        self.server = Server(self.state, self.log, world, options)

    async def turn(self) -> None:
        """Let the round that gathers end."""
        for _ in range(3):
            await asyncio.sleep(0)

    async def settle(self) -> None:
        """End the round and write all."""
        await self.turn()
        while self.log.commits:
            self.log.write()
            await self.turn()

    async def caller(self, address: str = "10.0.0.1") -> Caller:
        """Return one that has a session."""
        made = Caller(self.server, address)
        made.send(greeting())
        await self.settle()
        assert made.wire.sent
        made.wire.sent = b""
        return made


@pytest.fixture
async def stage() -> Stage:
    made = Stage()
    await made.settle()
    return made


def zxids(caller: Caller) -> list[int]:
    return [cast(int, answer[1]) - (1 << 32) for answer in caller.got()]


async def test_an_epoch_is_written_before_anybody_is_answered() -> None:
    stage = Stage()
    await stage.turn()
    assert [each.op for each in stage.log.appended] == [-1]
    assert [count for count, _ in stage.log.commits] == [1]
    early = Caller(stage.server)
    early.send(greeting())
    await stage.turn()
    stage.log.write()
    assert early.wire.sent == b""
    stage.log.write()
    assert early.wire.sent


async def test_answers_leave_when_the_log_has_written_what_they_show(stage: Stage) -> None:
    caller, other = await stage.caller(), await stage.caller()
    other.send(look(1, Op.EXISTS, "/a", watch=True))
    await stage.turn()
    assert len(other.got()) == 1
    caller.send(create(1, "/a"), create(2, "/a/x"))
    other.send(create(2, "/b"))
    await stage.turn()
    assert [count for count, _ in stage.log.commits] == [len(stage.log.appended)]  # once for all of a turn
    assert (caller.got(), other.got()) == ([], [])
    stage.log.write()
    assert [answer[0] for answer in caller.got()] == [1, 2]
    assert [answer[0] for answer in other.got()] == [1, 2]  # the event, its answer


async def test_a_read_waits_only_for_what_was_changed_before_it(stage: Stage) -> None:
    caller, other = await stage.caller(), await stage.caller()
    other.send(look(1, Op.EXISTS, "/"))
    await stage.turn()
    assert len(other.got()) == 1
    caller.send(create(1, "/a"))
    await stage.turn()
    other.send(look(2, Op.EXISTS, "/a"))
    await stage.turn()
    caller.send(create(2, "/b"))
    await stage.turn()
    other.send(look(3, Op.EXISTS, "/b"))
    await stage.turn()
    assert (other.got(), len(stage.log.commits)) == ([], 2)
    stage.log.write()
    assert ([a[0] for a in other.got()], [a[0] for a in caller.got()]) == ([2], [1])
    stage.log.write()
    assert ([a[0] for a in other.got()], [a[0] for a in caller.got()]) == ([3], [2])
    other.send(look(4, Op.EXISTS, "/b"))
    await stage.turn()
    assert [a[0] for a in other.got()] == [4]


async def test_all_answers_of_a_round_are_one_write(stage: Stage) -> None:
    caller = await stage.caller()
    writes: list[bytes] = []
    caller.wire.write = writes.append  # type: ignore[method-assign, assignment]
    caller.send(*(create(n, f"/{n}") for n in range(100)))
    caller.send(*(look(n, Op.EXISTS, "/") for n in range(100)))
    await stage.settle()
    assert len(writes) == 1


async def test_half_a_packet_waits_for_the_rest(stage: Stage) -> None:
    caller = await stage.caller()
    whole = INT.pack(16) + look(1, Op.EXISTS, "/a" + "b")
    for byte in whole[:-1]:
        caller.send_bytes(bytes([byte]))
    await stage.settle()
    assert caller.got() == []
    caller.send_bytes(whole[-1:])
    await stage.settle()
    assert len(caller.got()) == 1


async def test_a_packet_that_is_too_large_ends_its_connection_after_what_came_before(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caller, other = await stage.caller(), await stage.caller()
    caller.send_bytes(INT.pack(17) + look(1, Op.EXISTS, "/abc") + INT.pack(2 << 20) + b"x" * 1000)
    await stage.settle()
    assert len(caller.got()) == 1
    assert caller.wire.closed == "closed"
    assert "a packet of 2097152 bytes, the limit is 1048575" in caplog.text
    assert not other.wire.closed
    caller.send_bytes(b"more of it")


async def test_words_are_answered_in_place_of_a_greeting_only(stage: Stage) -> None:
    for pieces in ([b"ruok"], [b"r", b"uo", b"k\n"]):
        caller = Caller(stage.server)
        for piece in pieces:
            caller.send_bytes(piece)
        assert (caller.wire.sent, caller.wire.closed) == (b"imok", "closed")
    caller = await stage.caller()
    caller.send_bytes(b"ruok")
    await stage.settle()
    assert (caller.wire.sent, caller.wire.closed) == (b"", "closed")


async def test_what_the_server_says_of_itself(stage: Stage) -> None:
    caller = await stage.caller()
    caller.send(create(1, "/a"), look(2, Op.GET_DATA, "/a", watch=True))
    await stage.turn()
    facts = stage.server.facts()
    assert (facts.outstanding, facts.received, facts.sent) == (1, 3, 3)
    await stage.settle()
    facts = stage.server.facts()
    assert (facts.connections, facts.sessions, facts.watches, facts.nodes, facts.outstanding) == (1, 1, 1, 5, 0)
    assert facts.zxid == (1 << 32) + 2


async def test_so_many_connections_from_one_address_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage(RegistryOptions(tick=1_000_000, max_connections=2))
    first, _ = await stage.caller(), await stage.caller()
    third = Caller(stage.server)
    assert third.wire.closed == "aborted"
    assert "too many connections from 10.0.0.1, the limit is 2" in caplog.text
    await stage.caller("10.0.0.2")
    first.wire.close()
    await stage.turn()
    await stage.caller()


async def test_who_does_not_read_is_not_read_from_and_cut_off_in_the_end(stage: Stage) -> None:
    caller, other = await stage.caller(), await stage.caller()
    caller.send(packet(1, Op.ADD_WATCH, INT.pack(1) + b"/" + INT.pack(1)))
    await stage.settle()
    caller.connection.pause_writing()
    assert not caller.wire.is_reading()
    caller.wire.stuck = 2 << 20
    other.send(create(1, "/a"))
    await stage.settle()
    caller.connection.resume_writing()
    assert caller.wire.is_reading()
    caller.connection.pause_writing()
    caller.wire.stuck = 33 << 20
    other.send(create(2, "/b"))
    await stage.settle()
    assert caller.wire.closed == "aborted"
    assert len(stage.state.sessions) == 2  # it may come back


async def test_who_sends_faster_than_the_log_writes_is_not_read_from(stage: Stage) -> None:
    caller = await stage.caller()
    data = bytes(900_000)
    for number in range(4):
        caller.send(change(number, Op.SET_DATA, SetData("/", data, -1)))
        await stage.turn()
    assert caller.wire.is_reading()
    caller.send(change(4, Op.SET_DATA, SetData("/", data, -1)))
    assert not caller.wire.is_reading()
    caller.send(look(5, Op.EXISTS, "/"))  # was on its way already
    await stage.turn()
    stage.log.write()
    assert caller.wire.is_reading()
    await stage.settle()
    assert [answer[0] for answer in caller.got()] == [0, 1, 2, 3, 4, 5]
    large = INT.pack(1_000_000) + change(5, Op.SET_DATA, SetData("/", bytes(1_000_000 - 21), -1))
    for start in range(0, len(large), 100_000):  # nothing is owed for a packet that is not whole
        caller.send_bytes(large[start : start + 100_000])
        assert caller.wire.is_reading()
        await stage.turn()


async def test_short_questions_with_long_answers_are_answered_some_at_a_time(stage: Stage) -> None:
    caller = await stage.caller()
    caller.send(change(1, Op.SET_DATA, SetData("/", bytes(100_000), -1)))
    await stage.settle()
    caller.got()
    caller.wire.lengths.clear()
    questions = [look(number, Op.GET_DATA, "/") for number in range(400)]
    caller.send_bytes(b"".join(INT.pack(len(each)) + each for each in questions) + INT.pack(-1))
    assert not caller.wire.is_reading()
    while not caller.wire.closed:
        await stage.settle()
    assert [answer[0] for answer in caller.got()] == list(range(400))
    assert max(caller.wire.lengths) < 12 << 20


async def test_a_connection_that_asks_for_no_session_is_closed() -> None:
    stage = Stage(RegistryOptions(tick=10, shortest_session=10_000, greeting_time=0.05))
    greeted, silent = await stage.caller(), Caller(stage.server)
    async with asyncio.timeout(10):
        while not silent.wire.closed:
            await asyncio.sleep(0.005)
    assert not greeted.wire.closed
    stage.server.fail()


async def test_sessions_expire_with_the_clock() -> None:
    stage = Stage(RegistryOptions(tick=10, shortest_session=20, longest_session=20))
    caller = await stage.caller()
    async with asyncio.timeout(10):
        while not caller.wire.closed:
            await stage.settle()
            await asyncio.sleep(0.005)
    assert not stage.state.sessions
    stage.server.fail()


async def test_containers_go_with_the_clock() -> None:
    stage = Stage(RegistryOptions(tick=1_000_000, container_interval=0.01))
    caller = await stage.caller()
    create_container = packet(1, Op.CREATE_CONTAINER, create(1, "/c")[8:])
    caller.send(create_container, create(2, "/c/x"), packet(3, Op.DELETE, INT.pack(4) + b"/c/x" + INT.pack(-1)))
    async with asyncio.timeout(10):
        while "/c" in stage.state.tree.nodes or stage.log.appended[-1].session != 0:
            await stage.settle()
            await asyncio.sleep(0.005)
    stage.server.fail()


async def test_the_end_answers_what_was_asked_and_keeps_sessions(stage: Stage) -> None:
    caller = await stage.caller()
    caller.send(create(1, "/a"))
    closing = asyncio.create_task(stage.server.close())
    await stage.turn()
    caller.send(create(2, "/b"))  # too late
    assert not closing.done()
    stage.log.write()
    await closing
    assert [answer[0] for answer in caller.got()] == [1]
    assert caller.wire.closed == "closed"
    assert len(stage.state.sessions) == 1
    assert "/b" not in stage.state.tree.nodes
    late = Caller(stage.server)
    assert late.wire.closed == "aborted"


async def test_the_end_does_not_wait_for_who_does_not_read(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metaq.registry.server._FAREWELL", 0.01)
    caller = await stage.caller()
    ends: list[str] = []
    caller.wire.close = lambda: ends.append("closed")  # type: ignore[method-assign]
    caller.wire.abort = lambda: ends.append("aborted")  # type: ignore[method-assign]
    await stage.server.close()
    assert ends == ["closed", "aborted"]


async def test_when_the_log_fails_nobody_is_answered_any_more(stage: Stage) -> None:
    caller, other = await stage.caller(), await stage.caller()
    caller.send(create(1, "/a"))
    await stage.turn()
    stage.server.fail()
    assert (caller.wire.closed, other.wire.closed) == ("aborted", "aborted")
    await stage.server.close()
    stage.log.write()
    assert (caller.wire.sent, other.wire.sent) == (b"", b"")


async def test_who_leaves_while_its_answer_is_on_its_way_does_no_harm(stage: Stage) -> None:
    caller, other = await stage.caller(), await stage.caller()
    caller.send(create(1, "/a"), packet(2, Op.CLOSE))
    await stage.turn()
    caller.wire.abort()
    await stage.turn()
    other.send(look(1, Op.EXISTS, "/a"))
    await stage.settle()
    assert other.got()[0][2] == 0
    assert stage.server.facts().connections == 1
