"""Quartz cron: the answers of Quartz 2.1.7, what is refused, and a law that brute force checks."""

from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaq.config.cron import Cron

RECORDED: Final = Path(__file__).parents[2] / "data" / "reference" / "quartz.txt"
ROWS: Final = [row.split("|") for row in RECORDED.read_text().splitlines() if not row.startswith("#")]
NEW_YORK: Final = ZoneInfo("America/New_York")


def times(cron: Cron, start: float, count: int, tz: tzinfo) -> list[float | None]:
    found: list[float | None] = []
    t: float | None = start
    while t is not None and len(found) < count:
        t = cron.next_after(t, tz)
        found.append(t)
    return found


@pytest.mark.parametrize(("zone", "expression", "start", "answer"), ROWS, ids=[f"{row[0]} {row[1]}" for row in ROWS])
def test_it_fires_when_quartz_does(zone: str, expression: str, start: str, answer: str) -> None:
    if answer == "refused":
        with pytest.raises(ValueError, match=r"\w"):
            Cron.parse(expression)
        return
    expected = [None if word == "null" else float(word) for word in answer.split()]
    assert times(Cron.parse(expression), float(start), len(expected), ZoneInfo(zone)) == expected


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("0 0 6 * * *", "exactly one of day of month and day of week must be ?"),
        ("0 0 6 ? * ?", "exactly one of day of month and day of week must be ?"),
        ("0 6 * * ?", "5 fields, not 6 or 7: second minute hour day-of-month month day-of-week [year]"),
        ("", "0 fields, not 6 or 7: second minute hour day-of-month month day-of-week [year]"),
        ("@daily", "1 fields, not 6 or 7: second minute hour day-of-month month day-of-week [year]"),
        ("0 0 24 * * ?", "hour 24 is not in 0-23"),
        ("60 0 0 * * ?", "second 60 is not in 0-59"),
        ("0 0 0 32 * ?", "day of month 32 is not in 1-31"),
        ("0 0 6 ? * XYZ", "XYZ is no day of week"),
        ("0 0 6 1 1 ? 2030-2020", "years 2030-2020 run backwards"),
        ("0 0 6 L,5 * ?", "L,5: L and W go with one day only"),
        ("0 0 6 ? * 6L,2", "6L,2: L and # go with one day only"),
        ("0 0 6 L-31 * ?", "L-31: at most 30 days before the last one"),
        ("0 0 6 ? * 6#6", "6#6: the number after # is 1 to 5"),
        ("0 0 */24 * * ?", "*/24: a step of the hour is at most 23"),
    ],
)
def test_what_is_wrong_is_said(expression: str, reason: str) -> None:
    with pytest.raises(ValueError) as caught:
        Cron.parse(expression)
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    "expression",
    [
        "5x 0 6 * * ?",
        "0 0 6 ? * MON-FRI/2",
        "0 0 6 ? * MON/2",
        "0 0 6 1 JANUARY ?",
        "0 0 6 * * ? 2030 x",
        "0 0/0 6 * * ?",
        "0 0 6 15W,20 * ?",
        "0 0 6 ? * 6#3,2",
        "0 0 6 0W * ?",
    ],
)
def test_what_quartz_ignores_or_hangs_on_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Cron.parse(expression)


def test_its_text_is_the_expression_with_single_blanks() -> None:
    assert str(Cron.parse("  0 0\t6,18 * *  ? ")) == "0 0 6,18 * * ?"
    assert Cron.parse("0 0 6 * * ?") == Cron.parse(" 0 0 6 * * ? ")


def test_the_next_time_is_later_than_a_moment_with_a_fraction() -> None:
    assert Cron.parse("* * * * * ?").next_after(1000.25, UTC) == 1001.0
    assert Cron.parse("* * * * * ?").next_after(1000.0, UTC) == 1001.0


def test_without_a_zone_it_is_the_local_one() -> None:
    start = datetime(2026, 7, 1, 5, 0, 0).timestamp()
    assert Cron.parse("0 0 6 * * ?").next_after(start) == datetime(2026, 7, 1, 6, 0, 0).timestamp()


