"""Laws of decoder and encoder that hold for every input."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaq.protocol import grammar
from metaq.protocol.commands import Command
from metaq.protocol.decoder import Decoder, Limits
from metaq.protocol.encoder import encode
from tests.unit.protocol.strategies import command_lists, commands, fragments, int32, streams

TIGHT = Limits(line=60, body=20, reply=20)


def decode(pieces: list[bytes], limits: Limits = TIGHT) -> tuple[list[Command], str | None]:
    """Return all commands in the pieces of one stream, and the error."""
    decoder = Decoder(limits)
    decoded = [command for piece in pieces for command in decoder.feed(piece)]
    return decoded, None if decoder.error is None else str(decoder.error)


def decode_cold(stream: bytes, limits: Limits = TIGHT) -> tuple[list[Command], str | None]:
    """Do that with the grammar alone: no line is short enough to be plain."""
    decoder = Decoder(limits)
    decoder._plain = 0
    return decoder.feed(stream), None if decoder.error is None else str(decoder.error)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    """Cut a stream at places that are taken modulo its length."""
    ends = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    return [stream[start:end] for start, end in pairwise(ends)]


@given(commands)
def test_what_is_encoded_is_decoded_again(command: Command) -> None:
    decoder = Decoder()
    assert decoder.feed(encode(command)) == [command]
    assert decoder.error is None


@settings(max_examples=200, deadline=None)
@given(command_lists, st.lists(st.integers(0, 10000), max_size=8))
def test_a_stream_of_commands_may_be_cut_anywhere(sent: list[Command], places: list[int]) -> None:
    stream = b"".join(map(encode, sent))
    assert decode(cut(stream, places), Limits()) == (sent, None)
    assert decode([stream[i : i + 1] for i in range(len(stream))], Limits()) == (sent, None)


@settings(max_examples=300, deadline=None)
@given(streams | command_lists.map(lambda sent: b"".join(map(encode, sent))), st.lists(st.integers(0, 10000)))
def test_any_bytes_mean_the_same_however_they_are_cut(stream: bytes, places: list[int]) -> None:
    whole = decode([stream])
    assert decode(cut(stream, places)) == whole
    assert decode([stream[i : i + 1] for i in range(len(stream))]) == whole


@given(st.lists(streams, max_size=5))
def test_after_an_error_nothing_is_decoded_and_no_other_error_escapes(pieces: list[bytes]) -> None:
    decoder = Decoder()
    for piece in pieces:
        refused = decoder.error is not None
        decoded = decoder.feed(piece)
        assert not (refused and decoded)


numbers = st.one_of(
    fragments.filter(lambda piece: b" " not in piece),
    st.sampled_from([b"0", b"5", b"-1", b"05", b"+5", b"200", b"2147483648", b"9223372036854775808", b"1_0"]),
)


@given(
    st.lists(numbers, min_size=2, max_size=7),
    st.sampled_from([b"put test 0 ", b"put test 12 ", b"get test g 0 ", b"mput test 0 5 ", b"result ", b"value "]),
    st.sampled_from([b"hello", b""]),
)
def test_the_hot_path_and_the_full_parser_agree(middle: list[bytes], head: bytes, body: bytes) -> None:
    stream = head + b" ".join(middle) + b"\r\n" + body
    for warming in (
        b"get test g 0 1 1 1\r\nput test 0 5 0 1 1\r\nhello",
        b"put test 12 0 1 1 1\r\n",
        b"put test 12 1 7 1 1\r\n?",
        b"mput test 0 1 1 0 0 0 1\r\n?",
    ):
        assert decode([warming])[1] is None
    assert decode([stream], Limits(line=100)) == decode_cold(stream, Limits(line=100))


@given(st.sampled_from([b"0", b"5", b"05"]), st.integers(-3, 3), int32, int32)
def test_puts_are_decoded_alike_hot_and_cold(length: bytes, flag: int, checksum: int, opaque: int) -> None:
    stream = b"put test 0 %b %d %d %d\r\nhello" % (length, flag, checksum, opaque)
    cold = decode_cold(stream)
    assert decode([stream]) == cold
    assert decode([stream]) == cold
    assert decode([stream, stream]) == decode([stream + stream])


@pytest.mark.parametrize("odd", ["0", "-1", "05", "+5", "1_0", "", "\t1", 1 << 31, 1 << 32, 1 << 63, -(1 << 31) - 1])
@pytest.mark.parametrize("line", ["mput test 0 5 1 7 0 0 9", "result 200 5 9", "value 5 9"])
def test_each_odd_field_means_the_same_to_the_hot_path(line: str, odd: str | int) -> None:
    assert decode([b"mput test 0 1 1 0 0 0 1\r\n?"])[1] is None
    fields = line.split(" ")
    for nth in range(1, len(fields)):
        stream = f"{' '.join([*fields[:nth], str(odd), *fields[nth + 1 :]])}\r\nhello".encode()
        assert decode([stream]) == decode_cold(stream)


@given(
    st.lists(fragments.filter(lambda piece: b" " not in piece), min_size=3, max_size=3),
    st.sampled_from([b"wait", b"wai", b"wait wait", b"Wait"]),
    st.one_of(fragments, st.sampled_from([b"0", b"-1", b"30000", b"030", b"+1", b"9223372036854775807", b"1" * 19])),
)
def test_gets_that_wait_are_decoded_alike_hot_and_cold(middle: list[bytes], word: bytes, wait: bytes) -> None:
    stream = b"get test g 0 %b %b %b %b %b\r\n" % (*middle, word, wait)
    assert decode([b"get test g 0 1 1 1\r\n"])[1] is None
    assert decode([stream]) == decode_cold(stream)


@given(st.lists(st.lists(fragments, min_size=3, max_size=5).map(b" ".join), max_size=3))
def test_lines_of_an_mget_are_read_as_tokens_are(lines: list[bytes]) -> None:
    body = b"".join(line + b"\r\n" for line in lines)
    stream = b"mget g 10 0 %d 1\r\n" % len(body) + body
    got = decode([stream], Limits())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grammar, "_PLAIN_WANT", 0)
        assert decode([stream], Limits()) == got
