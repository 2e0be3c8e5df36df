"""Quartz cron expressions, the dialect of `deleteWhen` (reference: storage.md §7.3, Quartz 2.1 CronExpression).

Six fields `second minute hour day-of-month month day-of-week` and an optional seventh, `year`. Exactly one of the two
day fields is `?`. Weekdays count from 1 = Sunday. Ranges may wrap (`22-2`). Where Quartz silently ignores what it does
not understand (`5x`, `MON-FRI/2`, an eighth field, a step of 0), parsing fails here.

Daylight saving follows the original: a time that the clocks skip does not fire that day; one that they repeat fires
once, in the second pass.
"""

import re
from bisect import bisect_left
from calendar import monthrange, weekday
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from typing import Final, NamedTuple, Protocol

YEARS_AHEAD: Final = 100  # as Quartz: what does not fire within a century never fires


class Unit(NamedTuple):
    """One field of the expression: its legal values, the largest step of `*/step`, and names for values."""

    name: str
    low: int
    high: int
    step: int
    names: tuple[str, ...] = ()

    def number(self, text: str) -> int:
        """Return the value that `text` stands for; ValueError if it is out of range."""
        if text in self.names:
            return self.names.index(text) + self.low
        if not text.isdigit():
            raise ValueError(f"{text} is no {self.name}")
        value = int(text)
        if not self.low <= value <= self.high:
            raise ValueError(f"{self.name} {value} is not in {self.low}-{self.high}")
        return value


MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAYS: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")

SECOND: Final = Unit("second", 0, 59, 59)
MINUTE: Final = Unit("minute", 0, 59, 59)
HOUR: Final = Unit("hour", 0, 23, 23)
DAY: Final = Unit("day of month", 1, 31, 31)
MONTH: Final = Unit("month", 1, 12, 12, MONTHS)
WEEKDAY: Final = Unit("day of week", 1, 7, 7, WEEKDAYS)
YEAR: Final = Unit("year", 1970, 2299, 2299)

ITEM: Final = re.compile(r"(?:(\*)|(\w+)(?:-(\w+))?)?(?:/([0-9]{1,4}))?", re.ASCII)
LAST_DAY: Final = re.compile(r"L(?:-([0-9]{1,2}))?(W)?")
NEAREST: Final = re.compile(r"([0-9]{1,2})W")
NTH: Final = re.compile(r"(\w{1,3})#([0-9])", re.ASCII)
LAST: Final = re.compile(r"([0-9]|[A-Z]{3})?L")


class Days(Protocol):
    """A rule that picks days of a month."""

    def of(self, year: int, month: int) -> list[int]:
        """Return the days of that month that the rule picks, ascending."""


def _quartz_weekday(year: int, month: int, day: int) -> int:
    return (weekday(year, month, day) + 1) % 7 + 1


def _nearest_weekday(year: int, month: int, day: int) -> int:
    """Return the Monday to Friday nearest to `day` within its month."""
    last = monthrange(year, month)[1]
    match weekday(year, month, day):
        case 5:
            return day - 1 if day > 1 else day + 2
        case 6:
            return day + 1 if day < last else day - 2
        case _:
            return day


@dataclass(frozen=True, slots=True)
class DaysOfMonth:
    """The days named; those that a month does not have are left out."""

    days: tuple[int, ...]

    def of(self, year: int, month: int) -> list[int]:
        last = monthrange(year, month)[1]
        return [day for day in self.days if day <= last]


@dataclass(frozen=True, slots=True)
class LastDay:
    """`L`, `L-n`, `LW`, `L-nW`: `back` days before the last one, or the weekday nearest to that."""

    back: int
    nearest: bool

    def of(self, year: int, month: int) -> list[int]:
        day = monthrange(year, month)[1] - self.back
        if day < 1:
            return []
        return [_nearest_weekday(year, month, day) if self.nearest else day]


@dataclass(frozen=True, slots=True)
class NearestWeekday:
    """`15W`: the weekday nearest to the day; none in a month that does not have the day."""

    day: int

    def of(self, year: int, month: int) -> list[int]:
        if self.day > monthrange(year, month)[1]:
            return []
        return [_nearest_weekday(year, month, self.day)]


@dataclass(frozen=True, slots=True)
class Weekdays:
    """The weekdays named, 1 = Sunday."""

    days: tuple[int, ...]

    def of(self, year: int, month: int) -> list[int]:
        last = monthrange(year, month)[1]
        return [day for day in range(1, last + 1) if _quartz_weekday(year, month, day) in self.days]


@dataclass(frozen=True, slots=True)
class NthWeekday:
    """`6#3`: the third Friday. `n` 0 (`6L`): the last one."""

    day: int
    n: int

    def of(self, year: int, month: int) -> list[int]:
        days = Weekdays((self.day,)).of(year, month)
        return days[self.n - 1 : self.n] if self.n else days[-1:]


def _values(text: str, unit: Unit) -> tuple[int, ...]:
    """Return the values of one comma list, sorted; ValueError with the reason if it is not one."""
    found: set[int] = set()
    items = [item for item in text.split(",") if item]
    if not items:
        raise ValueError(f"no {unit.name}")
    for item in items:
        found.update(_item_values(item, unit))
    return tuple(sorted(found))


