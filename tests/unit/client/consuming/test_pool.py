"""Fetching within bounds, and who is woken when something has come."""

import asyncio
from typing import cast

import pytest

from metaq.client.consuming.pool import Pool
from metaq.client.consuming.stream import Stream
from metaq.errors import MetaqError


class Item:
    """Stands for a stream."""

    def __init__(self, *, can_be_taken: bool = True) -> None:
        self.can_be_taken = can_be_taken

    @property
    def stream(self) -> Stream:
        return cast(Stream, self)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Fetches:
    """Begins fetches, and tells which of them have their turn."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.running: list[str] = []
        self.go_on = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []

    def begin(self, name: str, *, broker: int = 0, is_ahead: bool = False) -> None:
        async def fetch() -> None:
            async with self._pool.turn(broker, is_ahead=is_ahead):
                self.running.append(name)
                await self.go_on.wait()

        self.tasks.append(asyncio.ensure_future(fetch()))

    async def end(self) -> None:
        self.go_on.set()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_no_more_than_eight_fetches_from_one_broker_are_under_way() -> None:
    fetches = Fetches(Pool(100))
    for n in range(20):
        fetches.begin(f"0: {n}")
        fetches.begin(f"1: {n}", broker=1)
    await settle()
    assert sorted(fetches.running) == sorted(f"{broker}: {n}" for broker in (0, 1) for n in range(8))
    fetches.go_on.set()
    await asyncio.gather(*fetches.tasks)
    assert len(fetches.running) == 40


async def test_above_the_limit_nothing_is_fetched_until_something_is_handed_out() -> None:
    pool = Pool(100)
    fetches = Fetches(pool)
    pool.account(100)
    fetches.begin("first")
    fetches.begin("ahead", is_ahead=True)
    await settle()
    assert fetches.running == []
    pool.account(-1)
    await settle()
    assert sorted(fetches.running) == ["ahead", "first"]
    await fetches.end()


async def test_above_the_limit_what_nobody_has_anything_of_is_fetched_for_one_who_waits() -> None:
    pool = Pool(100)
    fetches = Fetches(pool)
    pool.account(150)
    fetches.begin("ahead", is_ahead=True)
    fetches.begin("first")
    waiting = asyncio.ensure_future(pool.wait(None))
    await settle()
    assert fetches.running == ["first"]
    pool.offer(Item().stream)
    assert await waiting
    fetches.begin("later")  # nobody waits any more
    await settle()
    assert fetches.running == ["first"]
    assert not await pool.wait(0.001)
    await settle()
    await fetches.end()


async def test_a_fetch_that_waited_for_a_slot_looks_again_whether_there_is_room() -> None:
    pool = Pool(100)
    fetches = Fetches(pool)
    for n in range(9):
        fetches.begin(str(n))
    await settle()
    pool.account(200)
    fetches.go_on.set()
    await settle()
    assert len(fetches.running) == 8
    pool.account(-200)
    await asyncio.gather(*fetches.tasks)
    assert len(fetches.running) == 9


async def test_streams_are_taken_in_the_order_in_which_they_were_offered_if_they_still_can_be() -> None:
    pool = Pool(100)
    items = [Item(can_be_taken=n != 1) for n in range(4)]
    for item in items:
        pool.offer(item.stream)
    assert [pool.take() for _ in range(4)] == [items[0].stream, items[2].stream, items[3].stream, None]


async def test_an_error_is_raised_once() -> None:
    pool = Pool(100)
    pool.fail(MetaqError("no more"))
    with pytest.raises(MetaqError, match="no more"):
        pool.take()
    assert pool.take() is None


async def test_one_who_was_woken_and_is_cancelled_wakes_another() -> None:
    pool = Pool(100)
    first, second = (asyncio.ensure_future(pool.wait(None)) for _ in range(2))
    await settle()
    pool.offer(Item().stream)
    first.cancel()
    async with asyncio.timeout(2.0):
        assert await second
    await asyncio.wait([first])
    assert first.cancelled()


async def test_one_whose_time_is_over_when_he_is_woken_was_woken() -> None:
    pool = Pool(100)
    loop = asyncio.get_running_loop()
    waiting = asyncio.ensure_future(pool.wait(0.01))
    await asyncio.sleep(0)
    loop.call_at(loop.time() + 0.01, pool.offer, Item().stream)
    loop.call_at(loop.time() + 0.0101, lambda: None)
    found = await waiting
    assert found or pool.take() is not None  # either way it is not forgotten
    assert not pool._waiters


async def test_nobody_who_has_gone_is_remembered() -> None:
    pool = Pool(100)
    for _ in range(10):
        assert not await pool.wait(0.0001)
    cancelled = asyncio.ensure_future(pool.wait(None))
    await settle()
    cancelled.cancel()
    await asyncio.wait([cancelled])
    assert not pool._waiters


async def test_all_who_wait_look_again_at_the_end() -> None:
    pool = Pool(100)
    waiting = [asyncio.ensure_future(pool.wait(None)) for _ in range(3)]
    await settle()
    pool.wake_all()
    assert await asyncio.gather(*waiting) == [True] * 3
