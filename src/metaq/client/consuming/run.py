"""Messages of one partition that were handed out together."""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice
from operator import attrgetter

from metaq.client.consuming.stream import Stream
from metaq.client.message import Block, Message

_offset = attrgetter("offset")


class Run:
    """What one who iterates has in hand. On the hot path: one assignment to `at` is all that a message costs.

    `messages` are those to hand out, one after the other through `rest`; `at` is the first one that is being handled.
    That all before it are dealt with is what `settle` concludes. `stop` ends `rest` at once, in whatever thread it is
    used. Without `acks`, positions are the business of another.
    """

    __slots__ = ("_block", "_is_stopped", "_progress", "at", "messages", "rest", "stream")

    def __init__(self, stream: Stream, block: Block, messages: Block | list[Message], *, acks: bool) -> None:
        self.stream = stream
        self._block = block  # with those that are passed over
        self._progress = stream.progress if acks else None
        self._is_stopped = False
        self.messages = messages
        self.rest: Iterator[Message] = iter(messages)
        self.at: Message | None = None

    def settle(self) -> None:
        """Move the position to the message that is being handled."""
        if self.at is not None and self._progress is not None and not self._is_stopped:
            index = bisect_left(self._block.offsets, self.at.offset)
            if index:
                self._progress.reach(self._block.ids[index - 1], self._block.offsets[index])

    def finish(self) -> list[int]:
        """Move the position behind the last message, or, where it was stopped, behind the one that was handled.

        Return the ids of the messages that are dealt with.
        """
        if self._is_stopped:
            if self.at is not None and self._progress is not None:
                self._progress.reach(self.at.id, self.at.next_offset)
            return []
        if self._progress is not None:
            self._progress.reach(self._block.ids[-1], self._block.end)
        return self._block.ids

    def begin(self) -> list[Message]:
        """Have the messages dealt with one by one, in any order; those that are passed over are already."""
        messages = list(self.messages)
        if self._progress is not None:
            self._progress.begin(list(self._block))
            if len(messages) < len(self._block):
                wanted = set(map(_offset, messages))
                for message in self._block:
                    if message.offset not in wanted:
                        self._progress.finish(message)
        return messages

    def rewind(self) -> None:
        """Hand out again what is being handled, and what follows."""
        if self.at is not None:
            offsets = list(map(_offset, self.messages))
            self.rest = islice(iter(self.messages), bisect_left(offsets, self.at.offset), None)

    def stop(self) -> None:
        """Hand out no more of it."""
        self._is_stopped = True
        self.messages.clear()
        self._block.clear()
