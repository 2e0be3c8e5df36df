"""Messages of one partition that were handed out together."""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TypeAlias

from metaq.client.consuming.stream import Stream
from metaq.client.message import Block, Key, Message, Piece, Walk
from metaq.record import HEADER_SIZE

Point: TypeAlias = tuple[int | None, int]  # id of the last message that is dealt with, and where the next one begins


class Chosen:
    """Those messages of a piece that are handed out; the others, of `whole`, are passed over."""

    __slots__ = ("walk", "whole")

    def __init__(self, whole: Piece, accepts: Callable[[Message], bool] | None) -> None:
        self.whole = whole
        self.walk = Walk(whole if accepts is None else whole.only(accepts))

    def before(self, index: int) -> Point:
        """Return the point before one of the messages handed out; before the first one of all for an index below 0."""
        at = 0 if index < 0 else bisect_left(self.whole.offsets, self.walk.piece.offsets[index])
        return self.whole.ids[at - 1] if at else self.whole.before, self.whole.offsets[at]

    def stop(self) -> Point:
        """Hand out no more; return the point behind the last message that was handed out."""
        piece = self.walk.piece
        first, offsets = self.whole.offsets[0], list(piece.offsets)
        self.walk.end()  # nothing is taken from here on, in whatever thread
        at = self.walk.taken - 1
        if at < 0:
            return self.whole.before, first
        return piece.ids[at], offsets[at] + HEADER_SIZE + len(piece.bodies[at])


class Run:
    """What one who iterates has in hand. On the hot path: a message costs no line of Python.

    Messages are handed out one after the other through `rest`, and `more` fills it again; or several with `take`. They
    are decoded meanwhile, by who asks for them. The last one handed out is being handled, of those that were taken
    together the first; that all before it are dealt with is what `settle` concludes. `stop` ends `rest` at once, in
    whatever thread it is used. Without `acks`, positions are the business of another. `accepts`: of which messages
    the others are passed over.
    """

    __slots__ = (
        "_accepts", "_block", "_chosen", "_is_done", "_is_over", "_is_released", "_is_stopped", "_keys", "_mark",
        "_progress", "_stopped_at", "earlier", "stream",
    )  # fmt: skip

    def __init__(
        self, stream: Stream, block: Block, *, acks: bool, accepts: Callable[[Message], bool] | None = None
    ) -> None:
        self.stream = stream
        self._block = block
        self._accepts = accepts
        self._progress = stream.progress if acks else None
        self._chosen: Chosen | None = None  # replaced as a whole: another thread may look at it
        self._keys: list[Key] = []  # of what is dealt with, where messages are passed over
        self._mark: Point | None = None  # before those that were taken together
        self._is_stopped = False
        self._stopped_at: Point | None = None
        self._is_over = False  # all of it was handed out
        self._is_done = False  # all of it, and of what came before it, is dealt with
        self._is_released = False
        self.earlier: Run | None = None  # of the same partition, and in hand too when this one came

    @property
    def rest(self) -> Iterator[Message]:
        """What is decoded and not handed out."""
        return iter(()) if self._chosen is None else self._chosen.walk.messages

    def more(self) -> bool:
        """See to it that `rest` has something; False: there is nothing left, or it was stopped."""
        chosen = self._chosen
        while not self._is_stopped and (chosen is None or not chosen.walk.left):
            if chosen is None and self._mark is not None:
                piece = self._block.decode_from(self._mark[1], self._mark[0])
            else:
                piece = self._block.decode(None if chosen is None else chosen.whole)
            if piece is None:
                self._is_over = True
                return False
            if self._accepts is not None:
                self._keys += piece.keys()
            chosen = Chosen(piece, self._accepts)
            self._chosen = chosen  # from here on it is handed out: what interrupts us before has changed nothing
        return not self._is_stopped

    def take(self, most: int) -> list[Message]:
        """Return the next messages, at most `most`, to be handled together."""
        part: list[Message] = []
        mark: Point | None = None
        while len(part) < most and self.more() and (chosen := self._chosen) is not None:
            mark = mark or chosen.before(chosen.walk.taken)
            part += islice(chosen.walk.messages, most - len(part))
        self._mark = mark or self._mark
        return part

    def release(self) -> None:
        """Let the next run of the partition come."""
        if not self._is_released:
            self._is_released = True
            self.stream.free()

    def pass_over(self) -> None:
        """Take note that nothing of it was wanted, and let the messages go."""
        if self._chosen is not None:
            self._stopped_at = self._chosen.whole.ids[-1], self._chosen.whole.end
        block, self._is_over, self._is_stopped, self._chosen = self._block, True, True, None
        self._block = Block(block.topic, block.partition, block.end, block.end, b"")

    def settle(self) -> None:
        """Move the position to the message that is being handled."""
        chosen = self._chosen
        if self._is_stopped or (chosen is None and self._mark is None):
            return
        if self.earlier is not None and not self.earlier._is_done:
            return
        self._reach(self._mark or (chosen.before(chosen.walk.taken - 1) if chosen is not None else None))

    def finish(self) -> list[Key]:
        """Move the position behind the last message, or, where it was stopped, behind the one that was handled.

        Return the keys of the messages that are dealt with.
        """
        earlier, self.earlier = self.earlier, None
        point = self._stopped_at
        if not self._is_stopped and self._chosen is not None:
            point = self._chosen.whole.ids[-1], self._chosen.whole.end
        if point is None or (earlier is not None and not earlier._is_done):
            return []  # it was given back unseen, or something before it was
        self._reach(point)
        self._is_done = self._is_over
        return [] if self._is_stopped else self._keys

    def begin(self) -> list[Message]:
        """Have the messages dealt with one by one, in any order; those that are passed over are already."""
        messages: list[Message] = []
        piece = self._block.decode(None)
        while piece is not None:
            chosen = Chosen(piece, self._accepts)
            part = list(chosen.walk.messages)
            messages += part
            if self._progress is not None:
                self._begin(chosen, part)
            piece = self._block.decode(piece)
        return messages

    def _begin(self, chosen: Chosen, part: list[Message]) -> None:
        assert self._progress is not None
        if len(part) == len(chosen.whole):
            self._progress.begin(part)
            return
        everything = list(chosen.whole)
        self._progress.begin(everything)
        wanted = {message.offset for message in part}
        for message in everything:
            if message.offset not in wanted:
                self._progress.finish(message)

    def rewind(self) -> None:
        """Hand out again what was taken together, and what follows. If it was stopped that is fetched again."""
        if self._mark is not None:
            self._chosen = None
            self._stopped_at = None
            self._is_over = False
            if self._is_stopped:
                self.stream.rewind()

    def stop(self) -> None:
        """Hand out no more of it."""
        if not self._is_stopped:
            self._is_stopped = True
            if self._chosen is not None:
                self._stopped_at = self._chosen.stop()

    def _reach(self, point: Point | None) -> None:
        if self._progress is not None and point is not None and point[0] is not None:
            self._progress.reach(point[0], point[1])

    def pause(self) -> int | None:
        """Hand out no more of it; return the offset from which on it is to be fetched again.

        None: nothing of it is, it was stopped before, or all was handed out and the next one has come.
        """
        if self._is_stopped:
            return None
        self.settle()
        self.stop()
        if self._is_over and self._is_released:
            return None
        point = self._stopped_at or self._mark
        return self._block.offset if point is None else point[1]

    def resume(self) -> None:
        """Nothing comes of it any more."""
