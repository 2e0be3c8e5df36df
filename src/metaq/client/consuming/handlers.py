"""Calling the user's function, here or in threads."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import TypeAlias

from metaq.client.message import Message


class Piece:
    """Messages to be handled one after the other. `count` of them are; who handles them counts, in any thread."""

    __slots__ = ("count", "is_stopped", "messages")

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = messages
        self.count = 0
        self.is_stopped = False

    def rest(self) -> Iterator[Message]:
        """Yield those still to be handled; ends early when it is stopped. Counts one when the next is asked for."""
        for message in self.messages:
            if self.is_stopped:
                return
            yield message
            self.count += 1


Handler: TypeAlias = Callable[[Piece], Awaitable[None]]


@contextmanager
def only_exceptions() -> Iterator[None]:
    """Turn what is no Exception into one: SystemExit raised in a thread would end the event loop that waits for it."""
    try:
        yield
    except Exception:
        raise
    except BaseException as exc:
        raise RuntimeError(f"{exc!r} raised where only exceptions are expected") from exc


def one_by_one(handler: Callable[[Message], Awaitable[object]]) -> Handler:
    """Return what awaits `handler` for each message of a piece."""

    async def work(piece: Piece) -> None:
        for message in piece.rest():
            await handler(message)

    return work


def in_threads(handler: Callable[[Message], object], executor: Executor) -> Handler:
    """Return what calls a plain function for each message of a piece, in a thread."""

    def work(piece: Piece) -> None:
        with only_exceptions():
            for message in piece.rest():
                handler(message)

    async def hand_over(piece: Piece) -> None:
        await asyncio.get_running_loop().run_in_executor(executor, work, piece)

    return hand_over
