"""Storing messages: one pass over all puts that one connection sent at once (reference: BrokerCommandProcessor).

This is the hot path of the whole broker. Per message it does one dictionary look-up, one CRC, one header, one append
and one reply line; everything unusual is in `_unusual`.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from metaq.broker.ids import IdAllocator
from metaq.broker.ports import Receiver, TopicRegistry
from metaq.broker.stats import Statistics
from metaq.broker.topics import Topics
from metaq.config.model import BrokerConfig
from metaq.errors import (
    ChecksumMismatch,
    InvalidMessage,
    MessageTooLarge,
    NotCopied,
    RequestError,
    Status,
    Unsupported,
)
from metaq.model import TopicPartition
from metaq.protocol.commands import Oversized, Put
from metaq.protocol.encoder import put_reply, result
from metaq.record import HEADER, HEADER_SIZE, attribute_fits, crc32
from metaq.store.log import PartitionLog
from metaq.store.store import MessageStore

log_ = logging.getLogger(__name__)

JAVA_LIMIT: Final = 2 << 20  # bytes of a body that a Java client decodes as it comes


class Puts:
    """Stores what producers send. `url` is the text of this broker's address, as it is registered."""

    def __init__(
        self, config: BrokerConfig, store: MessageStore, topics: Topics, ids: IdAllocator, statistics: Statistics
    ) -> None:
        self._store = store
        self._topics = topics
        self._ids = ids
        self._statistics = statistics
        self._ready: dict[TopicPartition, PartitionLog] = {}  # open, legal, with room: nothing to look at
        self._warned: set[str] = set()
        self._known: set[str] = {log.key.topic for log in store.all()}
        self.registry: TopicRegistry
        self.check: Callable[[TopicPartition], None] = lambda target: None  # RequestError: nothing may be put there
        self.url = ""
        self.configure(config)

    def configure(self, config: BrokerConfig) -> None:
        """Take a reloaded file."""
        self.limit = min(config.max_message_size, config.max_transfer_size - HEADER_SIZE)
        self.forget()

    def forget(self) -> None:
        """Look at every partition again before the next put: one was closed, or topics changed."""
        self._ready.clear()

    def store(self, peer: Receiver, puts: Sequence[Put]) -> None:
        """Append the messages in order; the replies leave together, when the last one is safe."""
        if self._store.space.full:
            self._ready.clear()
        ids = self._ids.take(len(puts))
        append, ready, pack = self._store.append, self._ready, HEADER.pack
        replies: list[bytes] = []
        size = counted = counted_size = 0
        topic = puts[0].target.topic
        for (target, body, flag, checksum, opaque, transaction), id in zip(puts, ids, strict=True):
            if target[0] != topic:
                self.count(topic, len(replies) - counted, size - counted_size)
                topic, counted, counted_size = target[0], len(replies), size
            log = ready.get(target)
            crc = crc32(body) & 0x7FFFFFFF
            if log is None or crc != checksum or flag or transaction is not None or len(body) > JAVA_LIMIT:
                try:
                    log = self._unusual(Put(target, body, flag, checksum, opaque, transaction), crc)
                except RequestError as exc:
                    replies.append(self.refuse(target, opaque, exc))
                    continue
            size += len(body)
            record = pack(len(body), crc, id, flag) + body
            replies.append(put_reply(id, log.key[1], append(log, record), opaque))
        self._store.journal.highest_id = ids[-1]
        answer = replies[0] if len(replies) == 1 else b"".join(replies)
        total = size + HEADER_SIZE * len(puts)
        peer.unsafe += total
        self._store.commit(partial(self._acknowledge, peer, answer, puts, total), total)
        self.count(topic, len(replies) - counted, size - counted_size)

    def store_one(self, peer: Receiver, put: Put) -> None:
        """Do what `store` does for a put that came alone; half of its time would go into loops that run once."""
        target, body, flag, checksum, opaque, transaction = put
        log = self._ready.get(target)
        crc = crc32(body) & 0x7FFFFFFF
        size = len(body)
        if (
            log is None
            or crc != checksum
            or flag
            or transaction is not None
            or size > JAVA_LIMIT
            or self._store.space.full
        ):
            self.store(peer, (put,))
            return
        (id,) = self._ids.take(1)
        self._store.journal.highest_id = id
        offset = self._store.append(log, HEADER.pack(size, crc, id, flag) + body)
        answer = put_reply(id, log.key[1], offset, opaque)
        total = size + HEADER_SIZE
        peer.unsafe += total
        self._store.commit(partial(self._acknowledge, peer, answer, (put,), total), total)
        self.count(target[0], 1, size)

    def count(self, topic: str, count: int, size: int) -> None:
        """Add to the figures of a topic: messages, and the bytes of their bodies."""
        tally = self._statistics.tally(topic)
        tally.puts += count
        tally.bytes += size

    def refuse_oversized(self, command: Oversized) -> bytes:
        """Return the reply to a put whose body nobody could fetch, or to a batch that is too large."""
        self.count(command.target.topic, 1, 0)
        over = (command.batch_limit, "batch") if command.batch_limit else (self.limit, "message")
        return self.refuse(command.target, command.opaque, MessageTooLarge(command.size, *over))

    def _unusual(self, command: Put, crc: int) -> PartitionLog:
        """Return the log for a put that is not the common case. Raises RequestError."""
        target, body, flag, checksum, _, transaction = command
        if transaction is not None:
            raise Unsupported("this broker does not support transactions")
        log = self._ready.get(target) or self.admit(target)
        if len(body) > self.limit:
            raise MessageTooLarge(len(body), self.limit)
        if checksum not in (crc, -1):
            raise ChecksumMismatch
        if not attribute_fits(flag, body):
            raise InvalidMessage("the attribute that the flag announces does not fit into the body")
        self.warn_of(log, len(body))
        return log

    def warn_of(self, log: PartitionLog, size: int) -> None:
        """Say once for a topic that Java clients cannot read a body of this size, if that is so."""
        key = log.key
        if size > JAVA_LIMIT and key.topic not in self._warned:
            self._warned.add(key.topic)
            log_.warning("%s: a message of %d bytes; Java clients refuse more than %d", key, size, JAVA_LIMIT)

    def log_for(self, target: TopicPartition) -> PartitionLog:
        """Return the log that messages for `target` go to, made if need be. Raises RequestError."""
        if self._store.space.full:
            self._ready.clear()
        return self._ready.get(target) or self.admit(target)

    def admit(self, target: TopicPartition) -> PartitionLog:
        """Return the log that a put for `target` goes to, made if need be. Raises RequestError."""
        key = self._topics.resolve(target)
        self.check(key)
        log = self.place(key)
        if key == target and not self._store.space.full:
            self._ready[target] = log
        return log

    def place(self, target: TopicPartition, base: int = 0) -> PartitionLog:
        """Return the log of a partition; a new one begins at `base`. Raises RequestError.

        Unlike `admit` it is for copies, too, which go where no producer may put.
        """
        key = self._topics.resolve(target)
        log = self._store.create(key, base)
        if key.topic not in self._known:
            self._known.add(key.topic)
            self.registry.topic_appeared(key.topic)
        self._store.check_space(log)
        return log

    def refuse(self, target: TopicPartition, opaque: int, exc: RequestError) -> bytes:
        """Return the reply to what cannot be stored, and count it."""
        if exc.status is not Status.FORBIDDEN:
            self._statistics.tally(target.topic).put_failures += 1
        if isinstance(exc, Unsupported | NotCopied):
            return result(exc.status, str(exc), opaque)
        where = f"Put message to [broker '{self.url}'] [partition '{target}'] failed.Detail:"
        return result(exc.status, where + str(exc), opaque)

    def _acknowledge(
        self, peer: Receiver, answer: bytes, puts: Sequence[Put], size: int, error: Exception | None
    ) -> None:
        """Everything of the batch is safe: let the replies go. Or none of it may be taken for safe."""
        if error is None:
            peer.acknowledge(answer, size)
            return
        failure = error if isinstance(error, RequestError) else RequestError(str(error))
        peer.acknowledge(b"".join(self.refuse(put.target, put.opaque, failure) for put in puts), size)
