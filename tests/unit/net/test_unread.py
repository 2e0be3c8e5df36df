"""Where replies wait that nobody reads: in the broker, where they are counted, not in the system."""

import asyncio
import socket
from collections.abc import Sequence

import pytest

from metaq.net.connection import Connection
from metaq.net.connections import Connections
from metaq.protocol.commands import Command
from metaq.protocol.decoder import Limits

MIB = 1 << 20


class Idle:
    """A handler that does nothing."""

    def execute(self, peer: Connection, commands: Sequence[Command], /) -> None: ...
    def room(self) -> int:
        return 0

    def calm(self) -> bool:
        return True


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="this system takes as much as it likes")
async def test_the_system_takes_little_of_what_a_peer_does_not_read_and_all_else_is_counted() -> None:
    loop = asyncio.get_running_loop()
    connections = Connections()
    server = await loop.create_server(lambda: Connection(Idle(), Limits(), connections), "127.0.0.1", 0)
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        deaf.setblocking(False)
        await loop.sock_connect(deaf, server.sockets[0].getsockname())
        async with asyncio.timeout(10):
            while not connections.all:
                await asyncio.sleep(0)
        (connection,) = connections.all
        connection.send_parts([bytes(8 * MIB)])
        assert connection.unread() > 7 * MIB
        assert connections.sending.used == 8 * MIB, "what has left in part is kept whole"
        connection.abort()
        await connections.gone()
    server.close()
    assert connections.sending.used == 0
