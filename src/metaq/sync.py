"""The client for plain code: `with metaq.connect(url) as mq`.

A thin face over `metaq.client`, which runs in one background thread with one event loop. Calls may come from any
thread. Ctrl-C ends the call that waits; the client can be used on. What is not closed is closed when Python ends.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Self, Unpack

from metaq import client
from metaq.client.background import LoopThread
from metaq.client.connect import Outside
from metaq.client.consuming.options import ConsumerKeywords, ConsumerOptions
from metaq.client.consuming.plain import Consumer
from metaq.client.message import Message
from metaq.client.offsets import FileOffsets, MemoryOffsets, OffsetStore, SqlOffsets, positions_after
from metaq.client.options import ProducerKeywords, ProducerOptions
from metaq.client.partitioner import ByKey, KeyFunction, Layout, Place, Selector, SelectorChoice, by_attribute
from metaq.client.plain import Producer, Sent
from metaq.client.producing.items import Spooled
from metaq.client.producing.one_way import DEFAULT_WINDOW
from metaq.client.producing.options import OneWayKeywords, OneWayOptions, OrderedKeywords, OrderedOptions
from metaq.client.producing.plain import OneWayProducer, OrderedProducer
from metaq.client.queue import Broker
from metaq.client.reader import ReaderKeywords, Start
from metaq.client.spool import Path, SpoolLimits
from metaq.cluster.znodes import Position
from metaq.errors import (
    ConfigError,
    CorruptMessage,
    CorruptSpool,
    LinkClosed,
    MetaqError,
    NoBroker,
    NoStoredOffset,
    NoTimeInIds,
    OffsetLost,
    OffsetStoreError,
    Refused,
    RegistryError,
    RequestTimeout,
    SpoolError,
    SpoolFull,
    SpoolLocked,
)
from metaq.model import BrokerPartition, ClusterPartition, Receipt
from metaq.net.link import DEFAULT_LINK, LinkOptions

__all__ = [
    "BrokerPartition",
    "Browser",
    "ByKey",
    "ClusterPartition",
    "ConfigError",
    "Consumer",
    "ConsumerOptions",
    "CorruptMessage",
    "CorruptSpool",
    "FileOffsets",
    "LinkClosed",
    "MemoryOffsets",
    "Message",
    "MessageQueue",
    "MetaqError",
    "NoBroker",
    "NoStoredOffset",
    "NoTimeInIds",
    "OffsetLost",
    "OffsetStore",
    "OffsetStoreError",
    "OneWayOptions",
    "OneWayProducer",
    "OrderedOptions",
    "OrderedProducer",
    "Position",
    "Producer",
    "Reader",
    "Receipt",
    "Refused",
    "RegistryError",
    "RequestTimeout",
    "Selector",
    "Sent",
    "SpoolError",
    "SpoolFull",
    "SpoolLimits",
    "SpoolLocked",
    "Spooled",
    "SqlOffsets",
    "connect",
    "positions_after",
]


def connect(
    url: str | None = None,
    *,
    connect_timeout: float = 10.0,
    timeout: float = 5.0,
    session_timeout: float = 30.0,
    link: LinkOptions = DEFAULT_LINK,
    outside: Outside | None = None,
) -> "MessageQueue":
    """Return a client that is connected. Arguments and errors: as metaq.aio.connect and opening what it returns."""
    core = client.connect(
        url,
        connect_timeout=connect_timeout,
        timeout=timeout,
        session_timeout=session_timeout,
        link=link,
        outside=outside,
    )
    thread = LoopThread()
    try:
        thread.call(core.open())
    except BaseException:
        thread.close()
        raise
    return MessageQueue(core, thread)


class MessageQueue:
    """Producers, readers and questions over one set of connections; made by `connect`. See metaq.aio.MessageQueue."""

    def __init__(self, core: client.MessageQueue, thread: LoopThread) -> None:
        self._core = core
        self._thread = thread
        self._producers: dict[client.Producer, Producer] = {}
        self._ordered: dict[client.OrderedProducer, OrderedProducer] = {}
        self._one_way: dict[client.OneWayProducer, OneWayProducer] = {}

    def close(self) -> None:
        """Stop readers, producers and connections; what waits for an answer fails. May be called again."""
        if not self._thread.is_closed:
            try:
                for one_way in list(self._one_way.values()):
                    one_way.close()
                self._thread.call(self._core.close())
            finally:
                self._thread.close()

    def flush(self) -> None:
        """Wait until all producers have an answer to all they sent; raise the first error nobody has asked for."""
        for producer in list(self._producers.values()):
            producer.flush()
        for one_way in list(self._one_way.values()):
            one_way.flush()
        self._thread.call(self._core.flush())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close; after a block that went well, wait for the producers' answers first and raise what went wrong."""
        try:
            if kind is None and not self._thread.is_closed:
                self.flush()
        finally:
            self.close()

    def producer(
        self, topic: str, *, selector: SelectorChoice = "round_robin", **options: Unpack[ProducerKeywords]
    ) -> Producer:
        """Return a producer for a topic, the same for the same arguments.

        A `selector` of yours is called in the background thread. See metaq.aio.MessageQueue.producer.
        """
        core = self._thread.make(lambda: self._core.producer(topic, selector=selector, **options))
        return self._producers.setdefault(core, Producer(core, self._thread, ProducerOptions(**options)))

    def ordered_producer(
        self,
        topic: str,
        *,
        layout: Layout,
        spool: Path,
        key: KeyFunction = by_attribute,
        **options: Unpack[OrderedKeywords],
    ) -> OrderedProducer:
        """Return a producer that keeps the order of each partition whatever happens, the same for the same arguments.

        `key` is called in the background thread. See metaq.aio.MessageQueue.ordered_producer.
        """
        core = self._thread.call(self._core.ordered_producer(topic, layout=layout, spool=spool, key=key, **options))
        return self._ordered.setdefault(core, OrderedProducer(core, self._thread))

    def one_way_producer(
        self, topic: str, *, spool: Path, window: int = DEFAULT_WINDOW, **options: Unpack[OneWayKeywords]
    ) -> OneWayProducer:
        """Return a producer that takes messages without answering, the same for the same arguments.

        See metaq.aio.MessageQueue.one_way_producer.
        """
        core = self._thread.call(self._core.one_way_producer(topic, spool=spool, window=window, **options))
        return self._one_way.setdefault(core, OneWayProducer(core, self._thread))

    def consumer(self, topics: str | Iterable[str], *, group: str, **options: Unpack[ConsumerKeywords]) -> Consumer:
        """Return a new member of a group, for one topic or several; see ConsumerOptions for the keywords.

        A filter, and a function for rejected messages, are called in the background threads.
        """
        names = topics if isinstance(topics, str) else tuple(topics)
        core = self._thread.make(lambda: self._core.consumer(names, group=group, **options))
        return Consumer(core, self._thread)

    def reader(
        self, topic: str, partition: Place, offset: Start = "earliest", **options: Unpack[ReaderKeywords]
    ) -> "Reader":
        """Return a reader of one partition."""
        core = self._thread.make(lambda: self._core.reader(topic, partition, offset, **options))
        return Reader(core, self._thread)

    def browse(self, topic: str, *, max_size: int = 1 << 20) -> "Browser":
        """Return the messages of all partitions up to where they end now."""
        return Browser(self._thread.make(lambda: self._core.browse(topic, max_size=max_size)), self._thread)

    def partitions(self, topic: str) -> list[str]:
        """Return the partitions that can be read, as `<brokerId>-<partition>`, sorted by number."""
        return self._thread.call(self._core.partitions(topic))

    def offsets(self, topic: str, partition: Place) -> tuple[int, int]:
        """Return where a partition begins and where the next message will be; (0, 0) if it does not exist yet."""
        return self._thread.call(self._core.offsets(topic, partition))

    def offset_at(self, topic: str, partition: Place, since: datetime) -> int:
        """Return the offset of the first message stored at `since` or later, or the end."""
        return self._thread.call(self._core.offset_at(topic, partition, since))

    def brokers(self) -> Mapping[int, str]:
        """Return the address of each master, by its id. Without ZooKeeper: of those that have ever answered."""
        return self._thread.call(self._core.brokers())

    def stats(self, broker: Broker | None = None, item: str = "") -> dict[str, str]:
        """Return what a broker counts, name → value; None: the only broker."""
        return self._thread.call(self._core.stats(broker, item))

    def stats_text(self, broker: Broker | None = None, item: str = "") -> bytes:
        """Return the answer to `stats` as the broker gave it."""
        return self._thread.call(self._core.stats_text(broker, item))

    def version(self, broker: Broker | None = None) -> str:
        """Return what a broker calls its version."""
        return self._thread.call(self._core.version(broker))


