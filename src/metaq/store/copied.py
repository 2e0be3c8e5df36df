"""Records of another broker's log, appended as they are: bytes, offsets and segment boundaries stay the same.

A segment that begins is a roll in the journal, at the offset the copy gives instead of where our own size would put it.
While a large run holds the log nothing of it may be journaled, so the rolls wait with the records.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from metaq.errors import SegmentMismatch
from metaq.store.log import PartitionLog

_NEVER: Final = 1 << 63  # beyond every offset


class Appender(Protocol):
    """The rounds, as far as copied records need them. `rolls`: where segments begin in what a held log has waiting."""

    rolls: dict[PartitionLog, list[int]]

    def append(self, log: PartitionLog, record: bytes | memoryview) -> int: ...
    def roll(self, log: PartitionLog) -> None: ...


def append_copied(rounds: Appender, log: PartitionLog, data: bytes | memoryview, base: int, messages: int) -> int:
    """Append whole records in the segment that begins at `base`; return their offset. Raises SegmentMismatch."""
    offset = log.end
    waiting = rounds.rolls.get(log)
    last = waiting[-1] if waiting else log.base
    if base not in (last, offset):
        raise SegmentMismatch(
            f"{log.key}: copied records at {offset} belong to the segment that begins at {base},"
            f" but the last one here begins at {last}"
        )
    if not data:
        return offset
    if base != last:
        if log.held:
            rounds.rolls.setdefault(log, []).append(base)
        else:
            rounds.roll(log)
    if not log.held:
        log.roll_at = _NEVER  # the size of our own segments is for what is put here
    rounds.append(log, data)
    log.messages += messages - 1
    log.set_limit(log.limit)
    return offset


def roll_waiting(rounds: Appender, log: PartitionLog, bases: Sequence[int]) -> None:
    """A log is free again: begin the segments that waited, each where it belongs within the pending records."""
    end, parts = log.end, log.pending
    position = end - sum(map(len, parts))
    log.pending = []
    taken = 0
    for base in bases:
        while position < base:
            log.pending.append(parts[taken])
            position += len(parts[taken])
            taken += 1
        log.end = base
        rounds.roll(log)
    log.pending = parts[taken:]
    log.end = end
