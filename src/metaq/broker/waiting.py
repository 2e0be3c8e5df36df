"""Long polls: commands that wait for something to be there (docs/protocol.md §9).

A poll is registered with its partitions, with the deadlines and with its peer. What happens first decides:

    partition  woken   it is answered with what is there now; if that is nothing, it waits on
    deadlines  expire  it is answered that there is nothing
    peer       end     the same: the connection ends in order
    peer       gone    the connection is lost, nobody is there to be answered
    peer       free    it is answered now, since its peer reads again what it is sent
"""

import logging
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from metaq.broker.deadlines import Deadlines
from metaq.broker.ports import Buffer, Peer
from metaq.model import TopicPartition
from metaq.ports import Scheduler
from metaq.store.watching import Watching

log = logging.getLogger(__name__)

C = TypeVar("C")
C_contra = TypeVar("C_contra", contravariant=True)

LONGEST: Final = 60_000  # ms
MOST: Final = 1 << 18  # partitions that all polls together wait for, at some 700 bytes each


_AT_ONCE: Final = 256  # polls of one partition that are answered in one turn of the loop: some 2 ms


class Reads(Protocol[C_contra]):
    """Answers one kind of command."""

    def look(self, peer: Peer, command: C_contra, /) -> list[Buffer] | None:
        """Return the reply, empty if it is sent later; None: there is nothing yet, and there may be."""

    def nothing(self, command: C_contra, /) -> bytes:
        """Return the reply that there was nothing all the time."""


class Polls:
    """All commands that wait. `lines` is the number of partitions that they wait for."""

    def __init__(self, watching: Watching, scheduler: Scheduler) -> None:
        self.watching = watching
        self.deadlines = Deadlines(scheduler)
        self.lines = 0
        self._call_soon = scheduler.call_soon
        self._woken: deque[Poll[Any]] = deque()

    def park(self, peer: Peer, command: C, wait: int, keys: Sequence[TopicPartition], reads: Reads[C]) -> list[Buffer]:
        """Have a command wait for one of the partitions `keys`, at most `wait` ms; return its reply if it may not.

        That is where too much waits already: it is told that there is nothing, as without a wait.
        """
        poll = Poll(self, peer, command, keys, reads)
        if self.lines + len(keys) > MOST or not peer.park(poll, len(keys)):
            return [reads.nothing(command)]
        self.lines += len(keys)
        poll.begin(self.deadlines.end_of(min(wait, LONGEST)))
        return []

    def answer_later(self, poll: "Poll[Any]") -> None:
        """Answer a poll in a later turn of the loop, so that commands of others are carried out in between."""
        self._woken.append(poll)
        if len(self._woken) == 1:
            self._call_soon(self._answer_some)

    def _answer_some(self) -> None:
        for _ in range(min(_AT_ONCE, len(self._woken))):
            self._woken.popleft().answer()
        if self._woken:
            self._call_soon(self._answer_some)


class Poll(Generic[C]):
    """One command that waits."""

    __slots__ = ("_command", "_end", "_keys", "_over", "_peer", "_polls", "_reads")

    def __init__(self, polls: Polls, peer: Peer, command: C, keys: Sequence[TopicPartition], reads: Reads[C]) -> None:
        self._polls = polls
        self._peer = peer
        self._command = command
        self._keys = keys
        self._reads = reads
        self._end = 0
        self._over = False

    def begin(self, end: int) -> None:
        """Wait until then."""
        self._end = end
        for key in self._keys:
            self._polls.watching.watch(key, self)
        self._polls.deadlines.add(self, end)

    def _leave(self) -> None:
        for key in self._keys:
            self._polls.watching.unwatch(key, self)
        self._polls.deadlines.remove(self, self._end)

    def woken(self, nth: int) -> None:
        """Answer: something happened in a partition."""
        self._leave()
        if nth < _AT_ONCE:
            self.answer()
        else:
            self._polls.answer_later(self)

    def answer(self) -> None:
        """Answer with what is there now, when the peer takes it."""
        if self._peer.full():
            self._peer.when_free(self)
        else:
            self.free()

    def free(self) -> None:
        """Answer: the peer takes what it is sent."""
        if self._over:
            return
        try:
            reply = self._reads.look(self._peer, self._command)
        except Exception:  # whatever it is costs this connection, not the round that woke it
            log.exception("a poll could not be answered, connection closed")
            self._peer.abort()
            return
        if reply is None:
            self.begin(self._end)
        else:
            self._finish(reply)

    def expire(self) -> None:
        """Answer: the time is up."""
        self._leave()
        if self._peer.full():
            self._peer.when_free(self)
        elif not self._over:
            self.end()

    def end(self) -> None:
        """Answer that there is nothing: the connection ends."""
        self._leave()
        self._finish([self._reads.nothing(self._command)])

    def gone(self) -> None:
        """Forget it: the connection is lost."""
        self._leave()
        self._finish([])

    def _finish(self, reply: list[Buffer]) -> None:
        self._over = True
        self._polls.lines -= len(self._keys)
        self._peer.unpark(self, len(self._keys))
        if reply:
            self._peer.send_parts(reply)
