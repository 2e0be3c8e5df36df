"""What commands say: plain lines and JSON on stdout, progress and errors on stderr."""

import json
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Final, NoReturn, Self

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

_LOOK: Final = 64  # messages between two looks at the clock
_REFRESH: Final = 0.1  # seconds between two states of a progress display


class Failure(click.ClickException):
    """The command did not do what it was asked; the text is one line."""

    exit_code = 1


def say(text: str) -> None:
    """Print a line for people."""
    click.echo(text)


def emit(value: object) -> None:
    """Print one JSON value as one line."""
    click.echo(json.dumps(value, ensure_ascii=False))


def note(text: str) -> None:
    """Print a line for people that is not the output of the command."""
    click.echo(text, err=True)


def complain(text: str) -> None:
    """Print an error or warning: always one line."""
    click.echo(" ".join(f"metaq: {text}".split("\n")).rstrip(), err=True)


def refuse(text: str, as_json: bool) -> NoReturn:
    """End with 1 and a text that scripts of 1.4.6.2 may look for: on stdout, as its script does. JSON: an error."""
    if as_json:
        raise Failure(text)
    say(text)
    raise click.exceptions.Exit(1)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; piped, its fields are aligned with blanks and never shortened."""
    console = Console()
    if console.is_terminal:
        drawn = Table(*columns, box=SIMPLE_HEAD, pad_edge=False)
        for row in rows:
            drawn.add_row(*(Text(str(field)) for field in row))
        console.print(drawn)
        return
    lines = [list(map(str, columns)), *([str(field) for field in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        click.echo("  ".join(field.ljust(width) for field, width in zip(line, widths, strict=True)).rstrip())


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
