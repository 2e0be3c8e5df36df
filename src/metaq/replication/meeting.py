"""Before a slave follows a master it asks it who it is, and takes over its topics; again whenever those may differ."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from metaq.cluster.master import Master
from metaq.config.model import BrokerConfig
from metaq.config.taking import read_theirs
from metaq.errors import ClientError, ConfigError, MetaqError, Refused
from metaq.model import BrokerAddress
from metaq.ports import World
from metaq.replication import dropped
from metaq.replication.dropped import Dropped
from metaq.replication.role import Serving
from metaq.replication.syncing import Syncing, ask_config
from metaq.store.awaiting import in_thread

log = logging.getLogger(__name__)

RETRY: Final = 5.0  # seconds before a master that did not say its configuration, or is another's, is asked again


class Meeting:
    """Hears of masters and has `follow` told of them, each once it is known to be the right one.

    A master that leaves ZooKeeper may serve on until its clients have left it: `follow_out` is told then.

    `problem`: why the master is not followed; `config_problem`: why its topics were not taken over, which keeps nobody
    from copying those that are here. None: there is no such trouble.
    """

    def __init__(
        self,
        broker: Serving,
        world: World,
        group: str,
        taking: tuple[Syncing, Dropped] | None,
        follow: Callable[[Master], None],
        follow_out: Callable[[], None],
    ) -> None:
        self.problem: str | None = None
        self.config_problem: str | None = None
        self._broker = broker
        self._world = world
        self._group = group
        self._syncing = None if taking is None else taking[0]
        self._dropped = None if taking is None else taking[1]
        self._follow = follow
        self._follow_out = follow_out
        self.has_met = False  # a master was followed
        self.paused = False  # no new master is asked: this broker is about to be it
        self._master = Master(None, None, {})
        self._met: Master | None = None  # as it was asked last
        self._news = asyncio.Event()

    @property
    def master(self) -> BrokerAddress | None:
        """Where the master is registered; None: nowhere."""
        return self._master.address

    def resume(self) -> None:
        """Ask masters again."""
        self.paused = False
        self._news.set()

    def hear(self, master: Master) -> None:
        """Take what the tree says now. A master that went is remembered with its topics: they come back with it."""
        if master.address is None:
            master = master._replace(partitions=master.partitions or self._master.partitions)
        if master.address != self._master.address:
            log.info("the master %s", "is gone" if master.address is None else f"is at {master.address}")
        self._master = master
        if master.address is None:
            self._met = self.problem = None
            self._follow_out()
        elif self._is_met(master):
            self._follow(master)
        self._news.set()

    async def run(self) -> None:
        """Ask masters until cancelled."""
        while True:
            await self._hear_something()
            master = self._master
            if master.address is None or self.paused:
                continue
            if self._is_met(master):
                await self._look_again(master.address)
                continue
            if await self._ask(master, master.address):
                self._met = master
                self.problem = None
                self._news.set()  # it may be another by now
                if self._is_met(self._master):
                    self.has_met = True
                    self._follow(self._master)
                continue
            log.warning("%s; trying again in %g s", self.problem, RETRY)
            try:
                async with asyncio.timeout(RETRY):
                    await self._news.wait()
            except TimeoutError:
                self._news.set()

    async def _hear_something(self) -> None:
        """Return when there is news, or the master is to be asked again about topics that it has not any more."""
        patience = dropped.SURE if self._dropped is not None and self._dropped.pending else None
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._news.wait()
        self._news.clear()

    async def _look_again(self, address: BrokerAddress) -> None:
        """Ask a master that is followed, where topics are missing there; move aside what it has dropped."""
        if self._dropped is None or not self._dropped.pending:
            return
        try:
            theirs = await self._read(await ask_config(self._world, address))
        except (ClientError, ConfigError):
            return  # it is asked again
        if theirs.broker_id != self._broker.config.broker_id:
            return
        for topic in self._dropped.learn(theirs):
            if topic in self._master.partitions:
                continue  # it is registered, again or still
            await self._dropped.move(topic)
            if topic in self._master.partitions and self._is_met(self._master):  # since a moment ago: from the start
                rest = {name: count for name, count in self._master.partitions.items() if name != topic}
                self._follow(self._master._replace(partitions=rest))
                self._follow(self._master)

    def _is_met(self, master: Master) -> bool:
        """Tell whether nothing has changed since it was asked that would make it say something else."""
        if self._met is None or master[:2] != self._met[:2]:
            return False
        return self._syncing is None or master.partitions == self._met.partitions

    async def _ask(self, master: Master, address: BrokerAddress) -> bool:
        """Return whether the master may be followed; `problem` then says why not."""
        if address == self._broker.address:
            self.problem = (
                f"the master is registered at {address}, this slave's own address; set hostName or serverPort"
            )
        else:
            try:
                theirs = await ask_config(self._world, address)
            except Refused as exc:
                self.config_problem = f"the master at {address} cannot read its server.ini: {exc}"
                return True
            except ClientError as exc:
                self.problem = f"the master does not say its configuration: {exc}"
                return False
            try:
                said = await self._read(theirs)
            except ConfigError as exc:
                self.config_problem = str(exc)
                said = None  # a Java broker may have started with what we refuse
            self.problem = None if said is None else self._misfit(said, address)
            if self.problem is None:
                await self._take(theirs)
                if said is not None and self._dropped is not None:
                    self._dropped.learn(said)
                return True
        self._follow(master._replace(address=None))
        return False

    async def _read(self, theirs: bytes) -> BrokerConfig:
        """Read a master's server.ini in a thread. Raises ConfigError."""
        return await in_thread(self._world, "metaq-sync", lambda: read_theirs(theirs))

    def _misfit(self, theirs: BrokerConfig, address: BrokerAddress) -> str | None:
        """Return why the broker there is none to be copied. A filter for our group would hold messages back, unsaid."""
        own = self._broker.config
        if theirs.broker_id != own.broker_id:
            return (
                f"the broker at {address} is broker {theirs.broker_id}, and this slave follows broker {own.broker_id}; "
                f"set brokerId or zk.zkConnect in {own.path} so that they are those of its master"
            )
        filtered = [topic.name for topic in theirs.topics if self._group in dict(topic.filters)]
        if filtered:
            return (
                f"the master at {address} filters {', '.join(filtered)} for group {self._group}, so messages would be "
                "missing here; set another slaveGroup in async_slave.properties, which none of its lines group.… names"
            )
        return None

    async def _take(self, theirs: bytes) -> None:
        if self._syncing is None:
            self.config_problem = None
            return
        try:
            await self._syncing.take(theirs)
            self.config_problem = None
        except (MetaqError, OSError) as exc:
            if str(exc) != self.config_problem:
                log.warning("the master's topics are not taken over: %s", exc)
            self.config_problem = str(exc)
