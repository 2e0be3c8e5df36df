"""What the broker needs of others, each with one that does nothing."""

from collections.abc import Sequence
from typing import Protocol

Buffer = bytes | bytearray | memoryview


class Peer(Protocol):
    """The other end of one connection. Sending never blocks; what the peer does not read piles up in `unsent`."""

    def send(self, data: bytes) -> None: ...
    def send_parts(self, parts: Sequence[Buffer]) -> None:
        """Send several pieces as one."""

    def finish(self) -> None:
        """Close the connection once everything sent so far has left."""


class TopicRegistry(Protocol):
    """Hears of topics that got their first message; makes them known to clients. Must not block."""

    def topic_appeared(self, topic: str) -> None: ...


class NoTopicRegistry:
    """Nobody looks topics up: standalone."""

    def topic_appeared(self, topic: str) -> None:
        """Do nothing."""
