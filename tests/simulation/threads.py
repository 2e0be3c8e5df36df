"""Worker threads without threads: their work is done on the loop, at some later virtual time, or at once."""

from collections import deque
from collections.abc import Callable
from functools import partial
from random import Random
from typing import TypeVar

import pytest

from .disk import SimDisk
from .loop import PowerLoss, SimLoop

T = TypeVar("T")


class SimThreads:
    """`ports.Threads` in virtual time.

    A job runs after a random delay (`lag`: least and most seconds), one after the other per worker; its `done` is
    called after another. With a disk, all stops for ever once that disk's process is dead: nobody is told anything.
    """

    def __init__(
        self, loop: SimLoop, random: Random, disk: SimDisk | None = None, *, lag: tuple[float, float] = (0.00002, 0.003)
    ) -> None:
        self.loop = loop
        self._random = random
        self._disk = disk
        self._lag = lag

    def worker(self, name: str) -> "SimWorker":
        return SimWorker(self, name)

    @property
    def dead(self) -> bool:
        return self._disk is not None and self._disk.dead

    def delay(self) -> float:
        least, most = self._lag
        return least + (most - least) * self._random.random()


class SimWorker:
    """`ports.Worker` in virtual time."""

    def __init__(self, threads: SimThreads, name: str) -> None:
        self.name = name
        self._threads = threads
        self._jobs: deque[Callable[[], Callable[[], None]]] = deque()
        self._outcomes: deque[Callable[[], None]] = deque()
        self._closed = False

    def submit(self, work: Callable[[], T], done: Callable[[T | None, BaseException | None], None]) -> None:
        if self._closed:
            raise RuntimeError(f"worker {self.name} is closed")
        self._jobs.append(partial(_carry_out, work, done))
        if len(self._jobs) == 1:
            self._threads.loop.call_later(self._threads.delay(), self._run)

    def close(self) -> None:
        """Do what is left at once; what is done is told soon. PowerLoss if the process ends in it."""
        self._closed = True
        while self._jobs:
            self._outcomes.append(self._jobs.popleft()())
            self._threads.loop.call_soon(self._tell)

    def _run(self) -> None:
        if not self._jobs or self._threads.dead:
            return
        try:
            self._outcomes.append(self._jobs[0]())
        except PowerLoss:
            return
        self._jobs.popleft()
        self._threads.loop.call_later(self._threads.delay(), self._tell)
        if self._jobs:
            self._threads.loop.call_later(self._threads.delay(), self._run)

    def _tell(self) -> None:
        if not self._threads.dead:
            self._outcomes.popleft()()


class InlineThreads:
    """`ports.Threads` for tests without a loop: a job runs while it is submitted.

    `queued`: its `done` is called by `run`, not before; otherwise at once.
    """

    def __init__(self, *, queued: bool = False) -> None:
        self._queued = queued
        self._outcomes: deque[Callable[[], None]] = deque()

    def worker(self, name: str) -> "InlineWorker":
        return InlineWorker(self, name)

    def finish(self, outcome: Callable[[], None]) -> None:
        """Tell an outcome, or keep it for `run`."""
        if self._queued:
            self._outcomes.append(outcome)
        else:
            outcome()

    def run(self, limit: int | None = None) -> int:
        """Tell the outcomes that wait, and those that come of it, at most `limit`; return how many."""
        told = 0
        while self._outcomes and told != limit:
            self._outcomes.popleft()()
            told += 1
        return told


class InlineWorker:
    """`ports.Worker` of InlineThreads."""

    def __init__(self, threads: InlineThreads, name: str) -> None:
        self.name = name
        self._threads = threads
        self._closed = False

    def submit(self, work: Callable[[], T], done: Callable[[T | None, BaseException | None], None]) -> None:
        if self._closed:
            raise RuntimeError(f"worker {self.name} is closed")
        self._threads.finish(_carry_out(work, done))

    def close(self) -> None:
        self._closed = True


def _carry_out(work: Callable[[], T], done: Callable[[T | None, BaseException | None], None]) -> Callable[[], None]:
    """Do the work and return the call that tells its outcome.

    PowerLoss passes through: nobody is left to be told. So does the end of the test itself, by its time-out.
    """
    try:
        result = work()
    except (PowerLoss, pytest.fail.Exception):
        raise
    except BaseException as error:  # noqa: BLE001 - whatever it is, the one who waits must learn of it
        return partial(done, None, error)
    return partial(done, result, None)
