"""The 20-byte record: vectors of the original, and laws."""

import subprocess
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.errors import CorruptMessage
from metaq.record import (
    HEADER,
    HEADER_SIZE,
    Record,
    attribute_fits,
    checksum,
    crc32,
    decode_body,
    encode_body,
    pack,
    scan,
    validate,
    walk,
)
from tests.wire.vectors import CHECKSUMS, M1, M2, M3, M4

OLD_ID = -5468927324458057728
int64 = st.integers(-(1 << 63), (1 << 63) - 1)


def _record(id: int, flag: int, data: bytes, attribute: str | None) -> tuple[int, int, bytes]:
    """Return (id, flag, body), the flag with bits nobody knows in it."""
    known, body = encode_body(data, attribute)
    return id, known | flag << 1, body


records = st.builds(_record, int64, st.integers(0, 100), st.binary(max_size=30), st.none() | st.text(max_size=5))
runs = st.lists(records, max_size=5)


@pytest.mark.parametrize(("body", "expected"), CHECKSUMS)
def test_a_checksum_is_that_of_the_original(body: bytes, expected: int) -> None:
    assert checksum(body) == checksum(memoryview(body)) == expected


def test_records_are_packed_as_by_the_original() -> None:
    assert pack(9999, 0, b"hello") == M1
    assert pack(OLD_ID, *encode_body(b"hello", "attr")) == M2
    assert pack(1, 0, b"") == M3
    assert pack(9999, *encode_body(b"hello", "attribute")) == M4


def test_an_empty_attribute_is_not_an_absent_one() -> None:
    assert encode_body(b"hello", "") == (1, b"\0\0\0\0hello")
    assert decode_body(1, b"\0\0\0\0hello") == (b"hello", "")
    assert encode_body(b"hello") == (0, b"hello")
    assert decode_body(6, b"\0\0\0\0hello") == (b"\0\0\0\0hello", None)


def test_broken_utf_8_in_an_attribute_is_replaced() -> None:
    assert decode_body(1, b"\0\0\0\1\xffhello") == (b"hello", "\ufffd")


def test_whole_records_are_walked_and_a_cut_last_one_is_left_out() -> None:
    both = [Record(0, 9999, 0, b"hello"), Record(25, OLD_ID, 1, b"\0\0\0\4attrhello")]
    assert list(walk(M1 + M2)) == both
    assert list(walk((M1 + M2)[:40])) == both[:1]
    for cut in (M1[:19], M1[:24], b"", HEADER.pack(20, 0, 0, 0)):
        assert list(walk(cut)) == []
    assert list(walk(M3)) == [Record(0, 1, 0, b"")]


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (M1[:-1] + b"0", "record at 25 of 5 bytes fails its checksum"),
        (HEADER.pack(-1, 0, 1, 0), "record at 25 has a length of -1"),
        (pack(1, 1, b"abc"), "record at 25 of 3 bytes has an attribute that does not fit"),
        (pack(1, 1, b"\0\0\0\2a"), "record at 25 of 5 bytes has an attribute that does not fit"),
        (pack(1, 3, b"\xff\xff\xff\xffa"), "record at 25 of 5 bytes has an attribute that does not fit"),
    ],
)
def test_a_corrupt_record_is_named_after_those_before_it(bad: bytes, text: str) -> None:
    walker = walk(M1 + bad + M2)
    assert next(walker).body == b"hello"
    with pytest.raises(CorruptMessage, match=text):
        next(walker)


def test_a_body_without_the_attribute_it_announces_is_corrupt() -> None:
    assert not attribute_fits(1, b"hello")
    with pytest.raises(CorruptMessage):
        decode_body(1, b"hello")


def test_the_scan_ends_at_the_first_thing_that_is_no_record() -> None:
    good = M1 + M2 + M3
    for tail in (b"", M1[:19], M1[:24], bytes(20), bytes(4096), M1[:-1] + b"0" + M1, HEADER.pack(-1, 0, 1, 0) + M1):
        assert scan(good + tail) == len(good)
    assert scan(memoryview(good)) == len(good)
    assert scan(bytes(100)) == 0


def test_the_scan_keeps_records_whose_attribute_is_wrong_as_the_original_stored_them() -> None:
    assert scan(pack(1, 1, b"hello") + M1) == 50


def test_a_run_is_valid_only_from_end_to_end() -> None:
    assert validate(M1 + M2 + M3 + M4) == 4
    assert validate(b"") == 0
    for bad in (M1 + b"x", M1 + M2[:-1], M1 + bytes(20), pack(1, 1, b"hello"), M1[:-1] + b"0"):
        with pytest.raises(CorruptMessage):
            validate(bad)


@given(runs, st.integers(0, 200))
def test_what_is_packed_is_walked_again_wherever_it_is_cut(run: list[tuple[int, int, bytes]], cut: int) -> None:
    packed = [pack(*record) for record in run]
    data = b"".join(packed)
    assert [(id, flag, body) for _, id, flag, body in walk(data)] == run
    part = data[:cut]
    whole = list(walk(part))
    assert [record[1:] for record in whole] == run[: len(whole)]
    end = sum(map(len, packed[: len(whole)]))
    assert end <= len(part) and (len(whole) == len(run) or end + len(packed[len(whole)]) > len(part))


@given(runs, st.binary(max_size=60))
def test_the_scan_stays_within_the_data_and_on_a_boundary(run: list[tuple[int, int, bytes]], tail: bytes) -> None:
    good = b"".join(pack(*record) for record in run if pack(*record)[:HEADER_SIZE] != bytes(HEADER_SIZE))
    end = scan(good + tail)
    assert len(good) <= end <= len(good + tail)
    assert scan(good + tail[: end - len(good)]) == end


@given(st.binary(max_size=80))
def test_any_bytes_are_records_or_corrupt(data: bytes) -> None:
    try:
        found = list(walk(data))
    except CorruptMessage:
        return
    assert sum(HEADER_SIZE + len(record.body) for record in found) <= len(data)


@given(st.binary(max_size=30), st.none() | st.text(max_size=8))
def test_a_body_is_taken_apart_as_it_was_put_together(data: bytes, attribute: str | None) -> None:
    assert decode_body(*encode_body(data, attribute)) == (data, attribute)


def test_without_the_faster_library_checksums_are_zlibs() -> None:
    program = """
import sys, zlib
sys.modules["zlib_ng"] = None  # as if it were not installed
from metaq.record import checksum, crc32
assert crc32 is zlib.crc32
print(checksum(b"hello"), crc32(b"lo", crc32(b"hel")) & 0x7FFFFFFF)
"""
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert found.stdout.split() == [str(checksum(b"hello"))] * 2


@given(st.binary(), st.integers(0, 2**32 - 1))
def test_checksums_are_those_of_zlib_whichever_library_makes_them(data: bytes, start: int) -> None:
    assert crc32(data, start) == zlib.crc32(data, start)
