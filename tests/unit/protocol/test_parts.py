"""The parts of a reply to mget."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.errors import ProtocolError
from metaq.protocol.encoder import part_head
from metaq.protocol.parts import Part, Stamped, pack_stamps, read_parts
from tests.unit.protocol.strategies import bodies, statuses

long = st.integers(0, (1 << 63) - 1)
int32 = st.integers(0, (1 << 31) - 1)


@st.composite
def stamps(draw: st.DrawFn) -> tuple[Stamped, ...]:
    """Draw batches that stand one behind the other, with gaps."""
    found, end = [], 0
    for gap, length in draw(st.lists(st.tuples(int32, st.integers(20, 1 << 20)), max_size=3)):
        numbers = draw(st.tuples(st.integers(1, (1 << 63) - 1), int32, long))
        found.append(Stamped(*numbers, end + gap, length, draw(int32), draw(st.integers(-(1 << 63), (1 << 63) - 1))))
        end += gap + length
    return tuple(found)


parts = st.lists(st.builds(Part, st.integers(0, 1023), statuses, long, bodies, stamps()), max_size=5)


def packed(part: Part) -> bytes:
    head = part_head(part.nth, part.status, part.base, len(part.data), len(part.stamps))
    return head + part.data + pack_stamps(part.stamps)


@given(parts)
def test_what_was_packed_is_read_again(some: list[Part]) -> None:
    assert read_parts(b"".join(map(packed, some))) == some


@given(parts, st.binary(min_size=1, max_size=9) | st.just(b"0 200 0 -1\r\n") | st.just(b"0 200 0 5\r\nhell"))
def test_what_is_no_part_is_refused(some: list[Part], rest: bytes) -> None:
    data = b"".join(map(packed, some)) + rest
    with pytest.raises(ProtocolError, match="mget: "):
        read_parts(data)


@pytest.mark.parametrize(
    "wrong",
    [
        {"producer": 0},
        {"epoch": -1},
        {"sequence": -1},
        {"record_count": -1},
        {"length": 19},
        {"offset": -1},
        {"offset": 119},
    ],
)
def test_stamps_that_are_none_are_refused(wrong: dict[str, int]) -> None:
    """The one before ends at 120."""
    right = Stamped(7, 0, 1, 120, 20, 1, 5)
    for some in (pack_stamps([right]), pack_stamps([right._replace(offset=100), right])):
        assert read_parts(part_head(0, 200, 0, 2, len(some) // 44) + b"ab" + some)[0].stamps[-1] == right
    with pytest.raises(ProtocolError, match="is no stamp"):
        some = pack_stamps([right._replace(offset=100), right._replace(**wrong)])
        read_parts(part_head(0, 200, 0, 2, 2) + b"ab" + some)


@given(bodies)
def test_long_data_is_not_copied_unless_much_else_would_be_kept_with_it(other: bytes) -> None:
    much = bytes(64 << 10)
    for some, is_view in (((much, other), True), ((much, other + much + b"1"), False), ((much[1:],), False)):
        reply = b"".join(packed(Part(nth, 200, 0, data)) for nth, data in enumerate(some))
        first = read_parts(reply)[0].data
        assert first == some[0]
        assert isinstance(first, memoryview) is is_view
