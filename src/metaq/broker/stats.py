"""What a broker counts: commands since its start, and real-time figures of the topics with `stat=true`.

Nothing here makes text; that is `stats_text`. Counting is adding to plain numbers of a `Tally`, which all messages of
a batch for one topic do together, so that a message costs next to nothing.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from metaq.ports import Clock

RESET_INTERVAL: Final = 1800.0  # seconds; real-time figures start again at zero, as in the original
MAX_TOPICS: Final = 65536  # a wildcard with stat=true lets clients invent names: those beyond are counted together


class Commands(NamedTuple):
    """Counted since the start of the process, over all topics (reference: StatsManager). Never reset."""

    put: int
    get: int
    offset: int
    tx_begin: int
    tx_xa_begin: int
    tx_commit: int
    tx_rollback: int
    get_miss: int
    put_failed: int


@dataclass(frozen=True, slots=True)
class Figure:
    """One real-time figure. `value` equals `count`, except for message_size, where it is bytes of bodies."""

    count: int
    value: int


class Figures(NamedTuple):
    """The real-time figures in the order of their lines. None: never counted since the start, or not to be counted."""

    put: Figure | None
    get: Figure | None
    offset: Figure | None
    get_miss: Figure | None
    put_failed: Figure | None
    message_size: Figure | None


class Tally:
    """The counters of one topic, or of all topics without figures of their own. They only ever grow.

    A plain, sync or transactional put counts when it is received, before it is checked; a get whatever its answer.
    """

    __slots__ = ("base", "bytes", "copied", "gets", "misses", "offsets", "put_failures", "puts")

    def __init__(self) -> None:
        self.puts = 0
        self.copied = 0  # messages that an asynchronous slave appended
        self.bytes = 0  # of the bodies of both
        self.put_failures = 0  # puts answered with an error, except 403 and transactional ones
        self.gets = 0
        self.misses = 0  # gets answered 404 or 301 because nothing was at their offset
        self.offsets = 0  # offset commands, and gets answered 301 because their offset was outside the log
        self.base = self.numbers()  # at the last reset

    def numbers(self) -> tuple[int, ...]:
        """Return count and value of each figure, one behind the other."""
        sized = self.puts + self.copied
        return (
            *(self.puts, self.puts, self.gets, self.gets, self.offsets, self.offsets),
            *(self.misses, self.misses, self.put_failures, self.put_failures, sized, self.bytes),
        )

    def add(self, other: "Tally") -> None:
        """Take over what another one counted since the start."""
        self.puts += other.puts
        self.copied += other.copied
        self.bytes += other.bytes
        self.put_failures += other.put_failures
        self.gets += other.gets
        self.misses += other.misses
        self.offsets += other.offsets


class Statistics:
    """Counts what the broker does. Synchronous; belongs to the loop's thread.

    Real-time figures go back to zero every 30 minutes after the start, whatever `reset` did meanwhile.
    """

    def __init__(self, clock: Clock, counted: Callable[[str], bool]) -> None:
        """`counted` says whether a topic has real-time figures; it is asked once per topic, again after `choose`."""
        self.tx_begin = 0  # local and XA, repeated ones too; commands, as all of these
        self.tx_xa_begin = 0
        self.tx_commit = 0
        self.tx_rollback = 0
        self._monotonic = clock.monotonic
        self._counted = counted
        self._since = clock.monotonic()  # the last reset
        self._due = self._since + RESET_INTERVAL
        self._own: dict[str, Tally] = {}
        self._beyond = Tally()  # counted topics beyond MAX_TOPICS
        self._plain = Tally()  # topics without figures
        self._known: dict[str, Tally] = {}  # answers of tally()

    def tally(self, topic: str) -> Tally:
        """Return where to count for this topic. It may be kept until the next `choose`."""
        try:
            return self._known[topic]
        except KeyError:
            return self._admit(topic)

    def choose(self, counted: Callable[[str], bool]) -> None:
        """Ask `counted` from now on: the configuration was loaded again. Topics not counted any more lose figures."""
        self._counted = counted
        self._known.clear()
        for topic in [topic for topic in self._own if not counted(topic)]:
            self._plain.add(self._own.pop(topic))

    def commands(self) -> Commands:
        """Return the sums since the start."""
        sums = Tally()
        for tally in (self._plain, *self._figured()):
            sums.add(tally)
        return Commands(
            put=sums.puts + sums.copied,
            get=sums.gets,
            offset=sums.offsets,
            tx_begin=self.tx_begin,
            tx_xa_begin=self.tx_xa_begin,
            tx_commit=self.tx_commit,
            tx_rollback=self.tx_rollback,
            get_miss=sums.misses,
            put_failed=sums.put_failures,
        )

    def tallies(self) -> list[tuple[str, Tally]]:
        """Return what each topic with figures of its own counted since the start; last, as "", all others together."""
        rest = Tally()
        rest.add(self._plain)
        rest.add(self._beyond)
        return [*self._own.items(), ("", rest)]

    def total(self) -> Figures:
        """Return the real-time figures of all topics together."""
        self.tick()
        return _figures(self._figured())

    def of(self, topic: str) -> Figures:
        """Return the real-time figures of one topic."""
        self.tick()
        return _figures([self._own[topic]] if topic in self._own else [])

    def seconds(self) -> int:
        """Return the whole seconds since the last reset."""
        self.tick()
        return int(self._monotonic() - self._since)

    def reset(self) -> None:
        """Set the real-time figures to zero (reference: `stats reset`). What was counted once is zero, not unknown."""
        self.tick()
        self._since = self._monotonic()
        self._rebase()

    def tick(self) -> None:
        """Do the half-hourly reset if its time has come. Call it every few seconds; reading does so by itself."""
        now = self._monotonic()
        if now >= self._due:
            self._since = self._due + (now - self._due) // RESET_INTERVAL * RESET_INTERVAL
            self._due = self._since + RESET_INTERVAL
            self._rebase()

    def _admit(self, topic: str) -> Tally:
        """Decide where to count for a topic not met since the configuration was loaded."""
        if len(self._known) >= 2 * MAX_TOPICS:  # names that clients invented
            self._known.clear()
        if not self._counted(topic):
            tally = self._plain
        elif topic not in self._own and len(self._own) >= MAX_TOPICS:
            tally = self._beyond
        else:
            tally = self._own.setdefault(topic, Tally())
        self._known[topic] = tally
        return tally

    def _figured(self) -> list[Tally]:
        return [self._beyond, *self._own.values()]

    def _rebase(self) -> None:
        for tally in self._figured():
            tally.base = tally.numbers()


def _figures(tallies: Iterable[Tally]) -> Figures:
    """Add up figures since the last reset; None where all counted nothing since they exist."""
    tallies = (Tally(), *tallies)
    ever = [sum(column) for column in zip(*(tally.numbers() for tally in tallies), strict=True)]
    base = [sum(column) for column in zip(*(tally.base for tally in tallies), strict=True)]
    numbers = [now - before for now, before in zip(ever, base, strict=True)]
    places = range(0, len(numbers), 2)
    return Figures(*(Figure(numbers[place], numbers[place + 1]) if ever[place] else None for place in places))
