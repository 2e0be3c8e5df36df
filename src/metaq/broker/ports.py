"""What the broker needs of others, each with one that does nothing."""

from collections.abc import Sequence
from typing import Protocol

from metaq.protocol.commands import Command

Buffer = bytes | bytearray | memoryview


class Peer(Protocol):
    """The other end of one connection. Sending never blocks; what the peer does not read piles up, so ask `full`."""

    def send(self, data: bytes) -> None: ...
    def send_parts(self, parts: Sequence[Buffer]) -> None:
        """Send several pieces as one."""

    def full(self) -> bool:
        """Return whether so much waits for the peer that it should get no more at present."""

    def owe(self, size: int) -> None:
        """Count bytes that the disk is to bring for this peer; the same number below 0 when it has."""

    def later(self, commands: Sequence[Command]) -> None:
        """Have commands carried out when the peer is not full any more; until then nothing is read from it."""

    def finish(self) -> None:
        """Close the connection once everything sent so far has left."""


class TopicRegistry(Protocol):
    """Hears of topics that got their first message; makes them known to clients. Must not block."""

    def topic_appeared(self, topic: str) -> None: ...


class NoTopicRegistry:
    """Nobody looks topics up: standalone."""

    def topic_appeared(self, topic: str) -> None:
        """Do nothing."""
