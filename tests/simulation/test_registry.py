"""The registry, untouched, through power cuts: nobody has seen what is gone afterwards."""

import asyncio
import os
from typing import Final

import pytest

from metaq.registry.answers import Code
from metaq.registry.frames import Frames
from metaq.registry.jute import INT, LONG, Reader, pack_buffer, pack_string
from metaq.registry.options import RegistryOptions
from metaq.registry.requests import ANYBODY, Create, Mode, Op, SetData, pack_fields
from metaq.registry.running import RunningRegistry
from tests.simulation.disk import PowerLoss
from tests.simulation.world import World

SERVER: Final = "10.0.0.1"
CLIENT: Final = "10.0.0.2"
PLACE: Final = "/data/registry"
PORT: Final = 2181


class Gone(Exception):
    """The connection has ended."""


class SimPeer(asyncio.Protocol):
    """A client of the registry on the simulated network."""

    def __init__(self) -> None:
        self._frames = Frames(1 << 20)
        self._packets: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.session = self.zxid = 0
        self.password = bytes(16)
        self.events = 0

    def data_received(self, data: bytes) -> None:
        for packet in self._frames.feed(data):
            self._packets.put_nowait(packet)

    def connection_lost(self, exc: Exception | None) -> None:
        self._packets.put_nowait(None)

    async def connect(self, world: World, before: "SimPeer | None" = None) -> None:
        """Ask for a session, or for the one of `before`. Raises OSError, Gone."""
        self._transport = await world.machine(CLIENT).network.connect(lambda: self, SERVER, PORT)
        session, password, zxid = (
            (0, bytes(16), 0) if before is None else (before.session, before.password, before.zxid)
        )
        self.send(INT.pack(0) + LONG.pack(zxid) + INT.pack(20_000) + LONG.pack(session) + pack_buffer(password) + b"\0")
        reader = Reader(await self.packet())
        _, _, self.session, self.password = (
            reader.read_int(),
            reader.read_int(),
            reader.read_long(),
            reader.rest()[4:20],
        )
        self.zxid = zxid
        assert self.session, "the session is gone"

    def send(self, packet: bytes) -> None:
        self._transport.write(INT.pack(len(packet)) + packet)

    def ask(self, op: Op, body: bytes) -> None:
        self.send(INT.pack(1) + INT.pack(op) + body)

    async def packet(self) -> bytes:
        packet = await self._packets.get()
        if packet is None:
            raise Gone
        return packet

    async def answer(self) -> tuple[int, bytes]:
        """Return error and body of the next answer; events are counted."""
        while True:
            reader = Reader(await self.packet())
            xid, zxid, error = reader.read_int(), reader.read_long(), reader.read_int()
            if xid != -1:
                self.zxid = max(self.zxid, zxid)
                return error, reader.rest()
            self.events += 1

    def drop(self) -> None:
        self._transport.abort()


class Ledger:
    """One node counts up; what was answered or seen of it must never be more than what it holds later."""

    def __init__(self) -> None:
        self.sent = self.known = 0
        self._joined = False
        self.writer: SimPeer | None = None
        self.reader: SimPeer | None = None

    async def join(self, world: World) -> None:
        """Come back to both sessions; see whether all that was known is still there."""
        writer, reader = SimPeer(), SimPeer()
        await writer.connect(world, self.writer)
        await reader.connect(world, self.reader)
        self.writer, self.reader = writer, reader
        writer.ask(Op.CREATE, pack_fields(Op.CREATE, Create("/n", b"0", [ANYBODY], Mode.PERSISTENT)))
        writer.ask(Op.CREATE, pack_fields(Op.CREATE, Create("/alive", b"", [ANYBODY], Mode.EPHEMERAL)))
        errors = {(await writer.answer())[0] for _ in range(2)}
        assert errors == {Code.NODE_EXISTS if self._joined else 0}  # the ephemeral one too: its session lives on
        self._joined = True
        value = await self.look()
        assert self.known <= value <= self.sent
        self.known = value

    async def write(self, world: World) -> None:
        """Set the node again and again, some at once; each answer is kept in mind."""
        writer = self.writer
        assert writer is not None
        while True:
            count = 1 + world.random.randrange(5)
            for _ in range(count):
                self.sent += 1
                data = b"%d" % self.sent
                writer.ask(Op.SET_DATA, pack_fields(Op.SET_DATA, SetData("/n", data + bytes(300), -1)))
            first = self.sent - count + 1
            for number in range(first, first + count):
                assert (await writer.answer())[0] == 0
                self.known = max(self.known, number)
            await asyncio.sleep(world.random.random() * 0.01)

    async def watch(self) -> None:
        """Look at the node all the time; what is seen is kept in mind."""
        while True:
            self.known = max(self.known, await self.look())

    async def look(self) -> int:
        assert self.reader is not None
        self.reader.ask(Op.GET_DATA, pack_string("/n") + b"\1")
        error, body = await self.reader.answer()
        assert error == 0
        return int((Reader(body).read_buffer() or b"").rstrip(b"\0"))


async def life(world: World, ledger: Ledger, crash_after: int) -> None:
    """Serve, and be used, up to a power cut."""
    machine = world.machine(SERVER)
    registry = RunningRegistry(PLACE, machine.outside, RegistryOptions())
    await registry.listen(SERVER, PORT)
    await ledger.join(world)
    machine.disk.crash_at(len(machine.disk.log) + crash_after)
    await asyncio.gather(registry.failed(), ledger.write(world), ledger.watch())


FIRST_SEED: Final = int(os.environ.get("METAQ_SEED", "0"))


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + 6))
def test_what_anybody_has_seen_survives_power_cuts_and_so_do_sessions(seed: int) -> None:
    ledger = Ledger()
    with World(seed) as world:
        machine = world.machine(SERVER)
        for _ in range(6):
            with pytest.raises(PowerLoss):
                world.run(life(world, ledger, world.random.randrange(60)))
            for peer in (ledger.writer, ledger.reader):
                if peer is not None:
                    peer.drop()
            machine.crash(power=world.random.random() < 0.7)
        assert ledger.known > 10
