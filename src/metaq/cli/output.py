"""What commands say: plain lines and JSON on stdout, progress and errors on stderr."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text


class Failure(click.ClickException):
    """The command did not do what it was asked; the text is one line."""

    exit_code = 1


def say(text: str) -> None:
    """Print a line for people."""
    click.echo(text)


def emit(value: object) -> None:
    """Print one JSON value as one line."""
    click.echo(json.dumps(value, ensure_ascii=False))


def complain(text: str) -> None:
    """Print an error or warning: always one line."""
    click.echo(" ".join(f"metaq: {text}".split("\n")).rstrip(), err=True)


def refuse(text: str, as_json: bool) -> NoReturn:
    """End with 1 and a text that scripts of 1.4.6.2 may look for: on stdout, as its script does. With JSON: an error."""
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


class _Rate(ProgressColumn):
    """Messages per second since the start."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} messages/s", style="progress.data.speed")


def progress(*, total: bool) -> Progress:
    """Return a progress display on stderr that shows itself on a terminal only. `total`: the end is known."""
    console = Console(file=sys.stderr)
    columns: list[ProgressColumn] = [SpinnerColumn(), TextColumn("{task.description}")]
    if total:
        columns.append(BarColumn())
    columns += [MofNCompleteColumn() if total else TextColumn("{task.completed:,.0f}"), _Rate()]
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
