"""The INI dialect of server.ini (reference: config.md §2, ini4j 0.5.1 as the original sets it up); pure.

Lines are trimmed; a line whose first character is `;` or `#` is a comment, and nothing else is. A backslash escapes in
names and values and, at the end of a line, joins the next one. Differences: a UTF-8 byte order mark is skipped; a
backslash at the end of the last line is an error (there it silently loses the option); `[a/b]` makes no section `[a]`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

BLANKS: Final = "".join(map(chr, range(33)))  # what trimming takes off there: all up to the space, nothing beyond
ESCAPES: Final = {"t": "\t", "n": "\n", "f": "\f", "b": "\b", "r": "\r"}
ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|[\s\S]|$)")
LINE_END: Final = re.compile(r"\r\n|\n|\r")


class IniError(ValueError):
    """A line that is none of the dialect; `line` counts from 1."""

    def __init__(self, line: int, text: str, reason: str) -> None:
        super().__init__(f"{line}: {text}: {reason}")
        self.line = line
        self.text = text
        self.reason = reason


class Option(NamedTuple):
    """One `name=value` and the line it begins on."""

    name: str
    value: str
    line: int


@dataclass(slots=True)
class Section:
    """One section and the line it first appears on; of options named twice the last one holds."""

    name: str
    line: int
    options: dict[str, Option] = field(default_factory=dict)


def parse(data: bytes) -> dict[str, Section]:
    """Return the sections by name, in the order of the file. Malformed UTF-8 becomes U+FFFD.

    Raises IniError at the first line that is neither blank, comment, section nor option.
    """
    sections: dict[str, Section] = {}
    current: Section | None = None
    for number, _, line in lines(data.decode("utf-8-sig", "replace")):
        if line.startswith("["):
            name = section_name(number, line)
            current = sections.setdefault(name, Section(name, number))
            continue
        option = read_option(number, line)
        if current is None:
            raise IniError(number, line, "stands before the first section; a file begins with [system]")
        current.options[option.name] = option
    return sections


def lines(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield each line that is neither blank nor comment, trimmed and joined, after the numbers it begins and ends on.

    Raises IniError as `parse`, as do `section_name` and `read_option` for what they are given of it.
    """
    parts: list[str] = []
    start = 0
    for number, raw in enumerate(LINE_END.split(text), 1):
        line = raw.strip(BLANKS)
        if not line or (not parts and line[0] in ";#"):
            continue
        if not parts:
            start = number
        if (len(line) - len(line.rstrip("\\"))) % 2:
            parts.append(line[:-1])
            continue
        yield start, number, "".join((*parts, line))
        parts.clear()
    if parts:
        raise IniError(start, "".join(parts) + "\\", "the backslash joins the next line, but the file ends; write \\\\")


def section_name(number: int, line: str) -> str:
    """Return the name in a line that begins with [."""
    if not line.endswith("]"):
        raise IniError(number, line, "a section ends with ]; a comment needs a line of its own")
    name = _unescape(number, line, line[1:-1].strip(BLANKS))
    if not name:
        raise IniError(number, line, "a section needs a name")
    return name


def read_option(number: int, line: str) -> Option:
    """Return the option that any other line is."""
    operator = re.search("[=:]", line)
    if operator is None:
        raise IniError(number, line, "neither a [section] nor name=value; a comment begins with ; or #")
    name = _unescape(number, line, line[: operator.start()]).strip(BLANKS)
    value = _unescape(number, line, line[operator.end() :]).strip(BLANKS)
    if not name:
        raise IniError(number, line, "a name must stand before the =")
    return Option(name, value, number)


def _unescape(number: int, line: str, text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        escaped = match[1]
        if len(escaped) == 5:
            return chr(int(escaped[1:], 16))
        if escaped in ("u", ""):
            raise IniError(number, line, r"a backslash escapes: write \\ for one, \uXXXX for a character by its number")
        return ESCAPES.get(escaped, escaped)

    # a character outside the 16 bits of \\uXXXX is written as two of them
    return ESCAPE.sub(replace, text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def escape(value: str) -> str:
    """Return `value` as it must be written in a file to be read back unchanged, in ASCII; outer blanks are lost."""
    names = {character: letter for letter, character in ESCAPES.items()}
    return "".join(_escaped(character, names) for character in value)


def _escaped(character: str, names: dict[str, str]) -> str:
    if character == "\\":
        return "\\\\"
    if character in names:
        return f"\\{names[character]}"
    if " " <= character <= "~":
        return character
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
