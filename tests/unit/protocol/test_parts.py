"""The parts of a reply to mget."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.errors import ProtocolError
from metaq.protocol.encoder import part_head
from metaq.protocol.parts import Part, read_parts
from tests.unit.protocol.strategies import bodies, statuses

long = st.integers(0, (1 << 63) - 1)
parts = st.lists(st.builds(Part, st.integers(0, 1023), statuses, long, bodies), max_size=5)


def packed(part: Part) -> bytes:
    return part_head(part.nth, part.status, part.base, len(part.data)) + part.data


@given(parts)
def test_what_was_packed_is_read_again(some: list[Part]) -> None:
    assert read_parts(b"".join(map(packed, some))) == some


@given(parts, st.binary(min_size=1, max_size=9) | st.just(b"0 200 0 -1\r\n") | st.just(b"0 200 0 5\r\nhell"))
def test_what_is_no_part_is_refused(some: list[Part], rest: bytes) -> None:
    data = b"".join(map(packed, some)) + rest
    with pytest.raises(ProtocolError, match="mget: "):
        read_parts(data)
