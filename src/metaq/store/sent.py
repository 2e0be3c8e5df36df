"""The round that is on its way to the journal."""

from typing import Final, NamedTuple

from metaq.store.log import Gate, PartitionLog


class Sent(NamedTuple):
    """The round that is on its way: its runs, the logs it begins, what happens in memory, who is told, bytes."""

    runs: list[tuple[PartitionLog, int, int, bytes | memoryview]]
    begun: list[PartitionLog]
    after: list[Gate]
    gates: list[Gate]
    size: int


NOTHING: Final = Sent([], [], [], [], 0)
