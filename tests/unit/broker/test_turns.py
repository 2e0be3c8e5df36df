"""Long answers leave the loop to others, and come one after the other."""

import asyncio
from collections.abc import Generator

import pytest

from metaq.broker.stats import Statistics
from metaq.broker.stats_text import PIECE, answer, answer_in_pieces
from metaq.broker.turns import Turns
from tests.unit.broker.test_stats import Broker, HandClock, Partition, section

STORED = [Partition(f"t{n % 7}", n // 7, 0, n, n, n) for n in range(4 * PIECE)]


def counting(steps: list[str], name: str, pieces: int) -> Generator[None, None, bytes]:
    for _ in range(pieces):
        steps.append(name)
        yield
    return name.encode()


async def test_others_have_their_turn_between_two_pieces_and_answers_are_made_one_after_the_other() -> None:
    turns, steps, bodies = Turns(), list[str](), list[bytes]()
    turns.add(counting(steps, "a", 3), bodies.append)
    turns.add(counting(steps, "b", 2), bodies.append)
    for _ in range(20):
        steps.append("loop")
        await asyncio.sleep(0)
    text = " ".join(steps)
    assert "a a" not in text and "b b" not in text
    assert [step for step in steps if step != "loop"] == ["a", "a", "a", "b", "b"]
    assert bodies == [b"a", b"b"]


async def test_an_answer_that_cannot_be_made_is_empty_and_the_next_one_is_made(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken() -> Generator[None, None, bytes]:
        yield
        raise ValueError("no figure")

    turns, steps, bodies = Turns(), list[str](), list[bytes]()
    turns.add(broken(), bodies.append)
    turns.add(counting(steps, "b", 1), bodies.append)
    for _ in range(6):
        await asyncio.sleep(0)
    assert bodies == [b"", b"b"]
    assert "no figure" in caplog.text


@pytest.mark.parametrize("item", ["", "offsets", "topics", "t3"])
async def test_statistics_of_many_partitions_are_made_in_pieces(item: str) -> None:
    statistics, broker = Statistics(HandClock(), lambda topic: True), Broker((section("t1"), section("x")), STORED)
    pieces, bodies = 0, list[bytes]()

    def counted() -> Generator[None, None, bytes]:
        nonlocal pieces
        made = answer_in_pieces(item, statistics, broker)
        while True:
            try:
                yield next(made)
            except StopIteration as end:
                body: bytes = end.value
                return body
            pieces += 1

    turns = Turns()
    turns.add(counted(), bodies.append)
    while not bodies:
        await asyncio.sleep(0)
    assert pieces >= (4 if item != "t3" else 0)
    assert bodies == [answer(item, statistics, broker)]


async def test_partitions_are_listed_by_topic_and_number() -> None:
    statistics, broker = Statistics(HandClock(), lambda topic: True), Broker(stored=STORED[::-1])
    lines = answer("offsets", statistics, broker).decode().split("\r\n")[1:-2]
    assert lines == [f"{p.topic} part {p.partition} min_offset 0 max_offset {p.end}" for p in sorted(STORED)]
