"""Records are found by their headers, and pieces are never cut within one."""

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.broker.stamps import stamped
from metaq.errors import BadRequest
from metaq.model import TopicPartition
from metaq.protocol.parts import Stamped
from metaq.record import HEADER_SIZE, pack
from metaq.replication.pair.records import check_stamps, contents, first_size, pieces, places, unbroken, whole
from metaq.store.entries import Batch, Stamp
from metaq.store.log import PartitionLog
from metaq.store.replicating import Run

LOG = cast(PartitionLog, TopicPartition("test", 0))  # nothing is asked of it here

runs = st.lists(st.binary(max_size=60), max_size=8).map(lambda bodies: [pack(7, 0, body) for body in bodies])


@given(runs, st.integers(1, 200))
def test_pieces_are_whole_records_and_together_the_run(records: list[bytes], most: int) -> None:
    data = b"".join(records)
    cut = list(pieces(Run(LOG, 0, 500, data), most))
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


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans()), max_size=8), st.integers(1, 200))
def test_pieces_end_where_batches_end(parts: list[tuple[int, bool]], most: int) -> None:
    data, batches, ends = b"", list[Batch](), {500}
    for count, is_stamped in parts:
        records = b"".join(pack(7, 0, b"x" * (9 * n)) for n in range(count))
        if is_stamped:
            batches.append(Batch(1, 500 + len(data), len(records), count, 7, Stamp(3, 0, len(batches))))
        else:
            ends |= {500 + len(data) + place.end for place in places(records)}
        data += records
        ends.add(500 + len(data))
    at = 500
    for piece in pieces(Run(LOG, 0, 500, data, batches), most):
        assert at in ends
        at += len(piece)
    assert at == 500 + len(data)


BATCH = pack(7, 0, b"one") + pack(8, 0, b"two!")  # 23 and 24 bytes
LIES = [
    Stamped(1, 0, 0, 600, 47, 2, 8),
    Stamped(1, 0, 0, 600, 47, 3, 7),
    Stamped(1, 0, 0, 600, 46, 2, 7),
    Stamped(1, 0, 0, 601, 46, 2, 7),
    Stamped(1, 0, 0, 600, 48, 2, 7),
    Stamped(1, 0, 0, 553, 47, 2, 7),
]


def test_stamps_are_believed_only_where_the_records_are_as_they_say() -> None:
    check_stamps([Stamped(1, 0, 0, 600, 47, 2, 7)], BATCH, 600)
    check_stamps([Stamped(1, 0, 0, 600, 23, 1, 7), Stamped(2, 0, 0, 623, 24, 0, 0)], BATCH, 600)
    check_stamps([Stamped(1, 0, 0, 553, 70, 4, 5)], BATCH, 600)  # its first records came before
    for lie in LIES:
        with pytest.raises(BadRequest, match="Stamped"):
            check_stamps([lie], BATCH, 600)


def test_of_a_batch_that_is_cut_nothing_is_taken() -> None:
    whole_one, cut_one = Stamped(1, 0, 0, 600, 23, 1, 7), Stamped(1, 0, 1, 623, 24, 1, 8)
    assert unbroken(BATCH, 600, [whole_one, cut_one]) == 47
    assert unbroken(BATCH[:46], 600, [whole_one, cut_one]) == 23
    assert unbroken(BATCH[:46], 600, [Stamped(1, 0, 0, 600, 47, 2, 7)]) == 0
    assert stamped(Batch(1, 600, 23, 1, 7, Stamp(1, 0, 0))) == whole_one
