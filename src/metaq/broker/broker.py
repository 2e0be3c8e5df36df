"""Broker: owns store, topics, statistics; turns commands into replies, at once or when a round is safe."""

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Final, NamedTuple, assert_never, cast

from metaq._version import REFERENCE_VERSION
from metaq.broker.batches import Batches, Together
from metaq.broker.gets import Gets
from metaq.broker.ids import IdAllocator
from metaq.broker.many import Many
from metaq.broker.ports import (
    Buffer,
    Copies,
    NoTopicRegistry,
    PairFigures,
    Peer,
    Receiver,
    Replica,
    TopicRegistry,
    no_pair,
)
from metaq.broker.puts import Puts
from metaq.broker.stats import Statistics
from metaq.broker.stats_text import SHORT, BrokerState, PartitionState, Pieces, answer, answer_in_pieces
from metaq.broker.topics import Topics
from metaq.broker.turns import Turns
from metaq.broker.waiting import Polls
from metaq.config.model import BrokerConfig
from metaq.errors import Status
from metaq.ports import World
from metaq.protocol.commands import (
    Command,
    Get,
    Mget,
    Mput,
    Msync,
    Offset,
    Operation,
    Oversized,
    Put,
    Quit,
    Result,
    Stats,
    Sync,
    Transaction,
    Value,
    Version,
)
from metaq.protocol.encoder import result
from metaq.store.store import MessageStore

log = logging.getLogger(__name__)

_MOST_AT_ONCE: Final = 1 << 20  # bytes of replies that leave in one write
_LINE: Final = 48  # bytes of `stats offsets` for one partition, about
_AT_ONCE: Final = 64 << 10  # bytes of statistics that are made in one go

_ONLY_PUTS: Final[set[type[Command]]] = {Put}
_ONLY_BATCHES: Final[set[type[Command]]] = {Mput}

EXTENSIONS = "metaq/2 mput wait mget"  # answered to `version <opaque> metaq`; the names of extensions follow it

_NO_ANSWER = "the statistics could not be made, see the broker's log"
_NO_HANDLER = "未注册请求处理器，请求处理器类为com.taobao.metamorphosis.network."


class PartitionFigures(NamedTuple):
    """One partition as `stats` shows it."""

    topic: str
    partition: int
    min_offset: int
    end: int
    messages: int
    bytes: int


