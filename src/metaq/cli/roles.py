"""What a broker can be started as, and what of it this release does not have yet. One sentence each."""

import click

from metaq.cli.output import Failure

PLUGINS = ("metaslave", "samsa", "gregor", "jettyBroker")
ROLES = ("local", "slave", "samsa", "gregor")


def refuse_role(role: str | None) -> None:
    """Raise Failure if a broker is to start as something this release does not have yet."""
    if role not in (None, "local"):
        raise Failure(f"replication is not in this release: a broker cannot start as {role} yet")


def refuse_plugins(_: click.Context, __: click.Parameter, plugins: tuple[str, ...]) -> None:
    """Raise UsageError for every `-F NAME=FILE`: a name we never had, or one that this release does not have yet."""
    for plugin in plugins:
        name, equals, path = plugin.partition("=")
        if name not in PLUGINS:
            raise click.UsageError(f"unknown plug-in {name!r}; there are {', '.join(PLUGINS)}")
        if not (equals and path):
            raise click.UsageError(f"-F {name} needs a file: -F {name}=FILE")
        raise click.UsageError(f"plug-in {name} is not in this release")


plugin_option = click.option(
    "-F",
    multiple=True,
    metavar="NAME=FILE",
    expose_value=False,
    callback=refuse_plugins,
    help="A plug-in and its properties; none is in this release.",
)
