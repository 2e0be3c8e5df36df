"""Limits, long bodies, and what is special about the hot path."""

import time
import tracemalloc
from collections.abc import Iterator

import pytest

from metaq.model import TopicPartition
from metaq.protocol import plain
from metaq.protocol.commands import Command, Get, Mput, Oversized, Put, Stats, Value, Version
from metaq.protocol.decoder import Decoder, Limits

TARGET = TopicPartition("test", 0)


def pieces(stream: bytes, size: int) -> Iterator[bytes]:
    return (stream[start : start + size] for start in range(0, len(stream), size))


@pytest.mark.parametrize("verb", [b"put test 0 %d 0 -1 7\r\n", b"sync test 0 %d 0 9 -1 7\r\n"])
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_body_over_the_limit_is_reported_at_once_and_skipped_exactly(verb: bytes, step: int) -> None:
    decoder = Decoder(Limits(body=100))
    assert decoder.feed(verb % 101) == [Oversized(TARGET, 101, 7)]
    after: list[Command] = []
    for piece in pieces(b"\r\nquit\r\n" + b"x" * 93 + b"version 1\r\nversion 2\r\n", step):
        after += decoder.feed(piece)
    assert after == [Version(1), Version(2)]
    assert decoder.error is None


def test_a_body_of_exactly_the_limit_is_decoded() -> None:
    command = Put(TARGET, b"x" * 100, 0, -1, 7)
    for _ in range(2):
        assert Decoder(Limits(body=100)).feed(b"put test 0 100 0 -1 7\r\n" + b"x" * 100) == [command]


def test_a_batch_has_a_limit_of_its_own() -> None:
    frame = b"mput test 0 %d 3 0 0 0 7\r\n%b"
    decoder = Decoder(Limits(body=100, batch=300, record=120))
    assert decoder.feed(frame % (300, b"x" * 300)) == [Mput(TARGET, b"x" * 300, 3, 0, 0, 0, 7)]
    assert decoder.feed(frame % (301, b"x" * 301)) == [Oversized(TARGET, 301, 7, 300)]


def test_the_largest_record_limits_the_body_without_its_header() -> None:
    decoder = Decoder(Limits(body=100, record=69))
    frame = b"put test 0 %d 0 1 7\r\n%b"
    for _ in range(2):  # the second time by the hot path
        assert decoder.feed(frame % (49, b"x" * 49)) == [Put(TARGET, b"x" * 49, 0, 1, 7)]
        assert decoder.feed(frame % (50, b"x" * 50)) == [Oversized(TARGET, 50, 7)]


def test_an_oversized_body_the_hot_path_knows_the_length_of_is_skipped_too() -> None:
    frame = b"put test 0 200 0 1 7\r\n" + b"x" * 200
    assert len(Decoder().feed(frame)) == 1
    assert Decoder(Limits(body=100)).feed(frame + b"version 1\r\n") == [Oversized(TARGET, 200, 7), Version(1)]


def test_an_oversized_put_that_is_malformed_is_refused() -> None:
    decoder = Decoder(Limits(body=100))
    assert decoder.feed(b"put test x 101 0 1 7\r\n") == []
    assert str(decoder.error) == "put: token 2: 'x' is no number"


def test_a_reply_over_its_limit_is_refused() -> None:
    decoder = Decoder(Limits(reply=100))
    assert decoder.feed(b"value 100 1\r\n" + b"x" * 100) == [Value(b"x" * 100, 1)]
    assert decoder.feed(b"value 101 1\r\n") == []
    assert str(decoder.error) == "value: body of 101 bytes is over the limit"


@pytest.mark.parametrize("step", [1, 10, 1000])
def test_a_line_of_exactly_the_limit_is_decoded_and_one_byte_more_is_refused(step: int) -> None:
    line = b"version 1 ".ljust(100, b"x")
    decoder = Decoder(Limits(line=100))
    decoded = [command for piece in pieces(line + b"\r\n", step) for command in decoder.feed(piece)]
    assert decoded == [Version(1, ("x" * 90,))]
    decoder = Decoder(Limits(line=99))
    assert not [command for piece in pieces(line + b"\r\n", step) for command in decoder.feed(piece)]
    assert str(decoder.error) == "line of more than 99 bytes"


def test_the_hot_path_keeps_the_limit_of_a_line_too() -> None:
    line = b"put test 0 5 0 1 000000000000000007\r\nhello"
    assert Decoder().feed(line * 2) == [Put(TARGET, b"hello", 0, 1, 7)] * 2
    decoder = Decoder(Limits(line=30))
    assert decoder.feed(line) == []
    assert decoder.error is not None


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (b" version 1\r\n", "unknown command ''"),
        (b"\r\n", "blank line"),
        (b"  \r\n", "blank line"),
        (b"foo 1\r\n", "unknown command 'foo'"),
        (b"get a b\r\n", "get: 3 tokens, at least 7 wanted"),
        (b"put a\r\n", "put: 2 tokens, at least 4 wanted"),
        (b"put test 0 -5 0 1\r\n", "put: negative length -5"),
        (b"put test 0 0 0\r\n", "put: 5 tokens, 6, 7 or 8 wanted"),
        (b"sync test 0 0 0 1\r\n", "sync: 6 tokens, 7 or 8 wanted"),
        (b"version 2147483648\r\n", "version: token 1: '2147483648' does not fit into 32 bits"),
        (b"transaction TX:a:1 s NO 1\r\n", "transaction: unknown operation 'NO'"),
        (b"transaction TX:a s BEGIN 1\r\n", "transaction: token 1: 'TX:a' is no transaction id"),
        (b"x" * 5000 + b"\r\n", f"unknown command '{'x' * 40}'"),
    ],
)
def test_the_error_names_what_is_wrong_in_a_few_words(sent: bytes, text: str) -> None:
    decoder = Decoder()
    assert decoder.feed(b"version 1\r\n" + sent + b"version 2\r\n") == [Version(1)]
    assert str(decoder.error) == text
    assert decoder.feed(b"version 3\r\n") == []


