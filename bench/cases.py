"""What is measured, and what it has to reach."""

from dataclasses import dataclass
from typing import Final

PROTOTYPE: Final = "prototype"
OURS: Final = "metaq"
JAVA: Final = "java"
ZOOKEEPER: Final = "zookeeper"
BROKERS: Final = (PROTOTYPE, OURS, JAVA)

BODY_SIZE: Final = 100  # bytes
JAVA_TARGET: Final = 1.0  # of the Java broker, in every case
READ_TARGET: Final = 0.7  # of the bare loop in C ...
READ_RATE: Final = 1e9  # ... or this many bytes per second
START_TARGET: Final = 3.0  # seconds until it serves, with START_PARTITIONS on disk
START_PARTITIONS: Final = 10_000
MEMORY_TARGET: Final = 150.0  # MiB resident, idle, with them


@dataclass(frozen=True, slots=True)
class Load:
    """So many connections, each with so many puts in flight; `target` is the part of the prototype's rate to reach."""

    connections: int
    in_flight: int
    target: float

    @property
    def name(self) -> str:
        return f"{self.connections}x{self.in_flight}"


@dataclass(frozen=True, slots=True)
class Setting:
    """How a broker is set up for a row of loads."""

    synced: bool
    partitions: int

    @property
    def name(self) -> str:
        return f"{'synced' if self.synced else 'unsynced'}/{self.partitions}"

    @property
    def flush_threshold(self) -> int:
        """unflushThreshold of server.ini: 0 syncs before every reply."""
        return 0 if self.synced else 1000


LOADS: Final = (Load(50, 1, 0.75), Load(50, 20, 0.65), Load(1, 100, 0.65), Load(1, 1, 0.9))
SETTINGS: Final = (
    *(Setting(False, partitions) for partitions in (16, 1024, 10_000)),
    *(Setting(True, partitions) for partitions in (16, 128, 1024, 10_000)),
)
SYNCED_TARGETS: Final = {  # of the Java broker, by partitions and load
    (16, "50x1"): 1.5, (128, "50x1"): 2.0, (1024, "50x1"): 3.0,
    (16, "50x20"): 2.0, (128, "50x20"): 4.0, (1024, "50x20"): 6.0,
}  # fmt: skip


def java_target(setting: Setting, load: Load) -> float:
    """Return the part of the Java broker's rate that ours has to reach."""
    return SYNCED_TARGETS.get((setting.partitions, load.name), JAVA_TARGET) if setting.synced else JAVA_TARGET


CREATING: Final = Load(50, 1, 0.0)  # from an empty folder: makes every partition meanwhile; reported, no target
CREATING_FROM: Final = 10_000  # partitions
