"""The durable queue on the client's disk: order, limits, errors, and what crashes leave of it."""

import asyncio
import errno
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from random import Random

import pytest

from metaq.client.spool import SharedFolder, Spool, SpoolFolder, SpoolLimits, Spools
from metaq.client.spool.entries import pack_mark
from metaq.errors import ConfigError, CorruptSpool, SpoolError, SpoolFull, SpoolLocked
from metaq.files import OsFiles, OsThreads, OsWorker
from tests.simulation.disk import PowerLoss, SimDisk
from tests.simulation.world import Machine, World

HOME = "/var/spool/app"
SMALL = SpoolLimits(segment=200)


@pytest.fixture
async def worker() -> AsyncIterator[OsWorker]:
    made = OsThreads(asyncio.get_running_loop()).worker("test")
    yield made
    made.close()


async def take(spool: Spool, number: int = 1 << 30) -> list[bytes]:
    """Look at and drop so many items."""
    taken: list[bytes] = []
    while len(taken) < number and (items := await spool.peek(min(7, number - len(taken)))):
        taken += items
        await spool.drop(len(items))
    return taken


def numbered(first: int, end: int) -> list[bytes]:
    return [b"%d" % n + b"." * (n % 50) for n in range(first, end)]


def spool_on(machine: Machine, limits: SpoolLimits = SMALL) -> Coroutine[object, object, Spool]:
    return Spool.open(HOME, machine.disk, machine.threads.worker("spool"), limits)


# on a real disk


async def test_items_come_back_in_order_also_after_a_restart(tmp_path: Path, worker: OsWorker) -> None:
    items = numbered(0, 300)
    folder = await SpoolFolder.open(str(tmp_path), OsFiles(), worker)
    spool = await folder.spool("t@0-1", SMALL)
    assert await spool.peek() == []
    await asyncio.gather(*(spool.append(item) for item in items))
    assert await spool.peek(3) == items[:3]
    assert await take(spool, 100) == items[:100]
    assert (spool.count, spool.size) == (200, sum(map(len, items[100:])))
    await folder.close()
    folder = await SpoolFolder.open(str(tmp_path), OsFiles(), worker)
    assert folder.keys == ["t@0-1"]
    again = await folder.spool("t@0-1", SMALL)
    assert await folder.spool("t@0-1") is again
    assert (again.count, again.size) == (200, sum(map(len, items[100:])))
    await again.append(b"last")
    assert await take(again) == [*items[100:], b"last"]
    assert (again.count, again.size) == (0, 0)
    await folder.close()


async def test_thousands_of_items_are_cheap(tmp_path: Path, worker: OsWorker) -> None:
    spool = await Spool.open(str(tmp_path / "s"), OsFiles(), worker)
    items = [b"%d" % n + bytes(200) for n in range(20_000)]
    await asyncio.gather(*(spool.append(item) for item in items))
    taken: list[bytes] = []
    while some := await spool.peek(500):
        taken += some
        await spool.drop(len(some))
    assert taken == items
    await spool.close()


async def test_an_item_may_be_empty_or_larger_than_what_is_read_at_once(tmp_path: Path, worker: OsWorker) -> None:
    items = [b"", bytes(3 << 20), b"x", Random(1).randbytes((1 << 20) - 8), b""]
    for n in range(2):
        spool = await Spool.open(str(tmp_path), OsFiles(), worker)
        if not n:
            for item in items:
                await spool.append(item)
        else:
            assert await take(spool) == items
        await spool.close()


async def test_what_was_dropped_gives_its_space_back(tmp_path: Path, worker: OsWorker) -> None:
    spool = await Spool.open(str(tmp_path), OsFiles(), worker, SpoolLimits(segment=100_000))
    for _ in range(3):
        for n in range(50):
            await spool.append(bytes(10_000) + b"%d" % n)
        assert len(list(tmp_path.glob("*.spool"))) > 3
        assert len(await take(spool)) == 50
        assert list(tmp_path.glob("*.spool")) == []
    await spool.append(b"x")
    assert await take(spool) == [b"x"]
    await spool.close()


