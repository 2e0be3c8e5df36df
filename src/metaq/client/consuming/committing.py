"""Writing down how far a group has come: now and then, when a partition is given away, at the end."""

import asyncio
import logging
from collections.abc import Iterable

from metaq.client.consuming.stream import Stream
from metaq.client.offsets import OffsetStore
from metaq.cluster.znodes import Position
from metaq.errors import ClientError, RegistryError
from metaq.model import ClusterPartition

log = logging.getLogger(__name__)


class Committer:
    """Saves the positions of streams that have moved. One save at a time, so that none overtakes a later one.

    What could not be saved is saved the next time, unlike in the original, which forgets it (zookeeper.md 10.16).
    """

    def __init__(self, group: str, store: OffsetStore) -> None:
        self._group = group
        self._store = store
        self._order = asyncio.Lock()

    async def load(self, partitions: Iterable[ClusterPartition]) -> dict[ClusterPartition, Position]:
        """Return what is stored. Raises what the store raises."""
        return await self._store.load(self._group, list(partitions))

    async def save(self, streams: Iterable[Stream]) -> None:
        """Store where these streams are, as far as that is not stored and they are not lost.

        Raises what the store raises.
        """
        async with self._order:
            moved: dict[Stream, Position] = {}
            for stream in streams:
                position = stream.position()
                if position is not None and position != stream.committed and not stream.is_lost:
                    moved[stream] = position
            if moved:
                await self._store.save(self._group, {stream.key: position for stream, position in moved.items()})
                for stream, position in moved.items():
                    stream.committed = position

    async def try_save(self, streams: Iterable[Stream]) -> bool:
        """Do the same, and say whether it went well; an error is logged only.

        In the original one that nobody expected ended all storing (client.md 14.11).
        """
        try:
            await self.save(streams)
        except (ClientError, RegistryError) as exc:
            log.warning("group %s: offsets not stored: %s", self._group, exc)
        except Exception:
            log.exception("group %s: offsets not stored", self._group)
        else:
            return True
        return False
