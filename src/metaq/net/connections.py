"""All connections of a listener: who is there, who waits for the broker, and what they share (design.md §1 rule 6).

While the broker is congested, producers are held: nothing is read from them, so what they send waits in the network,
and nothing is dropped. Consumers and all others go on. Producers are let go in turns, in the order in which they were
held: each may be read from once, an equal part of what room there is, and is held again, until there is room enough for
everybody. So nobody is kept from sending by what others send.

Also while there is room, a producer is not read from while more of what it has put waits for answers than its share of
what there may be of that: or one with thousands of puts under way would fill the journal before all others.
"""

import asyncio
import logging
from itertools import islice
from typing import TYPE_CHECKING, Final

from metaq.net.pace import AS_THE_SYSTEM
from metaq.net.resuming import Resuming
from metaq.net.room import Room
from metaq.net.unsent import Unsent

if TYPE_CHECKING:
    from metaq.net.connection import Connection

log = logging.getLogger(__name__)

RECEIVING: Final = 32 << 20  # bytes of bodies that are being received, whole sizes, of all connections together
SENDING: Final = 256 << 20  # bytes that wait for peers to read them, or for the disk to bring them
PATIENCE: Final = 30.0  # seconds that one peer may keep another from having its share of these
_AHEAD: Final = 8 << 20  # bytes of puts that are read before those before them are answered, of all producers
_COUNT: Final = 0.5  # seconds between two counts of the producers that are at work
_READ: Final = 256 << 10  # bytes read at once
_READ_LITTLE: Final = 4 << 10  # the least of it, while memory or the disk is scarce: thousands may send at once
_CALM_LOOKS: Final = 25  # one is not enough: all that waits may go with one write, and as much comes with the next turn


class Connections:
    """All connections of a listener. `most`: so many there may be; those beyond are closed at once."""

    def __init__(self) -> None:
        self.all: dict[Connection, None] = {}  # in the order they came, which a set would not keep
        self.most = 1 << 62
        self.pace = AS_THE_SYSTEM  # towards peers that copy the log
        self.waiting = False  # producers wait for the broker
        self.receiving = Room(RECEIVING, PATIENCE)
        self.sending = Room(SENDING, PATIENCE)
        self.resuming = Resuming()
        self.unsent = Unsent()
        self._turns: dict[Connection, None] = {}  # the producers that are held, longest first
        self._quantum = _READ_LITTLE
        self._calm_looks = 0
        self._emptied = asyncio.Event()
        self._refusing = False
        self.buffer = memoryview(bytearray(_READ))  # one is enough: what is read is taken out before anybody else reads
        self.piece = self.buffer  # where to read to while nothing is scarce
        self.share = _AHEAD  # of `_AHEAD`, for each producer that is at work
        self._at_work = 0
        self._count_due = 0.0

    def small_buffer(self) -> memoryview:
        """Return where to read to while something is scarce."""
        return self.buffer[: self._quantum if self.waiting else _READ_LITTLE]

    def join(self, connection: "Connection") -> bool:
        """Take in a new connection; False: there are too many."""
        if len(self.all) >= self.most:
            if not self._refusing:
                self._refusing = True
                log.warning(
                    "%d connections, as many as the limit of open files allows: new ones are closed", len(self.all)
                )
            return False
        self.all[connection] = None
        return True

    def leave(self, connection: "Connection") -> None:
        """Hear that a connection is gone."""
        self.all.pop(connection, None)
        self._turns.pop(connection, None)
        self.receiving.leave(connection)
        self.sending.leave(connection)
        if self._refusing and len(self.all) < self.most:
            self._refusing = False
            log.info("connections are taken again")
        if not self.all:
            self._emptied.set()

    async def gone(self) -> None:
        """Wait until there is none."""
        if self.all:
            self._emptied.clear()
            await self._emptied.wait()

    def hold(self) -> None:
        """Read nothing from producers, until the broker has room again."""
        if self.waiting:
            return
        self.waiting = True
        self._calm_looks = 0
        self._quantum = _READ_LITTLE
        self.receiving.open(False)
        for connection in self.all:
            if connection.produces:
                self.queue(connection)

    def queue(self, connection: "Connection") -> None:
        """Hold a producer; its turn comes after those who are held already."""
        self._turns.setdefault(connection)
        connection.hold()

    def let_go(self, room: int, calm: bool) -> None:
        """Read from producers whose turn it is: as many as there is room for, in bytes; from all after calm looks."""
        self._calm_looks = self._calm_looks + 1 if calm else 0
        if self._calm_looks > _CALM_LOOKS:
            self.waiting = False
            self.receiving.open(True)
            turns, self._turns = self._turns, {}
        elif room > 0:
            self._quantum = max(_READ_LITTLE, min(_READ, room // max(1, len(self._turns))))
            turns = dict.fromkeys(islice(self._turns, max(1, room // self._quantum)))
            for connection in turns:
                del self._turns[connection]
            self.receiving.serve(room)
        else:
            return
        for connection in turns:
            connection.go_on()

    def share_with_one_more(self) -> None:
        """Hear that somebody has put for the first time."""
        self._divide(self._at_work + 1)

    def _divide(self, producers: int) -> None:
        self._at_work = producers
        self.share = max(_READ_LITTLE, _AHEAD // max(1, producers))
        self.piece = self.buffer[: self.share]

    def look(self, now: float) -> None:
        """Drop those who keep others from memory and make no use of it; count the producers that are at work."""
        self.receiving.look()
        self.sending.look()
        if now >= self._count_due:
            self._count_due = now + _COUNT
            self.unsent.look()
            self._divide(sum(connection.unsafe > 0 or connection.held for connection in self.all))

    def close_idle(self) -> None:
        """Close those with which nothing has happened since the last call."""
        for connection in list(self.all):
            if connection.idle():
                log.info("%s: idle, closed", connection.name)
                connection.abort() if connection.unread() else connection.finish()
