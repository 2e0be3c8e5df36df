"""The whole broker, untouched, through bad days: kills, power cuts, slow disks, wrong clocks, and virtual hours."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Final

import pytest

from metaq.config.broker import parse
from metaq.config.model import BrokerConfig
from metaq.errors import Status
from metaq.model import TopicPartition
from metaq.protocol.commands import Mget, Want
from metaq.protocol.encoder import encode
from metaq.protocol.parts import read_parts
from metaq.record import walk
from tests.embedding import NOTHING, TOPICS, Dial, Peer, Serving, Settings, settings
from tests.faults.checker import Ledger, Producer, acknowledged, check_all, read_log
from tests.simulation.disk import PowerLoss
from tests.simulation.threads import SimThreads
from tests.simulation.world import Machine, World

BROKER: Final = "10.0.0.1"
CLIENT: Final = "10.0.0.2"
DATA: Final = "/srv/data"
TARGETS: Final = [TopicPartition(topic, number) for topic in ("test", "quick") for number in range(2)]
HOUR: Final = 3600.0


def config(topics: str = TOPICS, system: Settings = NOTHING, pymetaq: Settings = NOTHING) -> BrokerConfig:
    """Return the configuration of a broker on BROKER:8123."""
    places = {"serverPort": 8123, "hostName": BROKER, **system}
    own = {"bindAddress": BROKER, "journalFileSize": 1 << 16, **pymetaq}
    return parse(settings("/srv", places, own, topics=topics).encode(), "server.ini")


def machine_of(world: World) -> Machine:
    """Return the broker's machine, its empty data folder durable."""
    machine = world.machine(BROKER)
    machine.disk.make_dir(DATA)
    for folder in ("/", "/srv", DATA):
        machine.disk.sync_dir(folder)
    return machine


def dialling(world: World) -> Dial:
    return Dial(8123, world.machine(CLIENT).network, BROKER)


@asynccontextmanager
async def serving(world: World, configuration: BrokerConfig) -> AsyncIterator[tuple[Serving, Dial]]:
    """Run the broker while the block runs, then stop it in order."""
    broker = await Serving(configuration, machine_of(world).outside).start()
    dial = dialling(world)
    yield broker, dial
    await dial.end()
    broker.stop.set()
    await broker.ended


def play(scene: Callable[[World], Coroutine[object, None, None]], seed: int = 0) -> None:
    with World(seed) as world:
        world.run(scene(world))


async def put(peer: Peer, body: bytes, topic: bytes = b"test") -> tuple[int, int]:
    """Store a message in partition 0; return its id and offset."""
    reply = await peer.asks(b"put %b 0 %d 0 -1 1\r\n%b" % (topic, len(body), body))
    assert reply.startswith(b"result 200 "), reply
    id, _, offset = map(int, reply.partition(b"\r\n")[2].split(b" "))
    return id, offset


# Bad days


class Killed(Exception):
    """The process of the day has ended without a call to its disk being interrupted."""


BUSY: Final = config(
    system={"maxSegmentSize": 20_000}, pymetaq={"journalLimit": 1 << 18, "tailMemory": 1 << 16, "largeRun": 8000}
)


async def day(world: World, ledger: Ledger, ending: str, lost_tail: bool, checked: Callable[[], None]) -> None:
    """Start, check all that was promised before, take messages, and end in one of several ways."""
    machine = machine_of(world)
    broker = await Serving(BUSY, machine.outside).start()
    dial = dialling(world)
    await check_all(dial, ledger, TARGETS, lost_tail=lost_tail)
    checked()
    kinds = [
        Producer(ledger, TARGETS),
        Producer(ledger, TARGETS, window=1),
        Producer(ledger, TARGETS, window=3, large=0.2, large_size=9000),
    ]
    producers = [asyncio.ensure_future(producer.run(dial)) for producer in kinds]
    await acknowledged(ledger, 20 + ledger.random.randrange(200), producers)
    if ending == "stop":
        broker.stop.set()
        await broker.ended
        await asyncio.gather(*producers)
    else:
        machine.crash(power=ending == "power")
        raise Killed