class Reader:
    """The messages of one partition, one after the other, also those still to come. See metaq.aio.Reader."""

    def __init__(self, core: client.Reader, thread: LoopThread) -> None:
        self.topic = core.topic
        self._core = core
        self._thread = thread
        self._ready: list[Message] = []  # fetched and not handed out, the last one first
        self._next: int | None = core.offset  # where the next fetch belongs
        self._is_unsure = False  # whether a fetch was interrupted: what it got, nobody has

    @property
    def partition(self) -> str:
        """`<brokerId>-<partition>`; before the first fetch only the number, if no more was said."""
        return self._core.partition

    @property
    def offset(self) -> int | None:
        """The offset of the next message, or of the record that is corrupt. None: the start is not looked up yet."""
        return self._ready[-1].offset if self._ready else self._core.offset if self._next is None else self._next

    def seek(self, offset: int) -> None:
        """Go on at this offset; it must be that of a message, or the end."""
        self._ready.clear()
        self._next = offset
        self._is_unsure = True

    def skip(self) -> int:
        """Move past the corrupt record at `offset` to the next one that is whole, or to the end; return that offset."""
        self._ready.clear()
        self._next = self._thread.call(self._core.skip())
        return self._next

    def fetch(self, wait: float | None = None) -> list[Message]:
        """Return the next messages; an empty list if none came within `wait` seconds (None: for ever)."""
        if self._ready:
            messages, self._ready = self._ready, []
            messages.reverse()
            return messages
        return self._fetch(wait)

    def close(self) -> None:
        """Stop: iterating ends, also where another thread is waiting in it now."""
        self._ready.clear()
        if not self._thread.is_closed:
            self._thread.call(self._core.close())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        """Return the next message, waiting for it."""
        if not self._ready:
            messages = self._fetch(None)
            if not messages:
                raise StopIteration
            messages.reverse()
            self._ready = messages
        return self._ready.pop()

    def _fetch(self, wait: float | None) -> list[Message]:
        if self._is_unsure and self._next is not None:
            self._thread.make(lambda: self._core.seek(self._next or 0))
        self._is_unsure = True
        messages = self._thread.call(self._core.fetch(wait))
        self._is_unsure = False
        if messages:
            self._next = messages[-1].next_offset
        return messages


class Browser:
    """The messages of all partitions of a topic up to where they end now. See metaq.aio.Browser."""

    def __init__(self, core: client.Browser, thread: LoopThread) -> None:
        self._core = core
        self._thread = thread
        self._ready: list[Message] = []

    def skip(self) -> None:
        """Move past the record that is corrupt."""
        self._thread.call(self._core.skip())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        """Return the next message."""
        if not self._ready:
            messages = self._thread.call(self._core.fetch())
            if not messages:
                raise StopIteration
            messages.reverse()
            self._ready = messages
        return self._ready.pop()
