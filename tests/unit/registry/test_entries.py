"""The format of the registry's log: what was packed is read again, and nothing else is."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.registry.changes import Begin, Change, Internal, Nothing
from metaq.registry.entries import (
    FILE_HEADER_SIZE,
    ROUND_HEADER_SIZE,
    FileHeader,
    RoundHeader,
    pack_change,
    pack_file_header,
    pack_round,
    pack_seal,
    unpack_changes,
    unpack_file_header,
    unpack_round_header,
    unpack_seal,
)
from metaq.registry.jute import INT, Reader
from metaq.registry.requests import Auth, Multi, Op, Request, pack_fields, read_fields, read_request
from tests.unit.registry.strategies import CHANGES, REQUESTS

UINTS = st.integers(0, (1 << 64) - 1)
CRCS = st.integers(0, (1 << 32) - 1)
HEADERS = st.builds(FileHeader, UINTS, UINTS, UINTS, UINTS, UINTS, CRCS)


@given(REQUESTS)
def test_what_changes_the_registry_is_packed_as_it_is_read_off_the_wire(change: tuple[Op, Request]) -> None:
    op, request = change
    packed = pack_fields(op, request)
    assert read_request(INT.pack(7) + INT.pack(op) + packed) == (7, op, request)
    reader = Reader(packed)
    assert (read_fields(op, reader), reader.left) == (request, 0)


def test_what_changes_nothing_is_not_packed() -> None:
    with pytest.raises(TypeError, match="Auth changes nothing"):
        pack_fields(Op.MULTI, Multi([(Op.AUTH, Auth("digest", b""))]))


@given(st.lists(CHANGES, max_size=5))
def test_the_changes_of_a_round_are_read_as_they_were_packed(changes: list[Change]) -> None:
    packed = [pack_change(change) for change in changes]
    found = list(unpack_changes(b"".join(packed)))
    assert [change for _, change in found] == changes
    assert [position for position, _ in found] == [len(b"".join(packed[:count])) for count in range(len(changes))]


@given(st.lists(CHANGES, min_size=1, max_size=3), st.data())
def test_changes_that_were_altered_are_refused_or_are_changes(changes: list[Change], data: st.DataObject) -> None:
    payload = bytearray(b"".join(map(pack_change, changes)))
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = [change for _, change in unpack_changes(bytes(payload))]
    except ValueError:
        return
    assert [change for _, change in unpack_changes(b"".join(map(pack_change, found)))] == found


@given(CHANGES, st.data())
def test_a_round_that_ends_within_a_change_is_refused(change: Change, data: st.DataObject) -> None:
    whole = pack_change(change)
    with pytest.raises(ValueError, match=r"left at 0|length of|cannot be read"):
        list(unpack_changes(whole[: data.draw(st.integers(1, len(whole) - 1))]))


def test_what_is_wrong_with_a_change_is_said() -> None:
    start = pack_change(Change(1, 2, 3, Internal.START, Nothing()))
    unknown = struct.pack(">Iqqqi", 28, 1, 2, 3, 9)
    with pytest.raises(ValueError, match="the change at 32 cannot be read: its type is 9"):
        list(unpack_changes(start + unknown))
    more = struct.pack(">Iqqqi", 29, 1, 2, 3, Internal.START) + b"?"
    with pytest.raises(ValueError, match="1 bytes are left behind its fields"):
        list(unpack_changes(more))


def test_a_session_is_packed_as_drawn() -> None:
    packed = pack_change(Change(0x100000002, 1000, 5, Internal.BEGIN_SESSION, Begin(4000, b"secret")))
    assert packed == bytes.fromhex(
        "0000002a 0000000100000002 00000000000003e8 0000000000000005 fffffff6 00000fa0 00000006 736563726574"
    )


@given(HEADERS)
def test_a_file_header_is_read_as_it_was_packed(header: FileHeader) -> None:
    block = pack_file_header(header)
    assert (len(block), unpack_file_header(block)) == (FILE_HEADER_SIZE, header)


@given(HEADERS, st.integers(0, 56 - 1), st.integers(1, 255))
def test_a_file_header_that_was_altered_is_refused(header: FileHeader, position: int, mask: int) -> None:
    block = bytearray(pack_file_header(header))
    block[position] ^= mask
    with pytest.raises(ValueError, match="damaged"):
        unpack_file_header(bytes(block))


def test_a_file_header_says_what_is_wrong_with_it() -> None:
    with pytest.raises(ValueError, match="its header has 9 of 4096 bytes"):
        unpack_file_header(b"MZL1.....")


@given(UINTS, UINTS, st.binary(max_size=40), CRCS, st.binary(max_size=9))
def test_a_round_is_read_as_it_was_packed(nonce: int, sequence: int, payload: bytes, seed: int, before: bytes) -> None:
    packed, crc = pack_round(nonce, sequence, payload, seed)
    at = len(before)
    assert unpack_round_header(nonce, before + packed, at) == RoundHeader(sequence, len(payload), crc)
    assert packed[ROUND_HEADER_SIZE:] == payload
    assert unpack_round_header(nonce ^ 1, before + packed, at) is None
    assert unpack_round_header(nonce, before + packed[: ROUND_HEADER_SIZE - 1], at) is None


@given(UINTS, UINTS, st.integers(0, 15), st.integers(1, 255))
def test_a_seal_is_read_as_it_was_packed_and_in_no_other_form(
    nonce: int, sequence: int, position: int, mask: int
) -> None:
    seal = pack_seal(nonce, sequence)
    assert unpack_seal(nonce, b"." + seal, 1) == sequence
    assert unpack_seal(nonce ^ 1, seal, 0) is None
    assert unpack_seal(nonce, seal[:-1], 0) is None
    altered = bytearray(seal)
    altered[position] ^= mask
    assert unpack_seal(nonce, bytes(altered), 0) is None


def test_files_of_another_opening_place_or_past_seed_other_rounds() -> None:
    header = FileHeader(2, 3, 4, 8192, 17, 99)
    others = [
        header._replace(generation=3),
        header._replace(number=4),
        header._replace(nonce=5),
        header._replace(chain=98),
    ]
    assert len({header.seed(), *(each.seed() for each in others)}) == 5
