"""Java property files as the plugins' are read."""

from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.config.properties import parse

SEED: Final = Path(__file__).parents[2] / "data" / "seed"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=1\nb: 2\nc 3\nd\te\n", {"a": "1", "b": "2", "c": "3", "d": "e"}),
        ("a = b = c", {"a": "b = c"}),
        ("a==b", {"a": "=b"}),
        ("a\nb=\n=v", {"a": "", "b": "", "": "v"}),
        ("  # x=1\n!y=1\n\n  a=1  ", {"a": "1  "}),
        ("a=1,\\\n   2,\\\r\n\t3\nb=4", {"a": "1,2,3", "b": "4"}),
        ("a=1\\\n#2", {"a": "1#2"}),
        ("# c\\\na=1", {"a": "1"}),
        ("a=x\\\\\nb=1", {"a": "x\\", "b": "1"}),
        ("a\\ b\\=c\\:=1", {"a b=c:": "1"}),
        ("a=\\u0041\\t\\n\\q\\z", {"a": "A\t\nqz"}),
        ("a=\\ud83d\\ude00", {"a": "\U0001f600"}),
        ("a=1\\", {"a": "1"}),
        ("a=1\na=2", {"a": "2"}),
        ("\\\n", {"": ""}),
        ("", {}),
    ],
)
def test_a_file_reads_as_java_reads_it(text: str, expected: dict[str, str]) -> None:
    assert parse(text.encode("gbk", "surrogatepass"), "utf-8") == expected


def test_the_files_of_the_deployment_read_as_gbk() -> None:
    assert parse((SEED / "async_slave.hefei.properties").read_bytes()) == {
        "slaveId": "1",
        "slaveGroup": "meta-slave-group",
        "slaveMaxDelayInMills": "500",
        "autoSyncMasterConfig": "true",
    }
    assert parse((SEED / "async_slave.guangzhou.properties").read_bytes())["slaveGroup"] == "meta-slave-group-gz"


def test_values_are_read_in_gbk() -> None:
    assert parse("名=值\n".encode("gbk")) == {"名": "值"}


def test_a_broken_escape_is_refused_with_its_line() -> None:
    with pytest.raises(ValueError, match=r"^3: a=.u12: .u needs four hexadecimal digits$"):
        parse(b"# c\n\na=\\u12")
    with pytest.raises(ValueError, match=r"^2: "):  # a joined line has the number of its first part
        parse(b"a=1\nb=2,\\\n  3,\\\n  \\u12")


@given(st.binary(max_size=100))
def test_any_bytes_are_read_or_refused_with_a_value_error(data: bytes) -> None:
    try:
        parse(data)
    except ValueError as exc:
        assert "hexadecimal" in str(exc)
