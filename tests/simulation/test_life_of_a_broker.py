"""Starting, serving and stopping in order, in a simulated world with ZooKeeper in memory (zookeeper.md §7.1-7.5)."""

import asyncio
import errno
import os
from collections.abc import Callable, Coroutine
from dataclasses import replace

import pytest

from metaq import app
from metaq.cluster.memory import MemoryRegistry, MemoryTree
from metaq.config.model import BrokerConfig
from metaq.errors import RegistryError, StoreError
from metaq.record import walk
from tests.embedding import Dial, Serving
from tests.faults.checker import Ledger, Producer, acknowledged, check_all, read_log
from tests.simulation.disk import Operation
from tests.simulation.test_whole_broker import BROKER, CLIENT, DATA, TARGETS, config, dialling, machine_of, put
from tests.simulation.world import World

URL = b"meta://10.0.0.1:8123"


class Life:
    """A broker that registers in `tree`; `served` has what a client got each time the tree changed while it stopped."""

    def __init__(self, world: World, configuration: BrokerConfig, tree: MemoryTree) -> None:
        self.stop = asyncio.Event()
        self.registry = MemoryRegistry(tree)
        self._ready: asyncio.Future[None] = world.loop.create_future()
        self.running: app.RunningBroker
        self.ended: asyncio.Future[None] = world.loop.create_task(
            app.run(
                configuration,
                ready=self._serves,
                stop=self.stop,
                world=machine_of(world).outside,
                registry=lambda _: self.registry,
            )
        )

    def _serves(self, running: app.RunningBroker) -> None:
        self.running = running
        self._ready.set_result(None)

    async def start(self) -> "Life":
        await asyncio.wait([self._ready, self.ended], return_when=asyncio.FIRST_COMPLETED)
        if self.ended.done():
            await self.ended
        return self


def registered(topics: str = "[topic=test]\n[topic=wild*]\n") -> BrokerConfig:
    plain = config(topics)
    return replace(plain, zookeeper=replace(plain.zookeeper, enable=True, sync_time=5.0))


def play(scene: Callable[[World], Coroutine[object, None, None]]) -> None:
    with World(0) as world:
        world.run(scene(world))


def text(tree: MemoryTree, path: str) -> bytes | None:
    node = tree.node(path)
    return None if node is None else node.data


def test_a_broker_is_announced_when_its_port_is_open_and_ready_when_it_is_announced() -> None:
    async def scene(world: World) -> None:
        tree = MemoryTree()
        life = Life(world, registered(), tree)
        dial = dialling(world)
        while tree.node("/meta/brokers/ids/0/master") is None:
            await asyncio.sleep(0)
        peer = await dial()  # would be refused if the port were not open yet
        await life.start()
        assert text(tree, "/meta/brokers/ids/0/master") == URL
        assert text(tree, "/meta/brokers/topics/test/0-m") == b"4"
        assert tree.node("/meta/brokers/topics-pub/test/0-m") is not None
        assert await peer.asks(b"version 1\r\n") == b"result 200 7 1\r\n1.4.6.2"
        life.stop.set()
        await life.ended

    play(scene)


def test_a_topic_is_registered_by_its_first_message() -> None:
    async def scene(world: World) -> None:
        tree = MemoryTree()
        life = await Life(world, registered(), tree).start()
        assert tree.node("/meta/brokers/topics/wildlife/0-m") is None
        await put(await dialling(world)(), b"x", b"wildlife")
        async with asyncio.timeout(5):
            while tree.node("/meta/brokers/topics-sub/wildlife/0-m") is None:
                await asyncio.sleep(0.01)
        life.stop.set()
        await life.ended

    play(scene)


def test_a_stopping_broker_leaves_zookeeper_first_and_serves_until_its_clients_are_silent() -> None:
    async def scene(world: World) -> None:
        tree = MemoryTree()
        life = await Life(world, registered(), tree).start()
        peer = await dialling(world)()
        life.stop.set()
        while tree.node("/meta/brokers/ids/0/master") is not None:
            await asyncio.sleep(0.001)
        for _ in range(5):
            await put(peer, b"still there")
            await asyncio.sleep(0.1)
        assert not life.ended.done()
        began = world.loop.time()
        await life.ended
        assert world.loop.time() - began < 4.0  # not the whole zkSyncTimeMs: nobody sends any more
        await peer.closes()
        assert text(tree, "/meta/brokers/ids/0") is None
        assert tree.children("/meta/brokers/topics/test") == []
        gone = [path for verb, path in tree.log if verb == "delete"]
        assert gone.index("/meta/brokers/ids/0/master") < gone.index("/meta/brokers/topics/test/0-m")

    play(scene)


def test_clients_that_never_stop_do_not_keep_a_stopping_broker_longer_than_the_sync_time() -> None:
    async def scene(world: World) -> None:
        life = await Life(world, registered(), MemoryTree()).start()
        ledger = Ledger(world.random_for("ledger"))
        producer = asyncio.ensure_future(Producer(ledger, TARGETS[:2], window=1).run(dialling(world)))
        await acknowledged(ledger, 10, [producer])
        began = world.loop.time()
        life.stop.set()
        await life.ended
        assert 4.9 < world.loop.time() - began < 8.0
        await producer
        again = await Serving(config(), machine_of(world).outside).start()
        await check_all(dialling(world), ledger, TARGETS[:2])
        await again.end()

    play(scene)


