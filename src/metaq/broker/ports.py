"""What the broker needs of others, each with one that does nothing."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from metaq.broker.stats_text import Pieces
from metaq.protocol.commands import Command, Msync, Sync

Buffer = bytes | bytearray | memoryview


class Receiver(Protocol):
    """Who gets the replies to puts. Sending never blocks. `unsafe`: bytes it has put that are not answered yet."""

    unsafe: int

    def acknowledge(self, data: bytes, size: int) -> None:
        """Send replies to puts, and take what they put off `unsafe`."""


class Waiter(Protocol):
    """A command of a peer that waits: for something to be there, or for the peer to read what it was sent before."""

    def free(self) -> None:
        """Hear that the peer, which was full, is not any more."""

    def end(self) -> None:
        """Hear that the connection is about to be closed: now is the time to answer."""

    def gone(self) -> None:
        """Hear that the connection is gone."""


class Peer(Receiver, Protocol):
    """The other end of one connection. What it does not read piles up, so ask `full`."""

    def send(self, data: bytes) -> None: ...

    def send_parts(self, parts: Sequence[Buffer]) -> None:
        """Send several pieces as one."""

    def full(self) -> bool:
        """Return whether so much waits for the peer that it should get no more at present."""

    def crowded(self) -> bool:
        """Return whether so much waits for all peers together that one who asks for more must wait for its turn."""

    def share(self) -> int:
        """Return how many bytes a reply should bring at most: less while much waits for all peers together."""

    def copies(self) -> None:
        """Hear that the peer copies the log; it may be said again and again."""

    def owe(self, size: int) -> None:
        """Count bytes that the disk is to bring for this peer; the same number below 0 when it has."""

    def later(self, commands: Sequence[Command]) -> None:
        """Have commands carried out when the peer is not full, nor all are crowded; until then nothing is read."""

    def park(self, waiter: Waiter, lines: int) -> bool:
        """Remember that a command waits, for so many partitions. False: it may not, too many do already."""

    def unpark(self, waiter: Waiter, lines: int) -> None:
        """Forget it, it is answered."""

    def when_free(self, waiter: Waiter) -> None:
        """Tell a waiter when the peer is not full any more."""

    def finish(self) -> None:
        """Close the connection once everything sent so far has left."""

    def abort(self) -> None:
        """Close the connection now."""


class Copies(Protocol):
    """Stores what the master of this broker sends."""

    extension: str  # the word for it in the answer to `version`

    def store(self, peer: Peer, commands: Sequence[Sync | Msync]) -> None:
        """Append copies in order; all are answered."""


class Replica(Protocol):
    """Copies another broker's log into this one's, and says how far it is."""

    def summary(self) -> Pieces[list[str]]:
        """Make the lines that `stats` has more for it."""

    def lines(self) -> Pieces[list[str]]:
        """Make the lines that answer `stats slave`."""

    def values(self) -> Pieces[Mapping[str, object]]:
        """Make all of it for scripts, as JSON knows it."""

    async def promote(self, *, force: bool, wait: float, rest: Sequence[str]) -> str:
        """Make this broker the master of its id; return what is lost by that, "": nothing.

        `wait`: seconds for the old master to go; `force`: also if something is lost; `rest`: data paths of the old
        master, from which the last messages are taken. Raises MetaqError or OSError.
        """


class PairFigures(NamedTuple):
    """How a synchronous pair is, at its master. `events`: how often each was told, by its word."""

    slave: str
    connected: bool
    behind: int  # partitions that the slave may lack something of
    refused: int  # partitions that only the slave refuses
    puts_refused: int  # since the start, as they could not be copied
    failed_copies: int
    registered: bool
    events: Mapping[str, int]

    def lines(self) -> list[str]:
        """Return the lines that `stats` has more."""
        return [
            f"pair_slave {self.slave}",
            f"pair_connected {str(self.connected).lower()}",
            f"pair_behind {self.behind}",
            f"pair_refused {self.refused}",
            f"pair_puts_refused {self.puts_refused}",
            f"pair_failed_copies {self.failed_copies}",
            f"pair_registered {str(self.registered).lower()}",
            *(f"pair_event_{word} {count}" for word, count in self.events.items()),
        ]


def no_pair() -> PairFigures | None:
    """Return None: this broker is not the master of a pair."""
    return None


class TopicRegistry(Protocol):
    """Hears of topics that got their first message; makes them known to clients. Must not block."""

    def topic_appeared(self, topic: str) -> None: ...


class NoTopicRegistry:
    """Nobody looks topics up: standalone."""

    def topic_appeared(self, topic: str) -> None:
        """Do nothing."""
