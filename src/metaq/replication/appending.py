"""What a master sent, into our store: verbatim, at our end, in the segment the master has it in."""

import logging
from collections.abc import Callable
from functools import partial

from metaq.broker.stamps import batch_of
from metaq.errors import StoreError
from metaq.replication.course import Course
from metaq.replication.partition import Records
from metaq.store.store import MessageStore

log_ = logging.getLogger(__name__)


class Appender:
    """Appends records; `settled(course, error)` is called when some of it are safe, or lost."""

    def __init__(
        self,
        store: MessageStore,
        appeared: Callable[[str], None],
        settled: Callable[[Course, Exception | None], None],
    ) -> None:
        self._store = store
        self._appeared = appeared
        self._settled = settled
        self._topics: set[str] = set()

    def append(self, course: Course, records: Records) -> None:
        """Append records that follow on what was appended before. Raises DiskFull or StoreError; nothing is changed."""
        store = self._store
        log = store.get(course.key)
        if log is None or log is not course.log:
            if course.log is not None:
                raise StoreError(f"{course.key}: our log was dropped or begun anew meanwhile")
            log = course.log = store.create(course.key, course.end)
            if course.key.topic not in self._topics:
                self._topics.add(course.key.topic)
                self._appeared(course.key.topic)
        if log.end != course.end:
            raise StoreError(f"{course.key}: our log ends at {log.end}, copied was up to {course.end}")
        store.check_space(log)
        base = records.base
        if base is None or base not in (log.base, log.end):
            # Whoever copied before had other segments. Offsets are the same; names are again from the next one on.
            base = log.end if base is not None and base > log.end else store.rounds.rolls.get(log, [log.base])[-1]
        store.append_copied(log, records.data, base, records.messages, records.highest_id)
        for stamp in records.batches:
            store.stamp_copied(log, batch_of(log.id, stamp))
        size = len(records.data)
        course.end += size
        course.uncommitted += size
        course.bytes += size
        course.messages += records.messages
        store.commit(partial(self._safe, course, size), size)

    def _safe(self, course: Course, size: int, error: Exception | None) -> None:
        course.uncommitted -= size
        self._settled(course, error)