class Broker:
    """One node. `execute` is an ordinary function: nothing on the way of a command is awaited (design.md §1)."""

    def __init__(self, config: BrokerConfig, store: MessageStore, world: World) -> None:
        self.config = config
        self.store = store
        self.topics = Topics(config, world.random)
        self.statistics = Statistics(world.clock, lambda topic: self.config.topic(topic).stat)
        ids = self._ids = IdAllocator(config.broker_id, world.clock, store.journal.highest_id)
        self.puts = Puts(config, store, self.topics, ids, self.statistics)
        self.batches = Batches(store, self.puts, ids)
        self.polls = Polls(store.watching, asyncio.get_running_loop())
        self.gets = Gets(config, store, self.topics, self.statistics, self.polls)
        self.many = Many(self.gets, store, self.statistics, self.polls)
        self._clock = world.clock
        self._started = world.clock.monotonic()
        self.port = config.server_port
        self.count_connections: Callable[[], int] = lambda: 0  # the listener knows
        self.copies: Copies | None = None  # whoever stores copies, where this broker is the slave of a pair
        self.replica: Replica | None = None  # whoever copies the log of another broker
        self.pair: Callable[[], PairFigures | None] = no_pair  # how the pair is whose master this is
        self._turns = Turns()
        self.use_registry(NoTopicRegistry())

    def use_registry(self, registry: TopicRegistry) -> None:
        """Tell `registry` of topics from here on."""
        self.puts.registry = registry

    def become_master(self) -> None:
        """Take messages from here on, behind those that a slave has copied."""
        self._ids.seen(self.store.journal.highest_id)
        self.puts.check = lambda target: None
        self.puts.forget()
        self.gets.is_slave = False
        self.replica = None

    def serve_at(self, url: str, port: int) -> None:
        """Say which address is registered, for the texts that name it, and which port is bound."""
        self.puts.url = self.gets.url = url
        self.port = port

    def execute(self, peer: Peer, commands: Sequence[Command]) -> None:
        """Carry out what one connection sent at once.

        Replies to puts leave together when all are safe; all others leave at once, in one write, or when the disk has
        answered. No order is promised between them, as in the original: clients match replies by opaque.
        """
        if len(commands) == 1 and type(put := commands[0]) is Put:
            self.puts.store_one(peer, put)
            return
        kinds = {*map(type, commands)}
        if kinds == _ONLY_PUTS:
            self.puts.store(peer, cast(Sequence[Put], commands))
            return
        if kinds == _ONLY_BATCHES:
            self.batches.store(peer, cast(Sequence[Mput], commands))
            return
        stored = [command for command in commands if isinstance(command, Put | Mput)]
        if stored:
            self._store(peer, stored)
            commands = [command for command in commands if not isinstance(command, Put | Mput)]
        if self.copies is not None:
            copies = [command for command in commands if isinstance(command, Sync | Msync)]
            if copies:
                self.copies.store(peer, copies)
                commands = [command for command in commands if not isinstance(command, Sync | Msync)]
        if commands:
            self._answer(peer, commands)

    def _store(self, peer: Peer, commands: Sequence[Put | Mput]) -> None:
        """Store puts and batches in the order they came; their replies leave together."""
        groups = [list(group) for _, group in groupby(commands, type)]
        receiver: Receiver = peer if len(groups) == 1 else Together(peer, len(groups))
        for group in groups:
            if isinstance(group[0], Mput):
                self.batches.store(receiver, [command for command in group if isinstance(command, Mput)])
            else:
                self.puts.store(receiver, [command for command in group if isinstance(command, Put)])

    def _answer(self, peer: Peer, commands: Sequence[Command]) -> None:
        """Carry out what is no put; stop while the peer has much to read first, or the disk much to bring."""
        replies: list[Buffer] = []
        size = 0
        for done, command in enumerate(commands, 1):
            if (type(command) is Get or type(command) is Mget) and peer.crowded():
                if replies:
                    peer.send_parts(replies)
                peer.later(commands[done - 1 :])
                return
            count = len(replies)
            self._other(peer, command, replies)
            size += sum(map(len, replies[count:]))
            if size > _MOST_AT_ONCE or size >= peer.share() or peer.full():
                if replies:
                    peer.send_parts(replies)
                replies, size = [], 0
                if peer.full() and done < len(commands):
                    peer.later(commands[done:])
                    return
        if replies:
            peer.send_parts(replies)
        if isinstance(commands[-1], Quit):
            peer.finish()

    def _other(self, peer: Peer, command: Command, replies: list[Buffer]) -> None:
        match command:
            case Get():
                replies += self.gets.read(peer, command)
            case Mget():
                replies += self.many.read(peer, command)
            case Offset():
                replies.append(self.gets.nearest(command))
            case Version():
                replies.append(result(Status.SUCCESS, self._version(command), command.opaque))
            case Stats():
                replies += self._stats(peer, command)
            case Oversized():
                replies.append(self.puts.refuse_oversized(command))
            case Sync() | Msync():
                name = type(command).__name__
                replies.append(result(Status.UNAVAILABLE, f"{_NO_HANDLER}{name}Command", command.opaque))
            case Transaction():
                replies += self._transaction(command)
            case Result() | Value() | Put() | Mput() | Quit():
                pass  # replies are nobody's here; the others are done elsewhere
            case _:
                assert_never(command)

    def _version(self, command: Version) -> str:
        if command.extensions[:1] != ("metaq",):
            return REFERENCE_VERSION
        more = "" if self.copies is None else f" {self.copies.extension}"
        return f"{REFERENCE_VERSION} {EXTENSIONS}{more}"

    def _transaction(self, command: Transaction) -> list[Buffer]:
        if command.operation is Operation.END:
            return []  # never answered by the original either
        text = f"transactions are not supported by this broker: {command.operation.value}"
        return [result(Status.ERROR, text, command.opaque)]

    def _stats(self, peer: Peer, command: Stats) -> list[Buffer]:
        """Return the reply; none if it is long: then it is made in pieces, and sent later."""
        item, opaque = command.item, command.opaque
        if item == "config":
            return [_body(self.config.text, opaque)]
        size = len(self.store.all()) * _LINE
        if item in SHORT or size <= _AT_ONCE:
            return [_body(answer(item, self.statistics, self), opaque)]

        def done(body: bytes) -> None:
            peer.send(_body(body, opaque) if body else result(Status.ERROR, _NO_ANSWER, opaque))
            peer.owe(-size)

        peer.owe(size)
        self._turns.add(answer_in_pieces(item, self.statistics, self), done)
        return []

    async def stats(self, item: str) -> bytes:
        """Return the answer to `stats <item>`; others have their turn meanwhile. Empty: it could not be made."""
        if item == "config":
            return self.config.text
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def done(body: bytes) -> None:
            if not future.done():
                future.set_result(body)

        self._turns.add(answer_in_pieces(item, self.statistics, self), done)
        return await future

    # -- what statistics are made of

    def state(self) -> BrokerState:
        """Return what only the running process knows."""
        pair = self.pair()
        return BrokerState(
            pid=os.getpid(),
            port=self.port,
            uptime=self._clock.monotonic() - self._started,
            connections=self.count_connections(),
            threads=threading.active_count(),
            slave=self.replica is not None,
            copying=[] if pair is None else pair.lines(),
        )

    def slave_summary(self) -> Pieces[list[str]]:
        """Make the lines on how far the copying is, if something is copied here."""
        return [] if self.replica is None else (yield from self.replica.summary())

    def slave_lines(self) -> Pieces[list[str]] | None:
        """Make the lines on each partition that is copied; None: nothing is copied here."""
        return None if self.replica is None else self.replica.lines()

    def partitions(self, topic: str | None = None) -> Iterator[PartitionState]:
        """Yield the figures of all partitions that have a log now, or those of one topic."""
        for log in list(self.store.all()):
            key = log.key
            if topic is None or key.topic == topic:
                yield PartitionFigures(key.topic, key.partition, log.start, log.readable, log.messages, log.size)

    # -- administration

    async def configure(self, config: BrokerConfig) -> None:
        """Take the topics of a reloaded file, all of it checked before. Logs take their settings some at a time."""
        self.config = config
        self.topics.configure(config)
        self.puts.configure(config)
        self.gets.configure(config)
        self.statistics.choose(lambda topic: self.config.topic(topic).stat)
        await self.store.configure(config)
        self.store.watching.wake()  # to see whether there still are such partitions

    def close_partitions(self, topic: str, first: int, last: int) -> None:
        """Close partitions first … last: puts and gets are answered 403. Raises ValueError."""
        self.topics.close(topic, first, last)
        self.puts.forget()
        self.store.watching.wake(topic)

    def open_partitions(self, topic: str) -> None:
        """Open all partitions of a topic again."""
        self.topics.open(topic)
        self.puts.forget()


def _body(body: bytes, opaque: int) -> bytes:
    return b"result %d %d %d\r\n%b" % (Status.SUCCESS, len(body), opaque, body)
