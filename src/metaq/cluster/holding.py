"""What a member of a group has claimed, and what of it its holder consumes."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from metaq.model import ClusterPartition

log = logging.getLogger(__name__)


class Holder(Protocol):
    """Who consumes what a member owns. All is called on the loop; calls for one partition never overlap, but for lose.

    `lose` may come while `take` or `give` of the same partitions runs. If all its partitions are lost that call is
    then cancelled; in any case nothing else is asked about them until it has ended.
    """

    async def take(self, partitions: Sequence[ClusterPartition]) -> None:
        """Begin to consume: they are claimed. All of them, or none if it raises or is cancelled.

        After an error the claims are given up and tried again later, each partition for itself.
        """

    async def give(self, partitions: Sequence[ClusterPartition]) -> None:
        """Stop, let handlers end, commit. Nothing of them is consumed once this has returned, raised or been cancelled.

        The claims are given up then, whatever came of it.
        """

    def lose(self, partitions: Sequence[ClusterPartition]) -> None:
        """Stop now and commit nothing: the session is over, or may be, and somebody else may own them already."""


class Stage(Enum):
    """Where a claimed partition is."""

    CLAIMED = "claimed"  # nobody consumes it
    TAKING = "taking"
    TAKEN = "taken"
    GIVING = "giving"
    FAILED = "failed"  # the holder could not take it


@dataclass(slots=True)
class _Slot:
    stage: Stage = Stage.CLAIMED
    job: asyncio.Task[None] | None = None
    lost: bool = False  # while the job ran
    gone: bool = False  # the claim is not ours any more; the slot goes when the job ends


class Holding:
    """The partitions claimed by one member, each with its stage; calls its holder and remembers the calls under way.

    CLAIMED ─take→ TAKING ─→ TAKEN ─give→ GIVING ─→ CLAIMED; TAKING ─error→ FAILED; lose leads back to CLAIMED, drop
    out of here. `changed` is called whenever a call to the holder has ended.
    """

    def __init__(self, group: str, holder: Holder, changed: Callable[[], None]) -> None:
        self._group = group
        self._holder = holder
        self._changed = changed
        self._slots: dict[ClusterPartition, _Slot] = {}
        self._alone: set[ClusterPartition] = set()  # to be taken each for itself, since one of them failed

    def __contains__(self, partition: object) -> bool:
        return partition in self._slots

    @property
    def partitions(self) -> frozenset[ClusterPartition]:
        """Return all that is claimed, and what the holder has not let go of since it was lost."""
        return frozenset(self._slots)

    @property
    def busy(self) -> bool:
        """Return whether a call to the holder is under way."""
        return any(slot.job is not None for slot in self._slots.values())

    def at(self, stage: Stage) -> frozenset[ClusterPartition]:
        """Return the claimed partitions at one stage."""
        return frozenset(each for each, slot in self._slots.items() if slot.stage is stage and not slot.lost)

    def add(self, partitions: Iterable[ClusterPartition]) -> None:
        """Note what was claimed."""
        self._slots.update((each, _Slot()) for each in partitions)

    def remove(self, partitions: Iterable[ClusterPartition]) -> None:
        """Note what was given up, if it was not dropped meanwhile; nobody consumes it."""
        for each in partitions:
            self._slots.pop(each, None)

    def take(self, partitions: Iterable[ClusterPartition]) -> None:
        """Have the holder take what is CLAIMED."""
        chosen = sorted(partitions)
        together = [each for each in chosen if each not in self._alone]
        for batch in (together, *([each] for each in chosen if each in self._alone)):
            self._start(batch, Stage.TAKING, self._holder.take)

    def give(self, partitions: Iterable[ClusterPartition]) -> None:
        """Have the holder give back what is TAKEN."""
        self._start(sorted(partitions), Stage.GIVING, self._holder.give)

    def lose(self, partitions: Iterable[ClusterPartition]) -> None:
        """Have the holder let go at once; the claims stay."""
        chosen = {each: self._slots[each] for each in sorted(partitions)}
        consumed = [
            each for each, slot in chosen.items() if slot.stage not in (Stage.CLAIMED, Stage.FAILED) and not slot.lost
        ]
        for slot in chosen.values():
            if slot.job is None:
                slot.stage = Stage.CLAIMED
            else:
                slot.lost = True
        self._tell_lost(consumed)
        for job in dict.fromkeys(slot.job for slot in chosen.values() if slot.job is not None):
            if all(slot.lost for slot in self._slots.values() if slot.job is job):
                job.cancel()

    def drop(self, partitions: Iterable[ClusterPartition]) -> None:
        """Have the holder let go of what is not ours any more."""
        chosen = sorted(partitions)
        self.lose(chosen)
        for each in chosen:
            if self._slots[each].job is None:
                del self._slots[each]
            else:
                self._slots[each].gone = True

    async def close(self) -> None:
        """Return when no call to the holder is under way any more."""
        await asyncio.gather(*{s.job for s in self._slots.values() if s.job is not None}, return_exceptions=True)

    def _start(
        self,
        batch: Sequence[ClusterPartition],
        stage: Stage,
        call: Callable[[Sequence[ClusterPartition]], Coroutine[object, object, None]],
    ) -> None:
        if not batch:
            return
        job = asyncio.create_task(call(batch), name=f"group {self._group}: {stage.value} {len(batch)} partitions")
        for each in batch:
            slot = self._slots[each]
            slot.stage, slot.job = stage, job
        job.add_done_callback(lambda job: self._ended(batch, stage, job))

    def _ended(self, batch: Sequence[ClusterPartition], stage: Stage, job: asyncio.Task[None]) -> None:
        done = not job.cancelled() and job.exception() is None
        if not job.cancelled() and (error := job.exception()) is not None:
            first = error if stage is Stage.GIVING or self._alone.isdisjoint(batch) else None
            log.warning("group %s: %s %s failed: %r", self._group, stage.value, _names(batch), error, exc_info=first)
        after = {(Stage.TAKING, True): Stage.TAKEN, (Stage.TAKING, False): Stage.FAILED}.get(
            (stage, done), Stage.CLAIMED
        )
        if after is Stage.FAILED:
            self._alone.update(batch)
        elif after is Stage.TAKEN:
            self._alone.difference_update(batch)
        slots = {each: self._slots[each] for each in batch}
        lost = [each for each, slot in slots.items() if slot.lost]
        for each, slot in slots.items():
            slot.stage, slot.job, slot.lost = Stage.CLAIMED if slot.lost else after, None, False
            if slot.gone:
                del self._slots[each]
        if after is Stage.TAKEN:
            self._tell_lost(lost)  # again: it may have begun after it was told
        self._changed()

    def _tell_lost(self, partitions: Sequence[ClusterPartition]) -> None:
        if partitions:
            try:
                self._holder.lose(partitions)
            except Exception:
                log.exception("group %s: losing %s failed", self._group, _names(partitions))


def _names(partitions: Sequence[ClusterPartition]) -> str:
    shown = ", ".join(map(str, partitions[:3]))
    return shown if len(partitions) <= 3 else f"{shown} and {len(partitions) - 3} more"
