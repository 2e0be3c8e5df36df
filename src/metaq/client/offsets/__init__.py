"""Where groups keep how far they have come: in ZooKeeper, a file, memory, a database, or a store of the user's own."""

from metaq.client.offsets.choice import Surroundings, make_store
from metaq.client.offsets.ports import OffsetStore, StoredOffsets

__all__ = ["OffsetStore", "StoredOffsets", "Surroundings", "make_store"]
