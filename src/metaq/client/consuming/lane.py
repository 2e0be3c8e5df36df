"""Messages that are handled one after the other."""

import asyncio
from collections import deque
from collections.abc import Hashable
from itertools import islice
from typing import Final, Protocol

from metaq.client.consuming.duplicates import Duplicates
from metaq.client.consuming.handlers import Piece
from metaq.client.consuming.stream import Stream
from metaq.client.message import Message

_PIECE: Final = 100  # messages handled at a turn, before another lane has its turn


class Owner(Protocol):
    """Who has lanes: a dispatcher."""

    @property
    def acks(self) -> bool:
        """Whether a message that was handled is dealt with."""

    @property
    def duplicates(self) -> Duplicates | None:
        """What is to be told of messages that are dealt with."""

    def queue(self, lane: "Lane") -> None:
        """Give a lane its turn."""

    def retire(self, lane: "Lane") -> None:
        """Have done with a lane, of which no handler has anything."""


class Lane:
    """Messages handled in order: those of a partition, or of one key in it. At most one handler at a time."""

    def __init__(self, key: Hashable, stream: Stream, owner: Owner) -> None:
        self.key = key
        self.stream = stream
        self.messages: deque[Message] = deque()
        self.failures = 0  # of the first one, in a row
        self.is_stopped = False
        self.is_rejecting = False  # the first one
        self.is_parked = False  # its turn came while its partition was paused
        self.piece: Piece | None = None  # what a handler has
        self.timer: asyncio.TimerHandle | None = None
        self._owner = owner
        self._progress = stream.progress if owner.acks else None
        self._settled = 0  # of the piece

    def settle(self) -> None:
        """Take note of what the handler is through with."""
        piece = self.piece
        if piece is None:
            return
        count = piece.count
        for message in islice(piece.messages, self._settled, count):
            self.finish(message)
        self._settled = count

    def finish(self, message: Message) -> None:
        if self._progress is not None:
            self._progress.finish(message)
            if self._owner.duplicates is not None:
                self._owner.duplicates.add([message[:4]])

    def stop(self) -> None:
        """Begin no other message."""
        self.is_stopped = True
        if self.piece is not None:
            self.piece.is_stopped = True
        elif not self.is_rejecting:
            self._owner.retire(self)

    def pause(self) -> int | None:
        """Begin no other message until `resume`."""
        if self.piece is not None:
            self.piece.is_stopped = True
        return None

    def resume(self) -> None:
        if self.is_parked:
            self._owner.queue(self)

    def goes_on(self) -> bool:
        """Say whether there is anything left to handle."""
        return bool(self.messages) and not self.is_stopped

    def begin(self) -> Piece:
        self._settled = 0
        self.piece = Piece(list(islice(self.messages, _PIECE)))
        return self.piece

    def end(self) -> int:
        """Take away what was handled; return how many that were."""
        self.settle()
        count = 0 if self.piece is None else self.piece.count
        self.piece = None
        for _ in range(count):
            self.messages.popleft()
        return count
