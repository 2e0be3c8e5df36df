"""When a slave asks again for partitions in use."""

from itertools import pairwise
from typing import cast

import pytest

from metaq.model import TopicPartition
from metaq.net.calls import Call
from metaq.net.link import Link
from metaq.protocol.commands import Value
from metaq.protocol.encoder import part_head
from metaq.replication.course import Course, Queue
from metaq.replication.options import FollowerOptions
from metaq.replication.polling import Polling
from metaq.replication.questions import Question


class Line:
    """Takes the place of a link to a master of ours."""

    extensions = frozenset({"mget"})

    def __init__(self) -> None:
        self.sent: list[Question] = []

    def next_opaque(self) -> int:
        return len(self.sent)

    def send(self, opaque: int, call: Call, frame: bytes) -> None:
        assert isinstance(call, Question)
        self.sent.append(call)


class Asking:
    """Partitions in use, and how often they were asked for."""

    def __init__(self, partitions: int = 2) -> None:
        self.ready = Queue()
        self.line = Line()
        self.polling = Polling(FollowerOptions(group="slave"), self.ready, lambda _: None)
        self.courses = [Course(TopicPartition("test", n)) for n in range(partitions)]
        for course in self.courses:
            course.begin(100.0, 0, has_records=False)
            self.ready.add(course)

    def ask(self, now: float) -> float | None:
        return self.polling.ask(cast(Link, self.line), now, lambda course: course.copy.may_ask())

    def answered(self, messages: int, answer: bytes = b"", nth: int = -1) -> None:
        """Have the last question answered, or another; so many messages came with it."""
        question = self.line.sent[nth]
        question.answer(Value(answer, 0))
        self.polling.over(question)
        found = list(question.found())
        if question.is_full:
            self.polling.hurry()
        for each in found:
            course, ask = each.line
            course.copy.nothing(ask)
            self.ready.add(course)
        self.polling.came += messages


@pytest.mark.parametrize(("messages", "pause"), [(1, 0.001), (40, 0.004), (5000, 0.05)])
def test_the_more_comes_the_longer_is_the_pause_before_the_next_question(messages: int, pause: float) -> None:
    asking = Asking()
    asking.ask(100.0)
    asking.answered(messages)
    asking.ask(100.1)
    asking.answered(messages)
    assert asking.ask(100.1 + pause * 0.9) == pytest.approx(100.1 + pause)
    assert len(asking.line.sent) == 2
    assert asking.ask(100.1 + pause * 1.1) is None
    assert len(asking.line.sent) == 3


def test_there_is_no_pause_after_an_answer_that_had_no_room_for_all() -> None:
    asking = Asking()
    asking.ask(100.0)
    asking.answered(5000)
    asking.ask(100.1)
    asking.answered(5000, part_head(0, 200, 0, 1 << 17) + bytes(1 << 17))
    assert asking.ask(100.1) is None
    assert len(asking.line.sent) == 3
    asking.answered(5000)
    asking.ask(100.2)
    asking.answered(5000, part_head(1, 200, 0, 1 << 17) + bytes(1 << 17))  # the last was there
    assert asking.ask(100.2) == pytest.approx(100.25)


def test_a_pause_is_the_same_after_one_question_and_after_several() -> None:
    asking = Asking(1025)
    asking.ask(100.0)
    asking.answered(5000)
    asking.answered(0, nth=-2)
    asking.ask(100.1)
    assert len(asking.line.sent) == 4
    asking.answered(0)
    assert asking.ask(100.11) == pytest.approx(100.15)


def test_a_java_master_that_has_nothing_is_left_alone_for_longer_and_longer_up_to_the_limit() -> None:
    course = Course(TopicPartition("test", 0))
    for _ in range(2):
        pauses = [course.pause(0.5) for _ in range(60)]
        assert pauses[0] < 0.005
        assert all(before < after for before, after in pairwise(pauses[:20]))
        assert pauses[-1] == max(pauses) == 0.5
        assert sum(pauses[: pauses.index(0.5)]) < 3  # seconds until it is asked as seldom as that
        course.came(100.0)  # from here on it is asked often again
