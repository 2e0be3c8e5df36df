"""`metaq registry run`: the registry alone, in the foreground."""

import asyncio
import logging
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import ClassVar

import click

from metaq._version import __version__
from metaq.app import tune_process
from metaq.cli import logs
from metaq.cli.commands import Commands
from metaq.cli.local import Local, opened
from metaq.cli.output import say
from metaq.cli.process import READY
from metaq.net.loop import run as run_loop
from metaq.registry.options import RegistryOptions

log = logging.getLogger(__name__)


class RegistryCommands(Commands):
    sources: ClassVar = {"run": "metaq.cli.registry:run"}


@click.group(cls=RegistryCommands)
def registry() -> None:
    """A registry for one machine that speaks ZooKeeper's protocol."""


@click.command()
@click.option("--port", type=click.IntRange(min=0, max=65535), required=True, metavar="P", help="0: any that is free.")
@click.option("--data", required=True, metavar="DIR", help="Where it keeps what it remembers; made if it is missing.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="The address to serve at; `*`: all of this machine."
)
@click.option("--tick", type=click.IntRange(min=1), default=1000, show_default=True, metavar="MS", help="As tickTime.")
@click.option("--log-level", type=click.Choice(logs.LEVELS), default="info", show_default=True)
def run(port: int, data: str, host: str, tick: int, log_level: str) -> None:
    """Run a registry in the foreground: brokers, consumers and every client of ZooKeeper find each other through it.

    It is one server on one machine: when it is away, nobody takes over. A cluster of several machines uses ZooKeeper.
    Prints `ready host:port` when it serves and logs to stderr. SIGTERM and Ctrl-C stop it in order.
    """
    logs.configure("text", log_level)
    tune_process()
    run_loop(serve(str(Path(data).absolute()), host, port, RegistryOptions(tick=tick)))


async def serve(place: str, host: str, port: int, options: RegistryOptions) -> None:
    """Serve until SIGTERM or SIGINT. Raises ConfigError, OSError, StoreError if it cannot, or cannot go on."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    log.info("metaq %s: a registry for this machine, its data in %s", __version__, place)
    async with AsyncExitStack() as stack:
        running = await opened(stack, Local(place, host, port, options), "as you asked")
        say(f"{READY}{host}:{running.port}")
        failure = asyncio.ensure_future(running.failed())
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait([failure, stopped], return_when=asyncio.FIRST_COMPLETED)
            if failure.done():
                raise failure.result()
        finally:
            for each in (failure, stopped):
                each.cancel()
            log.info("stopping")
    log.info("stopped in order")
