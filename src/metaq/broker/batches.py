"""Storing batches (mput): checked in one pass, stored once however often they are sent (protocol.md §9)."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Final

from metaq.broker.ids import IdAllocator
from metaq.broker.packed import starts_of, with_ids
from metaq.broker.ports import Receiver
from metaq.broker.puts import JAVA_LIMIT, Puts
from metaq.errors import BadRequest, NotCopied, RequestError, SequenceConflict
from metaq.protocol.commands import Mput
from metaq.protocol.encoder import put_reply, result
from metaq.record import HEADER_SIZE
from metaq.store.entries import Batch, Stamp
from metaq.store.log import PartitionLog
from metaq.store.store import MessageStore

_MOST: Final = 4096  # records in a batch: so many consecutive ids there are at least

_new: Final = tuple.__new__  # half the price of calling the class


class Batches:
    """Stores what producers send packed. Admits and refuses as `puts` does."""

    def __init__(self, store: MessageStore, puts: Puts, ids: IdAllocator) -> None:
        self._store = store
        self._puts = puts
        self._ids = ids

    def store(self, receiver: Receiver, commands: Sequence[Mput]) -> None:
        """Append the batches in order; the replies leave together, when all that they tell of is safe."""
        replies = []
        size = 0
        for command in commands:
            stamp = _new(Stamp, command[3:6])
            try:
                reply = self._repeated(command, stamp)
                if reply is None:
                    reply = self._append(command, stamp)
                    size += len(command.records)
            except RequestError as exc:
                reply = self._refuse(command, exc)
            replies.append(reply)
        receiver.unsafe += size
        self._store.commit(partial(self._acknowledge, receiver, b"".join(replies), commands, size), size)

    def _repeated(self, command: Mput, stamp: Stamp) -> bytes | None:
        """Return the reply to a batch that was appended before, None if it was not.

        Raises BadRequest, SequenceConflict, NotCopied. Neither a full disk nor a closed partition keeps a producer from
        hearing that its batch is there.
        """
        target, records, count, producer, epoch, sequence, opaque = command
        if target.partition < 0:
            raise BadRequest(f"a batch goes to a partition that it names, not to {target.partition}")
        if not 1 <= count <= _MOST:
            raise BadRequest(f"a batch has 1 to {_MOST} records, not {count}")
        if producer < 0 or epoch < 0 or sequence < 0 or (not producer and (epoch or sequence)):
            raise BadRequest(f"producer {producer}, epoch {epoch}, sequence {sequence} are no stamp")
        if not producer:
            return None
        log = self._store.get(target)
        if log is None:
            if sequence:
                raise SequenceConflict(0, 0, epoch, sequence)
            return None
        found = self._store.producers.find(stamp, log.id, len(records), count)
        if found is None:
            return None
        if found.offset + len(records) > log.confirmed:
            raise NotCopied(f"the batch at {found.offset} of {target} is not copied yet, ask again")
        self._store.rounds.follow(log)
        return put_reply(found.first_id, target.partition, found.offset, opaque)

    def _append(self, command: Mput, stamp: Stamp) -> bytes:
        """Append a batch and return its reply. Raises RequestError; nothing of it is appended then."""
        target, records, count, _, _, _, opaque = command
        log = self._puts.log_for(target)
        starts = starts_of(records, count, self._puts.limit)
        if len(records) > JAVA_LIMIT:
            self._warn_of(log, [*starts, len(records)])
        ids = self._ids.take(count)
        first_id, offset = ids[0], log.end
        batch = _new(Batch, (log.id, offset, len(records), count, first_id, stamp))
        self._store.append_batch(log, with_ids(records, starts, first_id), batch)
        self._store.journal.highest_id = ids[-1]
        self._puts.count(target.topic, count, len(records) - HEADER_SIZE * count)
        return put_reply(first_id, target.partition, offset, opaque)

    def _warn_of(self, log: PartitionLog, bounds: list[int]) -> None:
        self._puts.warn_of(log, max(end - start for start, end in pairwise(bounds)) - HEADER_SIZE)

    def _refuse(self, command: Mput, exc: RequestError) -> bytes:
        self._puts.count(command.target.topic, 1, 0)
        return self._failure(command, exc)

    def _failure(self, command: Mput, exc: RequestError) -> bytes:
        reply = self._puts.refuse(command.target, command.opaque, exc)
        if isinstance(exc, BadRequest | SequenceConflict):
            return result(exc.status, str(exc), command.opaque)  # the text is for programs, and without a preamble
        return reply

    def _acknowledge(
        self, receiver: Receiver, answer: bytes, commands: Sequence[Mput], size: int, error: Exception | None
    ) -> None:
        if error is None:
            receiver.acknowledge(answer, size)
            return
        failure = error if isinstance(error, RequestError) else RequestError(str(error))
        receiver.acknowledge(b"".join(self._failure(command, failure) for command in commands), size)


class Together:
    """Sends what several receive in one piece, when the last of them has it."""

    def __init__(self, receiver: Receiver, count: int) -> None:
        self._receiver = receiver
        self._count = count
        self._replies: list[bytes] = []
        self._size = 0

    @property
    def unsafe(self) -> int:
        """What the one behind it has put."""
        return self._receiver.unsafe

    @unsafe.setter
    def unsafe(self, size: int) -> None:
        self._receiver.unsafe = size

    def acknowledge(self, data: bytes, size: int) -> None:
        """Take the replies of one of them."""
        self._replies.append(data)
        self._size += size
        if len(self._replies) == self._count:
            self._receiver.acknowledge(b"".join(self._replies), self._size)
