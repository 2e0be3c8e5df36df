"""Memory that the connections of a listener share: counted as it is taken, first come first served when it is scarce.

One room is for bodies that are being received, one for replies that wait to be read. Both are bounded whatever peers
do; without that, 5,000 peers that each begin a body of 8 MiB, or never read, would take 40 GB.

Replies can be shorter than asked for, bodies cannot. So the more of their room is taken the less one reply may bring
(dynamic thresholds: Choudhury and Hahne, 1998): those who never read have little of it each, and who reads goes on.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

FLOOR: Final = 16 << 10  # bytes: the least share
_AT_ONCE: Final = 16  # members that go on in one turn of the loop
_RESERVE: Final = 96 << 20  # bytes that are left to shares of `FLOOR`: as many as 6,144 of them
_PART: Final = 64  # a share is this part of what is left beside that
_WHOLE: Final = 1 << 20  # bytes: while shares would be as large, nobody is kept from taking more


class Member(Protocol):
    """A connection, as a room knows it. Members are told apart by identity."""

    @property
    def held(self) -> bool:
        """Whether it is the broker that does not let it go on."""

    def stalled(self, room: "Room", /) -> None:
        """Hear that it has held memory for too long while others wait for it; it gives it back at once."""


class Room:
    """So many bytes. Who asks while they are taken waits in `line`; a single member may exceed what is left.

    Invariants: `used` is the sum of what members have; nobody waits while there is room, beyond the turn of the loop
    that wakes it; who waits for `patience` seconds has those dropped who have had theirs for as long.
    """

    def __init__(self, most: int, patience: float) -> None:
        self.most = most
        self.used = 0
        self.closed = False  # those in line go on by `serve` alone
        self._patience = patience
        self._holders: dict[Member, tuple[int, float]] = {}  # bytes, and since when; the oldest first
        self.line: dict[Member, tuple[Callable[[], None], float]] = {}
        self._waking = False
        self._easy = most - _RESERVE - _PART * _WHOLE  # bytes taken up to which a share is as large as anybody asks
        self._time = asyncio.get_running_loop().time

    @property
    def scarce(self) -> bool:
        """Whether who asks now must wait."""
        return self.closed or self.used >= self.most or bool(self.line)

    def share(self) -> int:
        """Return how many bytes who can do with less should take now, at least `FLOOR`."""
        if self.used <= self._easy:
            return self.most
        return max(FLOOR, (self.most - _RESERVE - self.used) // _PART)

    def take(self, member: Member, size: int) -> None:
        """Count bytes that a member has, without asking whether there is room."""
        held, since = self._holders.get(member, (0, 0.0))
        self._holders[member] = (held + size, since if held else self._time())
        self.used += size

    def give(self, member: Member) -> None:
        """Take back all that a member has."""
        size, _ = self._holders.pop(member, (0, 0.0))
        self.used -= size
        self._wake()

    def give_some(self, member: Member, size: int) -> None:
        """Take back so many bytes of what a member has."""
        held, since = self._holders.get(member, (0, 0.0))
        if held <= size:
            self.give(member)
        else:
            self._holders[member] = (held - size, since)
            self.used -= size
            self._wake()

    def wait(self, member: Member, go_on: Callable[[], None]) -> None:
        """Have a member go on when there is room: when it is told, it may take what it wants."""
        self.line.setdefault(member, (go_on, self._time()))
        self._wake()

    def leave(self, member: Member) -> None:
        """Forget a member that is gone."""
        self.line.pop(member, None)
        self.give(member)

    def open(self, open: bool) -> None:
        """Close it: those in line go on by `serve` alone. Or open it again."""
        self.closed = not open
        self._wake()

    def serve(self, size: int) -> None:
        """Let those go on who are first in line, until they have taken so many bytes, or there is no room."""
        goal = self.used + size
        while self.line and self.used < min(self.most, goal):
            self._next()

    def _wake(self) -> None:
        if not self.closed and self.line and self.used < self.most and not self._waking:
            self._waking = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._waking = False
        for _ in range(_AT_ONCE):
            if self.closed or not self.line or self.used >= self.most:
                return
            self._next()
        self._wake()

    def _next(self) -> None:
        member = next(iter(self.line))
        go_on, _ = self.line.pop(member)
        go_on()

    def look(self) -> None:
        """Drop those who have held memory for too long, if somebody has waited for it as long."""
        if not self.line:
            return
        now = self._time()
        _, since = next(iter(self.line.values()))
        if now - since < self._patience:
            return
        for member, (size, taken) in list(self._holders.items()):
            if member.held:
                self._holders[member] = (size, now)  # it could not give anything back
            elif now - taken >= self._patience:
                member.stalled(self)
