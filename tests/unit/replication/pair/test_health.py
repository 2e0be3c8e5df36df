"""Whether a master with an unwell slave is in ZooKeeper: one task sees to it, and never gives up."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from metaq.config.pair import SamsaConfig
from metaq.errors import RegistryError
from metaq.replication.pair.health import Health


class Tree:
    """ZooKeeper as this broker sees it: `away` is how many of the next calls fail."""

    def __init__(self, health: Health) -> None:
        self.away = 0
        self.calls: list[str] = []
        self.registered = True
        health.register, health.withdraw = self.register, self.withdraw

    async def register(self) -> None:
        self._call("register")
        self.registered = True

    async def withdraw(self) -> None:
        self._call("withdraw")
        self.registered = False

    def _call(self, what: str) -> None:
        self.calls.append(what)
        if self.away:
            self.away -= 1
            raise RegistryError("it is away")


@pytest.fixture
async def health() -> AsyncIterator[Health]:
    config = SamsaConfig(slave_host="10.0.0.2", slave_port=8123, failure_threshold=3, check_interval=0.001)
    health = Health(config, "meta://10.0.0.2:8123")
    task = asyncio.create_task(health.run())
    yield health
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until_registered(health: Health, wanted: bool) -> None:
    async with asyncio.timeout(10):
        while health.registered is not wanted:
            await asyncio.sleep(0)


async def test_registering_is_tried_until_it_succeeds(health: Health) -> None:
    tree = Tree(health)
    for _ in range(3):
        health.failed("no answer")
    await until_registered(health, wanted=False)
    tree.away = 3
    health.set_well(True)
    await until_registered(health, wanted=True)
    assert tree.calls == ["withdraw", *["register"] * 4]
    assert tree.registered
    assert health.events == {"unregistered": 1, "registered": 1}


async def test_leaving_is_tried_until_it_succeeds_and_not_done_for_a_slave_that_is_well_again(health: Health) -> None:
    tree = Tree(health)
    tree.away = 2
    for _ in range(30):
        health.failed("no answer")
    await until_registered(health, wanted=False)
    assert tree.calls == ["withdraw"] * 3
    health.set_well(True)
    await until_registered(health, wanted=True)
    for _ in range(3):
        health.failed("no answer")
    health.set_well(False)
    health.set_well(True)
    await asyncio.sleep(0.01)
    assert tree.calls == [*["withdraw"] * 3, "register"]


async def test_a_copy_that_succeeds_has_the_count_begin_anew(health: Health) -> None:
    tree = Tree(health)
    for _ in range(5):
        health.failed("no answer")
        health.failed("no answer")
        health.succeeded()
    await asyncio.sleep(0.01)
    assert (tree.calls, health.failed_copies) == ([], 10)