@pytest.mark.parametrize("opaque", [b"-2147483648", b"-1", b"0", b"2147483647", b"007", b"-0"])
def test_the_hot_path_takes_every_plain_opaque(opaque: bytes) -> None:
    frame = b"put hot 3 5 0 907060870 " + opaque + b"\r\nhello"
    put = Put(TopicPartition("hot", 3), b"hello", 0, 907060870, int(opaque))
    assert Decoder().feed(frame * 3) == [put] * 3


@pytest.mark.parametrize("opaque", [b"2147483648", b"-2147483649", b"--5", b"5-", b"1_0", b"\t5", b"5\r", b"-"])
def test_the_hot_path_takes_no_other_opaque(opaque: bytes) -> None:
    decoder = Decoder()
    good = b"put hot 3 5 0 907060870 1\r\nhello"
    assert len(decoder.feed(good + good + b"put hot 3 5 0 907060870 " + opaque + b"\r\nhello")) == 2
    assert decoder.error is not None
    assert decoder.feed(good) == []


@pytest.mark.parametrize("end", [b"2147483648 1\r\nhello", b"1 12\nhello\r\nhello", b"1 1\n\r\nhello"])
def test_the_hot_path_takes_no_large_checksum_and_no_line_that_ends_in_a_lone_lf(end: bytes) -> None:
    decoder = Decoder()
    assert len(decoder.feed(b"put hot 3 5 0 1 1\r\nhelloput hot 3 5 0 " + end)) == 1
    assert decoder.error is not None


def test_a_blank_item_of_stats_is_the_summary() -> None:
    assert Decoder().feed(b"stats \t 5\r\n") == [Stats("", 5)]


@pytest.mark.parametrize(
    ("numbers", "get"),
    [
        (b"0 1048576 -2147483648", (0, 1048576, -2147483648)),
        (b"9223372036854775807 1 2147483647", ((1 << 63) - 1, 1, (1 << 31) - 1)),
        (b"-1 -1 +1", (-1, -1, 1)),
        (b"007 5 1 extra", (7, 5, 1)),
    ],
)
def test_a_get_means_the_same_when_its_head_is_known(numbers: bytes, get: tuple[int, int, int]) -> None:
    frame = b"get known g 3 " + numbers + b"\r\n"
    assert Decoder().feed(b"get known g 3 1 1 1\r\n" + frame)[1] == Get(TopicPartition("known", 3), "g", *get)


@pytest.mark.parametrize(
    "numbers",
    [
        b"1 1",
        b"1 1 --5",
        b"1 1_0 1",
        b"1 2147483648 1",
        b"1 1 2147483648",
        b"9223372036854775808 1 1",
        b"x 1 1",
        b"1  1",
    ],
)
def test_a_malformed_get_is_refused_when_its_head_is_known(numbers: bytes) -> None:
    decoder = Decoder()
    assert len(decoder.feed(b"get known g 3 1 1 1\r\nget known g 3 " + numbers + b"\r\n")) == 1
    assert decoder.error is not None


def test_what_the_hot_path_remembers_is_bounded() -> None:
    decoder = Decoder()
    for partition in range(plain.MOST_REMEMBERED + 10):
        decoder.feed(b"put bounded %d 0 0 0 1\r\n" % partition)
    assert len(plain.targets) <= plain.MOST_REMEMBERED
    decoder.feed(b"put %b 0 0 0 0 1\r\n" % (b"x" * 1000))
    assert max(map(len, plain.targets)) <= plain.LONGEST_REMEMBERED


def test_endless_bytes_without_a_line_end_cost_little_memory_and_end_in_an_error() -> None:
    decoder, piece = Decoder(), b"x" * 10_000
    tracemalloc.start()
    try:
        for _ in range(10_000):  # 100 MB
            assert decoder.feed(piece) == []
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert decoder.error is not None
    assert peak < 300_000


def test_a_body_in_tiny_pieces_costs_its_own_size_and_linear_time() -> None:
    size = 200_000
    decoder = Decoder()
    decoder.feed(b"value %d 1\r\n" % size)
    began = time.monotonic()
    tracemalloc.start()
    try:
        for _ in range(size // 2 - 1):
            decoder.feed(b"%c%c" % (1, 2))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert decoder.feed(b"\1\2") == [Value(b"\1\2" * (size // 2), 1)]
    assert peak < 3 * size
    assert time.monotonic() - began < 20  # joining again for every piece would take minutes


def test_a_line_in_single_bytes_costs_linear_time() -> None:
    size = 200_000
    decoder = Decoder(Limits(line=size))
    began = time.monotonic()
    for _ in range(size + 1):
        decoder.feed(b"x")
    assert decoder.error is not None
    assert time.monotonic() - began < 10
