"""How TCP finds its pace towards a peer that may be far away (Linux: TCP_CONGESTION).

The usual way takes each packet that is lost for a crowded line and slows down; over a long line that loses one of a
thousand little is left. Others measure the line, such as bbr.
"""

import asyncio
import logging
import socket
from typing import Final

log = logging.getLogger(__name__)

_OPTION: Final[int | None] = getattr(socket, "TCP_CONGESTION", None)  # None: no system that lets it be chosen


class Pace:
    """Has connections find their pace like `name`; "": as the system does. Where that cannot be it says so, once."""

    def __init__(self, name: str) -> None:
        self._name = name

    def choose(self, transport: asyncio.BaseTransport | None) -> None:
        """Have one connection do so."""
        sock = None if transport is None else transport.get_extra_info("socket")
        if not self._name or sock is None:
            return
        try:
            if _OPTION is None:
                raise OSError("this system does not let it be chosen")
            sock.setsockopt(socket.IPPROTO_TCP, _OPTION, self._name.encode())
        except OSError as exc:
            log.warning(
                "replicaCongestionControl=%s: not to be had, slaves far away may be slow to copy: %s", self._name, exc
            )
            self._name = ""


AS_THE_SYSTEM: Final = Pace("")
