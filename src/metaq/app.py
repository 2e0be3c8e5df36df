"""The composition root: a configuration becomes a running broker, and stops in order (style.md habit 10).

Started first, stopped last: threads and files, the log, the port, ZooKeeper. A broker is announced when it is able to
serve; it withdraws before it refuses.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Final

from metaq.broker.broker import Broker
from metaq.config.model import BrokerConfig
from metaq.config.reload import Reloaded, reload
from metaq.errors import StoreError
from metaq.files import OsFiles, OsThreads, SystemClock
from metaq.model import BrokerAddress
from metaq.net.listener import Listener
from metaq.net.streams import Streams
from metaq.ports import World
from metaq.protocol.decoder import Limits
from metaq.store.store import MessageStore

log = logging.getLogger(__name__)

_STRAY_REPLY: Final = 64 << 10  # bytes of a reply sent to a broker, where it has no business


def real_world() -> World:
    """Return what lies outside this process. Within a running loop."""
    loop = asyncio.get_running_loop()
    return World(SystemClock(), random.Random(), OsFiles(), OsThreads(loop), Streams())


class Serving:
    """What a listener asks of a broker."""

    def __init__(self, broker: Broker) -> None:
        self.execute = broker.execute
        self.congested = broker.store.congested


class RunningBroker:
    """A broker that serves. `address` is the one registered, `port` the one bound."""

    def __init__(self, config: BrokerConfig, broker: Broker, address: BrokerAddress, world: World) -> None:
        self.config = config
        self.broker = broker
        self.address = address
        self.port = address.port
        self._world = world

    async def reload(self) -> Reloaded:
        """Read server.ini again and apply its topics. Raises ConfigError or OSError; then nothing has changed."""
        reloaded = reload(self.config, self._world.files.read(self.config.path))
        self.config = reloaded.config
        self.broker.configure(reloaded.config)
        return reloaded


async def run(
    config: BrokerConfig,
    *,
    ready: Callable[[RunningBroker], None] | None = None,
    stop: asyncio.Event,
    world: World | None = None,
) -> None:
    """Serve until `stop` is set, then stop in order: nothing acknowledged is lost, the folder is any broker's again.

    Raises ConfigError, StoreError, RegistryError or OSError if it cannot start, StoreError if the disk fails later.
    """
    world = world or real_world()
    async with AsyncExitStack() as stack:
        store = MessageStore.open(config, world)
        stack.push_async_callback(store.close)
        broker = Broker(config, store, world)
        limits = Limits(body=config.max_message_size, record=config.max_transfer_size, reply=_STRAY_REPLY)
        listener = Listener(world.network, Serving(broker), limits, config.idle_timeout)
        broker.count_connections = lambda: len(listener.connections.all)
        store.pressure = listener.connections.hold
        await listener.open(config.bind_address, config.server_port)
        stack.push_async_callback(listener.close)
        address = BrokerAddress(config.host_name or "127.0.0.1", listener.port)
        broker.serve_at(str(address), listener.port)
        running = RunningBroker(config, broker, address, world)
        if ready is not None:
            ready(running)
        await _serve(store, listener, stop)


async def _told(stop: asyncio.Event) -> None:
    await stop.wait()


async def _serve(store: MessageStore, listener: Listener, stop: asyncio.Event) -> None:
    """Keep house until told to stop. Raises StoreError if the disk fails."""
    failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    store.failed = failure.set_exception
    tasks = [
        asyncio.ensure_future(store.keep_house()),
        asyncio.ensure_future(listener.watch()),
        asyncio.ensure_future(_told(stop)),
    ]
    try:
        waited: list[asyncio.Future[None]] = [*tasks, failure]
        done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            each.result()
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError, StoreError):
                await task
        failure.cancel()
