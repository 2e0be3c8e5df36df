"""Long answers, made a piece at a time: commands of others are carried out in between."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final, TypeVar

from metaq.broker.stats_text import Pieces, Whole

T = TypeVar("T")

log = logging.getLogger(__name__)

_FAILED: Final = b""  # what an answer is that could not be made


async def make(pieces: Pieces[T]) -> T:
    """Make all of an answer, one piece after the other; return it."""
    whole = Whole(pieces)
    for _ in whole:
        await asyncio.sleep(0)  # others have their turn
    return whole.value


class Turns:
    """Makes one answer after the other, a piece in each turn of the loop; so many of them take no more of it than one.

    Only where they are added first is there a running loop.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[Pieces[bytes], Callable[[bytes], None]]] = deque()

    def add(self, pieces: Pieces[bytes], done: Callable[[bytes], None]) -> None:
        """Have an answer made; `done` is called with it, on the loop. An answer that fails is empty, and logged."""
        self._waiting.append((pieces, done))
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        pieces, done = self._waiting[0]
        try:
            next(pieces)
        except StopIteration as end:
            self._end(done, end.value)
        except Exception:
            log.exception("an answer could not be made")
            self._end(done, _FAILED)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._go_on)

    def _end(self, done: Callable[[bytes], None], body: bytes) -> None:
        del self._waiting[0]
        done(body)
