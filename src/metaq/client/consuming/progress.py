"""How far the messages of one partition are dealt with. Pure."""

from collections import deque
from collections.abc import Sequence

from metaq.client.message import Message
from metaq.cluster.znodes import Position


class Progress:
    """A position: all messages before its offset are dealt with, the one after it perhaps not."""

    def __init__(self, position: Position) -> None:
        self.position = position
        self._pending: deque[tuple[int, int, int]] = deque()  # begun, not before the position: offset, id, end
        self._done: set[int] = set()  # offsets of those among them that are dealt with

    @property
    def pending(self) -> int:
        """Return how many messages have begun and are not before the position."""
        return len(self._pending)

    def reach(self, id: int, end: int) -> None:
        """Take the message `id`, which ends at an offset, and all before it for dealt with, unless they are already."""
        if end <= self.position.offset:
            return
        self.position = Position(id, end)
        while self._pending and self._pending[0][0] < end:
            self._done.discard(self._pending.popleft()[0])
        self._move()

    def begin(self, messages: Sequence[Message]) -> None:
        """Note messages that may be dealt with in any order; they follow those begun before."""
        self._pending.extend((message.offset, message.id, message.next_offset) for message in messages)

    def finish(self, message: Message) -> None:
        """Note that a message that was begun is dealt with."""
        if message.offset < self.position.offset:
            return
        self._done.add(message.offset)
        self._move()

    def _move(self) -> None:
        while self._pending and self._pending[0][0] in self._done:
            offset, id, end = self._pending.popleft()
            self._done.discard(offset)
            self.position = Position(id, end)
