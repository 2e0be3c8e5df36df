"""Messages of one partition that were handed out together."""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import islice
from operator import attrgetter

from metaq.client.consuming.stream import Stream
from metaq.client.message import Message

_offset = attrgetter("offset")


class Run:
    """What one who iterates has in hand. On the hot path: one assignment to `at` is all that a message costs.

    `messages` are those to hand out, one after the other through `rest`; `at` is the first one that is being handled.
    That all before it are dealt with is what `settle` concludes. `stop` ends `rest` at once, in whatever thread it is
    used. Without `acks`, positions are the business of another.
    """

    __slots__ = ("_progress", "_source", "at", "messages", "rest", "stream")

    def __init__(self, stream: Stream, source: list[Message], messages: list[Message], *, acks: bool) -> None:
        self.stream = stream
        self._source = source  # with those that are passed over
        self._progress = stream.progress if acks else None
        self.messages = messages
        self.rest: Iterator[Message] = iter(messages)
        self.at: Message | None = None

    def settle(self) -> None:
        """Move the position to the message that is being handled."""
        if self.at is not None and self._progress is not None:
            index = bisect_left(self._source, self.at.offset, key=_offset)
            if index:
                self._progress.reach(self._source[index - 1])

    def finish(self) -> list[Message]:
        """Move the position behind the last message, or, where it was stopped, behind the one that was handled.

        Return the messages that are dealt with.
        """
        done = self._source
        if not self.messages and self.at is not None:  # stopped, or all were passed over
            done = done[: bisect_left(done, self.at.next_offset, key=_offset)]
        if self._progress is None or not done:
            return []
        self._progress.reach(done[-1])
        return done

    def begin(self) -> None:
        """Have the messages dealt with one by one, in any order; those that are passed over are already."""
        progress = self.stream.progress
        if progress is not None:
            progress.begin(self._source)
            wanted = set(map(_offset, self.messages))
            for message in self._source:
                if message.offset not in wanted:
                    progress.finish(message)

    def rewind(self) -> None:
        """Hand out again what is being handled, and what follows."""
        if self.at is not None and self.messages:
            self.rest = iter(self.messages)
            first = bisect_left(self.messages, self.at.offset, key=_offset)
            next(islice(self.rest, first, first), None)

    def stop(self) -> None:
        """Hand out no more of it."""
        self.messages.clear()


def chosen(source: list[Message], accepts: Callable[[Message], bool]) -> list[Message]:
    """Return those that a filter lets pass; one that raises lets nothing pass (reference: client.md §7.7)."""

    def passes(message: Message) -> bool:
        try:
            return accepts(message)
        except Exception:  # noqa: BLE001 - as the original: what a filter fails at is not accepted
            return False

    return [message for message in source if passes(message)]
