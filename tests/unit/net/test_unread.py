"""Where replies wait that nobody reads: in the broker, where they are counted, not in the system."""

import asyncio
import socket

import pytest

from metaq.net.connection import Connection
from metaq.net.connections import Connections
from tests.unit.net.conftest import connected

MIB = 1 << 20
LITTLE = 256 << 10

pytestmark = pytest.mark.skipif(
    not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="this system takes as much as it likes"
)


async def read(peer: socket.socket, size: int) -> None:
    async with asyncio.timeout(10):
        while size:
            size -= len(await asyncio.get_running_loop().sock_recv(peer, size))


def taken(connection: Connection) -> int:
    """Return how many bytes that wait to be sent the system takes at most; 0: as many as it likes."""
    assert connection._transport is not None
    value: int = connection._transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)
    return value


async def test_the_system_takes_little_of_what_a_peer_does_not_read_and_all_else_is_counted() -> None:
    connections = Connections()
    async with connected(connections) as (connection, _):
        connection.send_parts([bytes(8 * MIB)])
        assert connection.unread() > 7 * MIB
        assert connections.sending.used == 8 * MIB, "what has left in part is kept whole"
    assert connections.sending.used == 0


async def test_the_system_takes_what_it_likes_for_a_peer_that_has_read_until_the_next_look() -> None:
    connections = Connections()
    async with connected(connections) as (connection, peer):
        assert taken(connection) == LITTLE
        connection.send_parts([bytes(4 * MIB)])
        await read(peer, 4 * MIB)
        async with asyncio.timeout(10):
            while connection.full():
                await asyncio.sleep(0)
        assert taken(connection) == 0
        connections.look(asyncio.get_running_loop().time())
        assert taken(connection) == LITTLE
        connection.send_parts([bytes(8 * MIB)])
        assert connection.unread() > 7 * MIB


async def test_a_connection_that_is_closed_is_forgotten_before_its_number_goes_to_another() -> None:
    connections = Connections()
    async with connected(connections) as (connection, peer):
        connection.send_parts([bytes(4 * MIB)])
        await read(peer, 4 * MIB)
        async with asyncio.timeout(10):
            while connection.full():
                await asyncio.sleep(0)
        assert connections.unsent._free
    assert not connections.unsent._free
