"""How far a partition is dealt with, against a list of what is and what is not."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from metaq.client.consuming.progress import Progress
from metaq.client.message import Message
from metaq.cluster.znodes import Position

SIZE = 25


def message(n: int) -> Message:
    return Message("t", "0-0", SIZE * n, 100 + n, 0, b"12345")


def steps() -> st.SearchStrategy[list[tuple[str, int]]]:
    words = st.sampled_from(["begin", "finish", "finish", "finish", "reach"])
    return st.lists(st.tuples(words, st.integers(0, 30)), max_size=80)


@given(steps())
def test_the_position_is_before_the_first_message_that_is_not_dealt_with(steps: Sequence[tuple[str, int]]) -> None:
    progress = Progress(Position(99, 0))
    begun, dealt = 0, 0  # how many have begun; all before `dealt` are dealt with
    finished: set[int] = set()
    for word, number in steps:
        before = progress.position
        if word == "begin":
            progress.begin([message(n) for n in range(begun, begun + number % 4)])
            begun += number % 4
        elif word == "finish" and begun:
            progress.finish(message(number % begun))
            finished.add(number % begun)
        elif word == "reach":
            progress.reach(message(number).id, message(number).next_offset)
            dealt = max(dealt, number + 1)
            begun = max(begun, dealt)
        while dealt in finished and dealt < begun:
            dealt += 1
        assert progress.position == Position(99 + dealt, SIZE * dealt)
        assert progress.position.offset >= before.offset
        assert progress.pending <= begun - dealt
        assert len(progress._done) <= progress.pending  # what is behind the position is forgotten


def test_a_message_acknowledged_by_its_handler_is_not_remembered_when_it_returns() -> None:
    progress = Progress(Position(99, 0))
    for n in range(1000):
        progress.begin([message(n)])
        progress.reach(message(n).id, message(n).next_offset)
        progress.finish(message(n))
    assert (progress.pending, len(progress._done)) == (0, 0)
    assert progress.position == Position(100 + 999, 1000 * SIZE)
