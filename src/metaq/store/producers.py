"""Which batches producers sent last, so that one sent again is answered with its first result (design.md §2).

A batch is noted when it is appended, so that it is found also while it is on its way; what then cannot be written is
taken back by `cut`. A checkpoint takes `copy` between two rounds and keeps of it what was visible then.

Of each producer in each partition the last batches stand packed in one `bytes`: a tenth of what tuples take, no work
for the garbage collector, and a copy of the table is one of its references. By offset they are found in partitions that
replicas read, and only there: those keep a list of where batches begin, from the first such reading on. To make it of
very many takes too long while others wait, so partitions of many producers have it from the first of those on.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from struct import Struct
from typing import Final, NamedTuple

from metaq.errors import BadRequest, SequenceConflict
from metaq.store.checkpoint import ProducerState
from metaq.store.entries import Batch, Stamp
from metaq.store.places import Places

_REMEMBERED: Final = 6  # the five that may be under way, and the one before them, lest all be taken back
_PRODUCERS: Final = 100_000
_MANY: Final = 1000  # producers in a partition, from which on it has a list of places: made of these it takes 5 ms

# One batch: | epoch | sequence | offset | length | count | first id | time |
_SENT: Final = Struct(">iqqIIqd")
_SIZE: Final = _SENT.size
_pack = _SENT.pack
_unpack_from = _SENT.unpack_from
_unpack_number = Struct(">iq").unpack_from  # epoch and sequence
_unpack_place = Struct(">12xqI").unpack_from  # offset and length

Packed = Mapping[tuple[int, int], bytes]  # of (producer, log id)


class Sent(NamedTuple):
    """One batch: where it stands. `time` is the wall clock when it was noted, 0 when it was recovered."""

    epoch: int
    sequence: int
    offset: int
    length: int
    record_count: int
    first_id: int
    time: float


class ProducerTable:
    """The last batches, at least five, of each producer in each partition; bounded by count and by age."""

    def __init__(self, states: Iterable[ProducerState] = ()) -> None:
        self._sent: dict[tuple[int, int], bytes] = {}  # the producer heard of longest ago comes first
        self._producers: dict[int, set[int]] = {}  # by log id
        self._places: dict[int, Places] = {}  # by log id
        self._started = 0.0  # the time of those whose time is not known: the first look at their age
        for state in states:
            batches = b"".join(_SENT.pack(*batch) for batch in state.batches[-_REMEMBERED:])
            self._set((state.producer, state.log_id), batches)
        for log_id, producers in self._producers.items():
            if len(producers) > _MANY:
                self._list_places(log_id)

    def __len__(self) -> int:
        return len(self._sent)

    def _set(self, key: tuple[int, int], batches: bytes) -> None:
        self._sent[key] = batches
        self._producers.setdefault(key[1], set()).add(key[0])

    def _forget(self, key: tuple[int, int]) -> None:
        del self._sent[key]
        producer, log_id = key
        others = self._producers[log_id]
        others.discard(producer)
        if not others:
            del self._producers[log_id]
            self._places.pop(log_id, None)

    def note(self, batch: Batch, time: float = 0.0) -> None:
        """Remember a batch. The producer heard of longest ago makes room."""
        log_id, offset, length, count, first_id, (producer, epoch, sequence) = batch
        key = (producer, log_id)
        sent = _pack(epoch, sequence, offset, length, count, first_id, time)
        before = self._sent.pop(key, None)
        if before is not None:
            self._sent[key] = before[-_SIZE * (_REMEMBERED - 1) :] + sent
        else:
            self._set(key, sent)
        places = self._places.get(log_id)
        if places is not None:
            places.add(offset, producer)
        elif len(self._producers[log_id]) > _MANY:
            self._list_places(log_id)
        if len(self._sent) > _PRODUCERS:
            # some at once: to find the first of a dict takes a walk over all that was taken out before it
            for oldest in list(islice(self._sent, 1 + _PRODUCERS // 1000)):
                self._forget(oldest)

    def find(self, stamp: Stamp, log_id: int, length: int, count: int) -> Sent | None:
        """Return the batch that was stored under this stamp, None if it is the producer's next one.

        Raises SequenceConflict if it is neither, BadRequest if what was stored is not this batch.
        """
        producer, epoch, sequence = stamp
        batches = self._sent.get((producer, log_id), b"")
        newest = len(batches) - _SIZE
        last_epoch, last = _unpack_number(batches, newest) if batches else (0, -1)
        if sequence == (last + 1 if epoch == last_epoch else 0) and epoch >= last_epoch:
            return None
        for start in range(newest, -1, -_SIZE):
            if _unpack_number(batches, start) == (epoch, sequence):
                return _same(Sent(*_unpack_from(batches, start)), length, count)
        raise SequenceConflict(last_epoch, last + 1, epoch, sequence)

    def between(self, log_id: int, start: int, end: int) -> Iterator[Batch]:
        """Yield the batches of a partition that have bytes between two offsets, in order; only those remembered."""
        if log_id not in self._producers:
            return
        places = self._places.get(log_id) or self._list_places(log_id)
        for offset, producer in places.between(start, end):
            batches = self._sent.get((producer, log_id), b"")
            for at in range(len(batches) - _SIZE, -1, -_SIZE):
                epoch, sequence, its, length, count, first_id, _ = _unpack_from(batches, at)
                if its == offset:
                    if offset + length > start:
                        yield Batch(log_id, offset, length, count, first_id, Stamp(producer, epoch, sequence))
                    break

    def _list_places(self, log_id: int) -> Places:
        """Make the list of where the batches of a partition begin."""
        found = (
            (_unpack_place(batches, at)[0], producer)
            for producer in self._producers[log_id]
            for batches in (self._sent[producer, log_id],)
            for at in range(0, len(batches), _SIZE)
        )
        places = self._places[log_id] = Places(found, partial(self._remembers, log_id))
        return places

    def _remembers(self, log_id: int, offset: int, producer: int) -> bool:
        batches = self._sent.get((producer, log_id))
        return batches is not None and int(_unpack_place(batches)[0]) <= offset

    def age_out(self, now: float, age: float) -> None:
        """Forget producers whose last batch is older than `age` seconds; those recovered age from the first call on."""
        self._started = self._started or now
        while self._sent:
            key, batches = next(iter(self._sent.items()))
            time = _unpack_from(batches, len(batches) - _SIZE)[-1] or self._started
            if time >= now - age:
                return
            self._forget(key)

    def cut(self, log_id: int, to: int) -> None:
        """Forget the batches of a partition that do not end at or below `to`: sent again, they must be stored again."""
        for producer in list(self._producers.get(log_id, ())):
            key = (producer, log_id)
            batches = self._sent[key]
            kept = _below(batches, to)
            if not kept:
                self._forget(key)
            elif kept != batches:
                self._sent[key] = kept

    def forget_log(self, log_id: int) -> None:
        """Forget all of a partition that is gone."""
        self._places.pop(log_id, None)
        for producer in self._producers.pop(log_id, ()):
            del self._sent[producer, log_id]

    def copy(self) -> Packed:
        """Return the table as it is now."""
        return self._sent.copy()

    def states(self) -> list[ProducerState]:
        """Return the table as a checkpoint keeps it."""
        return list(states_of(self._sent, None))


def _same(found: Sent, length: int, count: int) -> Sent:
    """Return what was stored under a stamp. Raises BadRequest if it is another batch."""
    if found.length != length or found.record_count not in (count, 0):
        raise BadRequest(
            f"batch {found.sequence} of epoch {found.epoch} was stored with {found.record_count} records in"
            f" {found.length} bytes, this one has {count} in {length}"
        )
    return found


def states_of(packed: Packed, visible: Mapping[int, int] | None) -> Iterator[ProducerState]:
    """Yield of a table what a checkpoint keeps; `visible`: only batches that end at or below their log's offset in it.

    What is on its way when a checkpoint is made stands in the journal behind it, or nowhere.
    """
    for (producer, log_id), batches in packed.items():
        kept = batches if visible is None else _below(batches, visible.get(log_id, 0))
        if kept:
            yield ProducerState(producer, log_id, tuple(_SENT.iter_unpack(kept)))


def _below(batches: bytes, end: int) -> bytes:
    """Return those that end at or below an offset; they stand in the order of their offsets."""
    size = len(batches)
    while size:
        offset, length = _unpack_place(batches, size - _SIZE)
        if offset + length <= end:
            break
        size -= _SIZE
    return batches[:size]
