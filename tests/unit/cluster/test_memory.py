"""The tree in memory where it goes beyond ZooKeeper: delays, lost answers, one run like the other."""

import asyncio
import random
from collections.abc import Coroutine
from typing import TypeVar

import pytest

from metaq.cluster.memory import MemoryRegistry, MemoryTree
from metaq.cluster.operations import Create, Delete, Node, NodeExists, SessionLost, State
from metaq.cluster.ports import Changed
from metaq.cluster.registry import BrokerRegistration
from metaq.cluster.watching import Watch
from metaq.config.model import BrokerConfig
from metaq.model import BrokerAddress
from tests.simulation.loop import SimLoop

T = TypeVar("T")


def run(main: Coroutine[object, object, T]) -> T:
    loop = SimLoop()
    try:
        result = loop.run_until_complete(main)
        assert loop.unhandled == []
        return result
    finally:
        loop.close()


def test_an_answer_that_is_lost_on_its_way_is_asked_for_again() -> None:
    async def main() -> None:
        tree = MemoryTree()
        registry = MemoryRegistry(tree, delay=lambda: 1.0)
        await registry.connect()
        creating = asyncio.create_task(registry.create("/a", b"1"))
        await asyncio.sleep(1.5)
        assert tree.node("/a") == Node(b"1", 0)
        registry.suspend()
        await asyncio.sleep(5.0)
        assert not creating.done()
        registry.resume()
        with pytest.raises(NodeExists):
            await creating

    run(main())


def test_a_delete_for_one_session_leaves_what_another_made_in_the_next_alone() -> None:
    async def main() -> None:
        tree = MemoryTree()
        registry = MemoryRegistry(tree, delay=lambda: 1.0)
        await registry.connect()
        await registry.create("/a", ephemeral=True)
        for bound in (True, False):
            session = registry.session if bound else 0
            deleting = asyncio.create_task(registry.apply([Delete("/a")], session=session))
            await asyncio.sleep(0.5)
            registry.suspend()
            registry.expire()
            theirs = tree.new_session()
            tree.apply(Create("/a", b"theirs", ephemeral=True), theirs)
            registry.resume()
            if bound:
                with pytest.raises(SessionLost):
                    await deleting
                assert tree.node("/a") == Node(b"theirs", theirs)
                tree.end_session(theirs)
            else:
                assert await deleting == [None]

    run(main())


def test_a_request_that_is_lost_on_its_way_is_sent_again() -> None:
    async def main() -> None:
        tree = MemoryTree()
        registry = MemoryRegistry(tree, delay=lambda: 1.0)
        await registry.connect()
        creating = asyncio.create_task(registry.create("/a"))
        await asyncio.sleep(0.5)
        registry.suspend()
        await asyncio.sleep(5.0)
        assert tree.node("/a") is None
        registry.resume()
        await creating
        assert tree.log == [("create", "/a")]

    run(main())


def test_a_watch_reads_once_per_change_and_again_after_an_error() -> None:
    async def main() -> None:
        reads: list[Changed] = []
        told: list[int] = []

        async def read(changed: Changed) -> int:
            reads.append(changed)
            if len(reads) == 2:
                raise SessionLost
            return len(reads)

        watch = Watch("numbers", read, told.append)
        assert await watch.value() == 1
        await asyncio.sleep(1000.0)
        assert told == [1]
        reads[0]()
        await asyncio.sleep(1000.0)
        assert told == [1, 3]
        reads[2]()
        reads[2]()
        await asyncio.sleep(1000.0)
        assert told == [1, 3, 4]
        await watch.close()

    run(main())


def test_operations_of_one_session_happen_in_the_order_they_were_asked_for() -> None:
    async def main() -> None:
        tree = MemoryTree()
        registry = MemoryRegistry(tree, delay=random.Random(1).random)
        await registry.connect()
        await asyncio.gather(*(registry.create(f"/{n}") for n in range(50)))
        assert tree.log == [("create", f"/{n}") for n in range(50)]

    run(main())


def test_a_session_that_ends_while_suspended_is_lost_only_when_connected_again() -> None:
    async def main() -> None:
        tree = MemoryTree()
        registry = MemoryRegistry(tree)
        await registry.connect()
        await registry.create("/mine", ephemeral=True)
        states: list[State] = []
        registry.on_state(states.append)
        registry.suspend()
        creating = asyncio.create_task(registry.create("/more", ephemeral=True))
        registry.expire()
        assert tree.node("/mine") is None
        await asyncio.sleep(1.0)
        assert (states, registry.session) == ([State.SUSPENDED], 1)
        registry.resume()
        await creating  # it had not begun in the old session
        assert tree.node("/more") == Node(None, 2)
        assert states == [State.SUSPENDED, State.LOST, State.CONNECTED]

    run(main())


def test_an_ephemeral_node_begun_in_a_lost_session_is_an_error() -> None:
    async def main() -> None:
        registry = MemoryRegistry(MemoryTree(), delay=lambda: 1.0)
        await registry.connect()
        creating = asyncio.create_task(registry.create("/mine", ephemeral=True))
        await asyncio.sleep(0.5)
        registry.expire()
        with pytest.raises(SessionLost):
            await creating

    run(main())


def storm(seed: int) -> tuple[list[tuple[str, str]], float, list[str] | None]:
    """Register a broker while its connection and session fail at random; return what happened to the tree."""

    async def main() -> tuple[list[tuple[str, str]], float, list[str] | None]:
        chance = random.Random(seed)
        tree = MemoryTree()
        registry = MemoryRegistry(tree, delay=lambda: chance.random() / 10)
        await registry.connect()
        broker = BrokerRegistration(registry, BrokerConfig(broker_id=1), BrokerAddress("10.0.0.1", 8123))
        registering = asyncio.create_task(broker.register(f"t{n}" for n in range(5)))
        for _ in range(12):
            await asyncio.sleep(chance.random())
            if chance.random() < 0.5:
                registry.expire()
            else:
                registry.suspend()
                await asyncio.sleep(chance.random())
                if chance.random() < 0.5:
                    registry.expire()
                registry.resume()
        await registering
        await broker.add_topic("last")
        await asyncio.sleep(60.0)
        whole = tree.children("/meta/brokers/topics-sub")
        master = tree.node("/meta/brokers/ids/1/master")
        assert master == Node(b"meta://10.0.0.1:8123", registry.session)
        for name in whole or ():
            for section in ("topics", "topics-pub", "topics-sub"):
                node = tree.node(f"/meta/brokers/{section}/{name}/1-m")
                assert node is not None
                assert node.owner == registry.session
        await broker.withdraw()
        await registry.close()
        return tree.log, asyncio.get_running_loop().time(), whole

    return run(main())


@pytest.mark.parametrize("seed", range(25))
def test_a_broker_comes_through_any_weather_completely_registered(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    log, _, topics = storm(seed)
    assert topics == ["last", "t0", "t1", "t2", "t3", "t4"]
    assert len(log) > 20
    assert "missing or changed" not in caplog.text  # nobody but the end of a session took any


def test_one_seed_repeats_a_run_exactly() -> None:
    assert storm(3) == storm(3)
    assert storm(3) != storm(4)
