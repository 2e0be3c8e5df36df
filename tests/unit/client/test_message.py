"""How fetched bytes become messages."""

from hypothesis import given
from hypothesis import strategies as st

from metaq.client.message import Message, Walk, next_record, read_run
from metaq.record import encode_body, pack

Sent = tuple[bytes, str | None]
bodies = st.tuples(st.binary(max_size=30), st.integers(1, 40)).map(lambda pair: [pair[0]] * pair[1])
runs_of_lengths = st.lists(bodies, max_size=12).map(lambda runs: [body for run in runs for body in run])
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
    assert "t 1-0: the record at offset 124 of 4 bytes fails its checksum" in str(run.messages.error)
    assert run.error is None  # the first one is whole


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


@given(runs_of_lengths, st.data())
def test_records_of_one_length_are_read_like_others(sent: list[bytes], data: st.DataObject) -> None:
    whole = packed([(body, None) for body in sent])
    cut = data.draw(st.integers(0, len(whole)))
    run = read_run("t", "1-0", 7, whole[:cut], 1000)
    found = list(run.messages)
    assert [m.body for m in found] == sent[: len(found)]
    assert [m.id for m in found] == [-5 + i for i in range(len(found))]
    assert [m.offset for m in found] == [7, *(m.next_offset for m in found)][: len(found)]
    lengths = [20 + len(body) for body in sent]
    assert sum(lengths[: len(found)]) <= cut < sum(lengths[: len(found) + 1]) or cut == len(whole)


@given(st.integers(1, 700), st.data())
def test_damage_among_records_of_one_length_ends_them_where_it_is(count: int, data: st.DataObject) -> None:
    whole = bytearray(packed([(b"12345", "x")] * count))
    size = len(whole) // count
    hurt = data.draw(st.integers(0, count - 1))
    whole[hurt * size + data.draw(st.sampled_from([0, 3, 4, 7, 20, size - 1]))] ^= data.draw(st.integers(1, 255))
    run = read_run("t", "1-0", 0, bytes(whole), 1000)
    assert len(list(run.messages)) == hurt
    assert run.end == hurt * size
    assert run.error or run.messages.error or read_run("t", "1-0", 0, bytes(whole[hurt * size :]), 1000).error or (
        read_run("t", "1-0", 0, bytes(whole[hurt * size :]), 1000).missing
    )  # fmt: skip


def test_an_attribute_that_does_not_fit_is_found_among_others() -> None:
    fits, does_not = pack(1, 1, b"\0\0\0\x01abc"), pack(2, 1, b"\0\0\0\x09abc")
    block = read_run("t", "1-0", 0, fits * 300 + does_not + fits * 300, 1000).messages
    assert len(list(block)) == 300
    assert "attribute that does not fit" in str(block.error)


def test_what_a_walk_has_taken_is_known_when_it_was_ended() -> None:
    piece = read_run("t", "1-0", 0, packed([(b"a", None)] * 5), 1000).messages.decode(None)
    assert piece is not None
    walk = Walk(piece)
    assert [next(walk.messages).id, next(walk.messages).id] == [-5, -4]
    walk.end()
    assert list(walk.messages) == []
    assert (walk.taken, walk.left) == (2, 3)


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
