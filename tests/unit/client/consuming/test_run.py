"""What is handed out of one fetched run, and what counts as dealt with, whatever comes between."""

from collections.abc import Callable
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.client.consuming.progress import Progress
from metaq.client.consuming.run import Run
from metaq.client.consuming.stream import Stream
from metaq.client.message import Block, Message, read_run
from metaq.cluster.znodes import Position
from metaq.record import HEADER_SIZE, pack

BASE = 1000


class Part:
    """Stands for the stream of a partition."""

    def __init__(self) -> None:
        self.progress = Progress(Position(-1, BASE))
        self.freed = 0
        self.rewound = 0

    def free(self) -> None:
        self.freed += 1

    def rewind(self) -> None:
        self.rewound += 1


def block_of(sizes: list[int], corrupt: int | None = None) -> Block:
    data = bytearray()
    for n, size in enumerate(sizes):
        if n == corrupt:
            data += pack(n, 0, bytes([n % 250]) * (size + 1))
            data[-1] ^= 0xFF
        else:
            data += pack(n, 0, bytes([n % 250]) * size)
    return read_run("t", "0-0", BASE, bytes(data), 1 << 20).messages


def offsets_of(sizes: list[int]) -> list[int]:
    offsets = [BASE]
    for size in sizes:
        offsets.append(offsets[-1] + HEADER_SIZE + size)
    return offsets


def run_of(part: Part, block: Block, accepts: Callable[[Message], bool] | None = None, *, acks: bool = True) -> Run:
    return Run(cast(Stream, part), block, acks=acks, accepts=accepts)


def take_one(run: Run) -> Message | None:
    if not run.more():
        return None
    for message in run.rest:
        return message
    return None


runs = st.lists(st.sampled_from([0, 3, 3, 3, 3, 50]), min_size=1, max_size=400)
acts = st.lists(st.tuples(st.sampled_from(["one", "one", "part", "settle"]), st.integers(1, 90)), max_size=60)


@given(runs, acts, st.integers(1, 5))
def test_the_position_follows_what_was_handed_out_and_stays_before_the_last(
    sizes: list[int], acts: list[tuple[str, int]], every: int
) -> None:
    part = Part()
    offsets = offsets_of(sizes)
    wanted = [n for n in range(len(sizes)) if n % every == 0]
    run = run_of(part, block_of(sizes), None if every == 1 else lambda m: m.id % every == 0)
    seen: list[int] = []
    taken_at: int | None = None  # how many had been handed out before the part that is in hand
    for act, number in acts:
        if act == "one" and taken_at is None:
            message = take_one(run)
            seen += [] if message is None else [message.id]
        elif act == "part":
            got = [m.id for m in run.take(number)]
            assert len(got) <= number
            taken_at = len(seen) if got else taken_at
            seen += got
        run.settle()
        assert seen == wanted[: len(seen)]
        if seen:
            first = len(seen) - 1 if taken_at is None else taken_at  # of those in hand
            assert part.progress.position.offset <= offsets[wanted[first]]
            assert part.progress.position.offset >= offsets[wanted[max(first - 1, 0)]]
    if not run.more():
        run.finish()
        assert part.progress.position.offset == offsets[-1]


@given(runs, acts, st.sampled_from(["finish", "rewind", "pause"]), st.integers(1, 4))
def test_what_is_stopped_ends_behind_what_was_handed_out(
    sizes: list[int], acts: list[tuple[str, int]], end: str, every: int
) -> None:
    part = Part()
    offsets = offsets_of(sizes)
    run = run_of(part, block_of(sizes), None if every == 1 else lambda m: m.id % every == 0)
    seen: list[int] = []
    before = BASE
    for act, number in acts:
        if act == "part":
            got = [m.id for m in run.take(number)]
            if got:
                before = offsets[got[0]]
            seen += got
    behind = offsets[seen[-1] + 1] if seen else BASE
    run.settle()
    if end == "pause":
        again = run.pause()
        assert again is not None
        assert again == behind
        assert run.pause() is None
    else:
        run.stop()
        run.stop()
    assert take_one(run) is None
    assert run.take(5) == []
    if end == "rewind":
        run.rewind()
        run.finish()
        assert part.progress.position.offset <= before or not seen
        assert part.rewound == bool(seen)
    else:
        run.finish()
        assert part.progress.position.offset == behind


