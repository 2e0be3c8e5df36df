"""Where groups keep how far they have come: in ZooKeeper, a file, memory, a database, or a store of the user's own."""

from metaq.client.offsets.choice import Surroundings, make_store, positions_after
from metaq.client.offsets.file import FileOffsets
from metaq.client.offsets.memory import MemoryOffsets
from metaq.client.offsets.ports import OffsetStore, StoredOffsets
from metaq.client.offsets.sql import SqlOffsets
from metaq.client.offsets.zookeeper import ZooKeeperOffsets

__all__ = [
    "FileOffsets",
    "MemoryOffsets",
    "OffsetStore",
    "SqlOffsets",
    "StoredOffsets",
    "Surroundings",
    "ZooKeeperOffsets",
    "make_store",
    "positions_after",
]
