"""What every store of offsets does, whatever it keeps them in."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metaq.client.offsets import StoredOffsets
from metaq.cluster.znodes import Position
from metaq.model import ClusterPartition
from tests.client.offsets.conftest import KINDS, Opener, many, place

pytestmark = pytest.mark.parametrize("opener", KINDS, indirect=True)

IDS = st.integers(-(1 << 63), (1 << 63) - 1)
OFFSETS = st.integers(0, (1 << 63) - 1)


async def test_a_group_nobody_knows_has_nothing_stored(store: StoredOffsets) -> None:
    assert await store.load("g", list(many(3))) == {}
    assert await store.load("g", []) == {}
    assert await store.stored("g") == {}
    assert await store.groups() == []


async def test_what_is_saved_is_what_another_store_loads(opener: Opener) -> None:
    positions = many(10)
    await (await opener()).save("g", positions)
    store = await opener()
    assert await store.load("g", list(positions)) == positions
    some = list(positions)[3:5]
    assert await store.load("g", [*some, *some, place("t0", 9, 9)]) == {each: positions[each] for each in some}
    assert await store.stored("g") == positions


async def test_a_save_replaces_its_own_partitions_and_no_others(store: StoredOffsets) -> None:
    await store.save("g", many(6))
    later = {each: position for each, position in many(8, round=1).items() if each.partition.partition > 3}
    await store.save("g", later)
    assert await store.stored("g") == many(6) | later


async def test_a_save_may_go_back(store: StoredOffsets) -> None:
    await store.save("g", {place("t", 0, 1): Position(7, 700)})
    await store.save("g", {place("t", 0, 1): Position(-1, 0)})
    assert await store.stored("g") == {place("t", 0, 1): Position(-1, 0)}


async def test_a_save_of_nothing_stores_nothing(store: StoredOffsets) -> None:
    await store.save("g", {})
    assert await store.groups() == []


async def test_groups_topics_and_partitions_are_told_apart(store: StoredOffsets) -> None:
    mine = {place("t", 0, 1): Position(1, 1), place("T", 0, 1): Position(2, 2), place("t", 1, 0): Position(3, 3)}
    await store.save("g", mine)
    await store.save("G", {place("t", 0, 1): Position(4, 4)})
    await store.save("g-10-0-0-9", {place("t", 0, 11): Position(5, 5)})
    assert await store.stored("g") == mine
    assert await store.stored("G") == {place("t", 0, 1): Position(4, 4)}
    assert await store.groups() == ["G", "g", "g-10-0-0-9"]


async def test_a_thousand_partitions_are_one_call(store: StoredOffsets) -> None:
    for round in range(2):
        positions = many(1024, round=round)
        await store.save("g", positions)
        assert await store.load("g", list(positions)) == positions


async def test_two_stores_that_save_at_once_lose_nothing(opener: Opener) -> None:
    stores = [await opener(), await opener()]
    for round in range(5):
        await asyncio.gather(*(store.save(f"g{n}", many(20, round=round)) for n, store in enumerate(stores)))
    assert [await stores[0].stored(f"g{n}") for n in range(2)] == [many(20, round=4)] * 2


async def test_members_that_first_save_the_same_partitions_at_once_agree_in_the_end(opener: Opener) -> None:
    stores = [await opener() for _ in range(3)]
    await asyncio.gather(*(store.save("g", many(20, round=round)) for round, store in enumerate(stores)))
    stored = await stores[0].stored("g")
    assert stored.keys() == many(20).keys()
    assert all(position in {many(20, round=r)[each] for r in range(3)} for each, position in stored.items())


async def test_a_store_can_be_closed_twice_and_used_again(store: StoredOffsets) -> None:
    await store.save("g", many(2))
    await store.close()
    await store.close()
    assert await store.stored("g") == many(2)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=20
)
@given(
    positions=st.dictionaries(
        st.builds(place, st.sampled_from(["t", "t-1", "ü", "a.b"]), st.integers(0, 1 << 31), st.integers(0, 999_999)),
        st.builds(Position, IDS, OFFSETS),
    )
)
async def test_any_positions_come_back_as_they_were(
    store: StoredOffsets, positions: dict[ClusterPartition, Position]
) -> None:
    await store.save("law", positions)
    assert await store.load("law", list(positions)) == positions
    assert positions.items() <= (await store.stored("law")).items()
