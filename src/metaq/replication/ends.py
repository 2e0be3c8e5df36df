"""Looks from time to time where the master's logs end: for the lag, and to notice one that has become shorter."""

import logging
from collections.abc import Callable, Mapping
from typing import Final

from metaq.client.asking import parse_offsets
from metaq.errors import ClientError, Status
from metaq.model import TopicPartition
from metaq.net.calls import Call
from metaq.net.link import Link
from metaq.protocol.commands import Reply, Result, Stats
from metaq.protocol.encoder import encode
from metaq.replication.course import Course
from metaq.replication.options import FollowerOptions

log_ = logging.getLogger(__name__)

_MANY: Final = 1000  # partitions that may be looked at in each interval


class _Look(Call):
    def __init__(self, deadline: float, done: Callable[[bytes | None], None]) -> None:
        self.deadline = deadline
        self.size = 0
        self._done = done

    def answer(self, reply: Reply) -> None:
        self._done(reply.body if isinstance(reply, Result) and reply.status == Status.SUCCESS else None)

    def fail(self, error: ClientError) -> None:
        self._done(None)


class Ends:
    """Asks for `stats offsets`, one question at a time; `answered` is called when there is news.

    `shorter` is told of partitions whose end was before ours twice: of a broker of ours that is so only where a log was
    begun anew. A Java broker names the end of what it has synced, which may be less than it sends.
    """

    def __init__(
        self, options: FollowerOptions, answered: Callable[[], None], shorter: Callable[[Course], None]
    ) -> None:
        self._options = options
        self._shorter = shorter
        self._answered = answered
        self._next = 0.0
        self._open = False
        self._text: bytes | None = None

    def ask(self, link: Link, now: float, courses: Mapping[TopicPartition, Course]) -> float:
        """Note what the last answer said; ask again if it is time. Return when it is time next."""
        if self._text is not None:
            text, self._text = self._text, None
            self._note(text, courses, exactly="mget" in link.extensions)
        if now >= self._next:
            self._next = now + self._options.look * max(1.0, len(courses) / _MANY)
            if not self._open:
                self._open = True
                opaque = link.next_opaque()
                look = _Look(now + self._options.answer, self._done)
                link.send(opaque, look, encode(Stats("offsets", opaque)))
        return self._next

    def _done(self, text: bytes | None) -> None:
        self._open = False
        self._text = text
        self._answered()

    def _note(self, text: bytes, courses: Mapping[TopicPartition, Course], *, exactly: bool) -> None:
        for topic, partition, _, end in parse_offsets(text.decode("utf-8", "replace")):
            course = courses.get(TopicPartition(topic, partition))
            if course is not None:
                if exactly and end < course.end and course.master_end is not None and course.master_end < course.end:
                    self._shorter(course)
                course.master_end = end
