"""`metaq server`: run, set up and look after a broker (reference: metaServer.sh and the tools it calls)."""

from collections.abc import Mapping
from typing import ClassVar

import click

from metaq._version import REFERENCE_VERSION, __version__
from metaq.cli.commands import Commands, json_option
from metaq.cli.output import emit, say


class Server(Commands):
    """The words after `metaq server`; the later ones exist so that who uses them learns that they are to come."""

    later: ClassVar[tuple[str, ...]] = ("delete-partitions", "move-partitions", "query")
    sources: ClassVar[Mapping[str, str]] = {
        "run": "metaq.cli.server_run:run",
        "init": "metaq.cli.server_init:init",
        "start": "metaq.cli.server_life:start",
        "stop": "metaq.cli.server_life:stop",
        "restart": "metaq.cli.server_life:restart",
        "status": "metaq.cli.server_life:status",
        "reload": "metaq.cli.server_tools:reload",
        "stats": "metaq.cli.server_tools:stats",
        "slave-status": "metaq.cli.slave_status:slave_status",
        "open-partitions": "metaq.cli.server_tools:open_partitions",
        "close-partitions": "metaq.cli.server_tools:close_partitions",
        "version": "metaq.cli.server:version",
        "help": "metaq.cli.server:show_help",
    }

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, also one that only says that it is to come."""
        return not_yet(cmd_name) if cmd_name in self.later else super().get_command(ctx, cmd_name)


@click.group(cls=Server)
def server() -> None:
    """Run a broker, set up a home for one, look after it."""


def not_yet(name: str) -> click.Command:
    """Return a command that takes anything and fails: its original exists, ours does not yet."""

    @click.command(name, hidden=True, add_help_option=False, context_settings={"ignore_unknown_options": True})
    @click.argument("rest", nargs=-1, type=click.UNPROCESSED)
    def command(rest: tuple[str, ...]) -> None:
        """Say that this is to come."""
        raise click.ClickException(f"`server {name}` is not in this release")

    return command


@click.command()
@json_option
def version(as_json: bool) -> None:
    """Print the version of this installation, and of MetaQ whose place it takes."""
    if as_json:
        emit({"version": __version__, "reference": REFERENCE_VERSION})
    else:
        say(f"metaq {__version__} (MetaQ {REFERENCE_VERSION})")


@click.command("help")
@click.pass_context
def show_help(ctx: click.Context) -> None:
    """Print the words of `metaq server`."""
    say((ctx.parent or ctx).get_help())
