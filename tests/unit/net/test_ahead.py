"""How much a producer may have under way before its puts are answered: its part of what all may have."""

import asyncio
import socket
from collections.abc import Sequence

from metaq.net.connection import Connection
from metaq.net.connections import Connections
from metaq.protocol.commands import Command, Put
from tests.unit.net.conftest import connected

MIB = 1 << 20
ALL = 8 * MIB  # that all producers together may have under way
PIECE = MIB // 4  # read at once
BODY = bytes(2000)
PUT = b"put test 0 %d 0 -1 1\r\n%b" % (len(BODY), BODY)


class Unanswered:
    """A handler that has all puts wait for a disk which does not write."""

    def execute(self, peer: Connection, commands: Sequence[Command], /) -> None:
        peer.unsafe += sum(len(command.body) for command in commands if isinstance(command, Put))

    def room(self) -> int:
        return 0

    def calm(self) -> bool:
        return True


async def reads_no_more(connection: Connection, size: int) -> None:
    """Wait until so much has been put, and see that there it stops, though more has come."""
    async with asyncio.timeout(20):
        while connection.unsafe <= size:
            await asyncio.sleep(0)
    for _ in range(100):
        await asyncio.sleep(0)
    assert connection.unsafe <= size + PIECE


async def test_a_producer_is_read_from_until_it_has_its_share_under_way_and_again_when_that_is_answered() -> None:
    connections = Connections()
    async with connected(connections, Unanswered()) as (connection, peer):
        sending = asyncio.ensure_future(send(peer, 3 * ALL))
        await reads_no_more(connection, ALL)
        connections.share_with_one_more()
        answered = connection.unsafe - ALL // 2
        connection.acknowledge(b"", answered)
        assert connection.unsafe == ALL // 2, "that is all of its share, as there are two now"
        connection.acknowledge(b"", ALL // 4)
        await reads_no_more(connection, ALL // 2)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def send(peer: socket.socket, size: int) -> None:
    await asyncio.get_running_loop().sock_sendall(peer, PUT * (size // len(PUT)))
