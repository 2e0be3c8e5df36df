"""Java property files, as the plugins' `conf/*.properties` (reference: config.md §1, §8)."""

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from metaq.config.keys import nearest
from metaq.config.reading import shortened
from metaq.errors import ConfigError

ESCAPES: Final = {"t": "\t", "n": "\n", "f": "\f", "r": "\r"}
ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|[\s\S]|$)")
LINE_END: Final = re.compile(r"\r\n|\n|\r")
KEY: Final = re.compile(r"((?:\\[\s\S]|[^\\=: \t\f])*)[ \t\f]*[=:]?[ \t\f]*")
BLANKS: Final = " \t\f"


def parse(data: bytes, encoding: str = "gbk") -> dict[str, str]:
    r"""Return the properties of a file; of a key named twice the last one holds (reference: java.util.Properties).

    Malformed bytes become U+FFFD. ValueError, with the line, for a `\u` without four hexadecimal digits.
    """
    properties: dict[str, str] = {}
    for number, line in _logical_lines(data.decode(encoding, "replace")):
        match = KEY.match(line)
        assert match is not None  # every part of the pattern may be empty
        try:
            properties[_unescape(match[1])] = _unescape(line[match.end() :])
        except ValueError as exc:
            raise ValueError(f"{number}: {line}: {exc}") from exc
    return properties


def read(path: str, whose: str) -> bytes:
    """Return the bytes of a file of properties. ConfigError, which says `whose` it is, if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read: {exc.strerror}; {whose}") from exc


def settings(data: bytes, path: str) -> dict[str, str]:
    """Return the properties of a plugin's file, without blanks around the values. ConfigError, with the line."""
    try:
        return {name: value.strip() for name, value in parse(data).items()}
    except ValueError as exc:
        raise ConfigError(f"{path}:{exc}") from exc


def warnings_of(found: Iterable[str], known: Collection[str], path: str) -> list[str]:
    """Return what to say of keys that nobody knows: Java passes over them, too."""
    return [
        f"{path}: {shortened(name)}: no such key, it is passed over; did you mean {nearest(name, known)}?"
        for name in found
        if name not in known
    ]


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield each line that is neither blank nor comment, joined, with the number it begins on."""
    joined, start = "", 0
    for number, raw in enumerate(LINE_END.split(text), 1):
        line = raw.lstrip(BLANKS)
        if not start and (not line or line[0] in "#!"):
            continue
        start = start or number
        if (len(line) - len(line.rstrip("\\"))) % 2:
            joined += line[:-1]
            continue
        yield start, joined + line
        joined, start = "", 0
    if start:
        yield start, joined


def _unescape(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        escaped = match[1]
        if len(escaped) == 5:
            return chr(int(escaped[1:], 16))
        if escaped == "u":
            raise ValueError(r"\u needs four hexadecimal digits")
        return ESCAPES.get(escaped, escaped)

    return ESCAPE.sub(replace, text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
