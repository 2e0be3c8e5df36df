"""An asyncio event loop with virtual time: nothing waits, nothing comes from outside, one run is like the next.

When nothing is ready, time jumps to the next timer. What runs at one moment runs in the order asyncio promises; chance
belongs to the network and the disks, never to the loop.
"""

import asyncio
from asyncio import events
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import Context
from math import inf, ulp
from typing import Final, NoReturn, TypeVar, TypeVarTuple, Unpack

import pytest

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

EPOCH: Final = 1000.0  # seconds; what `time()` says first. Not 0, which would hide tests for truth


class Deadlock(RuntimeError):
    """Nothing is ready, no timer runs, and the one waited for is not done. The message says where each task waits."""


class PowerLoss(BaseException):
    """The process that this call belongs to has ended. No `except Exception` may survive it."""


class _VirtualSelector:
    """Stands where asyncio asks the operating system to wait."""

    def __init__(self, loop: "SimLoop") -> None:
        self._loop = loop
        self.now = EPOCH
        self.limit = inf

    def select(self, timeout: float | None) -> list[NoReturn]:
        if self._loop.verdict is not None:
            verdict, self._loop.verdict = self._loop.verdict, None
            raise verdict
        if timeout is None:
            raise Deadlock(f"nothing will ever happen after {self.now:.6f}\n{_waiting_tasks()}")
        then = self._loop.first_timer(self.now + timeout)
        if then > self.limit:
            raise TimeoutError(f"virtual time is up at {self.limit:.6f}\n{_waiting_tasks()}")
        self.now = then
        return []

    def close(self) -> None: ...


class SimLoop(asyncio.BaseEventLoop):
    """Everything of an event loop but sockets, threads and signals; those raise RuntimeError.

    Exceptions that nobody catches (in callbacks, in tasks nobody awaits) are kept in `unhandled`, in order. But a test
    that fails in one of them, because its time is up or by `pytest.fail`, ends the run with that: `verdict`.
    """

    _scheduled: list[asyncio.TimerHandle]  # a heap, kept by BaseEventLoop

    def __init__(self) -> None:
        self._selector = _VirtualSelector(self)
        super().__init__()
        self.unhandled: list[BaseException] = []
        self.verdict: BaseException | None = None
        self.set_exception_handler(_keep_unhandled)

    def time(self) -> float:
        """Return the virtual seconds: EPOCH at first, and never less than before."""
        return self._selector.now

    @property
    def _clock_resolution(self) -> float:
        """What BaseEventLoop adds to the time before it asks what is due: so little that nothing runs early."""
        return ulp(self._selector.now)

    @_clock_resolution.setter
    def _clock_resolution(self, _: float) -> None: ...

    def first_timer(self, near: float) -> float:
        """Return the exact time of the next timer if it is `near`, which went through rounding; else `near`."""
        if self._scheduled and abs(self._scheduled[0].when() - near) < 1e-6:
            return max(self._scheduled[0].when(), self._selector.now)
        return near

    def hold_up(self, seconds: float) -> None:
        """Let time pass as if the present call took so long."""
        self._selector.now += seconds

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
    if isinstance(error, pytest.fail.Exception):
        loop.verdict = error
        return
    loop.unhandled.append(error if isinstance(error, BaseException) else RuntimeError(str(context.get("message"))))


def _waiting_tasks() -> str:
    """Return one line per task: its name and the innermost line it waits at."""
    lines = []
    for task in asyncio.all_tasks(events.get_running_loop()):
        stack = task.get_stack(limit=1)
        place = f"{stack[0].f_code.co_filename}:{stack[0].f_lineno}" if stack else "?"
        lines.append(f"  {task.get_name()} {getattr(task.get_coro(), '__qualname__', '?')} waits at {place}")
    return "\n".join(sorted(lines)) or "  no task is left"
