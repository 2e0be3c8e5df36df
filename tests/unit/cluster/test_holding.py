"""What a holder is asked, in which order, when claims are lost in the middle of it."""

import asyncio
from collections.abc import Sequence

from metaq.cluster.holding import Holding, Stage
from metaq.model import BrokerPartition, ClusterPartition

A, B, C = (ClusterPartition("t", BrokerPartition(0, n)) for n in range(3))


class Gate:
    """A Holder whose calls end when they are told to."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[ClusterPartition, ...]]] = []
        self.end = asyncio.Event()
        self.error: Exception | None = None
        self.cancelled = 0

    async def take(self, partitions: Sequence[ClusterPartition]) -> None:
        self.calls.append(("take", tuple(partitions)))
        await self._wait()

    async def give(self, partitions: Sequence[ClusterPartition]) -> None:
        self.calls.append(("give", tuple(partitions)))
        await self._wait()

    def lose(self, partitions: Sequence[ClusterPartition]) -> None:
        self.calls.append(("lose", tuple(partitions)))
        if self.error is not None:
            raise self.error

    async def _wait(self) -> None:
        try:
            await self.end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error


def stages(holding: Holding) -> dict[Stage, set[ClusterPartition]]:
    return {stage: set(found) for stage in Stage if (found := holding.at(stage))}


def claimed(*partitions: ClusterPartition) -> tuple[Gate, Holding, asyncio.Event]:
    gate, changed = Gate(), asyncio.Event()
    holding = Holding("g", gate, changed.set)
    holding.add(partitions)
    return gate, holding, changed


async def taken(*partitions: ClusterPartition) -> tuple[Gate, Holding, asyncio.Event]:
    gate, holding, changed = claimed(*partitions)
    holding.take(partitions)
    gate.end.set()
    await changed.wait()
    changed.clear()
    gate.end.clear()
    gate.calls.clear()
    return gate, holding, changed


async def test_partitions_go_through_their_stages_and_are_free_for_release_after_they_were_given_back() -> None:
    gate, holding, changed = claimed(A, B)
    assert stages(holding) == {Stage.CLAIMED: {A, B}}
    holding.take([B, A])
    assert holding.busy
    assert stages(holding) == {Stage.TAKING: {A, B}}
    gate.end.set()
    await changed.wait()
    assert stages(holding) == {Stage.TAKEN: {A, B}}
    holding.give([A])
    assert stages(holding) == {Stage.GIVING: {A}, Stage.TAKEN: {B}}
    changed.clear()
    await changed.wait()
    assert stages(holding) == {Stage.CLAIMED: {A}, Stage.TAKEN: {B}}
    holding.remove([A])
    assert holding.partitions == {B}
    assert gate.calls == [("take", (A, B)), ("give", (A,))]


async def test_after_a_failure_each_partition_is_taken_for_itself_until_it_succeeds() -> None:
    gate, holding, changed = claimed(A, B)
    gate.error = ValueError("bad offset")
    gate.end.set()
    holding.take([A, B])
    await changed.wait()
    assert holding.at(Stage.FAILED) == {A, B}
    gate.error = None
    for expected in ([("take", (A,)), ("take", (B,))], [("take", (A, B))]):
        gate.calls.clear()
        holding.remove([A, B])
        holding.add([A, B])
        holding.take([A, B])
        await holding.close()
        assert gate.calls == expected
        assert holding.at(Stage.TAKEN) == {A, B}


async def test_what_is_lost_in_the_middle_of_a_call_that_goes_on_for_others_is_lost_again_at_its_end() -> None:
    gate, holding, changed = claimed(A, B)
    holding.take([A, B])
    await asyncio.sleep(0)
    holding.drop([A])
    assert gate.calls == [("take", (A, B)), ("lose", (A,))]
    assert holding.partitions == {A, B}  # nothing else may be asked about A yet
    assert holding.at(Stage.TAKING) == {B}
    gate.end.set()
    await changed.wait()
    assert gate.calls[2:] == [("lose", (A,))]
    assert holding.partitions == {B}
    assert stages(holding) == {Stage.TAKEN: {B}}
    assert gate.cancelled == 0


async def test_a_call_whose_partitions_are_all_lost_is_cancelled() -> None:
    for stage in (Stage.TAKING, Stage.GIVING):
        gate, holding, changed = claimed(A, B) if stage is Stage.TAKING else await taken(A, B)
        (holding.take if stage is Stage.TAKING else holding.give)([A, B])
        await asyncio.sleep(0)
        holding.lose([A])
        holding.lose([A, B])
        await changed.wait()
        assert gate.calls[1:] == [("lose", (A,)), ("lose", (B,))]
        assert stages(holding) == {Stage.CLAIMED: {A, B}}
        assert gate.cancelled == 1


async def test_a_call_that_is_called_off_before_it_began_leaves_the_claims_as_they_were() -> None:
    gate, holding, changed = claimed(A)
    holding.take([A])
    holding.lose([A])
    await changed.wait()
    assert holding.at(Stage.CLAIMED) == {A}
    assert gate.calls == [("lose", (A,))]


async def test_a_holder_that_fails_to_give_back_or_to_lose_stops_nothing() -> None:
    gate, holding, changed = await taken(A, B, C)
    gate.error = ValueError("commit failed")
    gate.end.set()
    holding.give([A])
    await changed.wait()
    assert holding.at(Stage.CLAIMED) == {A}
    holding.lose([B, C])
    assert holding.at(Stage.CLAIMED) == {A, B, C}
    holding.drop([A, B])
    assert holding.partitions == {C}
    assert gate.calls == [("give", (A,)), ("lose", (B, C))]
