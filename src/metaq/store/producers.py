"""Which batches producers sent last, so that one sent again is answered with its first result (design.md §2)."""

from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

from metaq.store.checkpoint import ProducerState
from metaq.store.entries import Stamp

_REMEMBERED: Final = 5
_PRODUCERS: Final = 100_000


class Batch(NamedTuple):
    """One stamped run: where it stands. `time` is the wall clock when it was noted, 0 when it was recovered."""

    epoch: int
    sequence: int
    offset: int
    length: int
    first_id: int
    time: float


class ProducerTable:
    """The last five batches of each producer in each partition; bounded by count and by age."""

    def __init__(self, states: Iterable[ProducerState] = ()) -> None:
        self._batches: dict[tuple[int, int], deque[Batch]] = {
            (state.producer, state.log_id): deque((Batch(*batch) for batch in state.batches), maxlen=_REMEMBERED)
            for state in states
        }

    def __len__(self) -> int:
        return len(self._batches)

    def note(self, stamp: Stamp, log_id: int, offset: int, length: int, time: float = 0.0) -> None:
        """Remember that a stamped run stands at `offset`. The producer heard of longest ago makes room."""
        key = (stamp.producer, log_id)
        batches = self._batches.pop(key, None) or deque(maxlen=_REMEMBERED)
        batches.append(Batch(stamp.epoch, stamp.sequence, offset, length, 0, time))
        self._batches[key] = batches
        if len(self._batches) > _PRODUCERS:
            del self._batches[next(iter(self._batches))]

    def find(self, stamp: Stamp, log_id: int) -> Batch | None:
        """Return the batch that was stored under this stamp, None if it is new or long ago."""
        for batch in self._batches.get((stamp.producer, log_id), ()):
            if (batch.epoch, batch.sequence) == (stamp.epoch, stamp.sequence):
                return batch
        return None

    def age_out(self, now: float, age: float) -> None:
        """Forget producers whose last batch is older than `age` seconds; those recovered age from the first call on."""
        for key, batches in list(self._batches.items()):
            if batches[-1].time == 0.0:
                batches[-1] = batches[-1]._replace(time=now)
            elif batches[-1].time < now - age:
                del self._batches[key]

    def cut(self, log_id: int, to: int) -> None:
        """Forget the batches of a partition that do not end below `to`: sent again, they must be stored again."""
        for key in [key for key in self._batches if key[1] == log_id]:
            kept = [batch for batch in self._batches[key] if batch.offset + batch.length <= to]
            if kept:
                self._batches[key] = deque(kept, maxlen=_REMEMBERED)
            else:
                del self._batches[key]

    def forget_log(self, log_id: int) -> None:
        """Forget all of a partition that is gone."""
        for key in [key for key in self._batches if key[1] == log_id]:
            del self._batches[key]

    def states(self) -> list[ProducerState]:
        """Return the table as a checkpoint keeps it."""
        return [
            ProducerState(producer, log_id, tuple((*batch,) for batch in batches))
            for (producer, log_id), batches in self._batches.items()
        ]
