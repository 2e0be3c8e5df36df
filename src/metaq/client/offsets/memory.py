"""Positions in memory: of tests, and of consumers that begin anew with every process."""

from collections.abc import Mapping, Sequence

from metaq.cluster.znodes import Position
from metaq.model import ClusterPartition


class MemoryOffsets:
    """An OffsetStore that lives as long as the object. Consumers that share it share what is stored."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[ClusterPartition, Position]] = {}

    async def load(self, group: str, partitions: Sequence[ClusterPartition]) -> dict[ClusterPartition, Position]:
        """Return what is stored for these partitions."""
        known = self._groups.get(group, {})
        return {partition: known[partition] for partition in partitions if partition in known}

    async def save(self, group: str, positions: Mapping[ClusterPartition, Position]) -> None:
        """Store all, until the object goes."""
        if positions:
            self._groups.setdefault(group, {}).update(positions)

    async def groups(self) -> list[str]:
        """Return the groups that have something stored, sorted."""
        return sorted(self._groups)

    async def stored(self, group: str) -> dict[ClusterPartition, Position]:
        """Return all that a group has stored."""
        return dict(self._groups.get(group, {}))

    async def close(self) -> None:
        """Nothing to do; what is stored stays."""
