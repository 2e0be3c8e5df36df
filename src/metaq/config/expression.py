"""Integers and booleans of server.ini: the expressions that the original evaluates (reference: config.md §3, Aviator).

Decimal and hexadecimal integers, true and false; unary - ! ~, * / %, + -, << >> >>>, < <= > >=, == !=, & ^ |, &&, ||
and parentheses, with Java's precedence and meaning (64 bits, division towards zero). What does not fit 64 bits is
refused instead of wrapped. Nothing is handed to an interpreter.
"""

import re
from collections.abc import Callable
from typing import Final, TypeAlias

Value: TypeAlias = int | bool

TOKEN: Final = re.compile(
    r"\s*(0[xX][0-9a-fA-F]+|[0-9]+(?![\w.])|true\b|false\b|>>>|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%()!~<>&^|])"
)
LEVELS: Final = (
    ("||",),
    ("&&",),
    ("|",),
    ("^",),
    ("&",),
    ("==", "!="),
    ("<", "<=", ">", ">="),
    ("<<", ">>", ">>>"),
    ("+", "-"),
    ("*", "/", "%"),
)
DEPTH: Final = 30  # parentheses and signs inside one another
INT64: Final = range(-(1 << 63), 1 << 63)


def integer(text: str) -> int:
    """Return the integer that `text` evaluates to; ValueError with a plain reason if it is none."""
    try:
        value = _evaluate(text)
    except _NotAnExpression as exc:
        raise ValueError("not an integer expression") from exc
    if isinstance(value, bool):
        raise ValueError("not an integer but true or false")
    return value


def boolean(text: str) -> bool:
    """Return the truth value of `text`: true or false in any case of letters, or an expression that yields one.

    ValueError with a plain reason if it is neither.
    """
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        value = _evaluate(text)
    except _NotAnExpression as exc:
        raise ValueError("neither true nor false") from exc
    if not isinstance(value, bool):
        raise ValueError("a number, neither true nor false")
    return value


class _NotAnExpression(ValueError):
    """The text is outside the grammar."""


def _evaluate(text: str) -> Value:
    parser = _Parser(_tokens(text))
    value = parser.level(0, 0)
    if parser.tokens:
        raise _NotAnExpression
    return value


def _tokens(text: str) -> list[str]:
    """Return the tokens of `text`, last one first."""
    tokens: list[str] = []
    position = 0
    text = text.rstrip()
    while position < len(text):
        match = TOKEN.match(text, position)
        if match is None:
            raise _NotAnExpression
        tokens.append(match[1])
        position = match.end()
    tokens.reverse()
    return tokens


class _Parser:
    """Evaluates while it descends; `tokens` holds what is left, next one last."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens

    def level(self, level: int, depth: int) -> Value:
        """Return the value of what is ahead, taking only operators of `level` and tighter ones."""
        if level == len(LEVELS):
            return self._unary(depth)
        left = self.level(level + 1, depth)
        while self.tokens and self.tokens[-1] in LEVELS[level]:
            operator = self.tokens.pop()
            left = _binary(operator, left, self.level(level + 1, depth))
        return left

    def _unary(self, depth: int) -> Value:
        if not self.tokens or depth > DEPTH:
            raise _NotAnExpression
        match self.tokens.pop():
            case "-":
                return _fit(-_number(self._unary(depth + 1)))
            case "~":
                return ~_number(self._unary(depth + 1))
            case "!":
                return not _truth(self._unary(depth + 1))
            case "(":
                value = self.level(0, depth + 1)
                if not self.tokens or self.tokens.pop() != ")":
                    raise _NotAnExpression
                return value
            case "true":
                return True
            case "false":
                return False
            case token if token[0].isdigit():
                return _literal(token)
            case _:
                raise _NotAnExpression


def _literal(token: str) -> int:
    digits = token.lstrip("0xX")
    if len(digits) > 20:
        raise ValueError("does not fit into 64 bits")
    return _fit(int(token, 16 if token[:2] in ("0x", "0X") else 10))


def _fit(value: int) -> int:
    if value not in INT64:
        raise ValueError("does not fit into 64 bits")
    return value


def _number(value: Value) -> int:
    if isinstance(value, bool):
        raise _NotAnExpression
    return value


def _truth(value: Value) -> bool:
    if not isinstance(value, bool):
        raise _NotAnExpression
    return value


def _divided(left: int, right: int) -> int:
    if right == 0:
        raise ValueError("divides by zero")
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _shifted(left: int, right: int) -> int:
    value = (left << (right & 63)) & 0xFFFFFFFFFFFFFFFF
    return value - (1 << 64) if value >> 63 else value


ARITHMETIC: Final[dict[str, Callable[[int, int], int]]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": _divided,
    "%": lambda left, right: left - right * _divided(left, right),
    "<<": _shifted,
    ">>": lambda left, right: left >> (right & 63),
    ">>>": lambda left, right: (left & 0xFFFFFFFFFFFFFFFF) >> (right & 63),
    "&": lambda left, right: left & right,
    "^": lambda left, right: left ^ right,
    "|": lambda left, right: left | right,
}
COMPARISONS: Final[dict[str, Callable[[int, int], bool]]] = {
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}


def _binary(operator: str, left: Value, right: Value) -> Value:
    if operator in ("&&", "||"):
        one, two = _truth(left), _truth(right)
        return (one and two) if operator == "&&" else (one or two)
    if operator in ("==", "!=") or operator in COMPARISONS:
        if isinstance(left, bool) is not isinstance(right, bool):
            raise _NotAnExpression
        if operator in COMPARISONS:
            return COMPARISONS[operator](left, right)
        return (left == right) is (operator == "==")
    return _fit(ARITHMETIC[operator](_number(left), _number(right)))
