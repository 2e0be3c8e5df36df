"""One connection to the registry: asyncio's callbacks around Frames and Client."""

import asyncio
import logging
from typing import Final, Protocol, cast

from metaq.registry.clients import Client
from metaq.registry.frames import Frames
from metaq.registry.words import Facts, answer_word

log = logging.getLogger(__name__)

_AT_ONCE: Final = 64  # packets; what they are answered is weighed then
_OWED_LIMIT: Final = 4 << 20  # bytes of requests and answers that wait for the log; beyond that it is not read from
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
        self._packets: list[bytes] = []  # those that have to wait
        self._gathering = 0  # bytes of requests and answers in the round that gathers
        self._owed = 0  # in rounds that have not left
        self._unread = False
        self._paused = False

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
        self._packets += self._frames.feed(data)
        self._work()

    def pause_writing(self) -> None:
        self._unread = True
        self._pace()

    def resume_writing(self) -> None:
        self._unread = False
        self._work()

    def wait(self) -> int:
        """A round ends: return how many bytes it is answered with, and asked for with. They are owed until `send`."""
        gathered, self._gathering = self._gathering, 0
        self._owed += gathered
        return gathered

    def send(self, data: bytes, gathered: int) -> None:
        """Send what a round gave; `gathered`: what `wait` returned for it."""
        self._owed -= gathered
        if self._transport.is_closing():
            return
        if data:
            self._transport.write(data)
            if self._unread and self._transport.get_write_buffer_size() > _UNREAD_LIMIT:
                log.warning("%s does not read and is cut off", self.client)
                self.abort()
                return
        if self._paused:
            self._work()

    def close(self) -> None:
        """Close it once what was sent has left."""
        self._transport.close()

    def abort(self) -> None:
        """Cut it off."""
        self.client.closing = True
        self._transport.abort()

    def _work(self) -> None:
        """Hand on what has arrived, as long as not too much is owed for it."""
        client = self.client
        while self._packets and not client.closing and not self._is_full():
            packets, self._packets = self._packets[:_AT_ONCE], self._packets[_AT_ONCE:]
            before = len(client.outputs)
            self._host.arrived(self, packets)
            self._gathering += sum(map(len, packets)) + sum(map(len, client.outputs[before:]))
        if self._frames.error is not None and not self._packets and not client.closing:
            log.warning("%s is closed: %s", client, self._frames.error)
            client.closing = True
            self._host.arrived(self, [])
        self._pace()

    def _is_full(self) -> bool:
        return self._unread or self._owed + self._gathering > _OWED_LIMIT

    def _pace(self) -> None:
        """Read on, or wait, for good reason."""
        pause = self._is_full()
        if pause != self._paused and not self._transport.is_closing():
            self._paused = pause
            if pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()
