"""`metaq server run`: a broker in the foreground, for terminals, systemd and containers (reference: ServerStartup)."""

import os
import sys
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TypedDict, Unpack

import click

from metaq.app import tune_process
from metaq.cli import logs
from metaq.cli.home import Home, claim, home_of_ini
from metaq.cli.local import local_registry
from metaq.cli.process import FAILED, READY
from metaq.cli.properties import local_option, property_option
from metaq.cli.roles import chosen_role, plugin_option
from metaq.cli.run import Manner, serve
from metaq.config.broker import load
from metaq.errors import MetaqError
from metaq.net.loop import run as run_loop


class Rest(TypedDict):
    """What the options say that are not of the registry."""

    ini: str
    home_path: str | None
    log_format: str
    log_level: str | None
    ready_fd: int | None


@click.command()
@click.option("-f", "ini", required=True, metavar="FILE", help="The server.ini.")
@plugin_option
@local_option
@property_option
@click.option(
    "--home", "home_path", metavar="DIR", help="The home to serve the control socket of.  [default: where FILE lies]"
)
@click.option("--log-format", type=click.Choice(logs.FORMATS), default="text", show_default=True)
@click.option("--log-level", type=click.Choice(logs.LEVELS), help="[default: logLevel of [pymetaq], which is info]")
@click.option(
    "--ready-fd", type=int, hidden=True, help="A descriptor that is told `ready …` or `failed …`, then closed."
)
def run(is_local: bool, properties: dict[str, str], **rest: Unpack[Rest]) -> None:
    """Run a broker in the foreground.

    Prints `ready meta://host:port …` when it serves and logs to stderr. SIGTERM and Ctrl-C stop it in order, a second
    one at once; SIGHUP reads server.ini again.
    """
    if properties and not is_local:
        raise click.UsageError("-D is for a local registry: add -l")
    logs.configure(rest["log_format"], rest["log_level"] or logs.LEVEL)
    ini, home_path = rest["ini"], rest["home_path"]
    home = home_of_ini(ini) if home_path is None else Home(Path(home_path).absolute())
    herald = Herald(rest["ready_fd"])
    try:
        config = load(ini)
        local = local_registry(config, home, properties) if is_local else None
        role = chosen_role()
        logs.set_level(rest["log_level"] or config.log_level)
        tune_process()
        with nullcontext() if home is None else claim(home):
            run_loop(serve(config, home, herald.ready, Manner(local, role)))
    except (MetaqError, OSError) as exc:
        herald.failed(str(exc))
        raise


class Herald:
    """Tells stdout, and the process that started us, that we serve or why we do not."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def ready(self, addresses: str) -> None:
        """Say that we serve at `addresses`."""
        with suppress(BrokenPipeError):
            sys.stdout.write(f"{READY}{addresses}\n")
            sys.stdout.flush()
        self._tell(READY + addresses)

    def failed(self, reason: str) -> None:
        """Say why we do not serve; nobody is told any more once we did."""
        self._tell(FAILED + " ".join(reason.split("\n")))

    def _tell(self, text: str) -> None:
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        with suppress(BrokenPipeError):
            os.write(descriptor, text.encode() + b"\n")
        os.close(descriptor)
