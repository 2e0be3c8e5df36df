"""Reading messages: `get` and `offset` (reference: BrokerCommandProcessor; protocol.md §2.5, §2.6)."""

import logging
from collections.abc import Iterable
from functools import partial
from typing import Final

from metaq.broker.ports import Buffer, Peer
from metaq.broker.stats import Statistics
from metaq.broker.topics import Topics
from metaq.broker.waiting import Polls
from metaq.config.model import BrokerConfig
from metaq.errors import BadRequest, NothingAtOffset, OffsetMoved, PartitionNotFound, RequestError, Status
from metaq.model import TopicPartition
from metaq.protocol.commands import Get, Offset, Want
from metaq.protocol.encoder import result, value_head
from metaq.store.log import PartitionLog
from metaq.store.reader import Cold, Parts
from metaq.store.store import MessageStore

log_ = logging.getLogger(__name__)

LATEST: Final = (1 << 63) - 1  # as an offset: the end, whatever it is


class Gets:
    """Answers consumers. `url` is the text of this broker's address, as it is registered.

    `is_slave`: nobody is told to go back to where it ends, whatever updateConsumerOffsets says: more is to come.
    """

    def __init__(
        self, config: BrokerConfig, store: MessageStore, topics: Topics, statistics: Statistics, polls: Polls
    ) -> None:
        self._store = store
        self._topics = topics
        self._statistics = statistics
        self._polls = polls
        self.url = ""
        self.is_slave = False
        self.configure(config)

    def configure(self, config: BrokerConfig) -> None:
        """Take a reloaded file."""
        self.max_size = config.max_transfer_size
        self._tell_end = config.update_consumer_offsets

    def read(self, peer: Peer, command: Get) -> list[Buffer]:
        """Return the reply, as pieces; none if it is sent later: the disk must be asked, or there is nothing yet."""
        self._statistics.tally(command.target.topic).gets += 1
        reply = self.look(peer, command)
        if reply is None:
            return self._polls.park(peer, command, command.wait, (command.target,), self)
        return reply

    def look(self, peer: Peer, command: Get) -> list[Buffer] | None:
        """Return the reply as `read` does; None: there is nothing yet, and the get may wait."""
        target, _, offset, max_size, opaque, wait = command
        if wait and max_size > 0 and self.at_end(target, offset):
            return None  # what find would raise takes longer
        try:
            found = self.find(target, offset, max_size, peer.share())[1]
        except RequestError as exc:
            if wait and exc.status is Status.NOT_FOUND and self.may_come(target, offset):
                return None
            return [self._refuse(command, exc)]
        if isinstance(found, Cold):
            size = found.takes
            peer.owe(size)
            self._store.read_cold(found, partial(self._send_cold, peer, command, size))
            return []
        return _value(found, opaque)

    def nothing(self, command: Get) -> bytes:
        """Return the reply that nothing came while the get waited."""
        log = self._store.get(command.target)
        return self._refuse(
            command, PartitionNotFound(*command.target) if log is None else NothingAtOffset(command.offset)
        )

    def find(self, target: TopicPartition, offset: int, max_size: int, share: int) -> tuple[PartitionLog, Parts | Cold]:
        """Return a log and what is in it at the offset. Raises RequestError, what the reply says then.

        That is at most `share` bytes, but the first record whole: clients ask for more when there is none, or fail.
        """
        self._topics.check_open(target)
        log = self._store.get(target)
        if log is None:
            raise PartitionNotFound(*target)
        if max_size <= 0:
            raise BadRequest(f"Bad request,invalid max size:{max_size}")
        if offset > log.readable and (offset == LATEST or (self._tell_end and not self.is_slave)):
            raise OffsetMoved(log.readable)
        most = min(max_size, self.max_size)
        if share < most:
            return log, self._store.slice_first(log, offset, share, most)
        return log, self._store.slice(log, offset, most)

    def at_end(self, target: TopicPartition, offset: int) -> bool:
        """Return whether a get at this offset is sure to find nothing there yet: the most frequent case, at once."""
        log = self._store.get(target)
        return log is not None and offset == log.readable and self._topics.is_open(target)

    def beyond(self, wants: Iterable[Want]) -> list[tuple[int, Want]]:
        """Return the wants, with their numbers, that are not sure to find nothing: `at_end` of many at once."""
        get, is_open = self._store.get, self._topics.is_open
        return [
            (nth, want)
            for nth, want in enumerate(wants)
            if (log := get(want[0])) is None or want[1] != log.readable or want[2] <= 0 or not is_open(want[0])
        ]

    def may_come(self, target: TopicPartition, offset: int) -> bool:
        """Return whether the next message put there is one that a get at this offset waits for."""
        log = self._store.get(target)
        return self._topics.has(target) if log is None else offset == log.readable

    def count(self, target: TopicPartition, exc: RequestError) -> None:
        """Count that nothing was at the offset that was asked for."""
        tally = self._statistics.tally(target.topic)
        if isinstance(exc, OffsetMoved):
            tally.misses += 1
            tally.offsets += 1
        elif isinstance(exc, NothingAtOffset):
            tally.misses += 1

    def _refuse(self, command: Get, exc: RequestError) -> bytes:
        self.count(command.target, exc)
        return result(exc.status, str(exc), command.opaque)

    def _send_cold(self, peer: Peer, command: Get, size: int, parts: Parts | None, error: BaseException | None) -> None:
        if parts is None:
            peer.send_parts([self._refuse(command, self.failure(command.target, error))])
        else:
            peer.send_parts(_value(parts, command.opaque))
        peer.owe(-size)

    def failure(self, target: TopicPartition, error: BaseException | None) -> RequestError:
        """Return what a reply says when the disk could not be read."""
        if isinstance(error, FileNotFoundError):  # retention took the segment meanwhile
            log = self._store.get(target)
            return OffsetMoved(log.start if log else 0)
        log_.error("%s: cannot read what is on disk: %s", target, error)
        return RequestError(f"Get message from [broker '{self.url}'] [partition '{target}'] failed.Detail:{error}")

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
