"""What blocks (files, databases) done in a thread, and awaited."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from metaq.files import OsThreads
from metaq.ports import Threads, Worker

log = logging.getLogger(__name__)

T = TypeVar("T")

_CLOSE_TIME: Final = 5.0  # seconds; a call that hangs longer than that is left to itself


@dataclass(slots=True)
class _Busy:
    worker: Worker
    jobs: int = 0


class Blocking:
    """Does one job after the other in a thread that lives as long as there are jobs: nobody need end it.

    Each event loop that asks gets its own: a thread can tell results to one loop only.
    """

    def __init__(self, name: str, threads: Threads | None = None) -> None:
        """`threads`: None for real ones."""
        self._name = name
        self._threads = threads
        self._busy: dict[asyncio.AbstractEventLoop, _Busy] = {}

    async def run(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, or raise what it raises. If nobody waits any more, it is not begun."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        busy = self._busy.get(loop)
        if busy is None:
            threads = OsThreads(loop) if self._threads is None else self._threads
            busy = self._busy[loop] = _Busy(threads.worker(self._name))
        busy.jobs += 1

        def job() -> T | None:
            return None if future.done() else work()

        def done(result: T | None, error: BaseException | None) -> None:
            busy.jobs -= 1
            if not busy.jobs:
                del self._busy[loop]
                busy.worker.close()
            if future.done():
                return
            if error is None:
                future.set_result(result)  # type: ignore[arg-type]  # None is a T where work returns None
            else:
                future.set_exception(error)

        busy.worker.submit(job, done)
        return await future

    async def close(self) -> None:
        """Wait for the jobs under way."""
        if asyncio.get_running_loop() not in self._busy:
            return
        try:
            async with asyncio.timeout(_CLOSE_TIME):
                await self.run(lambda: None)
        except TimeoutError:
            log.warning("%s: a call has not come back for %g s, it is left behind", self._name, _CLOSE_TIME)