def live(seed: int, days: int) -> tuple[int, dict[str, bytes | None], int]:
    """Run a broker through so many days; return (messages acknowledged, the disk in the end, digest of the world)."""
    with World(seed) as world:
        machine = machine_of(world)
        ledger = Ledger(world.random_for("ledger"))
        chance = world.random_for("endings")
        power_was_cut = False
        dead: set[asyncio.Task[object]] = set()  # what still waits for threads that are gone; the loop forgets them

        def checked() -> None:
            nonlocal power_was_cut
            power_was_cut = False

        for _ in range(days):
            ending = chance.choice(["stop", "kill", "power", "step", "step", "step"])
            if ending == "step":
                machine.disk.crash_at(machine.disk.operations + 1 + chance.randrange(200))
            try:
                world.run(day(world, ledger, ending, power_was_cut, checked))
            except PowerLoss:
                ending = chance.choice(["kill", "power"])
                machine.crash(power=ending == "power")
            except Killed:
                pass
            dead |= asyncio.all_tasks(world.loop)
            power_was_cut = power_was_cut or ending == "power"
        machine.disk.crash_at(-1)
        world.run(day(world, ledger, "stop", power_was_cut, checked))
        disk = machine.disk.snapshot()
        for target in TARGETS:
            files = sorted(path for path in disk if path.startswith(f"{DATA}/{target}/"))
            ledger.check(target, b"".join(disk[path] or b"" for path in files))
        assert f"{DATA}/transactions/redo.in-use--see-metaq-doctor" not in disk
        return ledger.count, disk, world.digest()


def test_the_same_seed_gives_the_same_days_to_the_last_byte() -> None:
    first, second, other = live(11, 3), live(11, 3), live(12, 3)
    assert first == second
    assert first[2] != other[2]


@pytest.mark.parametrize("seed", range(8))
def test_bad_days_cost_no_acknowledged_message(seed: int) -> None:
    assert live(seed, days=6)[0] > 50


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1000, 1400))
def test_a_dozen_bad_days_cost_no_acknowledged_message(seed: int) -> None:
    assert live(seed, days=12)[0] > 50


# Long days


def test_half_a_frame_and_silence_end_after_the_idle_time_and_a_heartbeat_does_not() -> None:
    async def scene(world: World) -> None:
        async with serving(world, config(pymetaq={"idleTimeout": 300})) as (_, dial):
            halves = [await dial() for _ in range(3)]
            for peer, sent in zip(halves, (b"put test 0 100 0 -1 1\r\nhal", b"versi", b""), strict=True):
                await peer.sends(sent)
            healthy = await dial()
            began = world.loop.time()
            while not all(peer.lost for peer in halves):
                assert await healthy.asks(b"version 1\r\n") == b"result 200 7 1\r\n1.4.6.2"
                await asyncio.sleep(10)
                assert world.loop.time() - began < 620
            assert world.loop.time() - began > 290
            assert not healthy.lost

    play(scene)


def test_a_peer_that_takes_nothing_is_cut_off_after_the_idle_time() -> None:
    async def scene(world: World) -> None:
        async with serving(world, config(pymetaq={"idleTimeout": 300})) as (broker, dial):
            peer = await dial()
            for _ in range(2):
                await put(peer, bytes(1_000_000))
            peer.transport.pause_reading()
            await peer.sends(b"get test g 0 0 1000000 1\r\n" * 10)
            await asyncio.sleep(1000)
            assert broker.running.broker.state().connections == 0

    play(scene)


@pytest.mark.parametrize("seed", range(5))
def test_a_topic_that_does_not_wait_for_the_disk_is_synced_within_its_interval(seed: int) -> None:
    body = b"soon safe"

    async def publish(world: World) -> None:
        await Serving(
            config("[topic=quick]\nunflushThreshold=1000\nunflushInterval=10000\n"), machine_of(world).outside
        ).start()
        await put(await dialling(world)(), body, b"quick")
        await asyncio.sleep(11)
        world.machine(BROKER).crash(power=True)
        raise Killed

    async def look(world: World) -> None:
        async with serving(world, config()) as (_, dial):
            assert [record.body for record in walk(await read_log(await dial(), TARGETS[2]))] == [body]

    with World(seed) as world:
        with pytest.raises(Killed):
            world.run(publish(world))
        world.run(look(world))


def test_a_quiet_broker_empties_its_journal_into_the_partition_files_by_itself() -> None:
    async def scene(world: World) -> None:
        async with serving(world, config()) as (_, dial):
            await put(await dial(), b"hello")
            await asyncio.sleep(130)
            disk = world.machine(BROKER).disk.snapshot()
            found = disk[f"{DATA}/test-0/{0:020}.meta"]
            assert found is not None
            assert [record.body for record in walk(found)] == [b"hello"]
            saved = [path for path in disk if path.startswith(f"{DATA}/pymetaq/checkpoint/")]
            assert any(b'"test", 0' in (disk[path] or b"") for path in saved)  # not in the one of the start

    play(scene)


