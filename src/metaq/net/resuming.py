"""Connections go on after their peers have read: few in one turn of the loop, as each may be sent a megabyte at once.

Without that, hundreds of peers that begin to read at the same time would keep all others waiting.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

AT_ONCE: Final = 4 << 20  # bytes sent in one turn, beside what the last one is sent beyond that


class Resuming:
    """The line of those that are to go on, first come first served. Where they are added there is a running loop."""

    def __init__(self) -> None:
        self.sent = 0  # bytes, of all connections of a listener; counted by them
        self._line: deque[Callable[[], None]] = deque()
        self._awake = False

    def add(self, go_on: Callable[[], None]) -> None:
        """Call it when its turn comes, not at once; also if its connection has gone meanwhile."""
        self._line.append(go_on)
        self._wake()

    def _wake(self) -> None:
        if self._line and not self._awake:
            self._awake = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._awake = False
        goal = self.sent + AT_ONCE
        try:
            while self._line and self.sent < goal:
                self._line.popleft()()
        finally:
            self._wake()
