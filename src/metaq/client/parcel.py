"""Messages that travel together, and what becomes of each; shared by the loop and the threads of plain code."""

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from threading import Lock
from time import monotonic
from typing import Final, NamedTuple, Self, overload

from metaq.errors import MetaqError
from metaq.model import BrokerPartition, Receipt
from metaq.record import HEADER_SIZE

MOST_RECORDS: Final = 4096  # in a batch, and so in a parcel
MOST_BYTES: Final = 512 << 10  # aimed at; a single message may be larger

_lock: Final = Lock()  # of all parcels; held only while somebody registers himself or is told


class _Stored(NamedTuple):
    """Where the first message of a parcel is; the others follow."""

    id: int
    partition: str
    offset: int


class Parcel:
    """Up to 4,096 messages that were sent one after the other, in the order of the calls.

    - Mostly all share one fate, which costs the same for one as for thousands: a receipt is made when it is asked for.
    - Those that had to go one by one have outcomes one by one.
    - One thread adds, then seals; the loop settles; any thread asks.
    """

    __slots__ = (
        "_callbacks",
        "_gate",
        "_lengths",
        "_offsets",
        "_seen",
        "_singles",
        "_stored",
        "_waiters",
        "avoid",
        "bodies",
        "cost",
        "count",
        "error",
        "expires",
        "failures",
        "fixed",
        "flags",
        "size",
        "timeout",
        "watcher",
    )

    def __init__(self, timeout: float, fixed: BrokerPartition | None = None) -> None:
        self.timeout = timeout  # seconds from when the loop knows of it
        self.expires = 0.0  # loop time
        self.fixed = fixed  # the partition that was named or chosen; None: any will do
        self.avoid: frozenset[BrokerPartition] = frozenset()  # partitions that were found closed
        self.bodies: list[bytes] = []
        self.flags: dict[int, int] | None = None  # of those whose flag is not 0
        self.count = 0  # once it is sealed
        self.size = 0  # bytes of the records
        self.cost = 0  # what it takes of the bytes that plain code may have under way
        self.error: Exception | None = None  # what became of all
        self.failures: deque[Parcel] | None = None  # where it puts itself if any of it fails
        self.watcher: Callable[[Parcel, int], None] | None = None  # told how many have an outcome now, in the loop
        self._stored: _Stored | None = None
        self._singles: dict[int, Receipt | Exception] | None = None
        self._lengths: list[int] = []
        self._offsets: list[int] | None = None
        self._seen: set[int] | None = None
        self._gate: Lock | None = None  # held until something becomes known
        self._callbacks: list[tuple[int, Callable[[], object]]] | None = None
        self._waiters: list[tuple[int, asyncio.Future[Receipt]]] = []  # in the loop

    @classmethod
    def of(cls, bodies: list[bytes], flag: int, timeout: float, fixed: BrokerPartition | None) -> Self:
        """Return a sealed parcel of these bodies."""
        parcel = cls(timeout, fixed)
        parcel.bodies = bodies
        if flag:
            parcel.flags = dict.fromkeys(range(len(bodies)), flag)
        parcel.seal()
        return parcel

    def add(self, body: bytes, flag: int) -> int:
        """Take one more and return its index."""
        index = len(self.bodies)
        self.bodies.append(body)
        if flag:
            if self.flags is None:
                self.flags = {}
            self.flags[index] = flag
        return index

    def seal(self) -> None:
        """Nothing is added any more."""
        self.count = len(self.bodies)
        self.size = sum(map(len, self.bodies)) + HEADER_SIZE * self.count

    def part(self, start: int, end: int) -> "Parcel":
        """Return a sealed parcel of some of its messages; what becomes of them is passed on to this one."""
        part = Parcel(self.timeout, self.fixed)
        part.expires, part.avoid = self.expires, self.avoid
        for index in range(start, end):
            part.add(self.bodies[index], 0 if self.flags is None else self.flags.get(index, 0))
            part.call_when_known(index - start, partial(self._pass_on, part, index - start, start))
        part.seal()
        return part

    def _pass_on(self, part: "Parcel", index: int, start: int) -> None:
        outcome = part.outcome(index)
        if isinstance(outcome, Exception):
            self.failed(start + index, outcome)
        elif outcome is not None:
            self.stored(start + index, outcome)

    # its outcomes, in the loop

    def stored_at(self, id: int, partition: str, offset: int) -> None:
        """All are stored, this is where the first one is."""
        self._lengths = list(map(len, self.bodies))
        self._stored = _Stored(id, partition, offset)
        self._settle(self.count)

    def failed_with(self, error: Exception) -> None:
        """All failed."""
        self.error = error
        self._settle(self.count)
        if self.failures is not None:
            self.failures.append(self)

    def stored(self, index: int, receipt: Receipt) -> None:
        """One of them is stored (as a waiter of puts)."""
        self._single(index, receipt)

    def failed(self, index: int, error: Exception) -> None:
        """One of them failed (as a waiter of puts)."""
        self._single(index, error)
        if self.failures is not None and not (self.failures and self.failures[-1] is self):
            self.failures.append(self)

    def _single(self, index: int, outcome: Receipt | Exception) -> None:
        if self._singles is None:
            self._singles = {}
        self._singles[index] = outcome
        self._settle(1)

    def _settle(self, count: int) -> None:
        if self._singles is None or len(self._singles) == self.count:
            self.bodies, self.flags = [], None
        with _lock:
            gate, self._gate = self._gate, None
            callbacks, self._callbacks = self._callbacks, None
        if gate is not None:
            gate.release()
        if callbacks is not None:
            later = []
            for index, callback in callbacks:
                if self.is_known(index):
                    callback()
                else:
                    later.append((index, callback))
            if later:
                self._keep(later)
        if self._waiters:
            self._tell()
        if self.watcher is not None:
            self.watcher(self, count)

    def _keep(self, callbacks: list[tuple[int, Callable[[], object]]]) -> None:
        with _lock:
            self._callbacks = [*callbacks, *(self._callbacks or ())]

    def _tell(self) -> None:
        """Hand their outcomes to those who wait in the loop and have not gone."""
        waiters, self._waiters = self._waiters, []
        for index, waiter in waiters:
            outcome = self.outcome(index)
            if outcome is None:
                self._waiters.append((index, waiter))
            elif isinstance(outcome, Receipt):
                if not waiter.done():
                    waiter.set_result(outcome)
            else:
                self.ask(index)
                if not waiter.done():
                    waiter.set_exception(anew(outcome))

    # asking

    def tell(self, index: int, waiter: asyncio.Future[Receipt]) -> None:
        """Have a future of the loop hold what becomes of a message, which counts as asking."""
        self._waiters.append((index, waiter))
        if self._stored is not None or self.error is not None or self._singles is not None:
            self._tell()

    def outcome(self, index: int) -> Receipt | Exception | None:
        """Return what became of a message, None if that is not known yet; of all, with index -1: something or None."""
        stored = self._stored
        if stored is not None:
            if self._offsets is None:
                sizes = (HEADER_SIZE + length for length in self._lengths)
                self._offsets = list(accumulate(sizes, initial=stored.offset))
            return Receipt(stored.id + index, stored.partition, self._offsets[index])
        if self.error is not None:
            return self.error
        singles = self._singles
        if singles is None:
            return None
        if index < 0:
            return singles[0] if len(singles) == self.count and self.count else None
        return singles.get(index)

    def is_known(self, index: int) -> bool:
        """Say whether there is an outcome."""
        return self._stored is not None or self.outcome(index) is not None

    def call_when_known(self, index: int, callback: Callable[[], object]) -> bool:
        """Have a function called in the loop as soon as there is an outcome (-1: of all); False: there is one now."""
        with _lock:
            if self.is_known(index):
                return False
            if self._callbacks is None:
                self._callbacks = []
            self._callbacks.append((index, callback))
            return True

    def wait(self, index: int, timeout: float | None) -> bool:
        """Wait, in a thread, until there is an outcome; False if that takes longer than `timeout` seconds."""
        until = None if timeout is None else monotonic() + timeout
        while True:
            with _lock:
                if self.is_known(index):
                    return True
                gate = self._gate
                if gate is None:
                    gate = self._gate = Lock()
                    gate.acquire()
            if not gate.acquire(timeout=-1 if until is None else max(until - monotonic(), 0)):
                return False
            gate.release()  # for the next one who waits

    def ask(self, index: int) -> None:
        """Note that somebody wants to know what becomes of a message: he is told of an error, not who flushes."""
        with _lock:
            if self._seen is None:
                self._seen = set()
            self._seen.add(index)

    def is_seen(self, index: int) -> bool:
        """Say whether somebody asked."""
        return self._seen is not None and index in self._seen

    def unseen_error(self) -> Exception | None:
        """Return the first error that nobody asked for."""
        for index in range(self.count):
            outcome = self.outcome(index)
            if isinstance(outcome, Exception) and not self.is_seen(index):
                return outcome
        return None


