"""From what `consumer(offsets=…)` is told to a store."""

from dataclasses import dataclass

from metaq.client.offsets.ports import OffsetStore
from metaq.cluster.ports import Registry
from metaq.ports import Files, Threads


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a client has that a store may need. `registry` None: it uses no ZooKeeper; `files`, `threads` None: the
    operating system's."""

    registry: Registry | None = None
    root: str = "/meta"
    home: str | None = None  # the user's home; None: what HOME says
    files: Files | None = None
    threads: Threads | None = None


def make_store(choice: OffsetStore | str | None, around: Surroundings) -> OffsetStore:
    """Return the store that is meant; who gets it closes it.

    "zookeeper", "memory", "file:PATH", or an URL of SQLAlchemy like "sqlite:///offsets.db". None: ZooKeeper, or where
    there is none the file of 1.4.6.2 in the user's home. A store handed in comes back in a cover that closing does not
    go through: it stays its owner's. Raises ConfigError for words that name none.
    """
    raise NotImplementedError
