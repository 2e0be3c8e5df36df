import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "compatibility.md"

_GROUPS: Final = ((1, 49), (50, 61), (65, 74), (80, 108), (110, 141), (150, 209))
FEATURES: Final = frozenset(f"F{number:03}" for first, last in _GROUPS for number in range(first, last + 1))
_REPORTS: Final = (
    "2 3 5 7 8 9 10 11 13 14 15 16 17 18 19 20 22 23 24 25 26 27 30 31 32 38 39 40 43 45 46 47 51 52 55 63 64 67 70 71 "
    "73 76 82 83 90 93 94 95 97 99 101 102 103 104 106 107 108 111 113 115 116 118 119 120 121 125 126 128 129 131 133 "
    "136 139"
)
OURS: Final = frozenset(("X1", "X2", "X3"))
_DEFECTS: Final = {  # those that a broker can do right
    "A": set(range(1, 26)) - {10, 14, 15, 22},
    "S": set(range(1, 28)) - {4, 19, 23},
}
DEFECTS: Final = frozenset(f"{letter}{number}" for letter, numbers in _DEFECTS.items() for number in numbers)
REQUESTS: Final = frozenset(f"#{number}" for number in _REPORTS.split())


class Row(NamedTuple):
    id: str
    feature: str
    state: str
    tests: tuple[str, ...]
    note: str


def rows(text: str) -> list[Row]:
    """Return the rows of all tables whose first cell is an id; ValueError for one that has not five cells."""
    found = []
    for line in text.splitlines():
        if re.match(r"\|\s*([ASFX]\d|#\d)", line):
            cells = [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]
            if len(cells) != 5:
                raise ValueError(f"{len(cells)} cells instead of 5: {line}")
            id, feature, state, tests, note = cells
            found.append(Row(id, feature, state, tuple(tests.split()), note))
    return found


def wrong_ids(table: Iterable[Row], expected: frozenset[str]) -> list[str]:
    """Return what is wrong with the ids: each one stands there exactly once."""
    seen = Counter(row.id for row in table)
    return [f"{id}: {seen[id]} times" for id in sorted(expected | seen.keys()) if seen[id] != (id in expected)]


def complaints(row: Row, root: Path) -> list[str]:
    """Return what is wrong with one row, as sentences that begin with its id."""
    found = []
    if row.state not in {"yes", "better", "planned", "not"}:
        found.append(f"{row.id}: unknown state {row.state!r}")
    if not row.feature:
        found.append(f"{row.id}: no feature named")
    if row.state in {"not", "better"} and not row.note:
        found.append(f"{row.id}: {row.state} without a reason")
    if row.state == "not" and row.tests:
        found.append(f"{row.id}: a test shows what is not there")
    if row.state in {"yes", "better"}:
        if not row.tests:
            found.append(f"{row.id}: {row.state} without a test")
        found += [f"{row.id}: no test {test}" for test in row.tests if not exists(test, root)]
    return found


def exists(test: str, root: Path) -> bool:
    """Tell whether the file of `path::function` is there and defines the function, or class, if one is named."""
    path, _, names = test.partition("::")
    file = root / path
    if not path.startswith("tests/") or not file.is_file():
        return False
    text = file.read_text(encoding="utf-8")
    return all(
        re.search(rf"^\s*(async def|def|class) {re.escape(name)}\b", text, re.MULTILINE)
        for name in names.split("::")
        if name
    )


def test_every_feature_request_and_defect_stands_in_the_table_exactly_once() -> None:
    assert len(FEATURES) == 192
    assert wrong_ids(rows(PAGE.read_text(encoding="utf-8")), FEATURES | OURS | REQUESTS | DEFECTS) == []


def test_every_row_is_true_as_far_as_a_file_can_show() -> None:
    assert [c for row in rows(PAGE.read_text(encoding="utf-8")) for c in complaints(row, ROOT)] == []


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("| F001 | x | done | | |", "F001: unknown state 'done'"),
        ("| F001 | x | yes | | |", "F001: yes without a test"),
        ("| F001 | | planned | | |", "F001: no feature named"),
        ("| F001 | x | not | | |", "F001: not without a reason"),
        ("| F001 | x | not | tests/here.py | why |", "F001: a test shows what is not there"),
        ("| F001 | x | better | tests/here.py | |", "F001: better without a reason"),
        ("| F001 | x | yes | tests/gone.py | |", "F001: no test tests/gone.py"),
        ("| F001 | x | yes | here.py | |", "F001: no test here.py"),
        ("| F001 | x | yes | tests/here.py tests/here.py::test_b | |", "F001: no test tests/here.py::test_b"),
        ("| F001 | x | yes | tests/here.py::TestGroup::test_b | |", "F001: no test tests/here.py::TestGroup::test_b"),
    ],
)
def test_a_row_that_claims_too_much_is_found(tmp_path: Path, line: str, complaint: str) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "here.py").write_text("async def test_a() -> None: ...\nclass TestGroup: ...\n")
    (tmp_path / "here.py").write_text("")
    assert [c for row in rows(line) for c in complaints(row, tmp_path)] == [complaint]


def test_rows_that_say_enough_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "here.py").write_text("async def test_a() -> None: ...\ndef test_c() -> None: ...\n")
    page = (
        "| F001 | x | yes | tests/here.py::test_a tests/here.py::test_c | |\n| #2 | x | planned | tests/later.py | |\n"
    )
    assert [c for row in rows(page) for c in complaints(row, tmp_path)] == []


def test_ids_that_are_missing_doubled_or_invented_are_found() -> None:
    page = "| F001 | x | planned | | |\n| F001 | x | planned | | |\n| F300 | x | planned | | |\n"
    assert wrong_ids(rows(page), frozenset({"F001", "F002"})) == ["F001: 2 times", "F002: 0 times", "F300: 1 times"]


def test_a_row_with_a_cell_too_many_or_too_few_is_refused() -> None:
    with pytest.raises(ValueError, match="4 cells instead of 5"):
        rows("| F001 | x | planned | |")
