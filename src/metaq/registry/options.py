"""What may be set of a registry."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryOptions:
    """The defaults are those of the original's local mode, or else ZooKeeper's."""

    tick: int = 1000  # ms; sessions last 2 to 20 ticks
    max_connections: int = 4096  # from one address
    max_packet: int = 0xFFFFF  # bytes; ZooKeeper: jute.maxbuffer
    greeting_time: float = 10.0  # seconds in which a connection has to ask for a session
    container_interval: float = 60.0  # seconds between two looks for containers whose children have gone
