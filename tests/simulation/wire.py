"""A simulated connection: two ends, and a pipe each way between them."""

import asyncio
import errno
import os
import zlib
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Final, Protocol

from .loop import SimLoop

SOCKET_BUFFER: Final = 64 * 1024  # bytes on their way in one direction; more waits in the sender's transport
HIGH_WATER: Final = 64 * 1024  # bytes; asyncio's default
RESEND_LIMIT: Final = 924.6  # seconds until a system gives up sending to a silent host (Linux, tcp_retries2 = 15)


class Ending(Enum):
    """What comes behind the last byte of one direction."""

    FIN = "fin"
    RESET = "reset"


class Weather(Protocol):
    """What the network decides for its connections."""

    loop: SimLoop

    def delay(self) -> float:
        """Return the seconds until something on its way arrives."""

    def split(self, size: int) -> int:
        """Return how many of `size` bytes arrive together; 1 … size."""

    def blocked(self, source: str, target: str) -> bool:
        """Return whether nothing gets from one host to the other at present."""

    def note(self, text: str) -> None: ...


class Pipe:
    """One direction: bytes on their way, then perhaps an ending. Keeps the order; what is cut never arrives."""

    def __init__(self, weather: Weather, source: "SimTransport", target: "SimTransport") -> None:
        self._weather = weather
        self._source = source
        self._target = target
        self._bytes = bytearray()
        self._ending: Ending | None = None  # on its way
        self._ended: Ending | None = None  # sent, perhaps arrived
        self._timer: asyncio.TimerHandle | None = None  # until something arrives, or the system gives up
        self._cut = False
        self.delivered = 0  # bytes

    def take(self, waiting: bytearray) -> None:
        """Move bytes from `waiting` onto the way while there is room. A pipe that has ended swallows them all."""
        if self._cut or self._ended is not None:
            waiting.clear()
            return
        room = SOCKET_BUFFER - len(self._bytes)
        self._bytes += waiting[:room]
        del waiting[:room]
        self.push()

    def end(self, ending: Ending) -> None:
        """Let the ending follow the bytes. A reset may come instead of a FIN or behind it, but no FIN for a reset."""
        if not self._cut and self._ended not in (ending, Ending.RESET):
            self._ending = self._ended = ending
            self.push()

    def drop(self) -> None:
        """Lose what is on its way; what is sent later arrives."""
        self._bytes.clear()
        self._ending = None
        self._stop_timer()

    def cut(self) -> None:
        """Lose what is on its way, and whatever is sent later."""
        self._cut = True
        self.drop()

    def retry(self) -> None:
        """Look again whether something gets through."""
        self._stop_timer()
        self.push()

    def push(self) -> None:
        """See to it that what is on its way arrives some time, if the other end can take it."""
        if self._timer is not None or not (self._bytes or self._ending):
            return
        if self._blocked():
            self._timer = self._weather.loop.call_later(RESEND_LIMIT, self._give_up)
        elif self._target.takes:
            self._timer = self._weather.loop.call_later(self._weather.delay(), self._deliver)

    def _blocked(self) -> bool:
        return self._weather.blocked(self._source.local[0], self._target.local[0])

    def _deliver(self) -> None:
        self._timer = None
        way = f"{_text(self._source.local)} > {_text(self._target.local)}"
        if self._blocked() or not self._target.takes:
            pass
        elif self._bytes:
            piece = bytes(self._bytes[: self._weather.split(len(self._bytes))])
            del self._bytes[: len(piece)]
            self.delivered += len(piece)
            self._weather.note(f"{way} {len(piece)} bytes {zlib.crc32(piece):08x}")
            self._target.receive(piece)
            self._source.flush()
        elif self._ending is not None:
            ending, self._ending = self._ending, None
            self._weather.note(f"{way} {ending.value}")
            self._target.receive_ending(ending)
        self.push()

    def _give_up(self) -> None:
        self._timer = None
        self._weather.note(f"{_text(self._source.local)} gives up on {_text(self._target.local)}")
        self._source.lose_silently(TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _text(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"


class SimTransport(asyncio.Transport):
    """One end of a connection, as TCP under asyncio behaves.

    Bytes arrive in order and in pieces that have nothing to do with the writes. Bytes that reach an end which was
    closed are answered with a reset, and an end that closes with unread bytes resets at once; either comes behind the
    bytes already on their way, and loses what the other side had still to send.
    """

    def __init__(self, weather: Weather, local: tuple[str, int], remote: tuple[str, int]) -> None:
        super().__init__({"sockname": local, "peername": remote})
        self.local = local
        self.remote = remote
        self._weather = weather
        self._protocol: asyncio.BaseProtocol | None = None
        self._out = self._in = Pipe(weather, self, self)  # until `join`
        self._waiting = bytearray()  # written, but not yet on its way
        self._high, self._low = HIGH_WATER, HIGH_WATER // 4
        self._reading_paused = self._writing_paused = False
        self._eof_wanted = False  # write_eof was called
        self._unread = False  # bytes came after close
        self._closing = False
        self.lost = False  # the socket is closed
        self._dead = False  # the process is gone
        self.when_lost: Callable[[], object] = bool  # called once, after the protocol

    def join(self, outward: Pipe, inward: Pipe) -> None:
        """Say what lies between this end and the other."""
        self._out, self._in = outward, inward

    def start(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand this end to its protocol; before, nothing is received."""
        self._protocol = protocol
        protocol.connection_made(self)
        self._in.push()

    # What protocols call

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return not self._reading_paused and not self._closing

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        self._reading_paused = False
        self._in.push()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if self._eof_wanted:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._closing or not data:
            return
        self._waiting += memoryview(data).cast("B")
        self._out.take(self._waiting)
        self._pause_writing_if_full()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        if not self._closing:
            self._eof_wanted = True
            self.flush()

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        """Send what was written, then end; nothing is received any more."""
        if not self._closing:
            self._closing = True
            self._in.push()  # what comes from there is refused from now on
            self.flush()

    def abort(self) -> None:
        """End at once; what is not on its way yet is lost."""
        self._lose(None)

    def get_write_buffer_size(self) -> int:
        return len(self._waiting)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        low = high // 4 if low is None else low
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low
        self._pause_writing_if_full()

    # What happens to this end

    @property
    def takes(self) -> bool:
        """Whether bytes that come now are taken, be it to be refused."""
        return self._closing or (self._protocol is not None and not self._reading_paused)

    def flush(self) -> None:
        """Go on sending what waits; end what was to end behind it."""
        if self.lost:
            return
        self._out.take(self._waiting)
        if self._writing_paused and len(self._waiting) <= self._low:
            self._writing_paused = False
            self.get_protocol().resume_writing()
        if not self._waiting:
            if self._closing:
                self._lose(None)
            elif self._eof_wanted:
                self._out.end(Ending.FIN)

    def receive(self, piece: bytes) -> None:
        """Take bytes that have arrived."""
        if self._closing:
            self._unread = True
            if self.lost:
                self._out.end(Ending.RESET)
            return
        protocol = self.get_protocol()
        assert isinstance(protocol, asyncio.Protocol | asyncio.BufferedProtocol)
        try:
            if isinstance(protocol, asyncio.Protocol):
                protocol.data_received(piece)
            else:
                _fill(protocol, piece)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:  # noqa: BLE001 - as asyncio: any error of a protocol costs its connection
            self._fail(exc, "data_received")

    def receive_ending(self, ending: Ending) -> None:
        """Take the end of the stream, or of the connection."""
        if ending is Ending.RESET:
            self.lose_silently(ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)))
        elif not self._closing:
            protocol = self.get_protocol()
            assert isinstance(protocol, asyncio.Protocol | asyncio.BufferedProtocol)
            try:
                keep_open = protocol.eof_received()
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:  # noqa: BLE001 - as above
                self._fail(exc, "eof_received")
            else:
                if not keep_open:
                    self.close()

    def lose_silently(self, error: Exception | None) -> None:
        """Lose the connection, and what is on its way; the other end is told only when it sends something."""
        self._out.drop()
        self._lose(error, tell=False)

    def die(self, *, silently: bool) -> None:
        """The process is gone: its protocol hears nothing any more. Unless `silently`, the system closes for it."""
        self._dead = True
        if silently:
            self._out.drop()
        self._lose(None, tell=not silently)

    def _lose(self, error: Exception | None, *, tell: bool = True) -> None:
        self._closing = True
        if self.lost:
            return
        self.lost = True
        self._waiting.clear()
        if tell:
            self._out.end(Ending.RESET if self._unread else Ending.FIN)
        self._in.push()
        self._weather.loop.call_soon(self._tell_lost, error)

    def _tell_lost(self, error: Exception | None) -> None:
        if not self._dead and self._protocol is not None:
            self._protocol.connection_lost(error)
        self.when_lost()

    def _fail(self, error: BaseException, call: str) -> None:
        context = {"message": f"Fatal error: protocol.{call}() call failed.", "exception": error, "transport": self}
        self._weather.loop.call_exception_handler(context)
        self._lose(error if isinstance(error, Exception) else None)

    def _pause_writing_if_full(self) -> None:
        if len(self._waiting) > self._high and not self._writing_paused and self._protocol is not None:
            self._writing_paused = True
            self._protocol.pause_writing()


def _fill(protocol: asyncio.BufferedProtocol, piece: bytes) -> None:
    """Hand a piece to a protocol that has its own buffer, in as many parts as it takes."""
    while piece:
        buffer = memoryview(protocol.get_buffer(len(piece)))
        part = piece[: len(buffer)]
        buffer[: len(part)] = part
        protocol.buffer_updated(len(part))
        piece = piece[len(part) :]
