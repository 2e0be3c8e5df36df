"""Many operations at once: every one of them, in order on each path."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.cluster.batches import carry_out, split
from metaq.cluster.operations import Check, Create, Delete, NoNode, Operation, SessionLost, Set

paths = st.sampled_from([f"/{n}" for n in range(12)])
operations = st.one_of(
    paths.map(Create), paths.map(Delete), paths.map(Check), st.builds(Set, paths, st.binary(max_size=1))
)


@given(st.lists(operations, max_size=60), st.integers(1, 20))
def test_splitting_loses_nothing_and_keeps_a_path_together(wanted: list[Operation], size: int) -> None:
    batches = list(split(wanted, size))
    found = {index: each for batch in batches for group in batch for index, each in group}
    assert [found[n] for n in range(len(wanted))] == wanted
    for batch in batches:
        assert sum(map(len, batch[:-1])) < size
    groups = [group for batch in batches for group in batch]
    assert len({group[0][1].path for group in groups}) == len(groups)
    for group in groups:
        assert [index for index, _ in group] == [n for n, each in enumerate(wanted) if each.path == group[0][1].path]


async def test_only_what_does_not_go_through_together_is_done_one_by_one() -> None:
    together: list[int] = []
    singles: list[str] = []

    async def all_or_none(batch: Sequence[Operation]) -> bool:
        together.append(len(batch))
        return all(each.path != "/150" for each in batch)

    async def single(operation: Operation) -> None:
        singles.append(operation.path)
        if operation.path == "/150":
            raise NoNode(operation.path)

    results = await carry_out([Check(f"/{n}") for n in range(250)], all_or_none, single)
    assert together == [100, 100, 50]
    assert sorted(singles) == sorted(f"/{n}" for n in range(100, 200))
    assert [n for n, error in enumerate(results) if error is not None] == [150]


async def test_the_end_of_the_session_ends_everything() -> None:
    async def none(batch: Sequence[Operation]) -> bool:
        return False

    async def single(operation: Operation) -> None:
        raise SessionLost

    with pytest.raises(SessionLost):
        await carry_out([Create("/a", ephemeral=True), Create("/b")], none, single)