def test_old_segments_go_when_the_calendar_says_so() -> None:
    async def scene(world: World) -> None:
        system = {"maxSegmentSize": 100, "deletePolicy": "delete,2", "deleteWhen": "0 * * * * ?"}
        clock = machine_of(world).clock
        async with serving(world, config(system=system)) as (_, dial):
            peer = await dial()
            for _ in range(10):
                await put(peer, b"x" * 30)
            await asyncio.sleep(130)
            clock.set_back(-1.5 * HOUR)
            await asyncio.sleep(130)
            assert (await peer.asks(b"get test g 0 0 100 1\r\n")).startswith(b"value 100 ")
            clock.set_back(-HOUR)
            for _ in range(3):
                await put(peer, b"y" * 30)
                await asyncio.sleep(100)
            assert await peer.asks(b"get test g 0 0 100 1\r\n") == b"result 301 3 1\r\n500"
            assert (await peer.asks(b"get test g 0 500 100 1\r\n")).startswith(b"value 100 ")
            disk = world.machine(BROKER).disk.snapshot()
            assert min(path for path in disk if path.startswith(f"{DATA}/test-0/")).endswith(f"{500:020}.meta")

    play(scene)


@pytest.mark.parametrize("seed", range(5))
def test_segments_that_go_while_an_mget_waits_for_the_disk_leave_whole_answers(seed: int) -> None:
    bodies = [b"%d" % n * 30 for n in range(10)]
    wants = tuple(Want(TARGETS[0], offset, 100) for offset in (0, 100, 200))

    async def scene(world: World) -> None:
        system = {"maxSegmentSize": 100, "deletePolicy": "delete,2", "deleteWhen": "0 * * * * ?"}
        machine = machine_of(world)
        machine.threads = SimThreads(world.loop, world.random_for("slow"), machine.disk, lag=(0.05, 0.2))
        async with serving(world, config(system=system, pymetaq={"openFiles": 1})) as (_, dial):
            peer = await dial()
            offsets = {body: (await put(peer, body))[1] for body in bodies}
            await asyncio.sleep(130)  # all of it is in the files now
            machine.clock.set_back(-3 * HOUR)
            asking = await dial()
            found: set[tuple[int, ...]] = set()
            for _ in range(700):
                reply = await asking.asks(encode(Mget("g", wants, 10_000, 0, 1)))
                parts = read_parts(reply.partition(b"\r\n")[2])
                assert all(part.status in (200, 301) for part in parts), parts
                for part in parts:
                    if part.status == Status.SUCCESS:
                        assert next(offsets[record.body] for record in walk(bytes(part.data))) == wants[part.nth].offset
                    else:
                        assert part.base in offsets.values()
                found.add(tuple(part.status for part in parts))
            assert {(200, 200, 200), (301, 301, 301)} <= found

    play(scene, seed)


def test_a_broker_whose_disk_is_slow_stops_reading_and_goes_on_when_it_has_room() -> None:
    async def scene(world: World) -> None:
        machine = machine_of(world)
        machine.threads = SimThreads(world.loop, world.random_for("slow"), machine.disk, lag=(0.05, 0.2))
        async with serving(world, config(pymetaq={"tailMemory": 1 << 18, "journalLimit": 1 << 20})) as (broker, dial):
            store = broker.running.broker.store
            peers = [await dial() for _ in range(8)]
            for peer in peers:
                for n in range(60):
                    await peer.sends(b"put test 0 5000 0 -1 %d\r\n" % n + bytes(5000))
            most, held = 0, 0
            got = [0] * len(peers)
            while min(got) < 60:
                await asyncio.sleep(0.01)
                most = max(most, store.rounds.waiting_bytes)
                held += store.congested()
                for n, peer in enumerate(peers):
                    while peer.received:
                        assert (await peer.frame()).startswith(b"result 200 ")
                        got[n] += 1
            assert held > 0
            assert most < store.rounds.most_waiting + 8 * (64 << 10) + 5020 * 8
            assert len(list(walk(await read_log(await dial(), TARGETS[0])))) == 480

    play(scene)


def test_ids_ascend_although_the_clock_is_set_back_also_over_a_restart() -> None:
    async def some(world: World, ids: list[int]) -> None:
        async with serving(world, config()) as (_, dial):
            peer = await dial()
            for n in range(20):
                if n % 5 == 4:
                    world.machine(BROKER).clock.set_back(HOUR)
                ids.append((await put(peer, b"x"))[0])

    with World(0) as world:
        ids: list[int] = []
        for _ in range(3):
            world.run(some(world, ids))
            world.machine(BROKER).clock.set_back(HOUR)
            world.machine(BROKER).crash(power=False)
        assert ids == sorted(set(ids))
        assert len(ids) == 60
