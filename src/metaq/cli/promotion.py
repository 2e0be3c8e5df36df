"""`metaq brokers promote`: the asynchronous slave of a home becomes the master, without a restart."""

import click

from metaq.cli.commands import home_option, json_option
from metaq.cli.control import ControlClient
from metaq.cli.home import find_home, running
from metaq.cli.output import emit, refuse, say

_PATIENCE = 60.0  # seconds that the change itself may take: ZooKeeper has to answer


@click.command()
@click.option(
    "--wait",
    type=click.FloatRange(0, 86400),
    default=0.0,
    metavar="SECONDS",
    help="How long to wait until the old master has stopped.  [default: not at all]",
)
@click.option(
    "--rest",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, resolve_path=True),
    metavar="DIR",
    help="The dataPath of the old master: when that has stopped, what this slave lacks is taken from there.",
)
@click.option("--force", is_flag=True, help="Also if messages are lost by that, or it is not known whether.")
@home_option
@json_option
def promote(wait: float, rest: tuple[str, ...], force: bool, home_path: str | None, as_json: bool) -> None:
    """Make the slave of a home the master of its broker id, without a restart.

    Refused while the master is registered or serves, and where messages would be lost. From then on the broker is the
    master whatever it is started as; a file among its data says so.
    """
    home = find_home(home_path)
    if running(home) is None:
        refuse("Broker is not running.", as_json)
    with ControlClient(home.socket) as client:
        done = client.ask("promote", {"force": force, "wait": wait, "rest": rest}, within=wait + _PATIENCE)
    if as_json:
        emit(done)
        return
    say(f"This broker is the master of broker {done['broker_id']} now.")
    if done["lost"]:
        say(f"Lost: {done['lost']}")
    say("Start it with `start` from now on, not with `start slave`.")
