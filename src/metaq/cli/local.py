"""The registry in the broker's process: `server run -l`, `server start local` (reference: EmbedZookeeperServer).

For one machine: there is no second server that could take over. A cluster uses ZooKeeper.
"""

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import SystemRandom
from typing import NamedTuple

from metaq.app import real_world
from metaq.cli.home import Home
from metaq.cli.properties import FOLDERS
from metaq.config.model import BrokerConfig
from metaq.errors import ConfigError, StoreError
from metaq.ports import World
from metaq.registry.options import RegistryOptions
from metaq.registry.running import RunningRegistry, running_registry

log = logging.getLogger(__name__)


class Local(NamedTuple):
    """A registry to run: where its data lies, where it serves."""

    place: str
    host: str
    port: int
    options: RegistryOptions


def local_registry(config: BrokerConfig, home: Home | None, properties: Mapping[str, str]) -> Local:
    """Return the registry that goes with a broker, at the address zk.zkConnect names. Raises ConfigError."""
    connect = config.zookeeper.connect
    host, port = _address(connect)
    wanted = int(properties.get("zk.server.port", port))
    if wanted != port:
        raise ConfigError(f"zk.server.port={wanted}: the broker looks for it where zk.zkConnect={connect} says")
    folders = list(dict.fromkeys(properties[name] for name in FOLDERS if name in properties))
    if len(folders) > 1:
        raise ConfigError(f"zk.server.snapDirectory and zk.server.logDirectory are one folder here, not {folders}")
    place = folders[0] if folders else _place(config, home)
    options = RegistryOptions(
        tick=int(properties.get("zk.server.tickTime", 1000)),
        max_connections=int(properties.get("zk.server.max.connections", 4096)),
    )
    return Local(str(Path(place).absolute()), host, port, options)


def _place(config: BrokerConfig, home: Home | None) -> str:
    return f"{config.data_log_path}/pymetaq/registry" if home is None else str(home.path / "registry")


def _address(connect: str) -> tuple[str, int]:
    """Return host and port of the one server that may be named."""
    servers = connect.partition("/")[0].split(",")
    host, _, port = servers[0].strip().rpartition(":")
    if not host:
        host, port = port, "2181"
    if len(servers) > 1 or not (port.isascii() and port.isdigit()):
        raise ConfigError(f"zk.zkConnect={connect}: a local registry is one server on this machine, named as host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


@asynccontextmanager
async def beside(local: Local | None, stop: asyncio.Event) -> AsyncIterator[None]:
    """Serve a registry while the block runs; None: there is none. If its disk fails, `stop` is set, then it is raised.

    Raises ConfigError if it cannot serve where it should, StoreError if its files cannot be used.
    """
    if local is None:
        yield
        return
    failures: list[StoreError] = []
    async with AsyncExitStack() as stack:
        registry = await opened(stack, local, "as zk.zkConnect says")
        log.info("registry for this machine at %s:%d, its data in %s", local.host, local.port, local.place)

        async def watch() -> None:
            failures.append(await registry.failed())
            stop.set()

        watching = asyncio.create_task(watch(), name="watch the registry")
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait([watching])
    if failures:
        raise failures[0]


async def opened(stack: AsyncExitStack, local: Local, why: str) -> RunningRegistry:
    """Serve a registry until the stack unwinds. Raises ConfigError if it cannot serve there, StoreError, OSError."""
    host = None if local.host == "*" else local.host
    try:
        return await stack.enter_async_context(
            running_registry(local.place, host, local.port, secret_world(), local.options)
        )
    except OSError as exc:
        where = f"the registry cannot serve at {local.host}:{local.port}, {why}"
        match exc.errno:
            case errno.EADDRINUSE:
                raise ConfigError(f"{where}: something else does already; a ZooKeeper?") from exc
            case errno.EADDRNOTAVAIL:
                raise ConfigError(f"{where}: that is no address of this machine") from exc
        raise


def secret_world() -> World:
    """Return what lies outside, with numbers nobody can guess: passwords of sessions are made of them."""
    return replace(real_world(), random=SystemRandom())
