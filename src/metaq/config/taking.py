"""What a slave's server.ini becomes when it takes over the topics of its master's; pure.

The sections of topics are the master's, byte for byte, with the comments directly above them; all else stays the
slave's own: [system], [zookeeper], [pymetaq]. A section keeps the slave's dataPath, a place on this machine, and states
what else the master's [system] would have given it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from metaq.config import ini
from metaq.config.broker import TOPIC_SECTION, parse
from metaq.config.model import BrokerConfig
from metaq.errors import ConfigError

_ENDS: Final = re.compile(r"(\r\n|\n|\r)")  # as ini.LINE_END, kept by a split
_BOM: Final = "\N{ZERO WIDTH NO-BREAK SPACE}"
_PLACE: Final = "dataPath"


@dataclass(slots=True)
class _Piece:
    """A section with the comments directly above it, as lines with their ends; name "": what stands before the first.

    `options`: name → numbers of the first line, and of the one behind the last, within the piece.
    """

    name: str
    lines: list[str]
    header: int = 0  # the line that is [name]
    options: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def is_topic(self) -> bool:
        return self.name.startswith(TOPIC_SECTION)


def read_theirs(data: bytes, path: str = "the master's server.ini") -> BrokerConfig:
    """Return what a file of another machine says; folders it names need not be here. Raises ConfigError."""
    return parse(data, path, is_dir=lambda _: True)


def same_topics(one: BrokerConfig, other: BrokerConfig) -> bool:
    """Tell whether two files lead to the same topics, in whatever order."""
    return {topic.name: topic for topic in one.topics} == {topic.name: topic for topic in other.topics}


def take_topics(ours: bytes, theirs: bytes, path: str) -> bytes:
    """Return our file with their topics; `path` is ours. Raises ConfigError if the outcome could not be used."""
    before, master = parse(ours, path), read_theirs(theirs)
    own, taken = _pieces(ours), [piece for piece in _pieces(theirs) if piece.is_topic]
    places = {piece.name: piece for piece in own if _PLACE in piece.options}
    same: dict[str, list[_Piece]] = {}
    for piece in taken:
        same.setdefault(piece.name, []).append(piece)
    for name, pieces in same.items():
        more = [*_own_place(places.get(name)), *_defaults(pieces, master, before)]
        for piece in pieces:
            _take_out(piece, _PLACE)
        _add(pieces[0], more)
    first = next(index for index, piece in enumerate(own) if piece.is_topic)
    kept = [piece for piece in own[first:] if not piece.is_topic]
    text = "".join(line for piece in (*own[:first], *taken, *kept) for line in piece.lines)
    merged = text.encode("utf-8", "surrogateescape")
    if _visible(parse(merged, path)) != _visible(master):
        raise ConfigError(
            f"{path}: the sections of topics of the master's server.ini do not fit in; write them by hand"
        )
    return merged


def _visible(config: BrokerConfig) -> Mapping[str, tuple[object, ...]]:
    """Return of each topic what others than its broker see: it must be the same on master and slaves."""
    return {
        topic.name: (topic.num_partitions, topic.accept_publish, topic.accept_subscribe)
        for topic in reversed(config.topics)  # of sections named twice the first one counts
    }


def _defaults(pieces: list[_Piece], master: BrokerConfig, before: BrokerConfig) -> Iterator[str]:
    """Yield options that the section got from the master's [system] and would get differently from ours."""
    said = {option for piece in pieces for option in piece.options}
    theirs, ours = master.defaults, before.defaults
    for option, value, other in (
        ("numPartitions", theirs.num_partitions, ours.num_partitions),
        ("acceptPublish", theirs.accept_publish, ours.accept_publish),
        ("acceptSubscribe", theirs.accept_subscribe, ours.accept_subscribe),
    ):
        if option not in said and value != other:
            yield f"{option}={str(value).lower()}"


def _own_place(piece: _Piece | None) -> list[str]:
    if piece is None:
        return []
    start, end = piece.options[_PLACE]
    return "".join(piece.lines[start:end]).rstrip("\r\n").split("\n")


def _take_out(piece: _Piece, option: str) -> None:
    if option in piece.options:
        start, end = piece.options.pop(option)
        del piece.lines[start:end]


def _add(piece: _Piece, options: list[str]) -> None:
    """Write options directly below the header."""
    header = piece.lines[piece.header]
    newline = header[len(header.rstrip("\r\n")) :]
    piece.lines[piece.header + 1 : piece.header + 1] = [line.rstrip("\r") + newline for line in options]


def _pieces(data: bytes) -> list[_Piece]:
    """Cut a file that is right into its sections, in order; one that is named twice comes twice."""
    text = data.decode("utf-8", "surrogateescape").removeprefix(_BOM)
    cut = _ENDS.split(text)
    newline = cut[1] if len(cut) > 1 else "\n"
    lines = [line + end for line, end in zip(cut[::2], [*cut[1::2], newline], strict=True)]
    if lines[-1] == newline:
        lines.pop()
    pieces = [_Piece("", [])]
    begin = behind = 0  # the present piece; the line behind the last that says something
    for first, last, line in ini.lines(text):
        if line.startswith("["):
            start = _above(lines, first - 1, behind)
            pieces[-1].lines = lines[begin:start]
            pieces.append(_Piece(ini.section_name(first, line), [], first - 1 - start))
            begin = start
        else:
            pieces[-1].options[ini.read_option(first, line).name] = (first - 1 - begin, last - begin)
        behind = last
    pieces[-1].lines = lines[begin:]
    return pieces


def _above(lines: list[str], header: int, behind: int) -> int:
    """Return the first of the comments that stand directly above a line, none before `behind`."""
    while header > behind and lines[header - 1].strip(ini.BLANKS)[:1] in (";", "#"):
        header -= 1
    return header
