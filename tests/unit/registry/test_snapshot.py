"""Snapshots: what was packed is read again, in pieces that take no time, and nothing else is read."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.registry.entries import Mark
from metaq.registry.paths import parent_of
from metaq.registry.requests import ANYBODY, Acl
from metaq.registry.snapshot import HEADER_SIZE, Capture, decode, decode_mark, encode
from metaq.registry.state import Session, State
from metaq.registry.tree import NO_CHILDREN, Znode
from tests.unit.registry.strategies import DATA, INTS, LONGS

SIZES = st.integers(0, (1 << 64) - 1)
MARKS = st.builds(Mark, SIZES, SIZES, SIZES, st.integers(0, (1 << 32) - 1))
SESSIONS = st.dictionaries(LONGS, st.builds(Session, INTS, st.binary(max_size=20)), max_size=4)
NUMBERS = st.tuples(*[LONGS] * 6, *[st.integers(0, 1 << 40)] * 3)
ACLS = st.sampled_from([(), (ANYBODY,), (Acl(-1, "digest", "ü:hash"), ANYBODY)])
NODES = st.tuples(DATA, ACLS, NUMBERS).map(lambda drawn: Znode(drawn[0], drawn[1], *drawn[2]))
PATHS = st.sets(st.sampled_from(["/a", "/ü", "/a/b", "/a/ü"]))


@st.composite
def captures(draw: st.DrawFn) -> Capture:
    """Make a capture in which every node has its parent."""
    paths = {"/"}
    for path in draw(PATHS):
        while path not in paths:
            paths.add(path)
            path = parent_of(path)  # noqa: PLW2901 - up to one that is there
    return Capture(draw(LONGS), draw(SESSIONS), {path: draw(NODES) for path in draw(st.permutations(sorted(paths)))})


def plain(state: State) -> Capture:
    nodes = {path: replace(node, children=NO_CHILDREN) for path, node in state.tree.nodes.items()}
    return Capture(state.zxid, state.sessions, nodes)


@given(captures(), MARKS)
def test_a_snapshot_is_read_as_it_was_packed(capture: Capture, mark: Mark) -> None:
    data = b"".join(encode(capture, mark))
    state, found = decode(data)
    assert (plain(state), found) == (capture, mark)
    assert decode_mark(data[:HEADER_SIZE]) == (mark, capture.zxid, len(capture.sessions), len(capture.nodes))


@given(captures(), MARKS, st.data())
def test_a_snapshot_that_was_altered_cut_or_continued_is_refused(
    capture: Capture, mark: Mark, data: st.DataObject
) -> None:
    whole = b"".join(encode(capture, mark))
    position = data.draw(st.integers(0, len(whole) - 1))
    altered = bytearray(whole)
    altered[position] ^= data.draw(st.integers(1, 255))
    for broken in (bytes(altered), whole[:position], whole + b"\0"):
        with pytest.raises(ValueError, match=r"damaged|version|has \d+ of|ends at|behind its end"):
            decode(broken)


def test_many_nodes_and_large_ones_come_in_small_pieces() -> None:
    node = Znode(b"x", (ANYBODY,), 0, 0, 0, 0, 0, 0)
    nodes = {"/": node, **{f"/{number}": node for number in range(1000)}}
    nodes |= {f"/large{number}": replace(node, data=bytes(50_000)) for number in range(10)}
    pieces = list(encode(Capture(1, {}, nodes), Mark(1, 4096, 1, 1)))
    assert len(pieces) > 8
    assert max(map(len, pieces)) < 130_000
    assert plain(decode(b"".join(pieces))[0]).nodes == nodes


def test_a_snapshot_with_a_node_that_has_no_parent_is_refused() -> None:
    node = Znode(b"x", (ANYBODY,), 0, 0, 0, 0, 0, 0)
    with pytest.raises(ValueError, match="node /a/b has no parent"):
        decode(b"".join(encode(Capture(1, {}, {"/": node, "/a/b": node}), Mark(1, 4096, 1, 1))))
