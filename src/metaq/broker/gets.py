"""Reading messages: `get` and `offset` (reference: BrokerCommandProcessor; protocol.md §2.5, §2.6)."""

from functools import partial
from typing import Final

from metaq.broker.ports import Buffer, Peer
from metaq.broker.stats import Statistics, Tally
from metaq.broker.topics import Topics
from metaq.config.model import BrokerConfig
from metaq.errors import BadRequest, NothingAtOffset, OffsetMoved, PartitionNotFound, RequestError, Status
from metaq.protocol.commands import Get, Offset
from metaq.protocol.encoder import result, value_head
from metaq.store.log import PartitionLog
from metaq.store.reader import Cold, Parts
from metaq.store.store import MessageStore

LATEST: Final = (1 << 63) - 1  # as an offset: the end, whatever it is


class Gets:
    """Answers consumers. `url` is the text of this broker's address, as it is registered."""

    def __init__(self, config: BrokerConfig, store: MessageStore, topics: Topics, statistics: Statistics) -> None:
        self._store = store
        self._topics = topics
        self._statistics = statistics
        self.url = ""
        self.configure(config)

    def configure(self, config: BrokerConfig) -> None:
        """Take a reloaded file."""
        self._max = config.max_transfer_size
        self._tell_end = config.update_consumer_offsets

    def read(self, peer: Peer, command: Get) -> list[Buffer]:
        """Return the reply, as pieces; none if the disk must be asked: then it is sent later."""
        tally = self._statistics.tally(command.target.topic)
        tally.gets += 1
        try:
            log = self._log(command)
            found = self._store.slice(log, command.offset, min(command.max_size, self._max))
        except RequestError as exc:
            return [self._refuse(command, exc, tally)]
        if isinstance(found, Cold):
            size = found.size + sum(map(len, found.rest))
            peer.owe(size)
            self._store.read_cold(found, partial(self._send_cold, peer, command, size))
            return []
        return _value(found, command.opaque)

    def _log(self, command: Get) -> PartitionLog:
        self._topics.check_open(command.target)
        log = self._store.get(command.target)
        if log is None:
            raise PartitionNotFound(*command.target)
        if command.max_size <= 0:
            raise BadRequest(f"Bad request,invalid max size:{command.max_size}")
        if command.offset > log.visible and (self._tell_end or command.offset == LATEST):
            raise OffsetMoved(log.visible)
        return log

    def _refuse(self, command: Get, exc: RequestError, tally: Tally) -> bytes:
        if isinstance(exc, OffsetMoved):
            tally.misses += 1
            tally.offsets += 1
        elif isinstance(exc, NothingAtOffset):
            tally.misses += 1
        return result(exc.status, str(exc), command.opaque)

    def _send_cold(self, peer: Peer, command: Get, size: int, parts: Parts | None, error: BaseException | None) -> None:
        peer.send_parts([self._cold_failure(command, error)] if parts is None else _value(parts, command.opaque))
        peer.owe(-size)

    def _cold_failure(self, command: Get, error: BaseException | None) -> bytes:
        if isinstance(error, FileNotFoundError):  # retention took the segment meanwhile
            log = self._store.get(command.target)
            moved = OffsetMoved(log.start if log else 0)
            return self._refuse(command, moved, self._statistics.tally(command.target.topic))
        text = f"Get message from [broker '{self.url}'] [partition '{command.target}'] failed.Detail:{error}"
        return result(Status.ERROR, text, command.opaque)

    def nearest(self, command: Offset) -> bytes:
        """Return the reply to `offset`: the first offset, a segment's beginning, or the end."""
        self._statistics.tally(command.target.topic).offsets += 1
        log = self._store.get(command.target)
        if log is None:
            exc = PartitionNotFound(*command.target)
            return result(exc.status, str(exc), command.opaque)
        return result(Status.SUCCESS, str(self._store.nearest(log, command.offset)), command.opaque)


def _value(parts: Parts, opaque: int) -> list[Buffer]:
    return [value_head(sum(map(len, parts)), opaque), *parts]
