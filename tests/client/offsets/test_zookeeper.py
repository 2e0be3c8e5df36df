"""Offsets in ZooKeeper: the bytes Java members read and write, and text that means nothing."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence

import pytest

from metaq.client.offsets import ZooKeeperOffsets
from metaq.cluster.memory import MemoryRegistry, MemoryTree
from metaq.cluster.operations import Operation, SessionLost
from metaq.cluster.ports import Registry
from metaq.cluster.znodes import Position
from metaq.errors import RegistryError
from tests.client.offsets.conftest import many, place
from tests.cluster.conftest import Ensemble, ensemble

GROUP = "/meta/consumers/meta-example/offsets/meta-test"
PLACE = place("meta-test", 0, 3)


@pytest.fixture
async def registry(ensemble: Ensemble) -> AsyncIterator[Registry]:
    yield await ensemble.connect()


@pytest.mark.parametrize(
    ("position", "data"),
    [
        (Position(8589934593, 1048576), b"8589934593-1048576"),
        (Position(-1, 0), b"-1-0"),
        (Position(-5465310905774374905, 1048576), b"-5465310905774374905-1048576"),
    ],
)
async def test_positions_are_written_as_the_reference_has_them(
    registry: Registry, position: Position, data: bytes
) -> None:
    await ZooKeeperOffsets(registry).save("meta-example", {PLACE: position})
    node = await registry.get(f"{GROUP}/0-3")
    assert node is not None
    assert (node.data, node.owner) == (data, 0)
    for path in (GROUP, "/meta/consumers/meta-example/offsets", "/meta/consumers", "/meta"):
        above = await registry.get(path)
        assert above is not None
        assert above.data is None


async def test_positions_of_all_versions_are_read_and_null_is_none(registry: Registry) -> None:
    await registry.create(f"{GROUP}/0-0", b"8589934593-1048576")
    await registry.create(f"{GROUP}/0-1", b"1048576")
    await registry.create(f"{GROUP}/0-2", b"-1-0")
    await registry.create(f"{GROUP}/0-3", None)
    await registry.create(f"{GROUP}/not-a-partition", b"7-7")
    store = ZooKeeperOffsets(registry)
    expected = {
        place("meta-test", 0, 0): Position(8589934593, 1048576),
        place("meta-test", 0, 1): Position(-1, 1048576),
        place("meta-test", 0, 2): Position(-1, 0),
    }
    assert await store.load("meta-example", [place("meta-test", 0, n) for n in range(5)]) == expected
    assert await store.stored("meta-example") == expected


@pytest.mark.parametrize("garbage", [b"", b" ", b"garbage", b"1-", b"\xff\xfe", b"99999999999999999999-1"])
async def test_text_that_means_nothing_counts_as_nothing_stored_with_one_warning(
    registry: Registry, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    await registry.create(f"{GROUP}/0-3", garbage)
    await registry.create(f"{GROUP}/0-4", b"5-50")
    store = ZooKeeperOffsets(registry)
    for _ in range(3):
        assert await store.load("meta-example", [PLACE, place("meta-test", 0, 4)]) == {
            place("meta-test", 0, 4): Position(5, 50)
        }
    assert [f"{GROUP}/0-3" in record.getMessage() for record in caplog.records] == [True]
    await store.save("meta-example", {PLACE: Position(1, 2)})
    assert await store.load("meta-example", [PLACE]) == {PLACE: Position(1, 2)}


async def test_another_root_is_another_tree(registry: Registry) -> None:
    await ZooKeeperOffsets(registry, "other/").save("g", {PLACE: Position(1, 2)})
    assert await registry.exists("/other/consumers/g/offsets/meta-test/0-3")
    assert await ZooKeeperOffsets(registry).groups() == []


async def test_a_group_that_only_has_members_has_nothing_stored(registry: Registry) -> None:
    await registry.ensure("/meta/consumers/g/ids")
    await registry.ensure("/meta/consumers/h/offsets")
    store = ZooKeeperOffsets(registry)
    await store.save("i", {PLACE: Position(1, 2)})
    assert await store.groups() == ["i"]


async def test_what_others_create_meanwhile_is_replaced() -> None:
    registry = MemoryRegistry(MemoryTree(), delay=lambda: 0.001)
    await registry.connect()
    stores = [ZooKeeperOffsets(registry) for _ in range(3)]
    await asyncio.gather(*(store.save("g", many(5, round=round)) for round, store in enumerate(stores)))
    assert (await stores[0].stored("g")).keys() == many(5).keys()
    await registry.close()


async def test_a_call_ends_in_time_while_zookeeper_is_away() -> None:
    registry = MemoryRegistry(MemoryTree())  # never connected
    store = ZooKeeperOffsets(registry, timeout=0.05)
    with pytest.raises(RegistryError, match=r"/meta/consumers/g: ZooKeeper does not answer within 0\.05 s"):
        await store.load("g", [PLACE])
    with pytest.raises(RegistryError, match="does not answer"):
        await store.save("g", {PLACE: Position(1, 2)})
    await registry.connect()
    await store.save("g", {PLACE: Position(1, 2)})
    assert await store.load("g", [PLACE]) == {PLACE: Position(1, 2)}
    await registry.close()


@pytest.mark.parametrize("part", [False, True])
async def test_an_error_of_the_tree_is_raised_and_saving_again_is_right(
    part: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = MemoryRegistry(MemoryTree())
    await registry.connect()

    async def failing(operations: Sequence[Operation]) -> list[RegistryError | None]:
        if not part:
            raise SessionLost()
        return [None, *(RegistryError("busy") for _ in operations[1:])]

    store = ZooKeeperOffsets(registry)
    with monkeypatch.context() as patch:
        patch.setattr(registry, "apply", failing)
        with pytest.raises(RegistryError, match="busy" if part else "session is over"):
            await store.save("g", many(5))
    await store.save("g", many(5))
    assert await store.stored("g") == many(5)
    await registry.close()


__all__ = ["ensemble"]
