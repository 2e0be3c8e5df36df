"""A small server of HTTP/1.1 for one document, which is made anew each time. Needs h11 (the extra `metrics`).

Answers are made one at a time. What a client sends is bounded, and so are clients: of one that waits nothing more is
read, and one that is silent for a minute is closed.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, cast

import h11

from metaq.ports import Network

log = logging.getLogger(__name__)

_MOST: Final = 64  # connections
_SILENCE: Final = 60.0  # seconds
_LONGEST_HEAD: Final = 16 << 10
_TEXT: Final = "text/plain; charset=utf-8"

Make = Callable[[str], Awaitable[tuple[str, bytes]]]  # Accept header → Content-Type and body


class Server:
    """Serves what `make` returns at `path`."""

    def __init__(self, network: Network, path: str, make: Make) -> None:
        self._network = network
        self.path = path
        self.make = make
        self.connections: set[_Connection] = set()
        self.turn = asyncio.Lock()  # who has an answer made
        self._server: asyncio.AbstractServer | None = None
        self.port = 0

    async def open(self, host: str, port: int) -> None:
        """Listen; port 0 takes any free one, `.port` says which. OSError if it is taken."""
        self._server = await self._network.listen(lambda: _Connection(self), host, port)
        sockets = getattr(self._server, "sockets", None)
        self.port = sockets[0].getsockname()[1] if sockets else port

    async def close(self) -> None:
        """Hang up, once the answer that is being made is there."""
        if self._server is not None:
            self._server.close()
        tasks = [each.task for each in self.connections if each.task is not None]
        for each in list(self.connections):
            each.abort()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Connection(asyncio.Protocol):
    """One client. `task` makes the answer under way; while there is one nothing is read."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_LONGEST_HEAD)
        self._transport: asyncio.Transport
        self._request: h11.Request | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one, but not by inheritance
        if len(self._server.connections) >= _MOST:
            transport.close()
            return
        self._server.connections.add(self)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._stop_waiting()

    def abort(self) -> None:
        """Hang up at once."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._http.receive_data(data)
        self._go_on()

    def eof_received(self) -> bool:
        self.data_received(b"")
        return True  # closed once it has its answer

    def _go_on(self) -> None:
        """Take what has come, up to the next whole request; what is none ends the connection."""
        if self.task is not None:
            return
        try:
            whole = self._take()
        except h11.RemoteProtocolError as exc:
            if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                self._answer(exc.error_status_hint, _TEXT, f"{exc}\n".encode())
            self._transport.close()
            return
        if whole:
            self._stop_waiting()
            self._transport.pause_reading()
            self.task = asyncio.create_task(self._serve(), name="metrics")
            self.task.add_done_callback(self._served)

    def _take(self) -> bool:
        """Return whether a whole request has come. Raises RemoteProtocolError."""
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self._request = event
            elif isinstance(event, h11.EndOfMessage):
                return True
            elif isinstance(event, h11.ConnectionClosed):
                self._transport.close()
                return False
            elif not isinstance(event, h11.Data):
                return False

    async def _serve(self) -> None:
        request = self._request
        assert request is not None
        path = request.target.partition(b"?")[0].decode("latin-1")
        if path != self._server.path:
            self._answer(404, _TEXT, f"what there is is at {self._server.path}\n".encode())
        elif request.method not in (b"GET", b"HEAD"):
            self._answer(405, _TEXT, b"only GET and HEAD\n")
        else:
            accept = ",".join(value.decode("latin-1") for name, value in request.headers if name == b"accept")
            async with self._server.turn:
                if not self._transport.is_closing():
                    self._answer(200, *await self._server.make(accept))

    def _served(self, task: asyncio.Task[None]) -> None:
        """Turn to the next request of the client, if it is to have one."""
        self.task = None
        if task.cancelled() or self._transport.is_closing():
            return
        if (error := task.exception()) is not None:
            log.error("metrics could not be made", exc_info=error)
            self._answer(500, _TEXT, b"see the broker's log\n")
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            self._transport.close()
            return
        self._http.start_next_cycle()
        self._wait()
        self._transport.resume_reading()
        self._go_on()

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
        if status == 405:
            headers.append(("Allow", "GET, HEAD"))
        head = self._http.send(h11.Response(status_code=status, headers=headers))
        is_head = self._request is not None and self._request.method == b"HEAD"
        data = None if is_head else self._http.send(h11.Data(data=body))
        end = self._http.send(h11.EndOfMessage())
        self._transport.writelines([part for part in (head, data, end) if part])

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_SILENCE, self._transport.abort)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
