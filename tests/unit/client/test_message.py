"""How fetched bytes become messages."""

from hypothesis import given
from hypothesis import strategies as st

from metaq.client.message import Message, next_record, read_run
from metaq.record import encode_body, pack

Sent = tuple[bytes, str | None]
contents = st.lists(st.tuples(st.binary(max_size=30), st.none() | st.text(max_size=5)), max_size=6)


def packed(sent: list[Sent]) -> bytes:
    return b"".join(pack(-5 + i, *encode_body(data, attribute)) for i, (data, attribute) in enumerate(sent))


@given(contents, st.integers(0, 1 << 40))
def test_what_was_sent_is_what_is_read(sent: list[Sent], offset: int) -> None:
    data = packed(sent)
    run = read_run("t", "1-0", offset, data, 1000)
    assert [(m.data, m.attribute) for m in run.messages] == sent
    assert [m.id for m in run.messages] == [-5 + i for i in range(len(sent))]
    assert (run.end, run.missing, run.error) == (offset + len(data), 0, None)
    starts = [offset, *(m.next_offset for m in run.messages)]
    assert [m.offset for m in run.messages] == starts[:-1]
    assert starts[-1] == run.end


@given(contents, st.data())
def test_a_cut_run_gives_the_whole_messages_and_what_is_missing(sent: list[Sent], data: st.DataObject) -> None:
    whole = packed(sent)
    cut = data.draw(st.integers(0, len(whole)))
    run = read_run("t", "1-0", 0, whole[:cut], 1000)
    assert run.error is None
    assert 0 <= cut - run.end < 1020
    if run.missing:
        again = read_run("t", "1-0", run.end, whole[run.end : cut + run.missing], 1000)
        assert again.messages or again.missing  # a header, then its record
        assert cut + run.missing <= len(whole)
    else:
        assert run.end == cut


def test_a_wrong_checksum_ends_the_run_behind_the_good_messages() -> None:
    data = bytearray(pack(1, 0, b"good") + pack(2, 0, b"bad!") + pack(3, 0, b"good"))
    data[-25] ^= 1
    run = read_run("t", "1-0", 100, bytes(data), 1000)
    assert [m.data for m in run.messages] == [b"good"]
    assert run.end == 124
    assert "t 1-0: the record at offset 124 of 4 bytes fails its checksum" in str(run.error)


def test_impossible_lengths_and_attributes_are_corrupt() -> None:
    negative = b"\xff" * 20
    for data, why in [
        (negative, "length of -1"),
        (pack(1, 0, bytes(1001)), "length of 1001"),
        (pack(1, 1, b"\0\0\0\x09abc"), "attribute that does not fit"),
        (pack(1, 1, b"ab"), "attribute that does not fit"),
    ]:
        run = read_run("t", "1-0", 0, data, 1000)
        assert not run.messages
        assert why in str(run.error)


def test_an_empty_attribute_is_not_the_same_as_none() -> None:
    run = read_run("t", "1-0", 0, packed([(b"a", ""), (b"b", None)]), 1000)
    assert [m.attribute for m in run.messages] == ["", None]


def test_a_message_is_a_value() -> None:
    message = Message("t", "1-0", 20, 7, 0, b"abc")
    assert message == Message("t", "1-0", 20, 7, 0, b"abc")
    assert (message.data, message.next_offset) == (b"abc", 43)


@given(st.binary(max_size=40), st.binary(min_size=1, max_size=40), st.binary(max_size=40))
def test_the_next_whole_record_is_found_behind_damage(before: bytes, body: bytes, after: bytes) -> None:
    data = before + pack(1, 0, body) + after
    found = next_record(data, 0)
    assert found is not None
    assert found <= len(before)
    assert read_run("t", "1-0", 0, data[found:], 1000).messages or data[found:]


def test_no_whole_record_is_none() -> None:
    assert next_record(bytes(1000), 0) is None
    assert next_record(pack(1, 0, b"cut")[:-1], 0) is None
    assert next_record(b"", 0) is None