async def test_one_process_has_a_folder_at_a_time(tmp_path: Path, worker: OsWorker) -> None:
    folder = await SpoolFolder.open(str(tmp_path / "a"), OsFiles(), worker)
    with pytest.raises(SpoolLocked, match="another process"):
        await SpoolFolder.open(str(tmp_path / "a"), OsFiles(), worker)
    await folder.close()
    with pytest.raises(SpoolError, match="closed"):
        await folder.spool("k")
    await (await SpoolFolder.open(str(tmp_path / "a"), OsFiles(), worker)).close()


async def test_processes_that_share_a_folder_get_one_each_and_inherit_what_others_left(
    tmp_path: Path, worker: OsWorker
) -> None:
    async def share() -> SharedFolder:
        return await SharedFolder.open(str(tmp_path), OsFiles(), worker)

    folders = [await share() for _ in range(3)]
    for n, folder in enumerate(folders):
        await (await folder.spool("t@g")).append(b"%d" % n)
    await take(await folders[1].spool("t@g"))
    for folder in folders:
        await folder.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2"]
    first, second = await share(), await share()
    assert [spool.key for spool in first.inherited] == ["t@g"]
    assert await take(first.inherited[0]) == [b"2"]
    assert await take(await first.spool("t@g")) == [b"0"]
    assert second.inherited == []
    assert second.keys == ["t@g"]
    await first.close()
    await second.close()


async def test_the_spools_of_a_client_share_a_thread_and_end_with_it(tmp_path: Path) -> None:
    spools = Spools(OsFiles(), OsThreads(asyncio.get_running_loop()))
    ordered = await spools.ordered(tmp_path)
    shared = await spools.one_way(str(tmp_path), "t")
    assert (ordered.path, await spools.ordered(f"{tmp_path}/x/..")) == (f"{tmp_path}/ordered", ordered)
    assert await spools.one_way(tmp_path, "t") is shared
    assert await spools.one_way(tmp_path, "u") is not shared
    await (await shared.spool("k")).append(b"x")
    with pytest.raises(ConfigError, match="needs a folder"):
        await spools.ordered("")
    await spools.close()
    await spools.close()
    with pytest.raises(ConfigError, match="closed"):
        await spools.one_way(tmp_path, "t")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one-way", "ordered"]


async def test_a_cut_at_any_byte_leaves_the_items_before_it_and_a_spool_that_works(
    tmp_path: Path, worker: OsWorker
) -> None:
    items = numbered(0, 8)
    spool = await Spool.open(str(tmp_path), OsFiles(), worker)
    for item in items:
        await spool.append(item)
    await spool.close()
    (path,) = tmp_path.glob("*.spool")
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut] + (b"\0" * 30 if cut % 3 == 0 else b"\xff" * (cut % 5)))
        spool = await Spool.open(str(tmp_path), OsFiles(), worker)
        left = spool.count
        assert sum(8 + len(item) for item in items[:left]) <= cut < sum(8 + len(item) for item in items[: left + 1])
        await spool.append(b"next")
        await spool.close()
        spool = await Spool.open(str(tmp_path), OsFiles(), worker)
        assert await spool.peek(10) == [*items[:left], b"next"]
        await spool.close()


async def test_a_mark_that_is_torn_brings_items_again(tmp_path: Path, worker: OsWorker) -> None:
    spool = await Spool.open(str(tmp_path), OsFiles(), worker)
    for item in (b"1", b"2", b"3"):
        await spool.append(item)
    await take(spool, 2)
    await spool.close()
    mark = (tmp_path / "mark").read_bytes()
    assert pack_mark(2) in mark
    (tmp_path / "mark").write_bytes(mark[:9])
    spool = await Spool.open(str(tmp_path), OsFiles(), worker)
    assert await take(spool) == [b"1", b"2", b"3"]
    await spool.close()


