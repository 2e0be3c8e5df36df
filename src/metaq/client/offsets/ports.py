"""What keeps the positions of groups, as its users see it. Write one of your own by having these methods."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from metaq.cluster.znodes import Position
from metaq.model import ClusterPartition


class OffsetStore(Protocol):
    """Where groups have come to in their partitions (reference: OffsetStorage).

    Every method raises OffsetStoreError or RegistryError when the store cannot be asked; trying again is right.
    """

    async def load(self, group: str, partitions: Sequence[ClusterPartition]) -> dict[ClusterPartition, Position]:
        """Return what is stored for these partitions; one that is missing has nothing stored."""

    async def save(self, group: str, positions: Mapping[ClusterPartition, Position]) -> None:
        """Store all; durable when it returns. After an error any part may be stored, and saving again is right."""

    async def close(self) -> None:
        """Let go of files, threads and connections of its own. May be called again."""


@runtime_checkable
class StoredOffsets(OffsetStore, Protocol):
    """A store that can say all it has: for tools, consumers do not need it."""

    async def groups(self) -> list[str]:
        """Return the groups that have something stored, sorted."""

    async def stored(self, group: str) -> dict[ClusterPartition, Position]:
        """Return all that a group has stored."""
