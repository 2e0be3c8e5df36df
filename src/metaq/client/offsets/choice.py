"""From what `consumer(offsets=…)` is told to a store."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from metaq.client.message import Message
from metaq.client.offsets.file import DEFAULT_NAME, FileOffsets
from metaq.client.offsets.memory import MemoryOffsets
from metaq.client.offsets.ports import OffsetStore
from metaq.client.offsets.sql import SqlOffsets
from metaq.client.offsets.zookeeper import ZooKeeperOffsets
from metaq.cluster.ports import Registry
from metaq.cluster.znodes import Position, decode_partition
from metaq.errors import ClientError, ConfigError, OffsetStoreError, RegistryError
from metaq.model import ClusterPartition
from metaq.ports import Files, Threads

FORMS: Final = '"zookeeper", "memory", "file:PATH", an URL of SQLAlchemy like "sqlite:///offsets.db", or a store'


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a client has that a store may need.

    `registry` None: it uses no ZooKeeper. `home` None: what HOME says; `files`, `threads` None: the real ones.
    """

    registry: Registry | None = None
    root: str = "/meta"
    home: str | None = None
    files: Files | None = None
    threads: Threads | None = None


class Borrowed:
    """A store of somebody else's: closing it is left to him, and whatever it raises becomes OffsetStoreError.

    In the original an exception that nobody expected ended all commits (client.md 14.11).
    """

    def __init__(self, store: OffsetStore) -> None:
        self._store = store

    async def load(self, group: str, partitions: Sequence[ClusterPartition]) -> dict[ClusterPartition, Position]:
        """Ask the store."""
        with self._translated():
            return await self._store.load(group, partitions)

    async def save(self, group: str, positions: Mapping[ClusterPartition, Position]) -> None:
        """Hand on to the store."""
        with self._translated():
            await self._store.save(group, positions)

    async def close(self) -> None:
        """Nothing to do."""

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (ClientError, RegistryError):
            raise
        except Exception as exc:
            name = type(self._store).__name__
            raise OffsetStoreError(f"{name}: {type(exc).__name__} {exc}".rstrip()) from exc


def make_store(choice: OffsetStore | str | None, around: Surroundings) -> OffsetStore:
    """Return the store that is meant; who gets it closes it.

    "zookeeper", "memory", "file:PATH", or an URL of SQLAlchemy like "sqlite:///offsets.db". None: ZooKeeper, or where
    there is none the file of 1.4.6.2 in the user's home. A store handed in comes back in a cover that closing does not
    go through: it stays its owner's. Raises ConfigError for words that name none.
    """
    if choice is None:
        return _file("", around) if around.registry is None else ZooKeeperOffsets(around.registry, around.root)
    if not isinstance(choice, str):
        return Borrowed(choice)
    kind, colon, rest = choice.partition(":")
    match kind:
        case "zookeeper" if not colon:
            if around.registry is None:
                raise ConfigError('offsets="zookeeper" needs a client connected with zk://')
            return ZooKeeperOffsets(around.registry, around.root)
        case "memory" if not colon:
            return MemoryOffsets()
        case "file":
            return _file(rest, around)
        case _ if rest.startswith("//"):
            return SqlOffsets(choice, threads=around.threads)
    raise ConfigError(f"offsets={choice[:80]!r} is none of {FORMS}")


def positions_after(messages: Iterable[Message]) -> dict[ClusterPartition, Position]:
    """Return for each partition of these messages the position after the last of them: what a store is given."""
    found: dict[ClusterPartition, Position] = {}
    for message in messages:
        partition = decode_partition(message.partition)
        if partition is None:
            raise ConfigError(f"{message.partition!r} is no partition like 0-3")
        place = ClusterPartition(message.topic, partition)
        known = found.get(place)
        if known is None or known.offset < message.next_offset:
            found[place] = Position(message.id, message.next_offset)
    return found


def _file(path: str, around: Surroundings) -> FileOffsets:
    """Return the store in a file; "" is that of 1.4.6.2 in the home, "///a/b" the URL form of "/a/b"."""
    path = path.removeprefix("//") or f"{around.home or os.path.expanduser('~')}/{DEFAULT_NAME}"
    return FileOffsets(path, files=around.files, threads=around.threads)
