"""The composition root: a configuration becomes a running broker, and stops in order (style.md habit 10).

Started first, stopped last: threads and files, the log, the port, ZooKeeper. A broker is announced when it is able to
serve; it withdraws before it refuses.
"""

import asyncio
import gc
import logging
import random
import resource
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Final, Protocol

from metaq.admin.changing import TopicChanges
from metaq.admin.exporting import serving_metrics
from metaq.admin.taking import taking_requests
from metaq.broker.broker import Broker
from metaq.cluster.address import default_host
from metaq.cluster.ports import Registry
from metaq.cluster.reading import readable_as_master
from metaq.cluster.registry import BrokerRegistration, NoRegistry
from metaq.cluster.succession import Succession
from metaq.cluster.zk import ZooKeeperClient
from metaq.config.model import BrokerConfig, ZooKeeperConfig
from metaq.config.reload import Reloaded, reload
from metaq.errors import MetaqError, StoreError
from metaq.files import OsFiles, OsThreads, SystemClock
from metaq.model import BrokerAddress
from metaq.net.listener import Listener
from metaq.net.pace import Pace
from metaq.net.streams import Streams
from metaq.ports import World
from metaq.protocol.decoder import Limits
from metaq.record import HEADER_SIZE
from metaq.replication.role import Master, Role
from metaq.store.awaiting import in_thread
from metaq.store.store import MessageStore, open_files

log = logging.getLogger(__name__)

_TELL_REGISTRY: Final = 5.0  # seconds that a reload waits for ZooKeeper
_FEW: Final = 16  # connections that there may be in any case
_OTHER_FILES: Final = 32  # descriptors for the journal, locks, logs, ZooKeeper
_STRAY_REPLY: Final = 64 << 10  # bytes of a reply sent to a broker, where it has no business


def real_world() -> World:
    """Return what lies outside this process. Within a running loop."""
    loop = asyncio.get_running_loop()
    return World(SystemClock(), random.Random(), OsFiles(), OsThreads(loop), Streams())


def tune_process() -> None:
    """Set up a process that does nothing else but run a broker: descriptors, garbage collection, thread switches.

    A thread that comes back from the disk waits up to the switch interval for a busy loop: with 5 ms, as Python has it,
    syncing took 51 ms in the worst of 100 cases, with 1 ms it takes 4. Nearly all that a broker makes dies by its
    reference count, so the collector need not look at it often; and what has lived long it practically never looks at
    again: with 50,000 partitions that took up to 0.3 s.
    """
    sys.setswitchinterval(0.001)
    gc.freeze()
    gc.set_threshold(20_000, 4, 1000)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def settle_process() -> None:
    """Tell the collector of such a process that what there is now stays: the broker serves."""
    gc.freeze()


class Serving:
    """What a listener asks of a broker."""

    def __init__(self, broker: Broker) -> None:
        self.execute = broker.execute
        self.room = broker.store.room
        self.calm = broker.store.calm


class RegistryClient(Registry, Protocol):
    """A registry that is connected and closed by whoever opened it."""

    async def connect(self, timeout: float) -> None: ...
    async def close(self) -> None: ...


class Registration(Protocol):
    """What a running broker asks of `cluster.registry`. `registry` None: it is not registered anywhere."""

    @property
    def registry(self) -> Registry | None: ...
    async def register(self, topics: Iterable[str]) -> None: ...
    def topic_appeared(self, topic: str) -> None: ...
    async def update(self, config: BrokerConfig, topics: Iterable[str]) -> None: ...
    async def forget(self, topic: str) -> None: ...
    async def withdraw(self) -> None: ...


def zookeeper(config: ZooKeeperConfig) -> RegistryClient:
    """Return the client of a real ZooKeeper, not connected yet."""
    return ZooKeeperClient(config.connect, session_timeout=config.session_timeout)


