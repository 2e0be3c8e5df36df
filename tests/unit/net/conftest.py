"""The broker's end of a connection, without a broker."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from metaq.net.connection import Connection, Handler
from metaq.net.connections import Connections
from metaq.protocol.commands import Command
from metaq.protocol.decoder import Limits


class Idle:
    """A handler that does nothing."""

    def execute(self, peer: Connection, commands: Sequence[Command], /) -> None: ...
    def room(self) -> int:
        return 0

    def calm(self) -> bool:
        return True


@asynccontextmanager
async def connected(
    connections: Connections, handler: Handler | None = None
) -> AsyncIterator[tuple[Connection, socket.socket]]:
    """Yield the broker's end of a connection, and the other: nobody reads from it yet."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(handler or Idle(), Limits(), connections), "127.0.0.1", 0)
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        peer.setblocking(False)
        await loop.sock_connect(peer, server.sockets[0].getsockname())
        async with asyncio.timeout(10):
            while not connections.all:
                await asyncio.sleep(0)
        (connection,) = connections.all
        yield connection, peer
        connection.abort()
        await connections.gone()
    server.close()
