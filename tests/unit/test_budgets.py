"""The budgets of size: a function fits on a screen, a module in one sitting, an argument list on a line."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeAlias

import pytest

SOURCE: Final = Path(__file__).parents[2] / "src" / "metaq"
FUNCTION_LINES: Final = 40  # without the docstring; decorators not counted
MODULE_LINES: Final = 400
ARGUMENTS: Final = 6  # self and cls excepted

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


def functions(source: str) -> Iterator[Function]:
    return (node for node in ast.walk(ast.parse(source)) if isinstance(node, Function))


def lines_of(function: Function) -> int:
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function, clean=False) is None:
        return lines
    docstring = function.body[0]
    assert docstring.end_lineno is not None
    return lines - (docstring.end_lineno - docstring.lineno + 1)


def arguments_of(function: Function) -> int:
    names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    own = names[:1] in (["self"], ["cls"])
    return len(names) - own + len(function.args.kwonlyargs)


def offences(name: str, source: str) -> list[str]:
    """Return one line for every budget that this module exceeds."""
    found = [
        f"{name}:{f.lineno}: {f.name} has {lines_of(f)} lines, the limit is {FUNCTION_LINES}"
        for f in functions(source)
        if lines_of(f) > FUNCTION_LINES
    ]
    found += [
        f"{name}:{f.lineno}: {f.name} has {arguments_of(f)} arguments, the limit is {ARGUMENTS}"
        for f in functions(source)
        if arguments_of(f) > ARGUMENTS
    ]
    if (lines := source.count("\n")) > MODULE_LINES:
        found.append(f"{name}: has {lines} lines, the limit is {MODULE_LINES}")
    return found


def test_no_function_module_or_argument_list_exceeds_its_budget() -> None:
    modules = sorted(SOURCE.rglob("*.py"))
    assert modules, "no source found: this test would pass whatever the code looks like"
    found = [o for m in modules for o in offences(str(m.relative_to(SOURCE)), m.read_text("utf-8"))]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f():\n" + "    x = 1\n" * 40, "m.py:1: f has 41 lines, the limit is 40"),
        ("def f(a, b, c, *, d, e, g, h): ...\n", "m.py:1: f has 7 arguments, the limit is 6"),
        ("x = 1\n" * 401, "m.py: has 401 lines, the limit is 400"),
    ],
    ids=["function", "arguments", "module"],
)
def test_an_offender_is_named_with_its_size(source: str, expected: str) -> None:
    assert offences("m.py", source) == [expected]


def test_a_docstring_and_self_are_free() -> None:
    method = (
        "class C:\n    async def f(self, a, b, c, d, e, g):\n        '''One\n        two.'''\n" + "        x = 1\n" * 39
    )
    assert offences("m.py", method) == []