async def test_damage_in_the_middle_is_told_and_nothing_is_changed(tmp_path: Path, worker: OsWorker) -> None:
    spool = await Spool.open(str(tmp_path), OsFiles(), worker, SMALL)
    for item in numbered(0, 40):
        await spool.append(item)
    await spool.close()
    files = sorted(tmp_path.glob("*.spool"))
    assert len(files) > 2
    files[1].write_bytes(files[1].read_bytes()[:-1])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(CorruptSpool, match=rf"{files[1].name}: entry \d+ at \d+ is damaged"):
        await Spool.open(str(tmp_path), OsFiles(), worker, SMALL)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_limits_leave_room_for_something() -> None:
    with pytest.raises(ConfigError, match="count is at least 1, not 0"):
        SpoolLimits(count=0)


async def test_limits_are_kept_and_told(tmp_path: Path, worker: OsWorker) -> None:
    spool = await Spool.open(str(tmp_path), OsFiles(), worker, SpoolLimits(count=3, size=10), key="t@0-1")
    await asyncio.gather(spool.append(b"123"), spool.append(b"456"))
    assert spool.has_room(1, 4)
    assert not spool.has_room(1, 5)
    with pytest.raises(SpoolFull, match="t@0-1: 2 messages of 6 bytes wait on this machine already, the limit is 3 or"):
        await spool.append(b"12345")
    await spool.append(b"")
    with pytest.raises(SpoolFull):
        await spool.append(b"")
    await spool.append_nowait(b"beyond", beyond=True)
    await take(spool, 2)
    await spool.append(b"7")
    assert await take(spool) == [b"", b"beyond", b"7"]
    with pytest.raises(ValueError, match="1 items to drop, 0 were looked at"):
        await spool.drop()
    await spool.close()
    await spool.close()
    with pytest.raises(SpoolError, match="t@0-1: closed"):
        await spool.append(b"x")
    with pytest.raises(SpoolError, match="t@0-1: closed"):
        await spool.peek()


# on a simulated one


def play(
    scene: Callable[[World, Machine], Coroutine[object, None, None]], *, seed: int = 0, capacity: int | None = None
) -> None:
    with World(seed) as world:
        world.run(scene(world, world.machine(capacity=capacity)))


def test_appends_that_come_together_are_synced_together() -> None:
    async def scene(world: World, machine: Machine) -> None:
        spool = await spool_on(machine, SpoolLimits())
        await asyncio.gather(*(spool.append(b"%d" % n) for n in range(500)))
        assert sum(operation.name == "fdatasync" for operation in machine.disk.log) <= 2
        assert len(await take(spool)) == 500

    play(scene)


