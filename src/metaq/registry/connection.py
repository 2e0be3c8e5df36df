"""One connection to the registry: asyncio's callbacks around Frames and Client."""

import asyncio
import logging
from typing import Final, Protocol, cast

from metaq.registry.clients import Client
from metaq.registry.frames import Frames
from metaq.registry.words import Facts, answer_word

log = logging.getLogger(__name__)

_WAITING_LIMIT: Final = 1 << 20  # bytes received whose answers wait for the log; beyond that it is not read from
_HIGH_WATER: Final = 1 << 20  # bytes that a client does not read; beyond that it is not read from either
_UNREAD_LIMIT: Final = 32 << 20  # bytes that a client does not read; beyond that it is cut off


class Host(Protocol):
    """What a connection needs of its server."""

    @property
    def max_packet(self) -> int: ...
    def admit(self, connection: "Connection") -> bool:
        """A connection is there; return whether it may stay."""

    def arrived(self, connection: "Connection", packets: list[bytes]) -> None: ...
    def left(self, connection: "Connection") -> None: ...
    def facts(self) -> Facts: ...


class Connection(asyncio.Protocol):
    """Hands whole packets to its host; sends what it is given; is not read from while what it is owed piles up."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._frames = Frames(host.max_packet)
        self._greeted = False
        self._head = b""
        self._waiting = 0
        self._unread = False
        self._paused = False
        self.arriving = 0  # bytes of packets since the last round

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one, but not by inheritance
        self._transport.set_write_buffer_limits(_HIGH_WATER)
        peer = transport.get_extra_info("peername")
        self.client = Client(peer[0] if isinstance(peer, tuple) else "")
        if not self._host.admit(self):
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._host.left(self)

    def data_received(self, data: bytes) -> None:
        if self.client.closing:
            return
        if not self._greeted:
            data = self._head + data
            if len(data) < 4:
                self._head = data
                return
            self._greeted = True
            if (answer := answer_word(data[:4], self._host.facts)) is not None:
                self.client.closing = True
                self._transport.write(answer)
                self._transport.close()
                return
        packets = self._frames.feed(data)
        if packets:
            self.arriving += sum(map(len, packets))
            self._host.arrived(self, packets)
        if self._frames.error is not None:
            log.warning("%s is closed: %s", self.client, self._frames.error)
            self.client.closing = True
            self._host.arrived(self, [])
        elif self._waiting + self.arriving > _WAITING_LIMIT:
            self._pace()

    def pause_writing(self) -> None:
        self._unread = True
        self._pace()

    def resume_writing(self) -> None:
        self._unread = False
        self._pace()

    def wait(self) -> int:
        """A round ends: return how many bytes of packets it had. Their answers wait until `send`."""
        arrived, self.arriving = self.arriving, 0
        self._waiting += arrived
        return arrived

    def send(self, data: bytes, answered: int) -> None:
        """Send what a round gave; `answered`: what `wait` returned for it."""
        self._waiting -= answered
        if self._transport.is_closing():
            return
        if data:
            self._transport.write(data)
            if self._unread and self._transport.get_write_buffer_size() > _UNREAD_LIMIT:
                log.warning("%s does not read and is cut off", self.client)
                self.abort()
                return
        if self._paused:
            self._pace()

    def close(self) -> None:
        """Close it once what was sent has left."""
        self._transport.close()

    def abort(self) -> None:
        """Cut it off."""
        self.client.closing = True
        self._transport.abort()

    def _pace(self) -> None:
        """Read on, or wait, for good reason."""
        pause = self._unread or self._waiting + self.arriving > _WAITING_LIMIT
        if pause != self._paused and not self._transport.is_closing():
            self._paused = pause
            if pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()
