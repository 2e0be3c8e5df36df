"""Records are found by their headers, and pieces are never cut within one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.errors import BadRequest
from metaq.record import HEADER_SIZE, pack
from metaq.replication.pair.records import contents, first_size, pieces, places, whole

runs = st.lists(st.binary(max_size=60), max_size=8).map(lambda bodies: [pack(7, 0, body) for body in bodies])


@given(runs, st.integers(1, 200))
def test_pieces_are_whole_records_and_together_the_run(records: list[bytes], most: int) -> None:
    data = b"".join(records)
    cut = list(pieces(data, most))
    assert b"".join(cut) == data
    assert all(whole(piece) == len(piece) for piece in cut)
    assert all(len(piece) <= most or len(list(places(piece))) == 1 for piece in cut)


@given(runs, st.binary(max_size=19))
def test_a_run_that_is_cut_ends_with_its_last_whole_record(records: list[bytes], rest: bytes) -> None:
    data = b"".join(records)
    assert whole(data + rest) == len(data)
    assert first_size(data) == (len(records[0]) if records else 0)


def test_a_piece_with_a_wrong_checksum_or_a_cut_record_is_refused() -> None:
    good = pack(5, 0, b"one") + pack(9, 0, b"two")
    assert contents(good) == (2, 9)
    with pytest.raises(BadRequest, match="checksum"):
        contents(good[: HEADER_SIZE + 2] + b"X" + good[HEADER_SIZE + 3 :])
    with pytest.raises(BadRequest, match="after the last whole record"):
        contents(good[:-1])
