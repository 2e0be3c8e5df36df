"""What blocks (files, databases) done in a thread, and awaited."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, TypeVar

from metaq.files import OsThreads
from metaq.ports import Threads, Worker

log = logging.getLogger(__name__)

T = TypeVar("T")

_CLOSE_TIME: Final = 5.0  # seconds; a thread that hangs longer than that is left to itself


class Blocking:
    """Does one job after the other in a thread of its own, made with the first job and again after `close`.

    Each event loop that asks gets its own thread: a thread can tell results to one loop only.
    """

    def __init__(self, name: str, threads: Threads | None = None) -> None:
        """`threads`: None for real ones."""
        self._name = name
        self._threads = threads
        self._workers: dict[asyncio.AbstractEventLoop, Worker] = {}

    async def run(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, or raise what it raises. If nobody waits any more, it is not begun."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def job() -> T | None:
            return None if future.done() else work()

        def done(result: T | None, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)  # type: ignore[arg-type]  # None is a T where work returns None
            else:
                future.set_exception(error)

        self._worker().submit(job, done)
        return await future

    async def close(self) -> None:
        """Wait for the jobs under way, then end the threads."""
        worker = self._workers.get(asyncio.get_running_loop())
        if worker is not None:
            try:
                async with asyncio.timeout(_CLOSE_TIME):
                    await self.run(lambda: None)
            except TimeoutError:
                log.warning("%s: a call has not come back for %g s, its thread is left behind", self._name, _CLOSE_TIME)
                del self._workers[asyncio.get_running_loop()]
        workers, self._workers = self._workers, {}
        for worker in workers.values():
            worker.close()

    def _worker(self) -> Worker:
        loop = asyncio.get_running_loop()
        worker = self._workers.get(loop)
        if worker is None:
            for other in [other for other in self._workers if other.is_closed()]:
                self._workers.pop(other).close()
            threads = OsThreads(loop) if self._threads is None else self._threads
            worker = self._workers[loop] = threads.worker(self._name)
        return worker
