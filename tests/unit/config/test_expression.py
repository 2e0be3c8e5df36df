"""Integers and booleans of server.ini: the answers of Aviator 2.3.0, and where we differ on purpose."""

import operator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.config.expression import boolean, integer

RECORDED: Final = Path(__file__).parents[2] / "data" / "reference" / "aviator.txt"
ROWS: Final = [row.split("\t") for row in RECORDED.read_text().split("\n") if row and not row.startswith("#")]


@pytest.mark.parametrize(("text", "answer"), ROWS, ids=[row[0] or "nothing" for row in ROWS])
def test_a_value_is_what_the_original_evaluates(text: str, answer: str) -> None:
    kind, _, value = answer.partition(" ")
    if kind == "Long":
        assert integer(text) == int(value)
    else:
        with pytest.raises(ValueError, match=r"integer|64 bits|zero"):
            integer(text)
    if kind == "Boolean":
        assert boolean(text) is (value == "true")
    else:
        with pytest.raises(ValueError, match=r"true|64 bits|zero"):
            boolean(text)


@pytest.mark.parametrize("text", ["TRUE", "True", "true", "1==1", "!(2<1)"])
def test_true_is_written_in_any_case_or_as_an_expression(text: str) -> None:
    assert boolean(text) is True


@pytest.mark.parametrize("text", ["FALSE", "False", "false", "1!=1"])
def test_false_is_written_in_any_case_or_as_an_expression(text: str) -> None:
    assert boolean(text) is False


@pytest.mark.parametrize(
    "text",
    ["9223372036854775807+1", "9223372036854775808", "0xffffffffffffffff", "-9223372036854775807-2", "1" * 5000],
)
def test_what_does_not_fit_64_bits_is_refused_instead_of_wrapped(text: str) -> None:
    with pytest.raises(ValueError, match="does not fit into 64 bits"):
        integer(text)


@pytest.mark.parametrize("text", ["(" * 5000 + "1" + ")" * 5000, "-" * 5000 + "1", "!" * 5000 + "true"])
def test_nesting_without_end_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an integer expression"):
        integer(text)


@pytest.mark.parametrize("text", ["__import__('os')", "a", "1 if 1 else 2", "[1][0]", "１", "1e3", "0b1", "1>2?3:4"])
def test_nothing_else_is_evaluated(text: str) -> None:
    with pytest.raises(ValueError, match="not an integer expression"):
        integer(text)


Sum = tuple[str, int]


def combined(parts: tuple[Sum, str, Sum]) -> Sum:
    (left, a), sign, (right, b) = parts
    compute = {"+": operator.add, "-": operator.sub, "*": operator.mul}[sign]
    return f"({left} {sign} {right})", compute(a, b)


sums = st.recursive(
    st.integers(-9, 9).map(lambda n: (str(n), n)),
    lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(combined),
    max_leaves=8,
)


@given(sums)
def test_arithmetic_is_that_of_integers(expression: Sum) -> None:
    text, value = expression
    assert integer(text) == value


@given(st.text(max_size=30) | st.text("0123456789+-*/%()<>=!&|~ xtruefals", max_size=30))
def test_any_text_is_a_value_or_a_value_error(text: str) -> None:
    for read in (integer, boolean):
        try:
            assert isinstance(read(text), int)
        except ValueError as exc:
            assert str(exc)
