"""What a broker can be started as: each role is one entry here."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Final

import click

from metaq.cli.home import Home

if TYPE_CHECKING:
    from metaq.replication.role import Role

_TAKEN: Final = "metaq.roles"


@dataclass(frozen=True, slots=True)
class Part:
    """A role as `start` and `-F` name it, and the file of a home that says how it is played.

    `source`: module:function, which makes the role from the path of the file.
    """

    plugin: str
    file: str
    source: str


PARTS: Final[Mapping[str, Part]] = {
    "slave": Part("metaslave", "async_slave.properties", "metaq.replication.slave:from_file"),
    "samsa": Part("samsa", "samsa_master.properties", "metaq.replication.pair.roles:samsa_from_file"),
    "gregor": Part("gregor", "gregor_slave.properties", "metaq.replication.pair.roles:gregor_from_file"),
}
PLUGINS: Final = (*(part.plugin for part in PARTS.values()), "jettyBroker")
ROLES: Final = ("local", *PARTS)


def options_of(role: str | None, home: Home) -> list[str]:
    """Return what `server run` is told so that the broker of a home plays this role."""
    part = PARTS.get(role or "")
    if part is None:
        return ["-l"] if role == "local" else []
    return ["-F", f"{part.plugin}={home.path / 'conf' / part.file}"]


def chosen_role() -> "Role | None":
    """Return the role that `-F` names for the command under way; None: none. Raises ConfigError."""
    taken: Mapping[str, str] = click.get_current_context().meta.get(_TAKEN, {})
    for part in PARTS.values():
        if part.plugin in taken:
            module, _, name = part.source.partition(":")
            make: Callable[[str], Role] = getattr(import_module(module), name)
            return make(taken[part.plugin])
    return None


def chosen_plugins() -> list[str]:
    """Return the `-F` options of the command under way, to be passed on."""
    taken: Mapping[str, str] = click.get_current_context().meta.get(_TAKEN, {})
    return [word for name, path in taken.items() for word in ("-F", f"{name}={path}")]


def check_plugins(ctx: click.Context, _: click.Parameter, plugins: Iterable[str]) -> None:
    """Keep every `-F NAME=FILE`. Raises UsageError for a name we never had or do not have yet, and for two roles."""
    known = {part.plugin for part in PARTS.values()}
    taken: dict[str, str] = {}
    for plugin in plugins:
        name, equals, path = plugin.partition("=")
        if name not in PLUGINS:
            raise click.UsageError(f"unknown plug-in {name!r}; there are {', '.join(PLUGINS)}")
        if not (equals and path):
            raise click.UsageError(f"-F {name} needs a file: -F {name}=FILE")
        if name not in known:
            raise click.UsageError(f"plug-in {name} is not in this release")
        taken[name] = path
    if len(taken) > 1:
        raise click.UsageError(f"a broker has one role, not {' and '.join(taken)}")
    ctx.meta[_TAKEN] = taken


plugin_option = click.option(
    "-F",
    multiple=True,
    metavar="NAME=FILE",
    expose_value=False,
    callback=check_plugins,
    help="A role and its properties: metaslave=FILE, an asynchronous slave; samsa=FILE or gregor=FILE, one of a pair.",
)