def test_a_broker_serves_on_while_its_session_is_gone_and_is_there_again_after_it() -> None:
    async def scene(world: World) -> None:
        tree = MemoryTree()
        life = await Life(world, registered(), tree).start()
        peer = await dialling(world)()
        life.registry.suspend()
        await put(peer, b"suspended")
        life.registry.resume()
        life.registry.expire()
        await put(peer, b"expired")
        async with asyncio.timeout(60):
            while text(tree, "/meta/brokers/topics/test/0-m") != b"4":
                await asyncio.sleep(0.1)
        assert text(tree, "/meta/brokers/ids/0/master") == URL
        life.stop.set()
        await life.ended

    play(scene)


def test_a_broker_whose_id_another_one_has_does_not_start_and_leaves_a_clean_folder() -> None:
    async def scene(world: World) -> None:
        tree = MemoryTree()
        other = MemoryRegistry(tree)
        await other.connect()
        await other.ensure("/meta/brokers/ids/0")
        await other.create("/meta/brokers/ids/0/master", b"meta://10.9.9.9:8123", ephemeral=True)
        with pytest.raises(RegistryError, match=r"10\.9\.9\.9"):
            await Life(world, registered(), tree).start()
        assert text(tree, "/meta/brokers/ids/0/master") == b"meta://10.9.9.9:8123"
        assert not [path for path in world.machine(BROKER).disk.snapshot() if path.endswith("metaq-doctor")]
        with pytest.raises(ConnectionRefusedError):
            await dialling(world)()

    play(scene)


# A disk that breaks


def journal_sync(operation: Operation) -> bool:
    return operation.name == "fdatasync" and operation.path.endswith(".journal")


def journal_write(operation: Operation) -> bool:
    return operation.name == "pwrite" and operation.path.endswith(".journal")


def message_write(operation: Operation) -> bool:
    return operation.name == "pwrite" and operation.path.endswith(".meta")


@pytest.mark.parametrize("breaks", [journal_sync, journal_write, message_write])
@pytest.mark.parametrize("seed", range(3))
def test_a_disk_that_breaks_ends_the_broker_and_costs_nothing_it_acknowledged(
    breaks: Callable[[Operation], bool], seed: int
) -> None:
    async def suffer(world: World, ledger: Ledger) -> None:
        machine = machine_of(world)
        broker = await Serving(
            config(pymetaq={"tailMemory": 1 << 14, "journalLimit": 1 << 17}), machine.outside
        ).start()
        dial = dialling(world)
        producers = [asyncio.ensure_future(Producer(ledger, TARGETS).run(dial)) for _ in range(2)]
        await acknowledged(ledger, 50, producers)
        machine.disk.fail(breaks, OSError(errno.EIO, os.strerror(errno.EIO)))
        with pytest.raises(StoreError, match="Input/output error"):
            await broker.ended
        await asyncio.gather(*producers)

    async def look(world: World, ledger: Ledger) -> None:
        broker = await Serving(config(), machine_of(world).outside).start()
        await check_all(dialling(world), ledger, TARGETS)
        await broker.end()

    with World(seed) as world:
        ledger = Ledger(world.random_for("ledger"))
        world.run(suffer(world, ledger))
        world.machine(BROKER).crash(power=False)
        world.run(look(world, ledger))


def test_a_full_disk_refuses_puts_and_recovers_by_itself() -> None:
    async def scene(world: World) -> None:
        machine = world.machine(BROKER, capacity=1 << 20)
        machine_of(world)
        configuration = config(pymetaq={"diskReserve": 200_000, "tailMemory": 1 << 14, "journalLimit": 1 << 17})
        broker = await Serving(configuration, machine.outside).start()
        peer = await Dial(8123, world.machine(CLIENT).network, BROKER)()
        bodies = []
        while (await peer.asks(b"put test 0 5000 0 -1 1\r\n" + bytes(5000))).startswith(b"result 200 "):
            bodies.append(bytes(5000))
            await asyncio.sleep(0.05)
        assert (await peer.asks(b"put test 0 5 0 -1 1\r\nhello")).endswith(b"Detail:disk full")
        assert [record.body for record in walk(await read_log(peer, TARGETS[0]))] == bodies
        assert machine.disk.media.capacity is not None
        machine.disk.media.capacity += 1 << 20
        async with asyncio.timeout(10):
            while not (await peer.asks(b"put test 0 5 0 -1 1\r\nhello")).startswith(b"result 200 "):
                await asyncio.sleep(0.1)
        broker.stop.set()
        await broker.ended
        assert machine.disk.snapshot()[f"{DATA}/test-0/{0:020}.meta"] is not None

    play(scene)


def test_tails_that_find_no_room_in_their_files_keep_no_reader_waiting() -> None:
    async def scene(world: World) -> None:
        machine = machine_of(world)
        broker = await Serving(
            config(pymetaq={"tailMemory": 1 << 14, "journalLimit": 1 << 20}), machine.outside
        ).start()
        peer, reader = await dialling(world)(), await dialling(world)()
        fault = machine.disk.fail(message_write, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        stored = 0
        await peer.sends(b"put test 0 5000 0 -1 1\r\n%b" % bytes(5000) * 10)  # more than tailMemory at once
        while (await peer.frame()).startswith(b"result 200 "):
            stored += 1
            await peer.sends(b"put test 0 5000 0 -1 1\r\n%b" % bytes(5000) if stored >= 10 else b"")
        began = world.loop.time()
        for _ in range(100):
            assert len(list(walk(await read_log(reader, TARGETS[0])))) == stored
            assert (await peer.asks(b"put test 0 5000 0 -1 1\r\n" + bytes(5000))).endswith(b"Detail:disk full")
            await asyncio.sleep(0.1)
        assert world.loop.time() - began < 60
        fault.stop()
        async with asyncio.timeout(10):
            while not (await peer.asks(b"put test 0 5 0 -1 1\r\nhello")).startswith(b"result 200 "):
                await asyncio.sleep(0.1)
        broker.stop.set()
        await broker.ended

    play(scene)
