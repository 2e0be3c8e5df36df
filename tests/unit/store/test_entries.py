"""The journal's format: what is packed is unpacked, what is damaged is not taken for something else."""

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.store.entries import (
    FILE_HEADER_SIZE,
    ROUND_HEADER,
    Batch,
    Create,
    Cut,
    Drop,
    Entry,
    Epoch,
    Extent,
    FileHeader,
    Intent,
    Kind,
    Roll,
    RoundHeader,
    Run,
    Stamp,
    pack,
    pack_file_header,
    pack_round_header,
    pack_run_head,
    unpack,
    unpack_file_header,
    unpack_round_header,
)

ids = st.integers(0, 2**32 - 1)
offsets = st.integers(0, 2**63 - 1)
numbers = st.integers(0, 2**64 - 1)
signed = st.integers(-(2**31), 2**31 - 1)
stamps = st.none() | st.builds(Stamp, offsets, signed, offsets)
entries = st.one_of(
    st.builds(Run, ids, offsets, offsets, st.binary(max_size=40), stamps),
    st.builds(Extent, ids, offsets, offsets, ids, ids, stamps),
    st.builds(Create, ids, offsets, st.text(max_size=12), signed, st.text(max_size=12)),
    st.builds(Roll, ids, offsets),
    st.builds(Cut, ids, offsets),
    st.builds(Drop, ids),
    st.builds(Intent, ids, offsets),
    st.builds(Epoch, ids, signed, offsets),
    st.builds(Batch, ids, offsets, ids, ids, offsets, st.builds(Stamp, offsets, signed, offsets)),
)
headers = st.builds(FileHeader, numbers, numbers, numbers, st.binary(min_size=16, max_size=16), numbers)
rounds = st.builds(RoundHeader, numbers, numbers, st.integers(-(2**63), 2**63 - 1), ids, ids)


def plain(entry: Entry) -> Entry:
    return entry._replace(data=bytes(entry.data)) if isinstance(entry, Run) else entry


@given(st.lists(entries, max_size=6))
def test_what_is_packed_is_unpacked(written: list[Entry]) -> None:
    payload = b"".join(map(pack, written))
    assert [plain(entry) for entry in unpack(memoryview(payload))] == written


@given(st.lists(entries, min_size=1, max_size=4), st.data())
def test_a_payload_that_is_cut_is_an_error_or_ends_between_entries(written: list[Entry], data: st.DataObject) -> None:
    parts = list(map(pack, written))
    payload = b"".join(parts)
    cut = data.draw(st.integers(0, len(payload) - 1))
    between = {sum(map(len, parts[:count])) for count in range(len(parts))}
    try:
        list(unpack(memoryview(payload)[:cut]))
    except (struct.error, ValueError):
        assert cut not in between
    else:
        assert cut in between


@given(st.binary(max_size=60))
def test_any_payload_is_entries_or_one_of_two_errors(payload: bytes) -> None:
    with suppress(struct.error, ValueError):
        list(unpack(memoryview(payload)))


def test_the_head_of_the_hot_path_packs_the_same_bytes() -> None:
    run = Run(7, 100, 150, b"record")
    assert pack_run_head(Kind.RUN, 7, 100, 150, 6) + b"record" == pack(run)


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown entry kind 99"):
        list(unpack(memoryview(b"\x63")))


@given(headers)
def test_a_file_header_fills_its_block_and_is_read_back(header: FileHeader) -> None:
    block = pack_file_header(header)
    assert len(block) == FILE_HEADER_SIZE
    assert unpack_file_header(block) == header


@given(headers, st.integers(0, 59), st.integers(1, 255))
def test_a_damaged_file_header_is_none(header: FileHeader, position: int, flip: int) -> None:
    block = bytearray(pack_file_header(header))
    block[position] ^= flip
    assert unpack_file_header(bytes(block)) is None


@pytest.mark.parametrize("block", [b"", b"MQJ1", bytes(FILE_HEADER_SIZE)])
def test_a_file_never_begun_has_no_header(block: bytes) -> None:
    assert unpack_file_header(block) is None


@given(numbers, rounds)
def test_a_round_header_is_read_back_where_it_stands(nonce: int, header: RoundHeader) -> None:
    data = b"before" + pack_round_header(nonce, header)
    assert unpack_round_header(nonce, data, 6) == header
    assert unpack_round_header(nonce, data, 5) is None
    assert unpack_round_header(nonce, data, 7) is None


@given(numbers, rounds, st.integers(0, ROUND_HEADER.size - 1), st.integers(1, 255))
def test_a_damaged_round_header_is_none(nonce: int, header: RoundHeader, position: int, flip: int) -> None:
    data = bytearray(pack_round_header(nonce, header))
    data[position] ^= flip
    assert unpack_round_header(nonce, bytes(data), 0) is None


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), rounds)
def test_a_round_of_a_file_with_another_nonce_is_none(one: int, other: int, header: RoundHeader) -> None:
    found = unpack_round_header(other, pack_round_header(one, header), 0)
    assert found == (header if one == other else None)
