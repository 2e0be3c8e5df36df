"""Who is asked for next, with whom together, and how long the master may take.

Partitions with much to copy are asked for alone, several stretches ahead; those in use in one question together,
which waits at the master for a moment; all others in large questions that wait there for long. A Java broker is asked
for each by itself and answers at once.
"""

from collections.abc import Callable
from typing import Final

from metaq.net.link import Link
from metaq.replication.course import Course, Queue
from metaq.replication.options import FollowerOptions
from metaq.replication.questions import Line, Question

_LINES: Final = 1024  # of one mget
_SOON: Final = 0.2  # seconds that a question for partitions in use waits
_LONG: Final = 5.0  # and for others
_IDLE_SIZE: Final = 64 << 10  # bytes that an idle partition is asked for at first
_HOT: Final = 8  # questions at a time for partitions in use
_SHORTEST: Final = 0.001  # seconds between two of these, at least: each costs the master what some 50 messages do
_LONGEST: Final = 0.05  # and where there are many messages
_EACH: Final = 0.0001  # seconds for each message that came since the last: more than 10,000/s make it longer
_GETS: Final = 64  # questions at a time to a Java broker


class Polling:
    """Makes questions of what is ready, and counts what they may bring. `answered` gets them back."""

    cost: Final = 0.0005  # seconds between questions to a Java broker for idle partitions, at least

    def __init__(self, options: FollowerOptions, ready: Queue, answered: Callable[[Question], None]) -> None:
        self._options = options
        self._ready = ready
        self._answered = answered
        self._reserved = 0
        self._hot = 0
        self._next_hot = 0.0
        self.came = 0  # messages since the last question for partitions in use
        self._gets = 0

    def can_wait(self, link: Link) -> bool:
        """Say whether this master takes mget."""
        return "mget" in link.extensions

    def over(self, question: Question) -> None:
        """Count a question that has its answer, or will have none."""
        self._reserved -= question.reserved
        self._hot -= question.hot
        self._gets -= not question.many

    def hurry(self) -> None:
        """An answer had no room for all: ask again as soon as there is something to ask."""
        self._next_hot = 0.0

    def ask(self, link: Link, now: float, admit: Callable[[Course], bool]) -> float | None:
        """Send questions for the partitions that are ready and admitted; those there is no room for stay.

        Return when to ask again, if nothing happens before.
        """
        if self.can_wait(link):
            return self._ask_many(link, now, admit)
        self._ask_each(link, now, admit)
        return None

    def _ask_each(self, link: Link, now: float, admit: Callable[[Course], bool]) -> None:
        step = self._options.step
        for _ in range(len(self._ready.waiting)):
            if self._gets >= _GETS or self._reserved + step > self._options.memory:
                return
            course = self._ready.take()
            while admit(course) and self._gets < _GETS and self._reserved + step <= self._options.memory:
                ask = course.copy.ask(step, tells_base=False)
                self._send(link, [Line(course, ask)], now, ask.size, None)

    def _ask_many(self, link: Link, now: float, admit: Callable[[Course], bool]) -> float | None:
        step, memory = self._options.step, self._options.memory
        hot: list[Course] = []
        idle: list[Course] = []
        later: list[Course] = []
        for _ in range(len(self._ready.waiting)):
            course = self._ready.take()
            if not admit(course):
                continue
            if not course.copy.bulk:
                (hot if course.is_hot(now) else idle).append(course)
                continue
            if self._reserved + step > memory:
                later.append(course)
            while self._reserved + step <= memory and admit(course):
                self._send(link, [Line(course, course.copy.ask(step, tells_base=True))], now, step, 0.0)
        paced = bool(hot) and now < self._next_hot
        in_use = len(hot)
        while hot and not paced and self._hot < _HOT and self._reserved + step <= memory:
            lines, hot = self._lines(hot, step)
            self._send(link, lines, now, step, _SOON, hot=True)
        if len(hot) < in_use:
            self._pace(now)
        while idle:
            lines, idle = self._lines(idle, _IDLE_SIZE)
            self._send(link, lines, now, _IDLE_SIZE, _LONG)
        for course in (*later, *hot):
            self._ready.add(course)
        return self._next_hot if paced else None

    def _pace(self, now: float) -> None:
        """Questions for partitions in use were sent: say when the next may be."""
        self._next_hot = now + min(max(self.came * _EACH, _SHORTEST), _LONGEST)
        self.came = 0

    def _lines(self, courses: list[Course], size: int) -> tuple[list[Line], list[Course]]:
        taken = [Line(course, course.copy.ask(size, tells_base=True)) for course in courses[:_LINES]]
        return taken, courses[_LINES:]

    def _send(
        self, link: Link, lines: list[Line], now: float, size: int, wait: float | None, *, hot: bool = False
    ) -> None:
        question = Question(link, lines, self._answered)
        question.many = wait is not None
        question.hot = hot
        question.reserved = size if size > _IDLE_SIZE else 0
        self._reserved += question.reserved
        self._hot += hot
        self._gets += not question.many
        question.send(self._options.group, size=size, wait=wait, deadline=now + self._options.answer + (wait or 0.0))