class RunningBroker:
    """A broker that serves. `address` is the one registered, `port` the one bound; `changes` are those of topics."""

    def __init__(self, broker: Broker, address: BrokerAddress, registration: Registration, world: World) -> None:
        self.broker = broker
        self.address = address
        self.port = address.port
        self._registration = registration
        self._world = world
        self._reloading = asyncio.Lock()
        self.changes = TopicChanges(self, world)

    @property
    def config(self) -> BrokerConfig:
        """The configuration in force."""
        return self.broker.config

    async def reload(self) -> Reloaded:
        """Read server.ini again and apply its topics. Raises ConfigError or OSError; then nothing has changed.

        ZooKeeper is told before this returns if it answers within a few seconds, else as soon as it does.
        """
        async with self._reloading:
            reloaded = await self._read()
            _warn(reloaded.config)
            self.broker.store.make_room(reloaded.config)
            await self.broker.configure(reloaded.config)
            try:
                async with asyncio.timeout(_TELL_REGISTRY):
                    await self._registration.update(reloaded.config, topics_of(self.broker))
            except TimeoutError:
                log.warning("ZooKeeper does not answer; it hears of the new configuration later")
            return reloaded

    async def announce(self) -> None:
        """Register the broker again after `withdraw`. Raises RegistryError."""
        await self._registration.register(topics_of(self.broker))

    async def withdraw(self) -> None:
        """Leave ZooKeeper, and serve on."""
        await self._registration.withdraw()

    async def succeed(self, claimed: Callable[[], Awaitable[None]]) -> None:
        """Have a slave become the master in ZooKeeper, and take changes of topics. See `Succession.succeed`."""
        if not isinstance(self._registration, Succession):
            raise MetaqError("this broker is no slave in ZooKeeper")
        await self._registration.succeed(topics_of(self.broker), claimed)
        self.changes.allow()

    async def forget(self, topic: str) -> None:
        """Have ZooKeeper forget a topic; return when it has."""
        await self._registration.forget(topic)

    async def _read(self) -> Reloaded:
        """Read the file in a thread of its own: 10,000 topics take half a second."""
        current, files = self.config, self._world.files
        return await in_thread(self._world, "metaq-config", lambda: reload(current, files.read(current.path)))


def topics_of(broker: Broker) -> list[str]:
    """Return the topics to register: those of the file as they are written there, then others that have a log."""
    configured = [topic.name for topic in broker.config.topics]
    return list(dict.fromkeys([*configured, *(log.key.topic for log in broker.store.all())]))


async def run(
    config: BrokerConfig,
    *,
    ready: Callable[[RunningBroker], None] | None = None,
    stop: asyncio.Event,
    world: World | None = None,
    registry: Callable[[ZooKeeperConfig], RegistryClient] = zookeeper,
    role: Role | None = None,
) -> None:
    """Serve until `stop` is set, then stop in order: nothing acknowledged is lost, the folder is any broker's again.

    `registry` makes the client of ZooKeeper, unless zk.zkEnable is false. `role` None: a master by itself. Raises
    ConfigError, StoreError, RegistryError or OSError if the broker cannot start, StoreError if the disk fails later.
    """
    world, role = world or real_world(), role or Master()
    config = role.configure(config)
    _warn(config)
    async with AsyncExitStack() as stack:
        store = MessageStore.open(config, world)
        stack.push_async_exit(partial(_close, store))
        broker = Broker(config, store, world)
        role.join(broker, world)
        listener = Listener(world.network, Serving(broker), _limits(config), config.idle_timeout)
        _introduce(broker, listener, config, world)
        failure = await stack.enter_async_context(_background(store, listener))
        await stack.enter_async_context(_at_work(role.accompany(), failure))
        address = await stack.enter_async_context(_open(listener, broker))
        await stack.enter_async_context(serving_metrics(broker, world))
        registration, connected = _registration(config, address, role, stack, registry)
        if not await _unless_stopped(_prepared(connected, role, broker, registration), stop, failure):
            return
        broker.use_registry(registration)
        stack.push_async_callback(_withdraw, registration, listener, config)
        if not await _unless_stopped(registration.register(topics_of(broker)), stop, failure):
            return
        running = RunningBroker(broker, address, registration, world)
        if role.slave_id is not None:
            running.changes.refuse("this broker is a slave: change topics at its master")
        await stack.enter_async_context(taking_requests(running.changes, registration.registry, world))
        await stack.enter_async_context(_at_work(role.work(running, registration.registry), failure))
        if ready is not None:
            ready(running)
        await _unless_stopped(asyncio.get_running_loop().create_future(), stop, failure)


def _introduce(broker: Broker, listener: Listener, config: BrokerConfig, world: World) -> None:
    """Let broker and listener hear of each other."""
    listener.connections.pace = Pace(config.replica_congestion_control)
    listener.connections.most = _most_connections(config, world)
    broker.count_connections = lambda: len(listener.connections.all)
    broker.store.pressure = listener.connections.hold


@asynccontextmanager
async def _open(listener: Listener, broker: Broker) -> AsyncIterator[BrokerAddress]:
    """Listen while the block runs; yield the address to register."""
    config = broker.config
    await listener.open(config.bind_address, config.server_port)
    try:
        address = BrokerAddress(_host(config), listener.port)
        broker.serve_at(str(address), listener.port)
        yield address
    finally:
        await listener.close()


