"""What one who iterates, or takes batches, has in hand."""

import asyncio
from collections import deque
from typing import Protocol

from metaq.client.consuming.run import Run
from metaq.client.message import Message
from metaq.errors import ConfigError


class Source(Protocol):
    """Where runs come from, and go when they are dealt with: a consumer."""

    @property
    def is_closed(self) -> bool: ...
    async def next_run(self, wait: float | None = None) -> Run | None: ...
    def done(self, run: Run) -> None: ...


class Hand:
    """Runs that are handed out, in the order in which they came. Asking for more says that the last is dealt with.

    Whoever is interrupted while he asks, by whatever, has lost nothing: it comes when he asks again. `asked` counts the
    batches that were begun.
    """

    def __init__(self, source: Source) -> None:
        self.asked = 0
        self._source = source
        self._runs: list[Run] = []

    async def advance(self, finished: Run | None = None) -> Run | None:
        """Return the run in hand, or where that is the finished one the next; None: the consumer is closed."""
        if self._runs and self._runs[0] is finished and not finished.more():
            self._source.done(self._runs.pop(0))
        if self._runs:
            return self._runs[0]
        run = await self._source.next_run()
        if run is not None:
            self._runs.append(run)
        return run

    def message_at_hand(self) -> Message | None:
        """Return the next message if it is there already."""
        for run in self._runs:
            for message in run.rest:
                return message
            break
        return None

    async def message(self) -> Message | None:
        """Return the next message; None: the consumer is closed."""
        run = await self.advance()
        while run is not None:
            for message in run.rest:
                return message
            if not run.more():
                run = await self.advance(run)
        return None

    async def batch(self, most: int, wait: float) -> list[Message]:
        """Return at most `most` messages, waiting for the first for ever, for more no longer than `wait` seconds.

        An empty list: the consumer is closed.
        """
        if most < 1:
            raise ConfigError(f"a batch has at least 1 message, not {most}")
        self.asked += 1
        while not self._source.is_closed:
            self._acknowledge()
            parts: list[tuple[Run, list[Message]]] = []
            try:
                await self._fill(parts, most, wait)
            except BaseException:
                self.take_back()
                raise
            # what was lost meanwhile may be another's already
            batch = [message for run, part in parts if not run.stream.is_lost for message in part]
            if batch and not self._source.is_closed:
                return batch
        return []

    def take_back(self) -> None:
        """The batch asked for last has not arrived: hand it out again."""
        for run in self._runs:
            run.rewind()

    def close(self) -> None:
        """Take back what is not dealt with; whoever asks for more gets nothing."""
        for run in self._runs:
            run.settle()
            run.stop()
            run.stream.drop(run)

    async def _fill(self, parts: list[tuple[Run, list[Message]]], most: int, wait: float) -> None:
        waiting = deque(self._runs)
        deadline: float | None = None
        while most:
            run = waiting.popleft() if waiting else await self._next(deadline)
            if run is None:
                return
            part = run.take(most)
            if part:
                parts.append((run, part))
                most -= len(part)
                if deadline is None:
                    deadline = asyncio.get_running_loop().time() + wait
            if most:
                run.release()
            if not part:
                run.pass_over()
                if not parts:
                    self._acknowledge()

    async def _next(self, deadline: float | None) -> Run | None:
        left = None if deadline is None else max(deadline - asyncio.get_running_loop().time(), 0)
        run = await self._source.next_run(left)
        if run is not None:
            run.earlier = next((each for each in reversed(self._runs) if each.stream is run.stream), None)
            self._runs.append(run)
        return run

    def _acknowledge(self) -> None:
        """Have done with the runs of which everything was handed out."""
        while self._runs and not self._runs[0].more():
            self._source.done(self._runs.pop(0))