def anew(error: Exception) -> Exception:
    """Return an error to raise in place of one that others may raise too: with a traceback and notes of its own."""
    if not isinstance(error, MetaqError):
        return error
    kind = type(error)
    fresh = kind.__new__(kind)
    fresh.args = error.args
    fresh.__dict__.update({name: value for name, value in vars(error).items() if name != "__notes__"})
    fresh.__cause__, fresh.__context__ = error.__cause__, error.__context__
    return fresh


class Span(NamedTuple):
    """Some messages of a parcel."""

    parcel: Parcel
    start: int
    size: int


class Receipts(Sequence[Receipt]):
    """The receipts of many messages in the order they were sent; each is made when it is asked for."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self.spans: list[Span] = []
        self._ends: list[int] = []
        for span in spans:
            self.append(span)

    def append(self, span: Span) -> None:
        """Add those of a span behind the others."""
        self._ends.append(len(self) + span.size)
        self.spans.append(span)

    def extend(self, others: "Receipts") -> None:
        """Add others behind."""
        for span in others.spans:
            self.append(span)

    def first_error(self) -> tuple[int, int, Exception] | None:
        """Return of the first that failed its index, how many failed, and the error; None if none did."""
        found: tuple[int, Exception] | None = None
        failed = start = 0
        for parcel, first, count in self.spans:
            if parcel._stored is None:
                for index in range(count):
                    outcome = parcel.outcome(first + index)
                    if isinstance(outcome, Exception):
                        found = found or (start + index, outcome)
                        failed += 1
            start += count
        return None if found is None else (found[0], failed, found[1])

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[Receipt]:
        for parcel, first, count in self.spans:
            for index in range(first, first + count):
                yield _receipt(parcel, index)

    @overload
    def __getitem__(self, index: int, /) -> Receipt: ...
    @overload
    def __getitem__(self, index: slice, /) -> list[Receipt]: ...
    def __getitem__(self, index: int | slice, /) -> Receipt | list[Receipt]:
        if isinstance(index, slice):
            return [self[n] for n in range(*index.indices(len(self)))]
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise IndexError(f"receipt {index} of {len(self)}")
        number = bisect_right(self._ends, at)
        parcel, first, count = self.spans[number]
        return _receipt(parcel, first + at - (self._ends[number] - count))

    def __add__(self, other: Sequence[Receipt]) -> list[Receipt]:
        return [*self, *other]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Receipts | list | tuple):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    def __repr__(self) -> str:
        return f"<{len(self)} receipts>"


def _receipt(parcel: Parcel, index: int) -> Receipt:
    outcome = parcel.outcome(index)
    assert isinstance(outcome, Receipt)
    return outcome
