"""The real `Network` of `ports`: sockets of the running event loop."""

import asyncio
import socket
from collections.abc import Callable


class Streams:
    """Listens and dials over TCP. Small requests leave at once (TCP_NODELAY), dead peers are noticed (SO_KEEPALIVE)."""

    async def listen(
        self, factory: Callable[[], asyncio.Protocol], host: str | None, port: int, *, backlog: int = 1000
    ) -> asyncio.AbstractServer:
        """Accept connections; host None means all addresses, port 0 any free one. OSError if it is taken."""
        loop = asyncio.get_running_loop()
        return await loop.create_server(factory, host, port, backlog=backlog, reuse_address=True)

    async def connect(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> asyncio.Transport:
        """Dial; the protocol's connection_made has been called when this returns. OSError if nobody answers."""
        transport, _ = await asyncio.get_running_loop().create_connection(factory, host, port)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return transport
