"""Simulated workers do jobs in order, tell their outcomes in order, and stop with their process."""

import asyncio
from functools import partial
from random import Random

import pytest

from metaq import ports
from tests.simulation.disk import PowerLoss, SimDisk
from tests.simulation.threads import InlineThreads, SimThreads
from tests.simulation.world import World


def test_jobs_run_later_in_order_and_outcomes_follow_in_order() -> None:
    events: list[str] = []

    def tell(number: int, result: None, error: BaseException | None) -> None:
        events.append(f"told {number}")

    async def scene(world: World) -> None:
        threads: ports.Threads = SimThreads(world.loop, Random(world.seed))
        worker = threads.worker("disk")
        last = asyncio.Event()
        for number in range(20):
            worker.submit(partial(events.append, f"did {number}"), partial(tell, number))
        worker.submit(lambda: None, lambda result, error: last.set())
        assert events == []
        await last.wait()

    with World(4) as world:
        world.run(scene(world))
    assert [event for event in events if event.startswith("did")] == [f"did {number}" for number in range(20)]
    assert [event for event in events if event.startswith("told")] == [f"told {number}" for number in range(20)]
    assert events.index("told 0") > events.index("did 0")
    assert events != sorted(events)  # work went on while outcomes were on their way


def test_results_and_errors_are_told() -> None:
    told: list[tuple[int | None, BaseException | None]] = []

    def divide() -> int:
        return 1 // 0

    async def scene(world: World) -> None:
        worker = world.machine().threads.worker("disk")
        worker.submit(lambda: 7, lambda result, error: told.append((result, error)))
        worker.submit(divide, lambda result, error: told.append((result, error)))
        worker.close()
        with pytest.raises(RuntimeError, match="worker disk is closed"):
            worker.submit(lambda: 1, lambda result, error: None)
        assert told == []
        await asyncio.sleep(0)

    with World(0) as world:
        world.run(scene(world))
    assert told[0] == (7, None)
    assert isinstance(told[1][1], ZeroDivisionError)


def test_nobody_is_told_anything_once_the_process_is_gone() -> None:
    told: list[object] = []

    async def scene(world: World, disk: SimDisk) -> None:
        worker = world.machine().threads.worker("disk")
        worker.submit(lambda: disk.make_dir("/a"), lambda result, error: told.append("a"))
        worker.submit(lambda: disk.make_dir("/b"), lambda result, error: told.append("b"))
        worker.submit(lambda: disk.make_dir("/c"), lambda result, error: told.append("c"))
        await asyncio.sleep(100)

    with World(0) as world:
        world.machine().disk.crash_at(2)
        world.run(scene(world, world.machine().disk), survive=True)
        assert told in ([], ["a"])
        assert not world.machine().disk.reopen().exists("/c")


def test_inline_workers_answer_at_once() -> None:
    told: list[tuple[int | None, BaseException | None]] = []
    threads: ports.Threads = InlineThreads()
    threads.worker("disk").submit(lambda: 7, lambda result, error: told.append((result, error)))
    assert told == [(7, None)]


def test_queued_inline_workers_work_at_once_and_tell_when_run() -> None:
    events: list[str] = []
    threads = InlineThreads(queued=True)
    worker = threads.worker("disk")

    def told(result: None, error: BaseException | None) -> None:
        events.append("told")
        if len(events) < 4:
            worker.submit(lambda: events.append("did"), told)

    worker.submit(lambda: events.append("did"), told)
    assert events == ["did"]
    assert threads.run(1) == 1
    assert events == ["did", "told", "did"]
    assert threads.run() == 1
    assert threads.run() == 0
    worker.close()
    with pytest.raises(RuntimeError):
        worker.submit(lambda: None, told)


def test_power_loss_leaves_an_inline_worker() -> None:
    disk = SimDisk(Random(0))
    disk.crash_at(1)
    with pytest.raises(PowerLoss):
        InlineThreads().worker("disk").submit(lambda: disk.make_dir("/a"), lambda result, error: None)
