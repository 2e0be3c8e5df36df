"""`metaq server start|stop|restart|status`: the life of the broker of a home (reference: metaServer.sh)."""

from collections.abc import Callable
from typing import Final

import click

from metaq.cli import process
from metaq.cli.commands import home_option, json_option
from metaq.cli.control import ask
from metaq.cli.home import Home, find_home, running
from metaq.cli.output import complain, emit, refuse, say
from metaq.cli.properties import property_option
from metaq.cli.roles import PARTS, ROLES, chosen_plugins, options_of, plugin_option
from metaq.errors import MetaqError

timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=120.0,
    show_default=True,
    help="Seconds that an orderly stop may take before the process is ended.",
)
role_argument = click.argument("role", required=False, type=click.Choice(ROLES))


_MODES: Final = {
    "local": " in local mode",
    "slave": " as an asynchronous slave",
    "samsa": " as the master of a synchronous pair",
    "gregor": " as the slave of a synchronous pair",
}


@click.command()
@role_argument
@plugin_option
@property_option
@home_option
@json_option
def start(role: str | None, properties: dict[str, str], home_path: str | None, as_json: bool) -> None:
    """Start the broker of a home in the background; return when it serves.

    As `local` it brings its own registry, at the address zk.zkConnect names: for one machine, nothing else to install.
    As `slave` it copies the master of its brokerId, as conf/async_slave.properties says.
    `samsa` and `gregor` are master and slave of a synchronous pair, as conf/samsa_master.properties says.
    """
    check_role(role, properties)
    home = find_home(home_path)
    if running(home) is not None:
        refuse("Broker is running.", as_json)
    bring_up(home, role, properties, as_json)


def check_role(role: str | None, properties: dict[str, str]) -> None:
    """Raise UsageError for what a broker cannot be started as."""
    if properties and role != "local":
        raise click.UsageError("-D is for a local registry: start local")
    if role in PARTS and chosen_plugins():
        raise click.UsageError(f"start {role} reads its properties from the home; leave -F away")


def bring_up(home: Home, role: str | None, properties: dict[str, str], as_json: bool) -> None:
    """Start a broker and say where it serves. Raises StartFailed."""
    mode = _MODES.get(role or "", "")
    tell(as_json)(f"Starting meta broker{mode}...")
    options = [word for name, value in properties.items() for word in ("-D", f"{name}={value}")]
    try:
        started = process.start(home, [*options_of(role, home), *chosen_plugins(), *options])
    except KeyboardInterrupt:
        complain(f"the broker goes on starting without us; see {home.log}, or stop it")
        raise
    if as_json:
        emit({"pid": started.pid, "address": started.addresses.split()[0], "log": str(home.log)})
    else:
        say(f"Meta broker serves at {started.addresses.split()[0]}, process {started.pid}; log: {home.log}")


@click.command()
@timeout_option
@home_option
@json_option
def stop(timeout: float, home_path: str | None, as_json: bool) -> None:
    """Stop the broker of a home, in order; return when its process has ended."""
    pid = bring_down(find_home(home_path), timeout, as_json)
    if as_json:
        emit({"stopped": pid})


def bring_down(home: Home, timeout: float, as_json: bool) -> int:
    """Stop a broker; return its process id. Ends with 1 if none runs; raises StopFailed if it did not end well."""
    broker = process.hold(home)
    if broker is None:
        refuse("Broker is not running.", as_json)
    try:
        process.stop(home, broker, timeout, tell(as_json))
    finally:
        broker.close()
    tell(as_json)("Stop meta broker successfully.")
    return broker.pid


@click.command()
@role_argument
@plugin_option
@property_option
@timeout_option
@home_option
@json_option
def restart(role: str | None, properties: dict[str, str], timeout: float, home_path: str | None, as_json: bool) -> None:
    """Stop the broker of a home if it runs, then start it."""
    check_role(role, properties)
    home = find_home(home_path)
    if running(home) is None:
        tell(as_json)("Broker is not running.")
    else:
        bring_down(home, timeout, as_json)
    bring_up(home, role, properties, as_json)


@click.command()
@home_option
@json_option
def status(home_path: str | None, as_json: bool) -> None:
    """Say whether the broker of a home runs; the exit status is 0 in both cases."""
    home = find_home(home_path)
    pid = running(home)
    values: dict[str, object] = {"running": pid is not None}
    if pid is not None:
        values |= {"pid": pid, **_ask_status(home)}
    if as_json:
        emit(values)
        return
    say("Meta broker was stopped." if pid is None else "Meta broker is running.")
    for key, value in values.items():
        if key != "running":
            say(f"{key}: {value}")


def _ask_status(home: Home) -> dict[str, object]:
    """Return what a running broker says of itself."""
    try:
        return ask(home.socket, "status")
    except MetaqError as exc:
        return {"state": "unknown", "problem": str(exc)}


def tell(as_json: bool) -> Callable[[str], None]:
    """Return what says steps to people; scripts get none."""
    return (lambda _: None) if as_json else say
