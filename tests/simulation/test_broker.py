"""The real broker, untouched, in a simulated world: it repeats itself, and keeps what it acknowledged."""

import asyncio
from itertools import count
from typing import Final

import pytest

from metaq import app
from metaq.config.broker import parse
from tests.embedding import settings
from tests.simulation.disk import PowerLoss
from tests.simulation.world import Machine, World

BROKER: Final = "10.0.0.1"
PUTS: Final = 5
CONFIG: Final = parse(
    settings("/srv", {"hostName": BROKER}, {"journalFileSize": 1 << 16, "bindAddress": BROKER}).encode(), "server.ini"
)
FOLDERS: Final = ("/srv", "/srv/data", "/srv/data/pymetaq", "/srv/data/pymetaq/journal", "/srv/data/pymetaq/checkpoint")


class Wire(asyncio.Protocol):
    """Keeps what it received."""

    def __init__(self) -> None:
        self.got = b""

    def data_received(self, data: bytes) -> None:
        self.got += data


def broker_of(world: World) -> Machine:
    """Return the broker's machine with the folders an administrator would have made, durable."""
    machine = world.machine(BROKER)
    for folder in FOLDERS:
        machine.disk.make_dir(folder)
        machine.disk.sync_dir(folder.rpartition("/")[0] or "/")
    return machine


async def serve(world: World, machine: Machine, puts: int, acknowledged: list[bytes]) -> bytes:
    """Run the broker, put messages one by one, get them all, stop; return all that came over the wire."""
    stop = asyncio.Event()
    ready: asyncio.Future[app.RunningBroker] = world.loop.create_future()
    running = world.loop.create_task(app.run(CONFIG, ready=ready.set_result, stop=stop, world=machine.outside))
    either: list[asyncio.Future[None] | asyncio.Future[app.RunningBroker]] = [running, ready]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if not ready.done():
        await running
    wire = Wire()
    port = ready.result().address.port
    transport = await world.machine("10.0.0.2").network.connect(lambda: wire, BROKER, port)
    for number in range(puts):
        body = b"message %d" % number
        transport.write(b"put test 1 %d 0 %d\r\n" % (len(body), number) + body)
        while wire.got.count(b"result 200") <= number:
            await asyncio.sleep(0.005)
        acknowledged.append(body)
    transport.write(b"get test g 1 0 100000 99\r\n")
    while b" 99\r\n" not in wire.got:
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.5)  # virtual: the rest of the value
    stop.set()
    await running
    return wire.got


def test_one_seed_gives_the_same_bytes_on_the_wire_and_on_the_disk() -> None:
    runs = []
    for seed in (3, 3, 4):
        with World(seed) as world:
            machine = broker_of(world)
            wire = world.run(serve(world, machine, PUTS, []))
            runs.append((wire, machine.disk.snapshot(), world.digest()))
    assert runs[0] == runs[1]
    assert runs[0][2] != runs[2][2]
    assert all(b"message %d" % number in runs[0][0] for number in range(PUTS))


@pytest.mark.parametrize("power", [True, False])
def test_a_broker_that_ends_in_any_call_to_its_disk_keeps_what_it_acknowledged(power: bool) -> None:
    for step in count(1):
        with World(step) as world:
            machine = broker_of(world)
            machine.disk.crash_at(machine.disk.operations + step)
            acknowledged: list[bytes] = []
            try:
                world.run(serve(world, machine, PUTS, acknowledged))
            except PowerLoss:
                machine.crash(power=power)
            else:
                break
            found = world.run(serve(world, machine, 0, []))
            assert [body for body in acknowledged if body not in found] == [], f"step {step}"
    assert step > 20
