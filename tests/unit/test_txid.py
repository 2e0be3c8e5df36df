"""Transaction ids and the numbers of the wire."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.txid import NULL, LocalId, TransactionId, XaId, decimal, parse

parts = st.text(max_size=8).filter(lambda text: ":" not in text)


@pytest.mark.parametrize(
    ("text", "id"),
    [
        ("TX:10.0.0.1-1700000000000-1:1", LocalId("10.0.0.1-1700000000000-1", 1)),
        ("TX::-7", LocalId("", -7)),
        ("TX:a:9223372036854775807", LocalId("a", (1 << 63) - 1)),
        ("XID:100:aabb00:ccdd:q", XaId(100, b"\xaa\xbb\x00", b"\xcc\xdd", "q")),
        ("XID:1:::", XaId(1, b"", b"", "")),
        ("null", NULL),
    ],
)
def test_an_id_is_read_and_written(text: str, id: TransactionId) -> None:
    assert parse(text) == id
    assert str(id) == text


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("XID:1:AA:Bb:q", "XID:1:aa:bb:q"),
        ("XID:1:aab:c:q", "XID:1:aa::q"),
        ("XID:1:aa:bb", "XID:1:aa:bb:"),
        ("TX:a:+007", "TX:a:7"),
    ],
)
def test_other_spellings_mean_the_same_id(text: str, canonical: str) -> None:
    assert str(parse(text)) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        "TX",
        "TX:a",
        "TX:a:",
        "TX:a:b",
        "TX:a:b:1",
        "TX:a:9223372036854775808",
        "tx:a:1",
        "NULL",
        "null:",
        "XID:1:aa",
        "XID:x:aa:bb:q",
        "XID:2147483648:aa:bb:q",
        "XID:1:zz:bb:q",
        "XID:1:a\t:bb:q",
        "XID:1:ａａ:bb:q",
        "XID:1:aa:bb:q:r",
    ],
)
def test_a_malformed_id_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


def test_a_part_with_a_colon_or_a_number_out_of_range_makes_no_id() -> None:
    for make in (
        lambda: LocalId("::1-5", 1),
        lambda: LocalId("a", 1 << 63),
        lambda: XaId(1, b"", b"", "a:b"),
        lambda: XaId(1 << 31, b"", b"", ""),
    ):
        with pytest.raises(ValueError):
            make()


@given(
    st.builds(LocalId, parts, st.integers(-(1 << 63), (1 << 63) - 1))
    | st.builds(XaId, st.integers(-(1 << 31), (1 << 31) - 1), st.binary(), st.binary(), parts)
)
def test_what_is_written_is_read_again(id: TransactionId) -> None:
    assert parse(str(id)) == id


@given(st.text() | st.text("TXID:null0a1-", max_size=20))
def test_any_text_is_an_id_or_a_value_error(text: str) -> None:
    try:
        id = parse(text)
    except ValueError:
        return
    assert parse(str(id)) == id


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("-0", 0),
        ("+5", 5),
        ("007", 7),
        ("７", 7),
        ("-٣", -3),
        ("-2147483648", -2147483648),
        ("0" * 60000 + "7", 7),
        ("-" + "0" * 60000 + "12", -12),
        ("0" * 60000, 0),
    ],
    ids=lambda value: str(value)[-12:],
)
def test_a_number_is_read_as_java_reads_it(text: str, number: int) -> None:
    assert decimal(text, 32) == number
    assert decimal(text, 64) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "+",
        "--1",
        "+-1",
        "1_0",
        " 1",
        "1\n",
        "0x1",
        "1e3",
        "1.0",
        "²",
        "𝟕",
        "99999999999999999999",
        "9" * 60000,
    ],
)
def test_what_java_does_not_read_as_a_number_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        decimal(text, 64)


def test_the_bounds_are_those_of_the_field() -> None:
    assert decimal("2147483647", 32) == 2147483647
    assert decimal("2147483648", 64) == 2147483648
    assert decimal("-9223372036854775808", 64) == -(1 << 63)
    for text, bits in (("2147483648", 32), ("-2147483649", 32), ("9223372036854775808", 64)):
        with pytest.raises(ValueError, match="does not fit"):
            decimal(text, bits)
