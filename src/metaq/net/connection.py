"""One accepted connection: bytes → Decoder → handler → bytes; back-pressure and idle time (design.md §1).

Reading stops while the peer does not read what it is sent, so that a peer that never reads costs the transport's high
water mark and one batch of replies, not more; while it puts and the broker is congested, or has put more than its share
without an answer yet; and in the middle of a large body while bodies that others are sending take all the memory there
is for that (see connections.py, room.py).
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol, cast

from metaq.net.connections import Connections
from metaq.net.room import Room
from metaq.protocol.commands import Command, Mput, Put
from metaq.protocol.decoder import Decoder, Limits

log = logging.getLogger(__name__)

HIGH_WATER: Final = 1 << 20  # bytes that may wait for a peer to read them before we stop reading from it
_HIGH_WATER_SENT: Final = 64 << 10  # the same in the transport: what it has, the system did not take
MOST_WAITING: Final = 1 << 16  # partitions that the commands of one peer may wait for

Buffer = bytes | bytearray | memoryview


class Handler(Protocol):
    """Does what commands say."""

    def execute(self, peer: "Connection", commands: Sequence[Command], /) -> None: ...
    def room(self) -> int:
        """Return how many bytes producers may send: asked while `Connections.hold` is in force."""

    def calm(self) -> bool:
        """Return whether it need not be in force any more."""


class Waiter(Protocol):
    """A command that waits; see metaq.broker.ports."""

    def free(self) -> None: ...
    def end(self) -> None: ...
    def gone(self) -> None: ...


class Connection(asyncio.BufferedProtocol):
    """The broker's end of one connection. `produces`: it has put something."""

    def __init__(self, handler: Handler, limits: Limits, connections: Connections) -> None:
        self._execute = handler.execute
        self._decoder = Decoder(limits)
        self._feed = self._decoder.feed
        self._connections = connections
        self.share = connections.sending.share
        self._resuming = connections.resuming
        self._transport: asyncio.Transport | None = None
        self._slow = False  # the peer does not read
        self._owed = 0  # bytes that the disk is to bring for it
        self._last = 0  # bytes of the last pieces
        self._later: list[Command] = []  # what it asked for beyond what it reads
        self._parked: dict[Waiter, None] = {}  # its commands that wait
        self._lines = 0  # partitions that they wait for
        self._blocked: deque[Waiter] | None = None  # those of them that can be answered once it reads
        self._ending = False  # nothing more is accepted
        self._unread = 0
        self._unsent = 0  # bytes counted for it while it is slow
        self.unsafe = 0  # bytes it has put that are not answered yet
        self._ahead = False  # that is more than its share
        self._held = False  # the broker has no room for what it puts
        self._receives = 0  # bytes of the large body being received; memory for it is taken
        self._starved = False  # the body waits for memory
        self._queued = False  # its gets wait for memory
        self._has_turn = False  # it was first in line for that
        self.produces = False
        self._copies = False
        self.active = True
        self.name = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's is one, but not by inheritance
        if not self._connections.join(self):
            transport.abort()
            return
        self._transport = transport
        transport.set_write_buffer_limits(_HIGH_WATER_SENT, 0)
        self._connections.unsent.bound(transport)
        self.name = str(transport.get_extra_info("peername"))

    def get_buffer(self, sizehint: int) -> memoryview:
        connections = self._connections
        return connections.small_buffer() if connections.waiting or connections.receiving.line else connections.piece

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self._connections.buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        self.active = True
        commands = self._feed(data)
        if commands:
            if self._later:
                self._later += commands
            else:
                try:  # as _carry_out does, for each of many small pieces a call less
                    self._execute(self, commands)
                except Exception:  # noqa: BLE001 - whatever it is costs this connection, not the process
                    self._unexpected()
            if self.unsafe > self._connections.share:
                self._ahead = True
                self._choose()
            if not self.produces or self._connections.waiting:
                self._look_for_puts(commands)
        if self._receives or self._decoder.body_size:
            self._receive(whole=bool(commands))
        if self._decoder.error is not None and not self._ending:
            log.warning("%s: %s, connection closed", self.name, self._decoder.error)
            self._ending = True
            self._go_on()

    def _look_for_puts(self, commands: Sequence[Command]) -> None:
        if any(isinstance(command, Put | Mput) for command in commands):
            if not self.produces:
                self.produces = True
                self._connections.share_with_one_more()
            if self._connections.waiting and self._transport is not None:
                self._connections.queue(self)

    def _receive(self, whole: bool) -> None:
        """Have memory for the large body that is being received, or wait for it; `whole`: the one before has ended."""
        room = self._connections.receiving
        if self._receives and (whole or not self._decoder.body_size):
            self._receives = 0
            room.give(self)
        if self._decoder.body_size and not self._receives and self._transport is not None:
            if room.scarce:
                self._starved = True
                room.wait(self, self._fed)
                self._choose()
            else:
                self._fed()

    def _fed(self) -> None:
        """There is memory for the body: receive it."""
        self._starved = False
        self._receives = self._decoder.body_size
        self._connections.receiving.take(self, self._receives)
        self._choose()

    def stalled(self, room: Room) -> None:
        """Close: what it sends does not come, or what it is sent is not read, while others wait for the memory."""
        log.warning("%s: it keeps others from memory and makes no use of it, connection closed", self.name)
        room.give(self)
        self.abort()

    def _carry_out(self, commands: Sequence[Command]) -> None:
        try:
            self._execute(self, commands)
        except Exception:  # noqa: BLE001 - whatever it is costs this connection, not the process
            self._unexpected()

    def _unexpected(self) -> None:
        log.exception("%s: unexpected, connection closed", self.name)
        self.abort()

    @property
    def held(self) -> bool:
        """Whether it is the broker that does not read what it puts."""
        return self._held or self._ahead

    def full(self) -> bool:
        """Return whether so much waits for the peer, sent or to come from the disk, that it should get no more."""
        return self._slow or self._owed > HIGH_WATER or (self._owed > 0 and self._owed >= self.share())

    def crowded(self) -> bool:
        """Return whether so much waits for all peers together that who asks for more must wait for its turn."""
        room = self._connections.sending
        return room.used >= room.most if self._has_turn else room.scarce

    def copies(self) -> None:
        """Hear that the peer copies the log: it may be far away, and much goes there."""
        if not self._copies:
            self._copies = True
            self._connections.pace.choose(self._transport)

    def owe(self, size: int) -> None:
        """Count bytes that the disk is to bring for this peer; the same number below 0 when it has."""
        self._owed += size
        if size > 0:
            self._connections.sending.take(self, size)
        else:
            self._connections.sending.give_some(self, -size)
            if self._later or self._blocked or self._ending:
                self._resuming.add(self._go_on)

    def later(self, commands: Sequence[Command]) -> None:
        """Have commands carried out when the peer is not full, nor all are crowded; until then nothing is read."""
        self._later = list(commands)
        if not self.full():
            self._queued = True
            self._connections.sending.wait(self, self._served)
        self._choose()

    def _served(self) -> None:
        self._queued = False
        self._has_turn = True  # or those behind it in line would send it to their end, and so on for ever
        self._go_on()
        self._has_turn = False

    def park(self, waiter: Waiter, lines: int) -> bool:
        """Remember that a command waits, for so many partitions. False: it may not, too many do already."""
        if self._lines + lines > MOST_WAITING or self._transport is None:
            return False
        self._parked[waiter] = None
        self._lines += lines
        return True

    def unpark(self, waiter: Waiter, lines: int) -> None:
        """Forget it, it is answered."""
        self._parked.pop(waiter, None)
        self._lines -= lines

    def when_free(self, waiter: Waiter) -> None:
        """Tell a waiter when the peer is not full any more."""
        if self._blocked is None:
            self._blocked = deque()
        self._blocked.append(waiter)

    def _go_on(self) -> None:
        """Answer and carry out what waited for the peer to read, then read from it again."""
        while self._blocked and not self.full():
            self._blocked.popleft().free()
        while self._later and not self._queued and not self.full() and self._transport is not None:
            commands, self._later = self._later, []
            self._carry_out(commands)
        self._choose()
        if self._ending and not self._later:
            self.finish()

    def idle(self) -> bool:
        """Return whether the peer has neither sent nor taken anything since the last call, and waits for nothing."""
        before, self._unread = self._unread, self.unread()
        active, self.active = self.active, False
        return not active and self._unread >= before and not self._parked

    def unread(self) -> int:
        """Return how many bytes wait for the peer to read them."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def send(self, data: bytes) -> None:
        """Send without waiting; nothing if the connection is gone."""
        if self._transport is not None:
            self._transport.write(data)

    def acknowledge(self, data: bytes, size: int) -> None:
        """Send replies to puts, and read again if what is left to answer is within its share."""
        self.unsafe -= size
        if self._transport is not None:
            self._transport.write(data)
        if self._ahead and self.unsafe <= self._connections.share:
            self._ahead = False
            self._choose()

    def send_parts(self, parts: Sequence[Buffer]) -> None:
        """Send pieces as one write (some clients read head and body of a reply with one call each)."""
        if self._transport is None:
            return
        self._last = sum(map(len, parts))
        self._resuming.sent += self._last
        if self._slow:
            self._unsent += self._last
            self._connections.sending.take(self, self._last)
        self._transport.writelines(parts)
        if not self._slow and (self._last > _HIGH_WATER_SENT or self.share() <= _HIGH_WATER_SENT) and self.unread():
            self._transport.set_write_buffer_limits(0)  # slow at once: however little is left of it, all of it is kept

    def finish(self) -> None:
        """Close once everything sent so far, and what the disk is to bring, has left. Nothing is read any more."""
        self._ending = True
        for waiter in list(self._parked):
            waiter.end()
        if self._transport is not None and not self._owed:
            self._transport.close()
        else:
            self._choose()

    def abort(self) -> None:
        """Close now."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._connections.unsent.forget(self._transport)
        self._transport = None
        self._later.clear()
        self._blocked = None
        for waiter in list(self._parked):
            waiter.gone()
        self._connections.leave(self)

    def pause_writing(self) -> None:
        self._slow = True
        self._unsent = max(self.unread(), self._last)  # what has left in part is kept whole until all of it has
        self._connections.sending.take(self, self._unsent)
        self._choose()

    def resume_writing(self) -> None:
        self._slow = False
        self._connections.sending.give_some(self, self._unsent)
        if self._transport is not None:
            self._transport.set_write_buffer_limits(_HIGH_WATER_SENT, 0)
            self._connections.unsent.free(self._transport)
        self.active = True
        self._resuming.add(self._go_on)  # not here: asyncio's transport must not be closed within it

    def hold(self) -> None:
        """Do not read: the broker has no room."""
        self._held = True
        self._choose()

    def go_on(self) -> None:
        """Read again, if the peer reads too."""
        self._held = False
        self._choose()

    def _choose(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._slow or self._held or self._ahead or self._starved or self._later or self._ending:
            transport.pause_reading()
        else:
            transport.resume_reading()
