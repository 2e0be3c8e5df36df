"""The virtual event loop keeps asyncio's promises and its own."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.simulation.loop import EPOCH, Deadlock, SimLoop


@pytest.fixture
def loop() -> Iterator[SimLoop]:
    loop = SimLoop()
    yield loop
    loop.close()


def test_a_year_of_sleep_takes_no_time(loop: SimLoop) -> None:
    began = time.monotonic()
    loop.run_until_complete(asyncio.sleep(365 * 86_400))
    assert loop.time() == pytest.approx(EPOCH + 365 * 86_400)
    assert time.monotonic() - began < 5


def test_timers_run_in_the_order_of_their_times_and_soon_calls_in_the_order_they_came(loop: SimLoop) -> None:
    seen: list[str] = []
    loop.call_later(2, seen.append, "later")
    loop.call_at(EPOCH + 1, seen.append, "sooner")
    for name in ("first", "second", "third"):
        loop.call_soon(seen.append, name)
    loop.run_until_complete(asyncio.sleep(3))
    assert seen == ["first", "second", "third", "sooner", "later"]


def test_a_cancelled_timer_never_runs(loop: SimLoop) -> None:
    seen: list[str] = []
    loop.call_later(1, seen.append, "no").cancel()
    loop.run_until_complete(asyncio.sleep(2))
    assert seen == []


def test_waiting_for_what_never_comes_is_a_deadlock_that_names_the_place(loop: SimLoop) -> None:
    async def hopeless() -> None:
        await loop.create_future()

    task = loop.create_task(hopeless(), name="Penelope")
    with pytest.raises(Deadlock, match=r"Penelope \S*hopeless waits at .*test_loop.py"):
        loop.run_until_complete(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)


def test_time_does_not_go_beyond_its_limit(loop: SimLoop) -> None:
    loop.stop_at(EPOCH + 10)
    task = loop.create_task(asyncio.sleep(11))
    with pytest.raises(TimeoutError, match="virtual time is up"):
        loop.run_until_complete(task)
    loop.stop_at(EPOCH + 12)
    loop.run_until_complete(task)
    assert loop.time() == pytest.approx(EPOCH + 11)


def test_timeouts_groups_events_and_locks_work(loop: SimLoop) -> None:
    async def scene() -> list[str]:
        seen: list[str] = []
        lock, event = asyncio.Lock(), asyncio.Event()

        async def hold(name: str, seconds: float) -> None:
            async with lock:
                await asyncio.sleep(seconds)
                seen.append(f"{name} {loop.time() - EPOCH:.0f}")
            if name == "b":
                event.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(hold("a", 2))
            group.create_task(hold("b", 3))
            await asyncio.wait_for(event.wait(), 10)
            seen.append("event")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.sleep(5)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(5), 1)
        seen.append(f"end {loop.time() - EPOCH:.0f}")
        return seen

    assert loop.run_until_complete(scene()) == ["a 2", "b 5", "event", "end 7"]


def test_a_failing_member_cancels_its_group(loop: SimLoop) -> None:
    async def fail() -> None:
        await asyncio.sleep(1)
        raise KeyError("x")

    async def scene() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(1e9))
            group.create_task(fail())

    with pytest.raises(ExceptionGroup) as caught:
        loop.run_until_complete(scene())
    assert caught.group_contains(KeyError)
    assert loop.time() == pytest.approx(EPOCH + 1)


def test_errors_of_callbacks_are_kept_and_the_loop_goes_on(loop: SimLoop) -> None:
    error = ValueError("in a callback")

    def fail() -> None:
        raise error

    loop.call_soon(fail)
    loop.run_until_complete(asyncio.sleep(1))
    assert loop.unhandled == [error]


def test_threads_are_refused(loop: SimLoop) -> None:
    async def scene() -> None:
        await loop.run_in_executor(None, time.monotonic)

    with pytest.raises(RuntimeError, match="no threads"):
        loop.run_until_complete(scene())


def test_the_loop_serves_asyncio_runner_and_its_end(loop: SimLoop) -> None:
    ended: list[int] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            for number in range(10):
                yield number
        finally:
            ended.append(1)

    async def scene() -> float:
        async for number in numbers():
            if number == 2:
                break
        await asyncio.sleep(5)
        return asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=SimLoop) as runner:
        assert runner.run(scene()) == pytest.approx(EPOCH + 5)
    assert ended == [1]
