"""A world repeats itself exactly, ends where a process ends, and lets nobody come back from the dead."""

import asyncio

import pytest

from metaq import ports
from tests.simulation.disk import PowerLoss
from tests.simulation.loop import Deadlock
from tests.simulation.world import GRACE, START, Machine, World


class Store(asyncio.Protocol):
    """Appends what it receives to a file, syncs in a thread, then acknowledges the number of bytes that are safe."""

    def __init__(self, outside: ports.World) -> None:
        self._files = outside.files
        self._worker = outside.threads.worker("disk")
        self._files.make_dir("/log")
        self._files.sync_dir("/")
        self._fd = self._files.open("/log/all", write=True, create=True)
        self._files.sync_dir("/log")
        self._end = self._files.size(self._fd)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        position, self._end = self._end, self._end + len(data)
        end = self._end

        def save() -> None:
            self._files.pwrite(self._fd, data, position)
            self._files.fdatasync(self._fd)

        def saved(result: None, error: BaseException | None) -> None:
            assert error is None
            self._transport.write(b"%d\n" % end)

        self._worker.submit(save, saved)


class Writer(asyncio.Protocol):
    """Sends numbered bytes and notes what was acknowledged."""

    def __init__(self) -> None:
        self.answers = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(bytes(range(200)))

    def data_received(self, data: bytes) -> None:
        self.answers += data

    @property
    def safe(self) -> int:
        *whole, _ = self.answers.split(b"\n")
        return int(whole[-1]) if whole else 0


async def publish(world: World, writer: Writer) -> None:
    store = world.machine("store").outside
    await store.network.listen(lambda: Store(store), None, 8123)
    await world.machine("client").network.connect(lambda: writer, "store", 8123)
    while writer.safe < 200:
        await asyncio.sleep(0.01)


def test_the_same_seed_gives_the_same_run_to_the_last_byte() -> None:
    digests = []
    for seed in (5, 5, 6):
        with World(seed) as world:
            world.run(publish(world, Writer()))
            digests.append(world.digest())
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("power", [True, False])
def test_what_was_acknowledged_survives_a_crash_at_every_single_call(power: bool) -> None:
    number, cuts = 0, 0
    while cuts == number:
        number += 1
        with World(number) as world:
            writer = Writer()
            machine = world.machine("store")
            machine.disk.crash_at(number)
            try:
                world.run(publish(world, writer))
            except PowerLoss:
                cuts += 1
            machine.crash(power=power)
            found = machine.disk.read("/log/all") if machine.disk.exists("/log/all") else b""
            assert found[: writer.safe] == bytes(range(writer.safe))
    assert cuts > 5


def test_tasks_left_behind_go_on_and_are_cancelled_after_an_error() -> None:
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            await asyncio.sleep(1)
            ticks.append(world.loop.time())

    async def start() -> None:
        tasks.append(world.loop.create_task(tick()))

    async def fail() -> None:
        await asyncio.sleep(5)
        raise KeyError("x")

    tasks: list[asyncio.Task[None]] = []
    with World(0) as world:
        world.run(start())
        world.run(asyncio.sleep(3.5))
        assert len(ticks) == 3
        with pytest.raises(KeyError):
            world.run(fail())
        assert tasks[0].cancelled()


def test_a_task_that_will_not_end_holds_up_nobody() -> None:
    async def poll_for_ever() -> None:
        while True:
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                refused.append(world.loop.time())

    async def fail() -> None:
        tasks.append(world.loop.create_task(poll_for_ever()))
        await asyncio.sleep(1)
        raise KeyError("x")

    refused: list[float] = []
    tasks: list[asyncio.Task[None]] = []
    with World(0) as world:
        with pytest.raises(KeyError):
            world.run(fail())
        assert len(refused) == 1
        assert world.loop.time() < refused[0] + 2 * GRACE


def test_a_run_that_cannot_end_is_a_deadlock_and_one_that_takes_too_long_a_timeout() -> None:
    async def wait_for_ever() -> None:
        await world.loop.create_future()

    with World(0) as world:
        with pytest.raises(Deadlock, match="wait_for_ever"):
            world.run(wait_for_ever())
        with pytest.raises(TimeoutError, match="virtual time is up"):
            world.run(asyncio.sleep(100), limit=10)
        world.run(asyncio.sleep(100))


def test_power_loss_in_a_thread_ends_the_run_unless_it_is_to_survive() -> None:
    async def scene() -> str:
        machine = world.machine()
        machine.threads.worker("disk").submit(lambda: machine.disk.make_dir("/a"), lambda result, error: None)
        await asyncio.sleep(10)
        return "survived"

    with World(0) as world:
        world.machine().disk.crash_at(1)
        with pytest.raises(PowerLoss):
            world.run(scene())
        world.machine().crash()
        world.machine().disk.crash_at(1)
        assert world.run(scene(), survive=True) == "survived"


def test_errors_nobody_catches_fail_the_run() -> None:
    def fail() -> None:
        raise KeyError("nobody")

    async def scene() -> None:
        world.loop.call_soon(fail)
        await asyncio.sleep(1)

    with World(0) as world, pytest.raises(BaseExceptionGroup) as caught:
        world.run(scene())
    assert caught.group_contains(KeyError)


@pytest.mark.parametrize("where", ["callback", "thread"])
def test_a_test_whose_time_is_up_fails_with_that_wherever_it_was(where: str) -> None:
    async def wait_for_what_was_interrupted(machine: Machine) -> None:
        saved = asyncio.get_running_loop().create_future()

        def time_is_up() -> None:
            pytest.fail("time is up")

        if where == "callback":
            asyncio.get_running_loop().call_later(1, time_is_up)
        else:
            machine.outside.threads.worker("disk").submit(time_is_up, lambda *_: None)
        await saved

    with World(1) as world, pytest.raises(pytest.fail.Exception, match="time is up"):
        world.run(wait_for_what_was_interrupted(world.machine()))


def test_wall_clocks_can_be_set_and_monotonic_ones_cannot() -> None:
    with World(0) as world:
        clock, other = world.machine("a").clock, world.machine("b").clock
        assert clock.time() == START
        began = clock.monotonic()
        world.run(asyncio.sleep(100))
        clock.set_back(3600)
        assert clock.time() == pytest.approx(START - 3500)
        assert clock.monotonic() - began == pytest.approx(100)
        assert other.time() == pytest.approx(START + 100)


def test_a_restarted_machine_draws_other_chances_and_its_own_disk() -> None:
    with World(0) as world:
        machine = world.machine("a", capacity=1000)
        assert world.machine("a") is machine
        before = machine.outside
        machine.crash(power=False)
        after = machine.outside
        assert [before.random.random() for _ in range(3)] != [after.random.random() for _ in range(3)]
        assert after.files.free_space("/")[1] == 1000
        with pytest.raises(PowerLoss):
            before.files.exists("/")
