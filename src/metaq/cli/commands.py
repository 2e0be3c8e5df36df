"""What commands have in common: groups that load a command when it is used, options of one meaning."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import ClassVar, Final, TypeVar

import click

F = TypeVar("F", bound=Callable[..., object])

CONNECT_TIMEOUT: Final = 10.0  # seconds until somebody of a cluster must have answered

_URL: Final = "metaq.url"


class Commands(click.Group):
    """A group whose commands are imported when they are asked for, so that `status` does not load a client."""

    sources: ClassVar[Mapping[str, str]]  # name → module:attribute

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which help shows them."""
        return list(self.sources)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; None: there is none of that name."""
        source = self.sources.get(cmd_name)
        if source is None:
            return None
        module, _, attribute = source.partition(":")
        command: object = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command


def json_option(command: F) -> F:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, one value a line, for scripts.")(command)


def _keep_url(ctx: click.Context, _: click.Parameter, url: str | None) -> None:
    ctx.meta[_URL] = url


def url_option(command: F) -> F:
    """Add `--url`; `chosen_url` returns it."""
    return click.option(
        "--url",
        envvar="METAQ_URL",
        metavar="URL",
        expose_value=False,
        callback=_keep_url,
        help="The cluster: zk://host:port[,…][/root] or metaq://host:port[,…].  [environment: METAQ_URL]",
    )(command)


def chosen_url() -> str:
    """Return the URL of the cluster for the command under way. Raises UsageError if there is none."""
    url: object = click.get_current_context().meta.get(_URL)
    if not isinstance(url, str):
        raise click.UsageError("which cluster? Name it with --url or METAQ_URL: zk://host:port or metaq://host:port")
    return url


def home_option(command: F) -> F:
    """Add `--home`."""
    return click.option(
        "--home",
        "home_path",
        envvar="METAQ_HOME",
        metavar="DIR",
        help="The broker's home.  [default: the current directory, if it is one; environment: METAQ_HOME]",
    )(command)
