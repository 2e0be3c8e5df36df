"""The slave's side of a synchronous pair: what a master sends is stored under the ids it gave (reference: gregor)."""

import logging
from collections.abc import Sequence
from functools import partial
from typing import Final

from metaq.broker.broker import Broker
from metaq.broker.ports import Peer
from metaq.errors import BadRequest, ChecksumMismatch, MessageTooLarge, NotCopied, ProtocolError, RequestError, Status
from metaq.model import TopicPartition
from metaq.protocol.commands import Msync, Sync
from metaq.protocol.encoder import put_reply, result
from metaq.protocol.parts import read_stamps
from metaq.record import HEADER, HEADER_SIZE, crc32
from metaq.replication.pair.records import Contents, Piece, append_piece, check_stamps, contents
from metaq.store.store import MessageStore

log_ = logging.getLogger(__name__)

TEST_TOPIC: Final = "_metaq_slave_status_test"  # what a master of 1.4.6.2 sends to see whether we are well again


def serve_as_slave(broker: Broker) -> None:
    """Store what a master sends, from here on, and nothing that producers put."""
    broker.copies = Copies(broker)
    broker.puts.check = _refuse
    broker.puts.forget()


def _refuse(target: TopicPartition) -> None:
    raise NotCopied(f"this broker is the slave of a synchronous pair: put to its master, not here ({target})")


class Copies:
    """Appends copies. A `sync` goes to the end of its partition, an `msync` only where it names the end."""

    extension = "msync"

    def __init__(self, broker: Broker) -> None:
        self._store: MessageStore = broker.store
        self._puts = broker.puts

    def store(self, peer: Peer, commands: Sequence[Sync | Msync]) -> None:
        """Append in order; the replies leave together, when all are safe. Ends that are set answer for themselves."""
        appended: list[Sync | Msync] = []
        replies: list[bytes] = []
        size = 0
        for command in commands:
            if isinstance(command, Msync) and not command.records:
                self._set_end(peer, command)
                continue
            appended.append(command)
            try:
                reply, grown = self._sync(command) if isinstance(command, Sync) else self._msync(command)
            except RequestError as exc:
                self._puts.count(command.target.topic, 1, 0)
                reply, grown = self._puts.refuse(command.target, command.opaque, exc), 0
            replies.append(reply)
            size += grown
        if replies:
            peer.unsafe += size
            self._store.commit(partial(self._acknowledge, peer, b"".join(replies), appended, size), size)

    def _sync(self, command: Sync) -> tuple[bytes, int]:
        """Append one message; return the reply and its bytes. Raises RequestError."""
        target, body, flag, id, checksum, opaque = command
        if target.topic == TEST_TOPIC:
            return put_reply(id, target.partition, 0, opaque), 0  # kept, they would pile up
        crc = crc32(body) & 0x7FFFFFFF
        if checksum not in (crc, -1):
            raise ChecksumMismatch
        if len(body) > self._puts.limit:
            raise MessageTooLarge(len(body), self._puts.limit)
        log = self._puts.place(target)
        offset = self._store.append(log, HEADER.pack(len(body), crc, id, flag) + body)
        self._store.journal.highest_id = max(self._store.journal.highest_id, id)
        self._puts.count(target.topic, 1, len(body))
        return put_reply(id, log.key.partition, offset, opaque), HEADER_SIZE + len(body)

    def _msync(self, command: Msync) -> tuple[bytes, int]:
        """Append a piece of the master's log; return the reply and its bytes. Raises RequestError."""
        target, records, base, offset, opaque, packed = command
        count, highest = contents(records)
        try:
            stamps = read_stamps(packed)
        except ProtocolError as exc:
            raise BadRequest(str(exc)) from exc
        check_stamps(stamps, records, offset)
        known = self._store.get(target)
        end = base if known is None else known.end
        if end != offset:
            text = f"{end} is the end of {target} here, not {offset}"
            return result(Status.CONFLICT, text, opaque), 0
        log = self._puts.place(target, base)
        append_piece(self._store, log, Piece(records, base, Contents(count, highest), stamps))
        self._puts.count(target.topic, count, len(records) - HEADER_SIZE * count)
        return result(Status.SUCCESS, str(log.end), opaque), len(records)

    def _set_end(self, peer: Peer, command: Msync) -> None:
        """Move aside what stands beyond an offset, or all of a log that ends before it; answer when that is durable."""
        log = self._store.get(command.target)
        if log is None or log.end == command.offset:
            peer.send(result(Status.SUCCESS, str(command.offset), command.opaque))
            return

        def done(error: Exception | None) -> None:
            if error is None:
                peer.send(result(Status.SUCCESS, str(command.offset), command.opaque))
            else:
                peer.send(result(Status.ERROR, str(error), command.opaque))

        try:
            if log.start < command.offset < log.end:
                log_.warning("%s: the master has other records from %d on, ours are set aside", log.key, command.offset)
                self._store.set_aside(log, command.offset, done)
            else:
                log_.warning("%s: the master begins at %d, the log here is set aside", log.key, command.offset)
                self._store.move_aside(log, done)
        except ValueError as exc:  # something of it is on its way
            done(exc)

    def _acknowledge(
        self, peer: Peer, answer: bytes, commands: Sequence[Sync | Msync], size: int, error: Exception | None
    ) -> None:
        if error is None:
            peer.acknowledge(answer, size)
            return
        failure = error if isinstance(error, RequestError) else RequestError(str(error))
        refused = (self._puts.refuse(command.target, command.opaque, failure) for command in commands)
        peer.acknowledge(b"".join(refused), size)
