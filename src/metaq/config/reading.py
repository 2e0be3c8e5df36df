"""Typed look-ups in a parsed server.ini; every mistake names file, line, key, value and what would be right."""

from collections.abc import Callable, Collection
from typing import Final, TypeVar

from metaq.config import ini, keys
from metaq.config.expression import boolean, integer
from metaq.errors import ConfigError

T = TypeVar("T")

INT32: Final = (-(1 << 31), (1 << 31) - 1)
INT64: Final = (-(1 << 63), (1 << 63) - 1)
SHOWN: Final = 80  # characters of a value in a message
HOMES: Final = {"[system]": keys.SYSTEM, "[zookeeper]": keys.ZOOKEEPER, "[pymetaq]": keys.PYMETAQ}


def shortened(text: str) -> str:
    """Return `text` as a message shows it: on one line and not too long."""
    text = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text[: SHOWN + 1]
    )
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


class Options:
    """The options of one section. A blank value counts as not set; a section that is not there has no options."""

    def __init__(self, path: str, section: ini.Section) -> None:
        self._path = path
        self._section = section

    @property
    def blank(self) -> bool:
        """Whether no option has a value."""
        return not any(option.value for option in self._section.options.values())

    def names(self) -> list[str]:
        """Return the names of the options in the order of the file."""
        return list(self._section.options)

    def line(self, name: str) -> int:
        """Return the line of an option, that of the section if it is not set."""
        option = self._section.options.get(name)
        return option.line if option else self._section.line

    def error(self, name: str, reason: str) -> ConfigError:
        """Return the error that says what is wrong with an option."""
        option = self._section.options.get(name)
        if option is None:
            return ConfigError(f"{self._path}:{self._section.line}: [{self._section.name}] {name}: {reason}")
        value = shortened(option.value)
        comment = "; a comment needs a line of its own" if " ;" in value or " #" in value else ""
        return ConfigError(f"{self._path}:{option.line}: {shortened(name)}={value}: {reason}{comment}")

    def note(self, name: str, text: str) -> str:
        """Return a warning about an option, in the form of an error."""
        return str(self.error(name, text))

    def refuse_unknown(self, known: Collection[str], ignored: Collection[str]) -> list[str]:
        """Refuse the first name that is none of the section's; return warnings for the ignored ones."""
        warnings = []
        for name in self._section.options:
            if name in known:
                continue
            if name in ignored:
                warnings.append(self.note(name, f"[{self._section.name}] takes this name but it has no effect"))
                continue
            raise self.error(name, self._unknown(name, known))
        return warnings

    def _unknown(self, name: str, known: Collection[str]) -> str:
        here = f"[{shortened(self._section.name)}]"
        for home, others in HOMES.items():
            if name in others and home != here:
                return f"{here} has no such key; it belongs into {home}"
        if not known:
            return f"{here} has no keys yet"
        return f"{here} has no such key; did you mean {keys.nearest(name, known)}?"

    def text(self, name: str) -> str | None:
        """Return the value as it stands; None: not set."""
        option = self._section.options.get(name)
        return option.value or None if option else None

    def read(self, name: str, default: T, reader: Callable[[str], T]) -> T:
        """Return what `reader` makes of the value; ConfigError with the reason of its ValueError."""
        text = self.text(name)
        if text is None:
            return default
        try:
            return reader(text)
        except ValueError as exc:
            raise self.error(name, str(exc)) from exc

    def boolean(self, name: str, default: bool) -> bool:
        """Return a truth value."""
        return self.read(name, default, _boolean)

    def integer(self, name: str, default: int, low: int = INT32[0], high: int = INT32[1]) -> int:
        """Return an integer within low … high."""
        return self.read(name, default, lambda text: _ranged(text, low, high))

    def milliseconds(self, name: str, default: float, low: int = INT32[0], high: int = INT32[1]) -> float:
        """Return, in seconds, what the file states in milliseconds."""
        return self.read(name, default, lambda text: _ranged(text, low, high) / 1000)


def _boolean(text: str) -> bool:
    try:
        return boolean(text)
    except ValueError as exc:
        raise ValueError(f"{exc}; write true or false") from exc


def _ranged(text: str, low: int, high: int) -> int:
    value = integer(text)
    if low <= value <= high:
        return value
    is_text = "" if text == str(value) else f"is {value}, "
    if high in (INT32[1], INT64[1]):
        limit = f"at least {low}" if value < low and low not in (INT32[0], INT64[0]) else f"between {low} and {high}"
    else:
        limit = f"between {low} and {high}"
    raise ValueError(f"{is_text}must be {limit}")
