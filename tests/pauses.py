"""How long the loop's longest callback was, in processor time of its thread, which other processes do not disturb."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import pytest

_NAMED: Final = 0.002  # seconds from which on a callback is remembered by name


@dataclass
class Pauses:
    """The callbacks of one loop that took long, in the order they came."""

    found: list[tuple[float, str]] = field(default_factory=list)

    def longest(self) -> float:
        """Return the seconds of the longest one so far."""
        return max((seconds for seconds, _ in self.found), default=0.0)

    @contextmanager
    def below(self, limit: float, what: str) -> Iterator[None]:
        """Fail if one of the callbacks of this block takes longer; the failure names the worst."""
        start = len(self.found)
        yield
        worst = sorted(self.found[start:], reverse=True)[:3]
        names = "; ".join(f"{seconds * 1e3:.1f} ms: {name}" for seconds, name in worst)
        assert not worst or worst[0][0] <= limit, f"{what} held up the loop for more than {limit * 1e3:.0f} ms: {names}"


@contextmanager
def watched_loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pauses]:
    """Time all callbacks of asyncio's own loop in this thread while the block runs."""
    pauses = Pauses()
    carry_out = asyncio.Handle._run
    thread = threading.get_ident()

    def timed(handle: asyncio.Handle) -> None:
        if threading.get_ident() != thread:
            carry_out(handle)
            return
        name = handle._callback  # type: ignore[attr-defined]  # gone when it has run
        before = time.thread_time()
        carry_out(handle)
        seconds = time.thread_time() - before
        if seconds > _NAMED:
            pauses.found.append((seconds, f"{getattr(name, '__self__', name)!r:.200}"))

    with monkeypatch.context() as patched:
        patched.setattr(asyncio.Handle, "_run", timed)
        yield pauses
