"""Progress on stderr. Apart from `output`, since what draws it takes a while to load."""

import sys
import time
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TaskProgressColumn, TextColumn

_LOOK: Final = 64  # messages between two looks at the clock
_REFRESH: Final = 0.1  # seconds between two states of a progress display


class Meter:
    """Shows on stderr, if that is a terminal, how many messages went by and how fast; a context manager.

    `size`: bytes that will come; None: unknown. `messages` is counted in any case.
    """

    def __init__(self, title: str, size: int | None, *, shown: bool = True) -> None:
        console = Console(file=sys.stderr)
        bar = [BarColumn(), TaskProgressColumn()] if size else [SpinnerColumn()]
        columns: list[ProgressColumn] = [TextColumn("{task.description}"), *bar, TextColumn("{task.fields[rate]}")]
        self._progress = Progress(
            *columns, console=console, transient=True, disable=not (shown and console.is_terminal)
        )
        self._task = self._progress.add_task(title, total=size, rate="")
        self._began = self._told = time.monotonic()
        self._bytes = 0
        self.messages = 0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def count(self, size: int) -> None:
        """One more message, of so many bytes of `size`."""
        self.messages += 1
        self._bytes += size
        if not self.messages % _LOOK:
            self._tell()

    def add(self, messages: int) -> None:
        """So many more messages."""
        self.messages += messages
        self._tell()

    def _tell(self) -> None:
        if (now := time.monotonic()) > self._told + _REFRESH:
            self._told = now
            rate = f"{self.messages:,} messages, {self.messages / (now - self._began):,.0f}/s"
            self._progress.update(self._task, completed=self._bytes, rate=rate)
