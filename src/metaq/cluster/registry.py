"""The broker's side: registered for as long as it serves, whatever happens to ZooKeeper.

Reference: BrokerZooKeeper.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from typing import Final

from metaq.cluster.announcement import AT_ONCE, Announcement, Identity, Visible
from metaq.cluster.operations import BrokerConflict, RegistryClosed, State
from metaq.cluster.paths import Paths
from metaq.cluster.ports import Registry
from metaq.config.model import BrokerConfig
from metaq.errors import RegistryError
from metaq.model import BrokerAddress

log = logging.getLogger(__name__)

AUDIT_INTERVAL: Final = 60.0  # seconds between looks whether all our nodes are still there
_PAUSE: Final = 0.1  # seconds before trying again what failed; doubles up to _LONGEST_PAUSE
_LONGEST_PAUSE: Final = 10.0
_WITHDRAW_TIME: Final = 10.0  # seconds
_REPAIRS: Final = 5  # that many at once within _REPAIR_TIME seconds
_REPAIR_TIME: Final = 10.0


class BrokerRegistration:
    """Registers one broker and its topics, and keeps them registered: in each new session, after each error, for ever.

    All methods say what is wanted; one task makes the tree so, and starts over when it failed, when the session was
    lost, or when nodes of ours are found missing. Nothing is written before `register` and after `withdraw`.
    `slave_id`: the number of an asynchronous slave; None: the master. `audit_interval`: seconds.
    """

    def __init__(
        self,
        registry: Registry,
        config: BrokerConfig,
        address: BrokerAddress,
        *,
        slave_id: int | None = None,
        audit_interval: float = AUDIT_INTERVAL,
    ) -> None:
        self._registry = registry
        self._config = config
        self._identity = Identity(config.broker_id, slave_id, address)
        self._audit_interval = audit_interval
        self._announcement = Announcement(registry, Paths(config.zookeeper.root), self._identity)
        self._topics: dict[str, None] = {}  # in the order in which they came
        self._new: dict[str, None] = {}  # of them, those not looked at yet
        self._gone: dict[str, None] = {}  # topics whose nodes are to be taken away
        self._all_due = True  # all of them are to be looked at: the session or their settings are new
        self._generation = 0  # of the configuration: its checksum is written again with each
        self._wake = asyncio.Event()
        self._audit_due = True
        self._repairs: deque[float] = deque(maxlen=_REPAIRS)
        self._was_registered = False
        self._waiters: list[asyncio.Future[None]] = []
        self._served: list[asyncio.Future[None]] = []  # those for whom the tree is being written now
        self._task: asyncio.Task[None] | None = None

    @property
    def registry(self) -> Registry:
        """Where it is registered."""
        return self._registry

    async def register(self, topics: Iterable[str]) -> None:
        """Register the broker and topics, with the settings they have in the configuration; return when it is done.

        Waits for as long as ZooKeeper is away. Raises BrokerConflict if another broker has our id, and may then be
        called again. `topics`: those of the configuration, wildcards as they are written, then those with stores.
        """
        host = self._identity.address.host
        if "_" in host:
            log.warning("host name %s: Java clients cannot read a URL with an underscore; set hostName", host)
        self._want(topics)
        if self._task is None:
            self._audit_due = True
            self._was_registered = False
            self._task = asyncio.create_task(self._keep(), name=f"registration of broker {self._identity}")
        await self._settled()

    def topic_appeared(self, topic: str) -> None:
        """Have a topic registered soon, if it is not; costs nothing for one that is known."""
        if topic not in self._topics:
            self._topics[topic] = self._new[topic] = None
            self._wake.set()

    async def add_topic(self, topic: str) -> None:
        """Register a topic if it is not; return when it is done. While not registered it is only noted."""
        self.topic_appeared(topic)
        if self._task is not None and not self._announcement.has(topic):
            await self._settled()

    async def update(self, config: BrokerConfig, topics: Iterable[str]) -> None:
        """Take over a new configuration; return when the tree says so. While not registered it is only noted.

        The checksum is written first, even if it is the same. Of the topics, new and old, only nodes whose content
        changes are deleted and made anew. Topics no longer configured stay, with the settings of [system].
        """
        self._config = config
        self._generation += 1
        self._all_due = True
        self._want(topics)
        if self._task is not None:
            await self._settled()

    async def forget(self, topic: str) -> None:
        """Take the nodes of a topic away; return when it is done. It may be registered again afterwards."""
        self._topics.pop(topic, None)
        self._new.pop(topic, None)
        self._gone[topic] = None
        if self._task is not None:
            await self._settled()

    async def withdraw(self) -> None:
        """Take all our nodes away, the broker's first; the session goes on. May be registered again afterwards.

        Without ZooKeeper it gives up after 10 seconds: the nodes then end with the session.
        """
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if not self._was_registered and not self._announcement.announced:
            return  # the nodes there are may be another's
        try:
            async with asyncio.timeout(_WITHDRAW_TIME):
                await self._announcement.remove()
        except (RegistryError, TimeoutError) as exc:
            log.warning("broker %s: nodes are left to the end of the session: %r", self._identity, exc)
        else:
            log.info("broker %s: withdrawn", self._identity)

    def _want(self, topics: Iterable[str]) -> None:
        names = dict.fromkeys(topics)
        self._topics.update(names)
        self._new.update(names)

    async def _settled(self) -> None:
        """Wait until everything wanted up to now is in the tree."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._wake.set()
        await waiter

    async def _keep(self) -> None:
        stop_listening = self._registry.on_state(self._hear_state)
        error: BaseException = RegistryError("the broker was withdrawn meanwhile")
        pause = _PAUSE
        try:
            while True:
                self._wake.clear()
                self._served, self._waiters = [*self._served, *self._waiters], []
                try:
                    await self._reconcile()
                except RegistryError as exc:
                    error = exc
                    if isinstance(exc, RegistryClosed) or (
                        isinstance(exc, BrokerConflict) and not self._was_registered
                    ):
                        self._task = None
                        return
                    log.warning("broker %s: not registered, trying again in %g s: %s", self._identity, pause, exc)
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _LONGEST_PAUSE)
                    continue
                pause = _PAUSE
                _settle(self._served, None)
                await self._wait_for_work()
        except Exception as exc:
            error = exc
            self._task = None
            log.exception("broker %s: registration ends", self._identity)
        finally:
            stop_listening()
            _settle([*self._served, *self._waiters], error)
            self._served, self._waiters = [], []

    async def _reconcile(self) -> None:
        """Make the tree what is wanted; look whether it stays so if that is due."""
        while True:
            config = self._config
            self._all_due |= await self._announcement.begin()
            await self._announcement.announce(config.checksum, self._generation)
            await self._retract()
            written = await self._publish(config)
            if written or not self._was_registered:
                log.info("broker %s: registered at %s, %d topics", self._identity, self._identity.address, written)
            self._was_registered = True
            if not self._audit_due:
                return
            self._audit_due = False
            try:
                complete = await self._announcement.verify(self._suspect)
            except RegistryError:
                self._audit_due = True
                raise
            if complete:
                return
            self._audit_due = self._all_due = True
            await self._before_repair()

    async def _retract(self) -> None:
        """Take away the nodes of topics to be forgotten; one that came again meanwhile keeps them."""
        gone = list(self._gone)
        await self._announcement.retract(topic for topic in gone if topic not in self._topics)
        for topic in gone:
            self._gone.pop(topic, None)

    async def _publish(self, config: BrokerConfig) -> int:
        """Write the topics that are new or changed; return how many. Other tasks have their turn in between."""
        due = list(self._topics if self._all_due else self._new)
        self._all_due = True  # until all of these are written
        self._new.clear()
        written = 0
        for start in range(0, len(due), AT_ONCE):
            wanted = {name: Visible.of(config.topic(name)) for name in due[start : start + AT_ONCE]}
            written += await self._announcement.publish(wanted)
            await asyncio.sleep(0)
        self._all_due = self._config is not config
        return written

    async def _before_repair(self) -> None:
        """Say that nodes need repair; wait a moment if that was so very often of late: somebody works against us."""
        now = asyncio.get_running_loop().time()
        if len(self._repairs) == _REPAIRS and now - self._repairs[0] < _REPAIR_TIME:
            log.error("broker %s: our nodes keep vanishing or changing; writing them once a second", self._identity)
            _settle(self._served, None)  # all was written; in step with another like us it might never be found so
            await asyncio.sleep(1.0)
        else:
            log.warning("broker %s: nodes of ours are missing or changed; writing them again", self._identity)
        self._repairs.append(now)

    async def _wait_for_work(self) -> None:
        try:
            async with asyncio.timeout(self._audit_interval):
                await self._wake.wait()
        except TimeoutError:
            self._audit_due = True

    def _suspect(self) -> None:
        """A node of ours changed, or the connection was lost and it may have."""
        self._audit_due = True
        self._wake.set()

    def _hear_state(self, state: State) -> None:
        if state is State.CONNECTED:
            self._suspect()


class NoRegistry:
    """zk.zkEnable=false: nobody looks this broker up."""

    registry = None

    async def register(self, topics: Iterable[str]) -> None:
        """Do nothing."""

    def topic_appeared(self, topic: str) -> None:
        """Do nothing."""

    async def add_topic(self, topic: str) -> None:
        """Do nothing."""

    async def update(self, config: BrokerConfig, topics: Iterable[str]) -> None:
        """Do nothing."""

    async def forget(self, topic: str) -> None:
        """Do nothing."""

    async def withdraw(self) -> None:
        """Do nothing."""


def _settle(waiters: list[asyncio.Future[None]], error: BaseException | None) -> None:
    for waiter in waiters:
        if waiter.done():
            continue
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)
    waiters.clear()
