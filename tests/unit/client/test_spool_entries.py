"""The files of a spool, byte by byte."""

from hypothesis import given
from hypothesis import strategies as st

from metaq.client.spool.entries import (
    entry_size,
    folder_name,
    pack_entry,
    pack_mark,
    read_entries,
    read_mark,
    segment_first,
    segment_name,
)

indices = st.integers(0, (1 << 64) - 1000)
items = st.lists(st.binary(max_size=40), max_size=6)


def packed(index: int, many: list[bytes]) -> bytes:
    return b"".join(pack_entry(index + number, item) for number, item in enumerate(many))


@given(indices, items, st.binary(max_size=30))
def test_entries_are_read_as_they_were_written_whatever_follows(index: int, many: list[bytes], rest: bytes) -> None:
    data = packed(index, many)
    found, end = read_entries(data + rest, index)
    assert (found[: len(many)], end >= len(data)) == (many, True)
    assert read_entries(data, index) == (many, len(data))


@given(indices, items.filter(bool), st.data())
def test_a_cut_gives_the_entries_before_it(index: int, many: list[bytes], data: st.DataObject) -> None:
    whole = packed(index, many)
    cut = data.draw(st.integers(0, len(whole) - 1))
    found, end = read_entries(whole[:cut], index)
    assert found == many[: len(found)]
    assert end <= cut < end + entry_size(whole[end:])


@given(indices, items.filter(bool), st.data())
def test_a_changed_byte_ends_the_entries_there(index: int, many: list[bytes], data: st.DataObject) -> None:
    whole = bytearray(packed(index, many))
    where = data.draw(st.integers(0, len(whole) - 1))
    whole[where] ^= data.draw(st.integers(1, 255))
    found, end = read_entries(bytes(whole), index)
    assert found == many[: len(found)]
    assert end <= where


@given(indices, st.integers(1, 999), items.filter(bool))
def test_entries_that_belong_elsewhere_are_none(index: int, ahead: int, many: list[bytes]) -> None:
    assert read_entries(packed(index + ahead, many), index) == ([], 0)
    assert read_entries(bytes(100), index) == ([], 0)


def marks(first: bytes, second: bytes = b"") -> bytes:
    return first.ljust(512, b"\0") + second


@given(indices.filter(bool))
def test_a_mark_is_read_back_and_a_torn_one_leaves_the_one_before(index: int) -> None:
    mark, before = pack_mark(index), pack_mark(index - 1)
    assert read_mark(marks(mark)) == read_mark(marks(mark, before)) == (index, 1)
    assert read_mark(marks(before, mark)) == (index, 0)
    for cut in range(len(mark.rstrip(b"\0"))):
        assert read_mark(marks(mark[:cut], before)) == (index - 1, 0)
        assert read_mark(marks(before, mark[:cut]))[0] == index - 1
        assert read_mark(mark[:cut]) == (0, 0)
    assert read_mark(mark[:-1] + bytes([mark[-1] ^ 1])) == (0, 0)


@given(indices)
def test_segments_are_named_after_their_first_entry_and_sorted_by_it(index: int) -> None:
    assert segment_first(segment_name(index)) == index
    assert segment_name(index) < segment_name(index + 1)


def test_other_files_are_no_segments() -> None:
    assert [segment_first(name) for name in ("key", "mark", "7.spool", "0" * 20, "x" * 20 + ".spool")] == [None] * 5


@given(st.text(max_size=300), st.text(max_size=300))
def test_folders_of_different_keys_have_different_names_that_any_file_system_takes(one: str, other: str) -> None:
    names = [folder_name(key) for key in (one, other) if key.isprintable()]
    for name in names:
        assert name.isascii()
        assert 0 < len(name) <= 200
        assert not set(name) & set("/\0\\:") and not name.startswith(".")
    assert len(set(names)) == len({key for key in (one, other) if key.isprintable()})


def test_the_name_of_a_plain_key_can_be_read() -> None:
    assert folder_name("orders@0-12") == "orders@0-12"
    assert folder_name("a/b@../c") == "a%2Fb@..%2Fc"
    assert folder_name("..") == "%2E."
