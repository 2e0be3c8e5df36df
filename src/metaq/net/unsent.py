"""How much the system takes of what a peer is sent, beyond what is on its way (Linux: TCP_NOTSENT_LOWAT).

Left to itself it takes megabytes of what a peer does not read. Nobody counts them, and copying them, for thousands of
such peers, takes the time that others need. So it takes little, but of what is sent to a peer that has just shown that
it reads: what is taken at once need not be kept, and wakes the broker less often.
"""

import asyncio
import socket
from contextlib import suppress
from typing import Final

_OPTION: Final[int | None] = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # None: it takes what it likes
_LITTLE: Final = 256 << 10  # bytes
_AS_IT_LIKES: Final = 0


class Unsent:
    """Those of a listener's connections that the system may take as much for as it likes, until `look` is called."""

    def __init__(self) -> None:
        self._free: dict[asyncio.BaseTransport, None] = {}

    def bound(self, transport: asyncio.BaseTransport) -> None:
        """Have the system take little for a new connection."""
        _set(transport, _LITTLE)

    def free(self, transport: asyncio.BaseTransport) -> None:
        """Hear that a peer has read all that it was sent."""
        if transport not in self._free:
            self._free[transport] = None
            _set(transport, _AS_IT_LIKES)

    def forget(self, transport: asyncio.BaseTransport) -> None:
        """Forget a connection that is about to be closed: another may get its number."""
        self._free.pop(transport, None)

    def look(self) -> None:
        """Have the system take little again for all: who reads on shows it again."""
        for transport in self._free:
            _set(transport, _LITTLE)
        self._free.clear()


def _set(transport: asyncio.BaseTransport, most: int) -> None:
    sock = transport.get_extra_info("socket")
    if sock is not None and _OPTION is not None:
        with suppress(OSError):  # the peer has gone, or it is no connection of TCP
            sock.setsockopt(socket.IPPROTO_TCP, _OPTION, most)
