"""Listening: accept, serve, close in order."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, cast

from metaq.net.connection import Connection, Handler
from metaq.net.connections import Connections
from metaq.ports import Network
from metaq.protocol.decoder import Limits

log = logging.getLogger(__name__)

_BACKLOG: Final = 4096  # connections that wait to be accepted; what is beyond is dialled again a second later
_SILENCE: Final = 0.3  # seconds; ZooKeeper's watches have fired by then
_LOOK: Final = 0.004  # seconds between looks whether a broker without room has some again


class Listener:
    """Accepts connections for a handler. Closes those that stay idle, holds producers while it is congested."""

    def __init__(self, network: Network, handler: Handler, limits: Limits, idle_timeout: float) -> None:
        self._network = network
        self._handler = handler
        self._limits = limits
        self._idle_timeout = idle_timeout
        self._server: asyncio.AbstractServer | None = None
        self.connections = Connections()
        self.port = 0

    async def open(self, host: str | None, port: int) -> None:
        """Listen; `port` 0 takes any free one, `.port` says which. OSError if it is taken."""
        # for the types a network takes Protocols alone; event loops take both kinds
        factory = cast(Callable[[], asyncio.Protocol], self._connection)
        self._server = await self._network.listen(factory, host, port, backlog=_BACKLOG)
        self.port = self._bound_port(port)

    def _bound_port(self, wanted: int) -> int:
        sockets = getattr(self._server, "sockets", None)
        if not sockets:
            return wanted
        port: int = sockets[0].getsockname()[1]
        return port

    def _connection(self) -> Connection:
        return Connection(self._handler, self._limits, self.connections)

    async def watch(self) -> None:
        """Look after the connections until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._idle_timeout
        while True:
            await asyncio.sleep(_LOOK if self.connections.waiting else 0.5)
            if self.connections.waiting:
                self.connections.let_go(self._handler.room(), self._handler.calm())
            self.connections.look(loop.time())
            if loop.time() >= due:
                due = loop.time() + self._idle_timeout
                self.connections.close_idle()

    async def silence(self, most: float) -> None:
        """Wait until no peer has sent anything for a while, at most `most` seconds."""
        loop = asyncio.get_running_loop()
        end = loop.time() + most
        while loop.time() < end:
            for connection in self.connections.all:
                connection.active = False
            await asyncio.sleep(min(_SILENCE, max(0.0, end - loop.time())))
            if not any(connection.active for connection in self.connections.all):
                return

    async def close(self) -> None:
        """Accept no more and close what is open once its replies have left; after a second, at once."""
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections.all):
            connection.finish()
        try:
            async with asyncio.timeout(1.0):
                await self.connections.gone()
        except TimeoutError:
            for connection in list(self.connections.all):
                connection.abort()
