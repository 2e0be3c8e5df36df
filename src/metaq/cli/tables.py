"""Tables on stdout. Apart from `output`, since what draws them takes a while to load."""

from collections.abc import Iterable, Sequence

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text


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