def test_a_cancelled_append_drop_or_look_does_no_harm() -> None:
    async def scene(world: World, machine: Machine) -> None:
        spool = await spool_on(machine)
        for n in range(100):
            for work in (spool.append(b"%d" % n), spool.peek()):
                task = asyncio.ensure_future(work)
                await asyncio.sleep(world.random.choice((0, 0.001, 0.01)))
                task.cancel()
                await asyncio.wait([task])
            if n % 2:
                assert await spool.peek() == [b"%d" % (n // 2)]
                dropping = asyncio.ensure_future(spool.drop())
                await asyncio.sleep(0)
                dropping.cancel()
                await asyncio.wait([dropping])
        await spool.append(b"end")
        assert await take(spool) == [b"%d" % n for n in range(50, 100)] + [b"end"]

    play(scene)


def test_a_full_disk_refuses_items_and_takes_them_again_when_there_is_room() -> None:
    async def scene(world: World, machine: Machine) -> None:
        spool = await spool_on(machine)
        kept = []
        for n in range(100):
            try:
                await spool.append(b"%d" % n + bytes(100))
            except SpoolFull as error:
                assert isinstance(error.__cause__, OSError)
                break
            kept.append(n)
        assert 10 < len(kept) < 100
        assert [int(item.rstrip(b"\0")) for item in await take(spool)] == kept
        await spool.append(b"again")
        assert await take(spool) == [b"again"]

    play(scene, capacity=3000)


def test_after_a_failed_sync_nothing_is_taken_until_it_is_opened_again() -> None:
    async def scene(world: World, machine: Machine) -> None:
        spool = await spool_on(machine)
        await spool.append(b"before")
        broken = machine.disk.fail(lambda operation: operation.name == "fdatasync", OSError(errno.EIO, "broken"))
        with pytest.raises(SpoolError, match="broken"):
            await spool.append(b"unsure")
        broken.stop()
        with pytest.raises(SpoolError, match="nothing can be kept any more"):
            await spool.append(b"after")
        assert await take(spool) == [b"before"]
        await spool.close()
        spool = await spool_on(machine)
        await spool.append(b"after")
        assert (await take(spool))[-1] == b"after"

    play(scene)


def test_what_a_failed_write_left_never_comes_back() -> None:
    async def scene(world: World, machine: Machine) -> None:
        spool = await spool_on(machine, SpoolLimits())
        machine.disk.fail(lambda operation: operation.size == 33, OSError(errno.EIO, "broken"), times=1)
        outcomes = await asyncio.gather(
            *(spool.append(item) for item in (b"before", b"one", b"two", b"six")), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes] == [type(None), SpoolError, SpoolError, SpoolError]
        await spool.append(b"new")
        await spool.close()
        assert await take(await spool_on(machine)) == [b"before", b"new"]

    for seed in range(10):
        play(scene, seed=seed)


class Course:
    """What was asked of a spool and what it promised. Items are numbers, each larger than those before."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.number = 0
        self.kept: set[int] = set()
        self.dropping: set[int] = set()
        self.dropped: set[int] = set()

    async def fill(self, spool: Spool) -> None:
        while True:
            group = [self.number + n for n in range(self.random.choice((1, 1, 2, 5)))]
            self.number += len(group)
            await asyncio.gather(*(spool.append(b"%d" % n + b"." * (n % 40)) for n in group))
            self.kept.update(group)
            await asyncio.sleep(self.random.choice((0.0, 0.001, 0.01)))

    async def empty(self, spool: Spool) -> None:
        last = -1
        while True:
            numbers = [int(item.rstrip(b".")) for item in await spool.peek(self.random.choice((1, 3, 50)))]
            assert numbers == sorted(set(numbers))
            assert last < min(numbers, default=self.number)
            last = max(numbers, default=last)
            self.dropping.update(numbers)
            await spool.drop(len(numbers))
            self.dropped.update(numbers)
            await asyncio.sleep(self.random.choice((0.0, 0.001, 0.02)))


@pytest.mark.parametrize("ends", ["killed", "without power", "either"])
@pytest.mark.parametrize("seed", range(20))
def test_after_crashes_at_any_moment_what_was_kept_is_there_in_order(seed: int, ends: str) -> None:
    with World(seed) as world:
        machine = world.machine()
        course = Course(world.random_for("course"))

        async def open_spool() -> Spool:
            folder = await SpoolFolder.open(HOME, machine.disk, machine.threads.worker("spool"))
            assert folder.keys == ["t@0-1"] or (not folder.keys and not course.kept)
            return await folder.spool("t@0-1", SMALL)

        async def live() -> None:
            spool = await open_spool()
            await asyncio.gather(course.fill(spool), course.empty(spool))

        async def look() -> list[int]:
            return [int(item.rstrip(b".")) for item in await take(await open_spool())]

        for life in range(6):
            machine.disk.crash_at(machine.disk.operations + course.random.randrange(1, 40 + 40 * life))
            with pytest.raises(PowerLoss):
                world.run(live())
            machine.crash(power=ends == "without power" or (ends == "either" and course.random.random() < 0.5))
        found = world.run(look())
        assert found == sorted(set(found))
        assert course.kept - course.dropping <= set(found) <= set(range(course.number))
        assert ends != "killed" or course.dropped.isdisjoint(found)


def test_a_process_that_is_gone_gives_its_folder_back() -> None:
    with World(1) as world:
        machine = world.machine()

        async def leave() -> None:
            shared = await SharedFolder.open(HOME, machine.disk, machine.threads.worker("spool"))
            await (await shared.spool("t@g")).append(b"left")

        async def find() -> list[bytes]:
            disk: SimDisk = machine.disk
            shared = await SharedFolder.open(HOME, disk, machine.threads.worker("spool"))
            return await take(await shared.spool("t@g"))

        world.run(leave())
        machine.crash(power=True)
        assert world.run(find()) == [b"left"]
