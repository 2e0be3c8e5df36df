"""A broker as an asynchronous slave: it finds its master in the tree, takes over its topics, and copies its log.

Reference: MetamorphosisSlaveBroker, SubscribeHandler. As there it is registered, as `slave<N>`, before it has anything.
Whatever happens to the master, it serves what it has.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

from metaq.broker.broker import Broker
from metaq.broker.stats_text import PIECE, Pieces, at_once
from metaq.cluster.master import Master, MasterWatch
from metaq.cluster.member_options import check_group
from metaq.cluster.ports import Registry
from metaq.cluster.presence import Presence
from metaq.cluster.znodes import consumer_name
from metaq.config.model import BrokerConfig
from metaq.config.slave import SlaveConfig, load
from metaq.errors import ConfigError, Unsupported
from metaq.model import TopicPartition
from metaq.ports import World
from metaq.replication.dropped import Dropped
from metaq.replication.follower import Follower
from metaq.replication.meeting import Meeting
from metaq.replication.options import FollowerOptions
from metaq.replication.promotion import (
    REMEDY,
    NotPromoted,
    is_promoted,
    losses,
    note_of,
    obstacle,
    remove_note,
    write_note,
)
from metaq.replication.remainder import Remainder
from metaq.replication.report import SlaveStatus, Total, partition_line, partition_values
from metaq.replication.role import Serving
from metaq.replication.status import FollowerStatus, PartitionStatus
from metaq.replication.syncing import Syncing
from metaq.store.awaiting import in_thread

log = logging.getLogger(__name__)

P = TypeVar("P")
T = TypeVar("T")

_LOOK: Final = 0.05  # seconds between looks whether the master is gone: of its connection nobody tells
_SETTLING: Final = 1.0  # seconds until what came last from it is safe
_NOTHING: Final = FollowerStatus(None, False, None, ())


def from_file(path: str) -> "Slave":
    """Return the role that an async_slave.properties describes. Raises ConfigError."""
    return Slave(load(path))


class Slave:
    """The role of an asynchronous slave, for `app.run`. Raises ConfigError for a group name no broker takes."""

    registers = True

    def __init__(self, config: SlaveConfig) -> None:
        _check_group(config)
        self._config = config
        self._broker: Broker | None = None
        self._world: World
        self._follower: Follower | None = None
        self._meeting: Meeting | None = None
        self._serving: Serving
        self._following: asyncio.Task[None] | None = None
        self._news = asyncio.Event()  # of the master
        self._turning = asyncio.Lock()
        self._is_master = False

    @property
    def slave_id(self) -> int | None:
        """The number it is registered under; None: it was made the master."""
        return None if self._is_master else self._config.slave_id

    def configure(self, config: BrokerConfig) -> BrokerConfig:
        """Return the configuration as it is. Raises ConfigError if no master could be found with it."""
        if not config.zookeeper.enable:
            raise ConfigError(
                f"{config.path}: zk.zkEnable=false: a slave finds its master in ZooKeeper; "
                "take that line out and write zk.zkConnect=host:2181"
            )
        for warning in self._config.warnings:
            log.warning("%s", warning)
        return config

    def join(self, broker: Broker, world: World) -> None:
        """Be in a broker that does not serve yet: from here on nobody puts anything there but the copying."""
        self._broker, self._world = broker, world
        self._is_master = is_promoted(world.files, broker.config)
        if self._is_master:
            log.warning(
                "this broker was made the master of broker %d, and starts as that; for a slave remove %s",
                broker.config.broker_id,
                note_of(broker.config),
            )
            return
        text = f"this is slave {self.slave_id} of broker {broker.config.broker_id}: only its master takes messages"

        def refuse(_: TopicPartition) -> None:
            raise Unsupported(text)

        broker.puts.check = refuse
        broker.gets.is_slave = True
        broker.replica = self
        options = FollowerOptions(
            group=self._config.slave_group,
            max_delay=self._config.max_delay,
            accepts=broker.topics.has,
            appeared=self._appeared,
        )
        self._follower = Follower(broker.store, world, options)

    async def accompany(self) -> None:
        """Do nothing: without ZooKeeper no master is found."""

    async def prepare(self, broker: Broker, registry: Registry | None) -> None:
        """Do nothing: as in the original a slave is registered before it has anything."""

    async def work(self, serving: Serving, registry: Registry | None) -> None:
        """Follow the master until cancelled, or made the master."""
        if self._is_master:
            return
        self._serving = serving
        async with asyncio.TaskGroup() as tasks:
            self._following = tasks.create_task(self._follow(serving, registry), name="slave")

    async def _follow(self, serving: Serving, registry: Registry | None) -> None:
        """Follow the master until cancelled: whichever there is, and whether there is one yet."""
        assert registry is not None  # see configure
        assert self._follower is not None
        config, follower = serving.config, self._follower
        root, group = config.zookeeper.root, self._config.slave_group
        number = self._world.random.randrange(1 << 128)
        name = consumer_name(group, f"{serving.address.host}-{os.getpid()}-{number:032x}")
        presence = Presence(registry, root, group, name)
        meeting = self._meeting = Meeting(
            serving,
            self._world,
            group,
            self._taking(serving),
            lambda m: follower.follow(m.address, m.partitions),
            follower.follow_out,
        )

        def hear(master: Master) -> None:
            meeting.hear(master)
            presence.subscribe(master.partitions)
            self._news.set()

        log.info("slave %d: looks for the master of broker %d", self.slave_id, config.broker_id)
        watch = MasterWatch(registry, root, config.broker_id, hear)
        try:
            async with asyncio.TaskGroup() as tasks:
                for part in (presence, follower, meeting):
                    tasks.create_task(part.run())
        finally:
            await watch.close()

    def _taking(self, serving: Serving) -> tuple[Syncing, Dropped] | None:
        """Return what takes over the master's topics, if these are to be taken over."""
        if self._config.sync is None:
            return None
        assert self._broker is not None
        broker = self._broker
        dropped = Dropped(broker.store, broker.topics.has, serving.forget)
        return Syncing(self._config.sync, serving, self._world), dropped

    async def promote(self, *, force: bool, wait: float, rest: Sequence[str] = ()) -> str:
        """Become the master, once nothing stands in the way; return what is lost by that, "": nothing.

        `rest`: data paths of the old master, from which what is lacking is taken. Raises NotPromoted, StoreError,
        RegistryError or OSError; it is a slave as before then.
        """
        if self._following is None or self._turning.locked():
            raise NotPromoted("the slave is starting, or being made the master already")
        async with self._turning:
            lost = await self._until_free(force=force or bool(rest), wait=wait, to_the_end=bool(rest))
            assert self._meeting is not None
            self._meeting.paused = True
            try:
                if rest:
                    await self._take_rest(rest)
                    lost = ""
                await self._serving.succeed(partial(self._take_over, lost))
            finally:
                self._meeting.resume()
            log.warning("this broker is no slave any more but the master of broker %d", self._serving.config.broker_id)
            return lost

    async def _take_rest(self, folders: Sequence[str]) -> None:
        assert self._broker is not None
        broker = self._broker
        taken = await Remainder(broker.store, self._world, broker.topics.has, folders).take()
        log.info("took %d messages from %s", taken, " and ".join(folders))

    async def _until_free(self, *, force: bool, wait: float, to_the_end: bool) -> str:
        """Return what is lost by becoming the master now; `to_the_end`: in any case not before the old one has ended.

        Raises NotPromoted.
        """
        loop = asyncio.get_running_loop()
        last, settled = loop.time() + wait, 0.0
        while True:
            self._news.clear()
            status = self.status()
            met = self._meeting is not None and self._meeting.has_met
            found = obstacle(status, met=met)
            if found is None or (found.forced and force and not (to_the_end and found.passes)):
                return losses(status, met=met)
            settled = 0.0 if found.passes else settled or loop.time() + _SETTLING
            until = settled or last
            if loop.time() >= until:
                raise NotPromoted(f"still a slave: {found.text}{'' if found.passes else REMEDY}")
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(until, loop.time() + _LOOK)):
                    await self._news.wait()

    async def _take_over(self, lost: str) -> None:
        """Nobody else can be the master any more: end copying, and take messages."""
        assert self._broker is not None
        assert self._following is not None
        files, config = self._world.files, self._broker.config
        try:
            await in_thread(self._world, "metaq-sync", partial(write_note, files, config, lost))
        except OSError:
            with suppress(OSError):
                await in_thread(self._world, "metaq-sync", partial(remove_note, files, config))
            raise
        self._following.cancel()
        await asyncio.wait([self._following])
        self._is_master = True
        self._broker.become_master()

    def status(self) -> SlaveStatus:
        """Return how far it is."""
        return at_once(self._in_pieces())

    def _in_pieces(self) -> Pieces[SlaveStatus]:
        """Make what `status` returns."""
        total, offered = Total(), set[str]()

        def count(each: PartitionStatus) -> PartitionStatus:
            total.add(each)
            offered.add(each.key.topic)
            return each

        found = yield from _each(count, () if self._follower is None else self._follower.partitions())
        gone = yield from self._gone(offered)
        return self._status(tuple(found), total, gone)

    def _status(self, partitions: tuple[PartitionStatus, ...], total: Total, gone: tuple[str, ...]) -> SlaveStatus:
        assert self._broker is not None
        copying = _NOTHING if self._follower is None else self._follower.overview()
        zookeeper = self._broker.config.zookeeper
        problem = None if self._meeting is None else self._meeting.problem
        if problem is None and (self._meeting is None or self._meeting.master is None):
            problem = (
                f"no master of broker {self._broker.config.broker_id} is registered "
                f"below {zookeeper.root or '/'} at {zookeeper.connect}"
            )
        return SlaveStatus(
            broker_id=self._broker.config.broker_id,
            slave_id=self._config.slave_id,
            group=self._config.slave_group,
            running=self._meeting is not None,
            master=None if self._meeting is None else self._meeting.master,
            problem=problem,
            config_problem=None if self._meeting is None else self._meeting.config_problem,
            copying=replace(copying, partitions=partitions),
            total=total,
            gone=gone,
        )

    def _gone(self, offered: set[str]) -> Pieces[tuple[str, ...]]:
        """Make the topics that are here and not at the master: dropped there, or not to be read there."""
        assert self._broker is not None
        if self._meeting is None or self._meeting.master is None or not self._meeting.has_met:
            return ()
        here = yield from _each(lambda log: log.key.topic, tuple(self._broker.store.all()))
        return tuple(sorted(set(here) - offered))

    def summary(self) -> Pieces[list[str]]:
        """Make the lines that `stats` has more on a slave."""
        return (yield from self._in_pieces()).summary()

    def lines(self) -> Pieces[list[str]]:
        """Make the lines that answer `stats slave`."""
        status = yield from self._in_pieces()
        lines = yield from _each(partition_line, status.copying.partitions)
        return [*status.summary(), *lines]

    def values(self) -> Pieces[Mapping[str, object]]:
        """Make what `slave-status` tells."""
        status = yield from self._in_pieces()
        partitions = yield from _each(partition_values, status.copying.partitions)
        return status.values() | {"partitions": partitions}

    def _appeared(self, topic: str) -> None:
        assert self._broker is not None
        self._broker.puts.registry.topic_appeared(topic)  # which of them there is, is known later than `join`


def _each(make: Callable[[P], T], partitions: Iterable[P]) -> Pieces[list[T]]:
    """Make something of each partition, some at a time."""
    made: list[T] = []
    for number, each in enumerate(partitions, 1):
        if not number % PIECE:
            yield
        made.append(make(each))
    return made


def _check_group(config: SlaveConfig) -> None:
    try:
        check_group(config.slave_group)
    except ConfigError as exc:
        raise ConfigError(f"{config.path}: slaveGroup={config.slave_group}: {exc}") from exc