@given(runs, st.integers(1, 100), st.integers(1, 100), st.integers(1, 4))
def test_what_was_taken_together_is_handed_out_again_after_rewinding(
    sizes: list[int], first: int, second: int, every: int
) -> None:
    part = Part()
    run = run_of(part, block_of(sizes), None if every == 1 else lambda m: m.id % every == 0)
    run.take(first)
    once = run.take(second)
    for _ in range(2):
        run.rewind()
        if once:
            run.settle()
            assert part.progress.position.offset <= once[0].offset
            assert run.take(second) == once
    assert part.rewound == 0


@given(runs, st.data())
def test_a_corrupt_record_ends_a_run_before_it(sizes: list[int], data: st.DataObject) -> None:
    corrupt = data.draw(st.integers(0, len(sizes) - 1))
    sizes[corrupt] = max(sizes[corrupt], 1)
    block = block_of(sizes, corrupt)
    if not block:  # it is the first one
        return
    part = Part()
    run = run_of(part, block)
    seen = []
    while (message := take_one(run)) is not None:
        seen.append(message.id)
    assert seen == list(range(corrupt))
    run.finish()
    assert part.progress.position.offset == offsets_of(sizes)[corrupt] == block.end
    assert block.error is not None


def test_what_came_later_of_a_partition_counts_only_once_what_came_before_is_dealt_with() -> None:
    part = Part()
    sizes = [3] * 10
    first = run_of(part, block_of(sizes))
    data = b"".join(pack(n, 0, b"abc") for n in range(9))
    second = run_of(part, read_run("t", "0-0", first._block.end, data, 99).messages)
    second.earlier = first
    first.take(100)
    second.take(4)
    second.take(4)
    for run in (second, first, second):
        run.settle()
    assert part.progress.position.offset == BASE
    first.finish()
    second.settle()
    assert part.progress.position.offset == first._block.end + 4 * 23
    second.take(4)
    second.finish()
    assert part.progress.position.offset == first._block.end + 9 * 23


def four_runs(part: Part) -> list[Run]:
    """Return runs of a partition that follow each other, of which nothing of the second is wanted."""
    runs: list[Run] = []
    for n in range(4):
        data = b"".join(pack(10 * n + k, 0, b"abc") for k in range(10))
        start = runs[-1]._block.end if runs else BASE
        block = read_run("t", "0-0", start, data, 99).messages
        runs.append(run_of(part, block, lambda m: m.id // 10 != 1))
        runs[-1].earlier = runs[-2] if n else None
        if not runs[-1].take(100):
            runs[-1].pass_over()
        assert not runs[-1].more()
    return runs


@pytest.mark.parametrize("is_stopped", [False, True])
def test_nothing_is_dealt_with_that_came_later_than_what_was_given_back_unseen(is_stopped: bool) -> None:
    part = Part()
    runs = four_runs(part)
    for run in runs:
        if is_stopped:
            run.stop()
        run.rewind()
    for run in runs:
        run.settle()
        run.finish()
    assert part.progress.position.offset == BASE


def test_nor_what_came_later_than_what_was_handed_out_again_in_part() -> None:
    part = Part()
    runs = four_runs(part)
    for run in runs:
        run.rewind()
    assert len(runs[0].take(4)) == 4
    for run in runs:
        run.settle()
        run.stop()
    for run in runs:
        run.finish()
    assert part.progress.position.offset == BASE + 4 * 23


def test_runs_that_are_handed_out_to_the_end_and_stopped_then_are_dealt_with_one_after_the_other() -> None:
    part = Part()
    runs = four_runs(part)
    for run in runs:
        run.stop()
    for run in runs:
        run.finish()
        assert part.progress.position.offset == run._block.end


def test_a_run_lets_the_next_one_come_once() -> None:
    part = Part()
    run = run_of(part, block_of([3]))
    run.release()
    run.release()
    assert part.freed == 1


def test_a_run_of_which_nothing_is_wanted_is_dealt_with_and_holds_no_messages() -> None:
    part = Part()
    sizes = [100] * 50
    run = run_of(part, block_of(sizes), lambda _: False)
    assert run.take(10) == []
    run.pass_over()
    assert not run._block._data
    run.settle()
    run.finish()
    assert part.progress.position.offset == offsets_of(sizes)[-1]


def test_without_acknowledging_nothing_moves() -> None:
    part = Part()
    run = run_of(part, block_of([3] * 5), acks=False)
    while take_one(run):
        run.settle()
    run.finish()
    assert part.progress.position.offset == BASE
