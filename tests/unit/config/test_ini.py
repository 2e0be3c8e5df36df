"""The INI dialect of server.ini: the answers of ini4j 0.5.1, and where we differ on purpose."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.config.ini import BLANKS, IniError, escape, parse


def plain(text: str) -> dict[str, dict[str, str]]:
    return {
        name: {option.name: option.value for option in section.options.values()}
        for name, section in parse(text.encode()).items()
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[s]\na=1\\\n2\nb=3", {"s": {"a": "12", "b": "3"}}),
        ("[s]\na=1\\\n;c\n\nb=3", {"s": {"a": "1;c", "b": "3"}}),
        ("[s]\na=1\\\n\n  2", {"s": {"a": "12"}}),
        ("[s]\na=1\\\\\nb=2", {"s": {"a": "1\\", "b": "2"}}),
        ("[s]\na=x\\=y:z", {"s": {"a": "x=y:z"}}),
        ("[s]\na = \\u0041\\t\n", {"s": {"a": "A"}}),
        ("[s]\na=C:\\data\\new", {"s": {"a": "C:data\new"}}),
        ("[s]\n\u00a0a=\u00a0b", {"s": {"\u00a0a": "\u00a0b"}}),
        ("[s]\ra=1", {"s": {"a": "1"}}),
        ("[s]\r\na=1\r\n\r\n[t]\r\n", {"s": {"a": "1"}, "t": {}}),
        ("[s]\na=1\n[t]\nb=1\n[s]\na=2\nc=3", {"s": {"a": "2", "c": "3"}, "t": {"b": "1"}}),
        ("  [ s ] \na=1", {"s": {"a": "1"}}),
        ("[topic= a ]\n", {"topic= a": {}}),
        ("[s]]\na=1", {"s]": {"a": "1"}}),
        ("[a\\tb]", {"a\tb": {}}),
        ("[s]\n; c\\\nb=1", {"s": {"b": "1"}}),
        ("[s]\n;;x=1\n#y\n\f\nb=1", {"s": {"b": "1"}}),
        ("[s]\n\fa=1", {"s": {"a": "1"}}),
        ("[s]\na=\\u00e9\\101\\0", {"s": {"a": "é1010"}}),
        ("[s]\na=${x}@{y}", {"s": {"a": "${x}@{y}"}}),
        ('[s]\na="q"', {"s": {"a": '"q"'}}),
        ("[s]\na:b=c", {"s": {"a": "b=c"}}),
        ("[s]\na=b:c", {"s": {"a": "b:c"}}),
        ("[s]\na=", {"s": {"a": ""}}),
        ("[s]\na=16 ; x", {"s": {"a": "16 ; x"}}),
        ("[s]\na=\\b\\f\\nx\\r", {"s": {"a": "x"}}),
        ("[s]\na=\\ud83d\\ude00", {"s": {"a": "\U0001f600"}}),
        ("", {}),
    ],
)
def test_a_file_reads_as_the_original_reads_it(text: str, expected: dict[str, dict[str, str]]) -> None:
    assert plain(text) == expected


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("\n; c\n[s\n]", 3, "a section ends with ]; a comment needs a line of its own"),
        ("[s] ; c", 1, "a section ends with ]; a comment needs a line of its own"),
        ("[]\n", 1, "a section needs a name"),
        ("[s]\n=v", 2, "a name must stand before the ="),
        ("[s]\n\\t=v", 2, "a name must stand before the ="),
        ("[s]\n\nnovalue", 3, "neither a [section] nor name=value; a comment begins with ; or #"),
        ("x=1\n[s]", 1, "stands before the first section; a file begins with [system]"),
        ("[s]\na=\\uzz", 2, r"a backslash escapes: write \\ for one, \uXXXX for a character by its number"),
        ("[s]\na\\=b=c", 2, r"a backslash escapes: write \\ for one, \uXXXX for a character by its number"),
        ("[s]\na=1\\\n 2\\\n\n", 2, "the backslash joins the next line, but the file ends; write \\\\"),
    ],
)
def test_a_line_that_is_none_is_refused_with_its_number(text: str, line: int, reason: str) -> None:
    with pytest.raises(IniError) as caught:
        parse(text.encode())
    assert (caught.value.line, caught.value.reason) == (line, reason)


def test_sections_and_options_know_their_lines() -> None:
    sections = parse(b"; c\n[s]\n\na=1\nb=2\\\n3\nc=3\na=4\n[t]\n[s]\nd=1")
    assert (sections["s"].line, sections["t"].line) == (2, 9)
    assert {name: option.line for name, option in sections["s"].options.items()} == {"a": 8, "b": 5, "c": 7, "d": 11}


def test_a_byte_order_mark_is_accepted() -> None:
    assert parse(b"\xef\xbb\xbf[s]\na=1")["s"].options["a"].value == "1"


def test_bytes_that_are_no_utf_8_become_replacement_characters_and_harm_no_comment() -> None:
    sections = parse("; 主题\n[s]\n# 分区\n".encode("gbk") + b"a=x\xffy\n")
    assert sections["s"].options["a"].value == "x\ufffdy"


def test_a_section_with_a_slash_makes_no_other_section() -> None:
    assert list(parse(b"[topic=a/b]\nx=1")) == ["topic=a/b"]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_an_escaped_value_reads_back_unchanged(value: str) -> None:
    value = value.strip(BLANKS)
    text = f"[s]\na={escape(value)}\n"
    assert text.isascii()
    assert plain(text) == {"s": {"a": value}}


@given(st.binary(max_size=200))
def test_any_bytes_are_either_a_file_or_an_error_with_a_line(data: bytes) -> None:
    try:
        parse(b"[s]\n" + data)
    except IniError as exc:
        assert 1 <= exc.line <= 1 + len(data) + 1