def _item_values(item: str, unit: Unit) -> Iterator[int]:
    match = ITEM.fullmatch(item)
    if match is None:
        raise ValueError(f"{item} is no {unit.name}")
    star, first, last, step_text = match.groups()
    if step_text is not None and first is not None and not (first + (last or "")).isdigit():
        raise ValueError(f"{item}: a step needs numbers, not names")
    step = 1 if step_text is None else int(step_text)
    if step < 1:
        raise ValueError(f"{item}: a step is at least 1")
    if first is None:
        if not star and step_text is None:
            raise ValueError(f"{item} is no {unit.name}")
        if step > unit.step:
            raise ValueError(f"{item}: a step of the {unit.name} is at most {unit.step}")
        return iter(range(unit.low, unit.high + 1, step))
    low = unit.number(first)
    if last is None:
        return iter(range(low, (low if step_text is None else unit.high) + 1, step))
    return _range(low, unit.number(last), step, unit)


def _range(low: int, high: int, step: int, unit: Unit) -> Iterator[int]:
    """Yield low, low + step … up to high, going on from the lowest value if the range wraps."""
    size = unit.high - unit.low + 1
    if high < low:
        if unit is YEAR:
            raise ValueError(f"years {low}-{high} run backwards")
        high += size
    for value in range(low, high + 1, step):
        yield (value - unit.low) % size + unit.low


def _days_of_month(text: str) -> Days:
    if match := LAST_DAY.fullmatch(text):
        back = int(match[1] or 0)
        if back > 30:
            raise ValueError(f"{text}: at most 30 days before the last one")
        return LastDay(back, match[2] is not None)
    if match := NEAREST.fullmatch(text):
        return NearestWeekday(DAY.number(match[1]))
    if "," in text and ("L" in text or "W" in text):
        raise ValueError(f"{text}: L and W go with one day only")
    return DaysOfMonth(_values(text, DAY))


def _days_of_week(text: str) -> Days:
    if match := LAST.fullmatch(text):
        return NthWeekday(WEEKDAY.number(match[1]), 0) if match[1] else Weekdays((7,))
    if match := NTH.fullmatch(text):
        n = int(match[2])
        if not 1 <= n <= 5:
            raise ValueError(f"{text}: the number after # is 1 to 5")
        return NthWeekday(WEEKDAY.number(match[1]), n)
    if "," in text and ("L" in text or "#" in text):
        raise ValueError(f"{text}: L and # go with one day only")
    return Weekdays(_values(text, WEEKDAY))


def _days(of_month: str, of_week: str) -> Days:
    if of_week == "?" and of_month != "?":
        return _days_of_month(of_month)
    if of_month == "?" and of_week != "?":
        return _days_of_week(of_week)
    raise ValueError("exactly one of day of month and day of week must be ?")


@dataclass(frozen=True, slots=True)
class Cron:
    """A parsed expression. Equal if the text is, apart from blanks."""

    text: str
    seconds: tuple[int, ...] = field(compare=False)
    minutes: tuple[int, ...] = field(compare=False)
    hours: tuple[int, ...] = field(compare=False)
    days: Days = field(compare=False)
    months: tuple[int, ...] = field(compare=False)
    years: frozenset[int] = field(compare=False)

    @classmethod
    def parse(cls, text: str) -> "Cron":
        """Return the expression that `text` is; ValueError with a plain reason if it is none."""
        fields = text.upper().split()
        if not 6 <= len(fields) <= 7:
            raise ValueError(
                f"{len(fields)} fields, not 6 or 7: second minute hour day-of-month month day-of-week [year]"
            )
        second, minute, hour, day, month, day_of_week = fields[:6]
        return cls(
            " ".join(text.split()),
            _values(second, SECOND),
            _values(minute, MINUTE),
            _values(hour, HOUR),
            _days(day, day_of_week),
            _values(month, MONTH),
            frozenset(_values(fields[6] if len(fields) == 7 else "*", YEAR)),
        )

    def __str__(self) -> str:
        return self.text

    def next_after(self, t: float, tz: tzinfo | None = None) -> float | None:
        """Return the first instant after `t` (seconds since 1970) at which the expression fires; None: never again.

        `tz` None is the local time zone.
        """
        moment = datetime.fromtimestamp(t, tz)
        second_pass = moment.replace(fold=1)
        # in the first pass of a repeated hour everything from the start of that hour is still to come
        behind = second_pass.timestamp() - moment.timestamp()
        start = moment.replace(tzinfo=None, fold=0, microsecond=0) - timedelta(seconds=max(0.0, behind))
        for wall in self._walls(start):
            instant = wall.replace(tzinfo=tz, fold=1).timestamp()
            exists = datetime.fromtimestamp(instant, tz).replace(tzinfo=None, fold=0) == wall
            if instant > t and exists:
                return instant
        return None

    def _walls(self, after: datetime) -> Iterator[datetime]:
        """Yield the wall-clock times from just after `after` on that match, ascending, a century long."""
        for year in range(after.year, after.year + YEARS_AHEAD + 1):
            if year not in self.years:
                continue
            for month in self.months:
                if (year, month) < (after.year, after.month):
                    continue
                for day in self.days.of(year, month):
                    midnight = datetime(year, month, day)
                    if midnight.date() == after.date():
                        yield from (wall for wall in self._times(midnight, after.hour) if wall > after)
                    elif midnight > after:
                        yield from self._times(midnight, 0)

    def _times(self, midnight: datetime, from_hour: int) -> Iterator[datetime]:
        for hour in self.hours[bisect_left(self.hours, from_hour) :]:
            for minute in self.minutes:
                for second in self.seconds:
                    yield midnight.replace(hour=hour, minute=minute, second=second)
