"""Options of commands that bring a registry along: `-l`, and `-D` with the properties of the original's."""

from typing import Final

import click

_NUMBERS: Final = ("zk.server.port", "zk.server.tickTime", "zk.server.max.connections")
FOLDERS: Final = ("zk.server.snapDirectory", "zk.server.logDirectory")


def read_properties(_: click.Context, __: click.Parameter, pairs: tuple[str, ...]) -> dict[str, str]:
    """Return what `-D NAME=VALUE` says. Raises UsageError for names that the original does not have."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if name not in (*_NUMBERS, *FOLDERS):
            raise click.UsageError(f"unknown property {name!r}; there are {', '.join((*_NUMBERS, *FOLDERS))}")
        if not equals or not value or (name in _NUMBERS and not (value.isascii() and value.isdigit() and int(value))):
            raise click.UsageError(f"-D {name} needs a {'number above 0' if name in _NUMBERS else 'folder'}: -D {pair}")
        found[name] = value
    return found


local_option = click.option(
    "-l", "is_local", is_flag=True, help="Run a registry for this machine in the same process, at zk.zkConnect."
)
property_option = click.option(
    "-D",
    "properties",
    multiple=True,
    metavar="NAME=VALUE",
    callback=read_properties,
    help="With a local registry: zk.server.tickTime=MS, zk.server.max.connections=N, zk.server.snapDirectory=DIR.",
)
