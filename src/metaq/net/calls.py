"""One live outgoing connection: requests matched to their replies by opaque, each with a time-out.

`link.Link` makes these, one after the other, and is what everybody else uses.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, Protocol, runtime_checkable

from metaq.errors import ClientError, LinkClosed, NoBroker, RequestTimeout
from metaq.model import BrokerAddress
from metaq.protocol.commands import Reply, Result, Value
from metaq.protocol.decoder import Decoder, Limits

_JOIN_UP_TO: Final = (
    256 << 10
)  # bytes; what one turn of the loop collects is written at the latest when it is this much


@runtime_checkable
class Wire(Protocol):
    """The part of a transport that is used here; uvloop's are no asyncio.Transport by inheritance."""

    def write(self, data: bytes, /) -> None: ...
    def abort(self) -> None: ...


class Call(ABC):
    """A request on its way. Exactly one of `answer` and `fail` is called, once, from the loop; neither may raise."""

    __slots__ = ("deadline", "size")

    deadline: float  # loop time
    size: int  # bytes of the request, for the limit of bytes in flight

    @abstractmethod
    def answer(self, reply: Reply) -> None:
        """Take the reply, whatever its status."""

    @abstractmethod
    def fail(self, error: ClientError) -> None:
        """Learn that no reply will come: RequestTimeout or LinkClosed. The request may have been carried out."""


class Connection(asyncio.Protocol):
    """Requests out, replies in, until the connection is lost. `lost` then holds the reason; it never raises.

    `on_end` is called once, as soon as nothing more can be sent, before any call fails. What is sent during one turn
    of the loop leaves in one write. A reply nobody waits for (any more) is ignored.
    """

    def __init__(self, address: BrokerAddress, limits: Limits, on_end: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._address = address
        self._on_end = on_end
        self._decoder = Decoder(limits)
        self._transport: Wire | None = None
        self._pending: dict[int, Call] = {}
        self._out: list[bytes] = []
        self._out_size = 0
        self._timer: asyncio.TimerHandle | None = None
        self._reason: str | None = None
        self._paused = False
        self._room: list[asyncio.Future[None]] = []
        self.in_flight = 0  # bytes of requests without an answer
        self.used = self._loop.time()  # when bytes last came, or the first request left that waits for an answer
        self.lost: asyncio.Future[str] = self._loop.create_future()

    # what a link does with it

    def send(self, opaque: int, call: Call, frame: bytes, *, at_once: bool = False) -> None:
        """Send a request; `call` learns of its outcome, at the latest at its deadline."""
        if self._transport is None or self._reason is not None:
            call.fail(NoBroker(f"{self._address}: not sent: {self._reason or 'not connected yet'}"))
            return
        if not self._pending:
            self.used = self._loop.time()
        self._pending[opaque] = call
        self.in_flight += call.size
        if not self._out and not at_once:
            self._loop.call_soon(self._flush)
        self._out.append(frame)
        self._out_size += len(frame)
        if at_once or self._out_size > _JOIN_UP_TO:
            self._flush()
        if self._timer is None or call.deadline < self._timer.when():
            self._watch(call.deadline)

    def waits_for(self, opaque: int) -> bool:
        """Say whether a request with this opaque has no reply yet."""
        return opaque in self._pending

    def has_room(self, limit: int) -> bool:
        """Say whether the peer keeps up: fewer than `limit` bytes in flight and the socket takes more."""
        return self.in_flight < limit and not self._paused

    async def room(self, limit: int) -> None:
        """Wait until there is room, or the connection is lost."""
        while not self.has_room(limit) and not self.lost.done():
            waiter = self._loop.create_future()
            self._room.append(waiter)
            await waiter

    def drop(self, reason: str) -> None:
        """Close at once; every waiting call fails with LinkClosed. The first reason given is the one that is told."""
        self._end(reason)
        if self._transport is not None:
            self._transport.abort()

    def _end(self, reason: str) -> None:
        if self._reason is None:
            self._reason = reason
            self._on_end()

    # what the loop does with it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, Wire)
        self._transport = transport
        if self._reason is not None:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        self.used = self._loop.time()
        pop = self._pending.pop
        for reply in self._decoder.feed(data):
            if not isinstance(reply, Result | Value):
                self.drop(f"sent a request ({type(reply).__name__.lower()}) where a reply was due")
                return
            call = pop(reply.opaque, None)
            if call is not None:
                self.in_flight -= call.size
                call.answer(reply)
        if self._decoder.error is not None:
            self.drop(f"broke the protocol: {self._decoder.error}")
        elif self._room and not self._paused:
            self._wake()

    def eof_received(self) -> bool:
        self._end("closed by the broker")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._end(str(exc) if exc else "closed by the broker")
        reason = self._reason or ""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._out.clear()
        if not self.lost.done():
            self.lost.set_result(reason)
        pending, self._pending, self.in_flight = self._pending, {}, 0
        for call in pending.values():
            error = LinkClosed(f"{self._address}: {reason}")
            error.__cause__ = exc
            call.fail(error)
        self._wake()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._wake()

    def _flush(self) -> None:
        out, self._out, self._out_size = self._out, [], 0
        if out and self._transport is not None:
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    def _wake(self) -> None:
        waiters, self._room = self._room, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _watch(self, deadline: float) -> None:
        """Have one timer for all calls; it is due when the first of them is."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        """Fail the calls that are due; those answered meanwhile cost nothing."""
        self._timer = None
        now = self._loop.time()
        due = [opaque for opaque, call in self._pending.items() if call.deadline <= now]
        for opaque in due:
            call = self._pending.pop(opaque)
            self.in_flight -= call.size
            call.fail(RequestTimeout(f"{self._address}: no answer in time"))
        if self._pending and self._timer is None:
            self._watch(min(call.deadline for call in self._pending.values()))
        if due:
            self._wake()