def test_a_time_that_the_clocks_skip_does_not_fire_that_day() -> None:
    start = datetime(2026, 3, 8, 0, 0, tzinfo=NEW_YORK).timestamp()
    assert (
        Cron.parse("0 30 2 * * ?").next_after(start, NEW_YORK)
        == datetime(2026, 3, 9, 2, 30, tzinfo=NEW_YORK).timestamp()
    )


def test_a_time_that_the_clocks_repeat_fires_once_in_the_second_pass() -> None:
    repeated = datetime(2026, 11, 1, 1, 30, fold=1, tzinfo=NEW_YORK).timestamp()
    daily = Cron.parse("0 30 1 * * ?")
    for minutes in (180, 90, 61, 60, 45, 1):  # before, in the first pass before and after it, in the second pass
        assert daily.next_after(repeated - minutes * 60, NEW_YORK) == repeated
    assert daily.next_after(repeated, NEW_YORK) == datetime(2026, 11, 2, 1, 30, tzinfo=NEW_YORK).timestamp()


def field(low: int, high: int) -> st.SearchStrategy[str]:
    """Texts of a field with their usual forms: all, steps, lists, ranges that may wrap."""
    value = st.integers(low, high).map(str)
    return st.one_of(
        st.just("*"),
        st.integers(1, high).map(lambda step: f"*/{step}"),
        st.lists(value, min_size=1, max_size=3).map(",".join),
        st.tuples(value, value).map("-".join),
        st.tuples(value, value, st.integers(1, 9)).map(lambda t: f"{t[0]}-{t[1]}/{t[2]}"),
    )


def plain(text: str, low: int, high: int) -> set[int]:
    """Read the same forms the slow and obvious way: walk the clock face from the start of each range."""
    chosen: set[int] = set()
    for item in text.split(","):
        span, _, step = item.partition("/")
        first, _, last = span.partition("-")
        start, end = (low, high) if first == "*" else (int(first), int(last or first))
        face = [*range(low, high + 1)] * 2
        at = face.index(start)
        chosen.update(face[at : face.index(end, at) + 1 : int(step or 1)])
    return chosen


@settings(max_examples=80)
@given(
    second=field(0, 59),
    minute=field(0, 59),
    hour=field(0, 23),
    zone=st.sampled_from(["UTC", "America/New_York", "Australia/Lord_Howe"]),
    start=st.one_of(
        st.integers(86400, 4_000_000_000),  # Quartz knows no year before 1970
        st.integers(1772953200 - 9000, 1772953200 + 9000),  # clocks forward in New York
        st.integers(1793512800 - 9000, 1793512800 + 9000),  # and back
    ),
)
def test_the_result_is_later_and_matches_and_nothing_between_does(
    second: str, minute: str, hour: str, zone: str, start: int
) -> None:
    tz = ZoneInfo(zone)
    found = Cron.parse(f"{second} {minute} {hour} * * ?").next_after(start, tz)
    seconds, minutes, hours = plain(second, 0, 59), plain(minute, 0, 59), plain(hour, 0, 23)

    def matches(t: int) -> bool:
        wall = datetime.fromtimestamp(t, tz)
        last_pass = wall.replace(fold=1).utcoffset() == wall.utcoffset()
        return wall.second in seconds and wall.minute in minutes and wall.hour in hours and last_pass

    assert found is not None
    assert found > start
    assert matches(int(found))
    assert not any(matches(t) for t in range(start + 1, min(int(found), start + 3700)))


@given(day=field(1, 31), month=field(1, 12), start=st.dates(datetime(1990, 1, 1).date(), datetime(2060, 1, 1).date()))
def test_days_and_months_match_like_a_calendar_walked_day_by_day(day: str, month: str, start: datetime) -> None:
    midnight = datetime(start.year, start.month, start.day, tzinfo=UTC)
    found = Cron.parse(f"0 0 0 {day} {month} ?").next_after(midnight.timestamp(), UTC)
    days, months = plain(day, 1, 31), plain(month, 1, 12)
    walked = (midnight + timedelta(days=n) for n in range(1, 1 + (366 * 9)))
    expected = next((d.timestamp() for d in walked if d.day in days and d.month in months), None)
    assert found == expected
