"""Changes of topics as edits of a server.ini; pure.

Only lines of the topic itself change: comments, order, line ends and bytes that are no UTF-8 (a comment in GBK) stay.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final, NamedTuple

from metaq.config import ini, keys
from metaq.config.broker import TOPIC_SECTION, Document, parse, read_topics
from metaq.config.model import BrokerConfig, TopicConfig
from metaq.config.reading import shortened
from metaq.config.topics import ACTIVE, TopicNames, unfit
from metaq.errors import ConfigError

PARTITIONS: Final = "numPartitions"
_ENDS: Final = re.compile(r"(\r\n|\n|\r)")  # as ini.LINE_END, kept by a split
_BOM: Final = "\N{ZERO WIDTH NO-BREAK SPACE}"


class Action(Enum):
    CREATE = "create"
    ALTER = "alter"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class TopicChange:
    """What shall become of the section of one topic.

    `settings`: keys of [topic=NAME] and their values as they are written in server.ini; an empty value takes the key
    out, so that the value of [system] holds. A drop has none.
    """

    action: Action
    topic: str
    settings: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def __str__(self) -> str:
        return " ".join((self.action.value, self.topic, *(f"{key}={value}" for key, value in self.settings.items())))


class Edited(NamedTuple):
    """The content of a changed file, and the configuration it states."""

    data: bytes
    config: BrokerConfig


@dataclass(slots=True)
class _Section:
    """One `[name]` and what follows it; lines count from 0. `end`: the line behind the last one with an option."""

    name: str
    start: int
    end: int
    options: list[tuple[str, int, int]] = field(default_factory=list)  # name, first line, the line behind the last


def check(change: TopicChange) -> None:
    """Raise ConfigError for a change that fits no server.ini, whatever stands in it."""
    topic = change.topic
    if reason := unfit(topic):
        raise ConfigError(f"topic {shortened(topic)!r}: {reason}")
    for key in change.settings:
        if key not in keys.TOPIC and not re.fullmatch(rf"{re.escape(keys.FILTER)}[^\s:=]+", key):
            close = keys.nearest(key, keys.TOPIC)
            raise ConfigError(f"a topic has no key {shortened(key)!r}; did you mean {close}?")
    if change.action is Action.DROP and ACTIVE.search(topic):
        raise ConfigError(f"{topic} is a pattern of topics; to admit no more of them take its section out and reload")
    lines = _written(f"{TOPIC_SECTION}{topic}", change.settings)
    try:
        _, warnings = read_topics(Document("\n".join(lines).encode(), topic), TopicConfig(name=""))
        if warnings:  # what a file may have, nobody asks for
            raise ConfigError(warnings[0])
    except ConfigError as exc:
        raise ConfigError(f"topic {topic}: {str(exc).split(': ', 1)[1]}") from None


def edit(
    data: bytes,
    path: str,
    change: TopicChange,
    *,
    env: Mapping[str, str] = os.environ,
    is_dir: Callable[[str], bool] = os.path.isdir,
) -> Edited:
    """Return what the file at `path` holds when the change is made. Raises ConfigError if that is not possible.

    The file must be right before, and is after it. A create wants a topic without a section, the others one with it;
    partitions can only grow: those taken away could not be read any more, and a key would go to another partition.
    """
    check(change)
    before = parse(data, path, env=env, is_dir=is_dir)
    topic = change.topic
    exists = before.has_section(topic)
    if change.action is Action.CREATE and exists:
        raise ConfigError(f"topic {topic} exists already: {path} has its section")
    if change.action is not Action.CREATE and not exists:
        raise ConfigError(f"there is no topic {topic}: {path} has no section [{TOPIC_SECTION}{topic}]")
    new = _edited(data, change)
    after = parse(new, path, env=env, is_dir=is_dir)
    if change.action is Action.ALTER:
        _check_growth(topic, before, after)
    if change.action is Action.DROP and TopicNames(other.name for other in after.topics).accepts(topic):
        raise ConfigError(f"topic {topic} cannot be dropped: another section of {path} is a pattern that admits it")
    return Edited(new, after)


def is_done(data: bytes, path: str, change: TopicChange) -> bool:
    """Tell whether the file says already what the change leads to. Raises ConfigError if it is wrong."""
    config = parse(data, path)
    if change.action is Action.DROP:
        return not config.has_section(change.topic)
    if not config.has_section(change.topic):
        return False
    options = Document(data, path).section(f"{TOPIC_SECTION}{change.topic}")
    return all((options.text(key) or "") == value for key, value in change.settings.items())


def _check_growth(topic: str, before: BrokerConfig, after: BrokerConfig) -> None:
    had, has = before.topic(topic).num_partitions, after.topic(topic).num_partitions
    if has < had:
        raise ConfigError(
            f"topic {topic} has {had} partitions and cannot have {has}: they can only become more, "
            "since messages in those taken away could not be read any more"
        )


def _edited(data: bytes, change: TopicChange) -> bytes:
    text = data.decode("utf-8", "surrogateescape")
    mark = _BOM if text.startswith(_BOM) else ""
    text = text.removeprefix(_BOM)
    pieces = _ENDS.split(text)
    lines = [line + end for line, end in zip(pieces[::2], [*pieces[1::2], ""], strict=True)]
    newline = pieces[1] if len(pieces) > 1 else "\n"
    if lines[-1]:
        lines[-1] += newline
    else:
        lines.pop()
    sections = list(_sections(text))
    name = f"{TOPIC_SECTION}{change.topic}"
    ours = [section for section in sections if section.name == name]
    if change.action is Action.CREATE:
        _insert(lines, sections, [line + newline for line in _written(name, change.settings)], newline)
    elif change.action is Action.DROP:
        for section in reversed(ours):
            _remove(lines, section.start, section.end)
    else:
        for key, value in change.settings.items():
            _set(lines, ours, key, value, newline)
            sections = list(_sections("".join(lines)))  # numbers of lines are others now
            ours = [section for section in sections if section.name == name]
    return (mark + "".join(lines)).encode("utf-8", "surrogateescape")


def _sections(text: str) -> Iterator[_Section]:
    """Yield the sections in the order of the file; one that is named twice comes twice."""
    current: _Section | None = None
    for first, last, line in ini.lines(text):
        if line.startswith("["):
            if current is not None:
                yield current
            current = _Section(ini.section_name(first, line), first - 1, last)
        elif current is not None:
            current.options.append((ini.read_option(first, line).name, first - 1, last))
            current.end = last
    if current is not None:
        yield current


def _written(section: str, settings: Mapping[str, str]) -> list[str]:
    options = (f"{ini.escape(key)}={ini.escape(value)}" for key, value in settings.items() if value)
    return [f"[{ini.escape(section)}]", *options]


def _insert(lines: list[str], sections: Sequence[_Section], new: list[str], newline: str) -> None:
    """Put a section behind the last one of a topic; there is one in any file that is right."""
    last = max((section for section in sections if section.name.startswith(TOPIC_SECTION)), key=lambda s: s.end)
    before = [newline] if last.options else []
    after = [newline] if last.end < len(lines) and lines[last.end].strip(ini.BLANKS) else []
    lines[last.end : last.end] = [*before, *new, *after]


def _remove(lines: list[str], start: int, end: int) -> None:
    """Take lines out; of blank lines before and behind them one set stays."""
    blank_before = start > 0 and not lines[start - 1].strip(ini.BLANKS)
    if blank_before and end < len(lines) and not lines[end].strip(ini.BLANKS):
        end += 1
    del lines[start:end]


def _set(lines: list[str], sections: Sequence[_Section], key: str, value: str, newline: str) -> None:
    """Write an option where it stands already, the last time if more than once; else behind the others."""
    places = [(start, end) for section in sections for name, start, end in section.options if name == key]
    if not value:
        for start, end in reversed(places):
            del lines[start:end]
    elif places:
        start, end = places[-1]
        written = re.match(r"[^=:]*[=:][ \t]*", lines[start])
        lines[start:end] = [f"{written[0] if written else f'{key}='}{ini.escape(value)}{newline}"]
    else:
        end = sections[-1].end
        lines[end:end] = [f"{ini.escape(key)}={ini.escape(value)}{newline}"]
