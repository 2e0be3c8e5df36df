"""An asyncio event loop with virtual time: nothing waits, nothing comes from outside, one run is like the next.

When nothing is ready, time jumps to the next timer. What runs at one moment runs in the order asyncio promises; chance
belongs to the network and the disks, never to the loop.
"""

import asyncio
from asyncio import events
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import Context
from math import inf
from typing import Final, NoReturn, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

EPOCH: Final = 1000.0  # seconds; what `time()` says first. Not 0, which would hide tests for truth
_RESOLUTION: Final = 1e-9  # seconds; timers closer together than this are due together


class Deadlock(RuntimeError):
    """Nothing is ready, no timer runs, and the one waited for is not done. The message says where each task waits."""


class PowerLoss(BaseException):
    """The process that this call belongs to has ended. No `except Exception` may survive it."""


class _VirtualSelector:
    """Stands where asyncio asks the operating system to wait."""

    def __init__(self) -> None:
        self.now = EPOCH
        self.limit = inf

    def select(self, timeout: float | None) -> list[NoReturn]:
        if timeout is None:
            raise Deadlock(f"nothing will ever happen after {self.now:.6f}\n{_waiting_tasks()}")
        if self.now + timeout > self.limit:
            raise TimeoutError(f"virtual time is up at {self.limit:.6f}\n{_waiting_tasks()}")
        self.now += timeout
        return []

    def close(self) -> None: ...


class SimLoop(asyncio.BaseEventLoop):
    """Everything of an event loop but sockets, threads and signals; those raise RuntimeError.

    Exceptions that nobody catches (in callbacks, in tasks nobody awaits) are kept in `unhandled`, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self._selector = _VirtualSelector()
        self._clock_resolution = _RESOLUTION
        self.unhandled: list[BaseException] = []
        self.set_exception_handler(_keep_unhandled)

    def time(self) -> float:
        """Return the virtual seconds: EPOCH at first, and never less than before."""
        return self._selector.now

    def stop_at(self, time: float) -> None:
        """Raise TimeoutError out of the run instead of going beyond this time; `inf`: never."""
        self._selector.limit = time

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> events.Handle:
        """Do as call_soon; there are no other threads."""
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        raise RuntimeError("the simulated world has no threads but those of SimThreads")

    def _process_events(self, event_list: list[NoReturn]) -> None: ...

    def _write_to_self(self) -> None: ...


def _keep_unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    assert isinstance(loop, SimLoop)
    error = context.get("exception")
    loop.unhandled.append(error if isinstance(error, BaseException) else RuntimeError(str(context.get("message"))))


def _waiting_tasks() -> str:
    """Return one line per task: its name and the innermost line it waits at."""
    lines = []
    for task in asyncio.all_tasks(events.get_running_loop()):
        stack = task.get_stack(limit=1)
        place = f"{stack[0].f_code.co_filename}:{stack[0].f_lineno}" if stack else "?"
        lines.append(f"  {task.get_name()} {getattr(task.get_coro(), "__qualname__", "?")} waits at {place}")
    return "\n".join(sorted(lines)) or "  no task is left"
