"""Records as a producer packs them: checked, and given their ids."""

from contextlib import suppress
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from metaq.broker.packed import starts_of, with_ids
from metaq.errors import BadRequest, CorruptMessage, MessageTooLarge
from metaq.record import HEADER, HEADER_SIZE, pack, walk

LIMIT: Final = 200
FIRST: Final = (1 << 62) - 300  # the ids after it differ in two bytes

bodies = st.binary(max_size=40)
records = st.builds(pack, st.integers(-(2**63), 2**63 - 1), st.sampled_from([0, 2, -2]), bodies)
attributed = st.builds(
    lambda text, body: pack(0, 1, len(text).to_bytes(4, "big") + text + body), st.binary(max_size=5), bodies
)
alike = st.builds(lambda body, count: [pack(0, 0, body)] * count, bodies, st.integers(1, 600))


@given(st.lists(records | attributed, min_size=1, max_size=40) | alike)
def test_records_keep_all_but_their_ids_which_follow_one_by_one(made: list[bytes]) -> None:
    sent = b"".join(made)
    starts = starts_of(sent, len(made), LIMIT)
    assert list(starts) == [record.position for record in walk(sent)]
    given_ = with_ids(sent, starts, FIRST)
    expected = [(FIRST + n, record.flag, record.body) for n, record in enumerate(walk(sent))]
    assert [(record.id, record.flag, record.body) for record in walk(given_)] == expected
    assert len(expected) == len(made) and len(given_) == len(sent)


@given(st.lists(records | attributed, max_size=6), st.data())
@example([pack(0, 0, b"ab"), pack(0, 0, b"cd")], None)
def test_any_bytes_are_whole_valid_records_or_refused(made: list[bytes], data: st.DataObject | None) -> None:
    sent = bytearray(b"".join(made))
    if data is not None and sent:
        at = data.draw(st.integers(0, len(sent) - 1))
        sent[at] ^= data.draw(st.integers(0, 255))
        del sent[data.draw(st.integers(0, len(sent))) :]
    for count in range(1, 8):
        with suppress(BadRequest, MessageTooLarge):
            starts_of(bytes(sent), count, LIMIT)
            found = list(walk(bytes(sent)))
            assert len(found) == count
            assert found[-1].position + HEADER_SIZE + len(found[-1].body) == len(sent)


@given(st.binary(max_size=100), st.integers(1, 5))
def test_what_is_refused_is_no_run_of_so_many_records(sent: bytes, count: int) -> None:
    try:
        starts_of(sent, count, LIMIT)
    except BadRequest:
        try:
            found = list(walk(sent))
        except CorruptMessage:
            return
        whole = sum(HEADER_SIZE + len(record.body) for record in found)
        assert len(found) != count or whole != len(sent)


@pytest.mark.parametrize("count", [1, 2, 40])
def test_a_body_over_the_limit_is_refused_as_too_large(count: int) -> None:
    with pytest.raises(MessageTooLarge, match="message of 201 bytes is larger than the limit of 200"):
        starts_of(pack(0, 0, b"x" * 201) * count, count, LIMIT)
    assert len(starts_of(pack(0, 0, b"x" * 200) * count, count, LIMIT)) == count


def test_lengths_that_differ_and_add_up_to_equal_ones_are_seen() -> None:
    sent = pack(0, 0, b"abc") + pack(0, 0, b"a") + pack(0, 0, b"abcde")
    assert list(starts_of(sent, 3, LIMIT)) == [0, 23, 44]
    assert [record.id for record in walk(with_ids(sent, starts_of(sent, 3, LIMIT), 9))] == [9, 10, 11]
    assert HEADER.unpack_from(with_ids(sent, [0, 23, 44], 9), 44)[2] == 11
