"""recoverOffset: the offsets of groups, made to fit a log in which the same messages stand elsewhere.

That is so where a slave became the master that was not filled byte by byte: one of 1.4.6.2 after a copy failed. What a
group has in ZooKeeper is the id of the last message it had and the offset behind it there; here the offset becomes the
one behind that message. Only offsets in ZooKeeper are: those kept elsewhere are not to be had from here.
"""

import logging
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from metaq.cluster.paths import Paths
from metaq.cluster.ports import Registry
from metaq.cluster.znodes import Position, decode_position, encode_position
from metaq.errors import NothingAtOffset, OffsetMoved
from metaq.model import BrokerPartition
from metaq.replication.pair.local import Fault, read_records
from metaq.replication.pair.records import places
from metaq.store.log import PartitionLog
from metaq.store.store import MessageStore

log_ = logging.getLogger(__name__)

_NO_MESSAGE = -1  # as an id: the group had none yet, or its client is older than 1.4


class _Stored(NamedTuple):
    path: str
    position: Position


class _Search:
    """Looks for messages by their ids. `before`: the end of the last message whose id is not above the one wanted."""

    def __init__(self, ids: set[int]) -> None:
        self.missing = ids
        self.found: dict[int, int] = {}
        self.before: dict[int, tuple[int, int]] = {}  # wanted id → (id, end) of the highest id below it
        self.spans: list[tuple[int, int, int]] = []  # where a segment begins, its first id and its last

    @property
    def ascending(self) -> bool:
        """Whether ids ascend over all segments seen: those of a broker of 1.4.6.2 begin again with its machine."""
        spans = sorted(self.spans)
        within = all(first <= last for _, first, last in spans)
        return within and all(left[2] < right[1] for left, right in pairwise(spans))

    def see(self, id: int, end: int) -> None:
        """Take a message into account."""
        if id in self.missing:
            self.missing.discard(id)
            self.found[id] = end
        for wanted in self.missing:
            if id <= wanted and (wanted not in self.before or self.before[wanted] < (id, end)):
                self.before[wanted] = (id, end)


async def recover_offsets(registry: Registry, root: str, broker_id: int, store: MessageStore) -> int:
    """Put right what groups have stored for our partitions; return how many were changed. Raises RegistryError.

    OSError if the log cannot be read. No member reads from here meanwhile: the broker is not registered yet.
    """
    paths = Paths(root)
    groups = await registry.children(paths.consumers) or []
    changed = 0
    for log in list(store.all()):
        place = log.key.topic, BrokerPartition(broker_id, log.key.partition)
        stored = await _stored(registry, paths, groups, place)
        if stored:
            changed += await _recover(registry, store, log, stored)
    log_.info("offsets of %d groups looked at, %d changed", len(groups), changed)
    return changed


async def _stored(
    registry: Registry, paths: Paths, groups: list[str], place: tuple[str, BrokerPartition]
) -> list[_Stored]:
    """Return what groups have stored for a partition, with a message that can be looked for."""
    found = []
    for group in groups:
        path = paths.offset(group, *place)
        node = await registry.get(path)
        try:
            position = decode_position(node.data if node else None)
        except ValueError as exc:
            log_.warning("%s is passed over: %s", path, exc)
            continue
        if position is not None and position.message_id != _NO_MESSAGE:
            found.append(_Stored(path, position))
    return found


async def _recover(registry: Registry, store: MessageStore, log: PartitionLog, stored: list[_Stored]) -> int:
    """Put right the positions of one partition; return how many were changed."""
    search = _Search({each.position.message_id for each in stored})
    for base, end in _segments(log, stored):
        await _walk(store, log, base, end, search)
        if not search.missing:
            break
    changed = 0
    for path, position in stored:
        offset = _right(log, position, search)
        if offset is None:
            log_.warning("%s: no message %d here, %s stays", log.key, position.message_id, path)
        elif offset != position.offset:
            log_.warning("%s: %s goes on at %d instead of %d", log.key, path, offset, position.offset)
            await registry.set(path, encode_position(Position(position.message_id, offset)))
            changed += 1
    return changed


def _segments(log: PartitionLog, stored: list[_Stored]) -> Iterator[tuple[int, int]]:
    """Yield all segments as (base, end): first those that are where groups are said to be, then from the newest on."""
    ends = dict(zip(log.bases, [*log.bases[1:], log.visible], strict=True))
    likely = {log.base_of(each.position.offset - 1) for each in stored if log.start < each.position.offset}
    for base in (*sorted(likely), *(base for base in reversed(log.bases) if base not in likely)):
        yield base, ends[base]


async def _walk(store: MessageStore, log: PartitionLog, base: int, end: int, search: _Search) -> None:
    """Show a search all messages of a segment; what is broken ends it."""
    offset = base
    ids: list[int] = []
    while offset < end:
        try:
            data = await read_records(store, log, offset)
        except (Fault, NothingAtOffset, OffsetMoved) as exc:
            log_.warning("%s: nothing is looked for behind %d: %s", log.key, offset, exc)
            return
        for place in places(data):
            search.see(place.id, offset + place.end)
            ids = [ids[0] if ids else place.id, place.id]
        offset += len(data)
    if ids:
        search.spans.append((base, ids[0], ids[-1]))


def _right(log: PartitionLog, position: Position, search: _Search) -> int | None:
    """Return the offset behind the message; None: it is not here, nor can be told what comes after it.

    Where ids ascend it is behind the last one before it, or the first of all.
    """
    if position.message_id in search.found:
        return search.found[position.message_id]
    if not search.ascending:
        return None
    before = search.before.get(position.message_id)
    return log.start if before is None else before[1]
