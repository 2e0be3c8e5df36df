"""The simulated network behaves as TCP under asyncio does, good days and bad."""

import asyncio
import errno
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaq import ports
from tests.simulation.loop import PowerLoss
from tests.simulation.network import DIAL_LIMIT, SimNetwork, SimServer
from tests.simulation.wire import HIGH_WATER, RESEND_LIMIT, SOCKET_BUFFER, SimTransport
from tests.simulation.world import World


class Peer(asyncio.Protocol):
    """Remembers all that happens to it; the calls in `events`, the bytes in `got`."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.pieces = 0
        self.events: list[str] = []
        self.error: Exception | None = None
        self.lost = asyncio.Event()
        self.keep_open = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        self.got += data
        self.pieces += 1

    def eof_received(self) -> bool:
        self.events.append("eof")
        return self.keep_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")
        self.error = exc
        self.lost.set()

    async def filled(self, size: int) -> None:
        await until(lambda: len(self.got) >= size)

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")


async def join(world: World, near: str = "a", far: str = "b") -> tuple[Peer, Peer]:
    """Return the two ends of a new connection: the one that dialled, the one that listened."""
    listening = Peer()
    server = await world.machine(far).network.listen(lambda: listening, None, 0)
    dialling = Peer()
    await world.machine(near).network.connect(lambda: dialling, far, server.sockets[0].getsockname()[1])
    server.close()
    return dialling, listening


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=20), st.integers(0, 1 << 30))
def test_exactly_the_bytes_written_arrive_in_order(writes: list[bytes], seed: int) -> None:
    async def scene() -> bytes:
        near, far = await join(world)
        for data in writes:
            near.transport.write(data)
        near.transport.close()
        await far.lost.wait()
        assert far.events == ["made", "eof", "lost"]
        return bytes(far.got)

    with World(seed) as world:
        assert world.run(scene()) == b"".join(writes)
        assert world.network.delivered == len(b"".join(writes))


def test_pieces_have_nothing_to_do_with_writes() -> None:
    async def scene() -> int:
        near, far = await join(world)
        near.transport.writelines([b"x" * 5000, b"y" * 5000])
        await until(lambda: len(far.got) == 10_000)
        assert far.got == b"x" * 5000 + b"y" * 5000
        return far.pieces

    counts = set()
    for seed in range(20):
        with World(seed) as world:
            counts.add(world.run(scene()))
    assert len(counts) > 2


def test_one_seed_gives_one_course_of_events_and_another_gives_another() -> None:
    async def scene(world: World) -> None:
        for _ in range(3):
            near, far = await join(world)
            near.transport.write(bytes(10_000))
            await far.filled(10_000)
            world.network.cut()
            await far.lost.wait()

    digests = []
    for seed in (1, 1, 2):
        with World(seed) as world:
            world.run(scene(world))
            digests.append(world.digest())
    assert digests[0] == digests[1] != digests[2]


def test_addresses_are_told_and_port_0_takes_a_free_one() -> None:
    async def scene() -> None:
        near, far = await join(world)
        assert near.transport.get_extra_info("peername") == far.transport.get_extra_info("sockname")
        assert near.transport.get_extra_info("sockname") == far.transport.get_extra_info("peername")
        assert near.transport.get_extra_info("sockname")[0] == "a"
        assert near.transport.get_extra_info("socket", "none") == "none"

    with World(0) as world:
        world.run(scene())


def test_a_port_is_refused_when_taken_and_free_after_close() -> None:
    async def scene() -> None:
        host = world.machine("a").network
        server = await host.listen(Peer, None, 8123)
        with pytest.raises(OSError, match="in use") as caught:
            await host.listen(Peer, "127.0.0.1", 8123)
        assert caught.value.errno == errno.EADDRINUSE
        with pytest.raises(OSError, match="no address of a"):
            await host.listen(Peer, "b", 8123)
        await world.machine("b").network.listen(Peer, "b", 8123)
        server.close()
        await server.wait_closed()
        assert not server.is_serving()
        assert server.sockets == ()
        await host.listen(Peer, "a", 8123)

    with World(0) as world:
        world.run(scene())


def test_dialling_is_refused_where_nobody_listens() -> None:
    async def scene() -> None:
        with pytest.raises(ConnectionRefusedError):
            await world.machine("a").network.connect(Peer, "b", 1)
        assert world.loop.time() < 1001

    with World(0) as world:
        world.run(scene())


def test_loopback_names_mean_the_host_itself() -> None:
    async def scene() -> None:
        await world.machine("a").network.listen(Peer, "127.0.0.1", 8123)
        await world.machine("a").network.connect(Peer, "localhost", 8123)
        with pytest.raises(ConnectionRefusedError):
            await world.machine("b").network.connect(Peer, "127.0.0.1", 8123)

    with World(0) as world:
        world.run(scene())


def test_the_network_itself_is_that_of_the_loopback_host() -> None:
    with World(0) as world:
        network: ports.Network = SimNetwork(world.loop, Random(1))

        async def scene() -> None:
            server = await network.listen(Peer, None, 8123)
            assert isinstance(server, SimServer)
            transport = await network.connect(Peer, "127.0.0.1", 8123)
            transport.write(b"hello")

        world.run(scene())


def test_a_reader_that_pauses_makes_the_writer_pause_and_both_go_on() -> None:
    async def scene() -> None:
        near, far = await join(world)
        far.transport.pause_reading()
        data = bytes(range(256)) * 1024
        near.transport.write(data)
        assert near.events == ["made", "pause"]
        assert near.transport.get_write_buffer_size() == len(data) - SOCKET_BUFFER > HIGH_WATER
        await asyncio.sleep(100)
        assert not far.got
        far.transport.resume_reading()
        await until(lambda: len(far.got) == len(data))
        assert far.got == data
        assert near.events == ["made", "pause", "resume"]

    with World(3) as world:
        world.run(scene())


def test_write_buffer_limits_follow_asyncio() -> None:
    async def scene() -> None:
        near, far = await join(world)
        far.transport.pause_reading()
        near.transport.set_write_buffer_limits(high=10)
        assert near.transport.get_write_buffer_limits() == (2, 10)
        near.transport.set_write_buffer_limits(low=10)
        assert near.transport.get_write_buffer_limits() == (10, 40)
        with pytest.raises(ValueError, match="high"):
            near.transport.set_write_buffer_limits(high=1, low=2)
        near.transport.write(bytes(SOCKET_BUFFER + 40))
        assert near.events == ["made"]
        near.transport.write(b"x")
        assert near.events == ["made", "pause"]

    with World(0) as world:
        world.run(scene())


def test_close_sends_what_was_written_first_and_abort_does_not() -> None:
    async def scene(*, abort: bool) -> int:
        near, far = await join(world)
        near.transport.write(bytes(3 * SOCKET_BUFFER))
        (near.transport.abort if abort else near.transport.close)()
        assert near.transport.is_closing()
        near.transport.write(b"ignored")
        await far.lost.wait()
        assert near.events[-1] == "lost"
        return len(far.got)

    with World(0) as world:
        assert world.run(scene(abort=False)) == 3 * SOCKET_BUFFER
        assert world.run(scene(abort=True)) == SOCKET_BUFFER


def test_half_closed_connections_carry_the_answer() -> None:
    async def scene() -> None:
        near, far = await join(world)
        far.keep_open = True
        near.transport.write(b"question")
        assert near.transport.can_write_eof()
        near.transport.write_eof()
        with pytest.raises(RuntimeError):
            near.transport.write(b"more")
        await until(lambda: "eof" in far.events)
        assert far.got == b"question"
        far.transport.write(b"answer")
        far.transport.close()
        await near.lost.wait()
        assert near.got == b"answer"
        assert near.error is None

    with World(0) as world:
        world.run(scene())


def test_who_sends_to_a_closed_end_is_reset_behind_what_was_sent_to_him() -> None:
    async def scene() -> None:
        near, far = await join(world)
        far.keep_open = near.keep_open = True
        far.transport.write(b"last words")
        far.transport.close()
        await until(lambda: "eof" in near.events)
        assert near.got == b"last words"
        near.transport.write(b"too late")
        await near.lost.wait()
        assert isinstance(near.error, ConnectionResetError)

    with World(0) as world:
        world.run(scene())


def test_a_cut_reaches_both_ends_and_nothing_more_arrives() -> None:
    async def scene() -> None:
        near, far = await join(world)
        other, _ = await join(world, "a", "c")
        near.transport.write(bytes(1000))
        assert world.network.cut("a", "b") == 1
        near.transport.write(bytes(1000))
        await near.lost.wait()
        await far.lost.wait()
        assert isinstance(near.error, ConnectionResetError)
        assert isinstance(far.error, ConnectionResetError)
        assert not far.got
        assert "lost" not in other.events
        assert len(world.network.connections) == 1
        assert world.network.cut() == 1

    with World(0) as world:
        world.run(scene())


def test_a_parting_holds_the_bytes_back_until_it_heals() -> None:
    async def scene() -> None:
        near, far = await join(world)
        world.network.part("a", "b")
        near.transport.write(b"patience")
        await asyncio.sleep(RESEND_LIMIT - 10)
        assert not far.got
        world.network.heal("b")
        await until(lambda: bool(far.got))
        await asyncio.sleep(RESEND_LIMIT)
        assert far.got == b"patience"
        assert near.events == far.events == ["made"]

    with World(0) as world:
        world.run(scene())


def test_one_way_partings_let_the_other_way_through() -> None:
    async def scene() -> None:
        near, far = await join(world)
        world.network.part("a", "b", one_way=True)
        near.transport.write(b"unheard")
        far.transport.write(b"heard")
        await until(lambda: near.got == b"heard")
        assert not far.got

    with World(0) as world:
        world.run(scene())


def test_a_parting_that_lasts_ends_the_connections_that_have_something_to_send() -> None:
    async def scene() -> None:
        near, far = await join(world)
        world.network.part("a", "b")
        near.transport.write(b"anybody?")
        await near.lost.wait()
        assert isinstance(near.error, TimeoutError)
        assert far.events == ["made"]
        with pytest.raises(TimeoutError):
            await world.machine("a").network.connect(Peer, "b", 8123)
        assert world.loop.time() < 1000 + RESEND_LIMIT + DIAL_LIMIT + 10
        world.network.heal()
        far.transport.write(b"where are you?")
        await far.lost.wait()
        assert isinstance(far.error, ConnectionResetError)

    with World(0) as world:
        world.run(scene())


def test_a_killed_process_hears_nothing_and_its_peers_see_the_end() -> None:
    async def scene() -> None:
        near, far = await join(world)
        machine = world.machine("b")
        network = machine.network
        await network.listen(Peer, None, 8123)
        far.transport.write(b"half a rep")
        machine.crash(power=False)
        await near.lost.wait()
        assert near.got == b"half a rep"
        assert far.events == ["made"]
        with pytest.raises(PowerLoss):
            await network.connect(Peer, "a", 1)
        with pytest.raises(PowerLoss):
            await network.listen(Peer, None, 1)
        await machine.network.listen(Peer, None, 8123)

    with World(0) as world:
        world.run(scene())


def test_a_machine_without_power_is_silent_until_it_is_back_and_then_resets() -> None:
    async def scene() -> None:
        near, far = await join(world)
        machine = world.machine("b")
        machine.crash(power=True, stay_down=True)
        near.transport.write(b"hello?")
        await asyncio.sleep(100)
        assert near.events == far.events == ["made"]
        machine.start()
        await near.lost.wait()
        assert isinstance(near.error, ConnectionResetError)
        assert far.events == ["made"]
        assert not far.got

    with World(0) as world:
        world.run(scene())


def test_giving_up_a_dial_leaves_no_connection() -> None:
    async def scene() -> None:
        accepted = Peer()
        server = await world.machine("b").network.listen(lambda: accepted, None, 8123)
        task = world.loop.create_task(world.machine("a").network.connect(Peer, "b", 8123))
        await until(lambda: accepted.events == ["made"])
        task.cancel()
        await accepted.lost.wait()
        server.close()
        await server.wait_closed()
        assert world.network.connections == []

    with World(0) as world:
        world.run(scene())


def test_wait_closed_waits_for_the_connections() -> None:
    async def scene() -> None:
        server = await world.machine("b").network.listen(Peer, None, 8123)
        transport = await world.machine("a").network.connect(Peer, "b", 8123)
        server.close()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(server.wait_closed(), 100)
        transport.close()
        await server.wait_closed()

    with World(0) as world:
        world.run(scene())


def test_an_error_of_a_protocol_costs_its_connection_and_is_kept() -> None:
    class Clumsy(Peer):
        def data_received(self, data: bytes) -> None:
            raise KeyError("clumsy")

    async def scene() -> None:
        await world.machine("b").network.listen(Clumsy, None, 8123)
        near = Peer()
        transport = await world.machine("a").network.connect(lambda: near, "b", 8123)
        assert isinstance(transport, SimTransport)
        transport.write(b"x")
        await near.lost.wait()

    with World(0) as world, pytest.raises(BaseExceptionGroup) as caught:
        world.run(scene())
    assert caught.group_contains(KeyError)
