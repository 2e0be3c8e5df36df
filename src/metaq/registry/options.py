"""What may be set of a registry."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryOptions:
    """The defaults are those of the original's local mode, or else ZooKeeper's."""

    tick: int = 1000  # ms; how exactly the end of a session is met
    shortest_session: int = 0  # ms; 0: 2 ticks
    longest_session: int = 0  # ms; 0: 20 ticks
    max_connections: int = 4096  # from one address
    max_packet: int = 0xFFFFF  # bytes; ZooKeeper: jute.maxbuffer
    greeting_time: float = 10.0  # seconds in which a connection has to ask for a session
    container_interval: float = 60.0  # seconds between two looks for containers whose children have gone

    def negotiate(self, wanted: int) -> int:
        """Return how many ms a session lasts whose client wishes for so many."""
        return min(max(wanted, self.shortest_session or 2 * self.tick), self.longest_session or 20 * self.tick)
