"""The thread in which the client of plain code runs its event loop."""

import asyncio
import atexit
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Final, TypeVar

from metaq.errors import ConfigError, LinkClosed
from metaq.net.loop import loop_factory

log = logging.getLogger(__name__)

T = TypeVar("T")

_LAST_WAIT: Final = 5.0  # seconds the end of Python waits for a client that nobody closed


class LoopThread:
    """One thread with one event loop, for one client. A daemon, so that it cannot keep Python from ending."""

    def __init__(self) -> None:
        self._loop = loop_factory()()
        self._lock = threading.Lock()
        self.is_closed = False
        self._thread = threading.Thread(target=self._run, name="metaq client", daemon=True)
        self._thread.start()
        atexit.register(self._at_exit)

    def check(self) -> None:
        """Raise ConfigError where a call cannot work: after the end, or from within the thread itself."""
        if self.is_closed:
            raise ConfigError("the client is closed")
        if threading.current_thread() is self._thread:
            raise ConfigError("called from the client's own thread, which would wait for itself")

    def post(self, callback: Callable[[], None]) -> None:
        """Run a function there, soon."""
        with self._lock:
            self.check()
            self._loop.call_soon_threadsafe(callback)

    def begin(self, work: Coroutine[object, object, T]) -> Future[T]:
        """Run a coroutine there; return the future of its result."""
        try:
            with self._lock:
                self.check()
                return asyncio.run_coroutine_threadsafe(work, self._loop)
        except BaseException:
            work.close()
            raise

    def wait(self, future: Future[T]) -> T:
        """Return the result; an interrupt cancels what is waited for."""
        try:
            return future.result()
        except CancelledError as exc:
            raise LinkClosed("the client was closed meanwhile") from exc
        except BaseException:
            future.cancel()
            raise

    def call(self, work: Coroutine[object, object, T]) -> T:
        """Run a coroutine there and return its result."""
        return self.wait(self.begin(work))

    def make(self, function: Callable[[], T]) -> T:
        """Call a function there, for what needs the running loop, and return what it returns."""

        async def work() -> T:
            return function()

        return self.call(work())

    def close(self) -> None:
        """End the thread; what still runs in it is cancelled. May be called again."""
        with self._lock:
            if not self.is_closed:
                self.is_closed = True
                self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        atexit.unregister(self._at_exit)

    def _at_exit(self) -> None:
        with self._lock:
            if not self.is_closed:
                self.is_closed = True
                self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_LAST_WAIT)

    def _run(self) -> None:
        try:
            self._loop.run_forever()
        except SystemExit as exc:
            log.error("the client is closed: something raised %r in its thread", exc)
        finally:
            self._end()

    def _end(self) -> None:
        """Let all go who wait: nothing runs here any more."""
        with self._lock:
            self.is_closed = True
        self._loop.run_until_complete(asyncio.sleep(0))  # what was posted before
        while tasks := asyncio.all_tasks(self._loop):
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.wait(tasks))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()