async def _prepared(connected: Awaitable[object], role: Role, broker: Broker, registration: Registration) -> None:
    """Wait for ZooKeeper, then for what the role has to do before the broker is registered."""
    await connected
    await role.prepare(broker, registration.registry)


def _warn(config: BrokerConfig) -> None:
    for warning in config.warnings:
        log.warning("%s", warning)
    for topic in config.topics:
        for group, name in topic.filters:
            log.warning(
                "[topic=%s] group.%s=%s: no filter is run, group %s gets all messages", topic.name, group, name, group
            )


def _limits(config: BrokerConfig) -> Limits:
    batch = max(Limits().batch, config.max_message_size + HEADER_SIZE)  # one message at least
    return Limits(body=config.max_message_size, batch=batch, record=config.max_transfer_size, reply=_STRAY_REPLY)


def _most_connections(config: BrokerConfig, world: World) -> int:
    """Return how many connections leave the store what it needs: without a descriptor for a file it would fail."""
    files = world.files
    return max(_FEW, files.most_open() - 2 * open_files(config, files) - _OTHER_FILES)


def _host(config: BrokerConfig) -> str:
    bound = config.bind_address if config.bind_address not in (None, "", "0.0.0.0", "::") else None
    return config.host_name or bound or default_host()


def _registration(
    config: BrokerConfig,
    address: BrokerAddress,
    role: Role,
    stack: AsyncExitStack,
    registry: Callable[[ZooKeeperConfig], RegistryClient],
) -> tuple[Registration, Awaitable[object]]:
    """Return the registration, and what connects to ZooKeeper first."""
    if not (config.zookeeper.enable and role.registers):
        return NoRegistry(), asyncio.sleep(0)
    client = registry(config.zookeeper)
    stack.push_async_callback(client.close)
    registration: Registration
    registration = main = BrokerRegistration(client, config, address, slave_id=role.slave_id)
    if role.slave_id is not None:
        slave = readable_as_master(main, client, config, address, role.slave_id)
        registration = Succession(slave, BrokerRegistration(client, config, address))
    return registration, client.connect(config.zookeeper.connection_timeout)


@asynccontextmanager
async def _at_work(work: Coroutine[None, None, None], failure: asyncio.Future[object]) -> AsyncIterator[None]:
    """Have a role do its work while the block runs. What it fails with ends the broker."""

    def ended(task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if error is not None and not failure.done():
            failure.set_exception(error)

    task = asyncio.create_task(work, name="role")
    task.add_done_callback(ended)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _withdraw(registration: Registration, listener: Listener, config: BrokerConfig) -> None:
    """Leave ZooKeeper, then serve on until clients have moved away: they are silent, or the time is up."""
    await registration.withdraw()
    if registration.registry is not None:
        most = config.zookeeper.sync_time if config.stop_wait is None else config.stop_wait
        await listener.silence(most)


async def _unless_stopped(work: Awaitable[object], stop: asyncio.Event, failure: asyncio.Future[object]) -> bool:
    """Wait for `work`; False: told to stop before. Raises what `work` raises, or the failure of the background."""
    waiting: asyncio.Future[object] = asyncio.ensure_future(stop.wait())
    working: asyncio.Future[object] = asyncio.ensure_future(work)
    try:
        await asyncio.wait([waiting, working, failure], return_when=asyncio.FIRST_COMPLETED)
        if failure.done():
            failure.result()
        if working.done():
            working.result()
        return working.done()
    finally:
        for each in (waiting, working):
            each.cancel()
        await asyncio.gather(waiting, working, return_exceptions=True)


@asynccontextmanager
async def _background(store: MessageStore, listener: Listener) -> AsyncIterator[asyncio.Future[object]]:
    """Keep house and look after connections meanwhile. The future given has an error as soon as that cannot go on."""
    failure: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    def fail(error: BaseException) -> None:
        if not failure.done():
            failure.set_exception(error)

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            fail(error)

    store.failed = fail
    tasks = [asyncio.create_task(store.keep_house()), asyncio.create_task(listener.watch())]
    for task in tasks:
        task.add_done_callback(ended)
    try:
        yield failure
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if not failure.done():
            failure.cancel()


async def _close(
    store: MessageStore, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
) -> None:
    """Close the store in order, or, if the disk failed, leave it to the next opening."""
    if isinstance(error, StoreError):
        store.abandon()
    else:
        await store.close()
