"""Which topic names a broker takes: legality of a name, and the names and patterns of server.ini.

(Reference: storage.md §8 "Legal topics"; protocol.md Q32.)
"""

import re
import warnings
from collections.abc import Iterable
from typing import Final

LONGEST: Final = 244  # bytes; the folder `<topic>-<partition>` must fit into the 255 of a file name
REMEMBERED: Final = 10_000  # answers kept; clients choose the names, so there must be an end
# / and \ part folders, blanks part the words of a command; the rest no ZooKeeper node may be called
UNFIT: Final = re.compile(r"[\x00-\x20/\\\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff]")
ACTIVE: Final = re.compile(r"[.*+?^$\[\](){}|]")  # what means something in a pattern; a backslash is unfit


def unfit(topic: str) -> str | None:
    """Return why no folder, command and ZooKeeper node can be named after the topic; None if all can."""
    if not topic:
        return "a topic needs a name"
    if not topic.strip("."):
        return "a topic of dots alone would be a folder's own name"
    if match := UNFIT.search(topic):
        return f"a topic must not contain {_spelled(match[0])}"
    if len(topic.encode()) > LONGEST:
        return f"a topic has at most {LONGEST} bytes"
    return None


def _spelled(character: str) -> str:
    if character == " ":
        return "a blank"
    if character == "�":
        return "U+FFFD, which stands for bytes that are no UTF-8"
    return character if character in "/\\" else f"the character U+{ord(character):04X}"


class TopicNames:
    """The topics that sections `[topic=NAME]` admit.

    `*` in NAME stands for any characters. Other characters that mean something in a regular expression keep that
    meaning, as in the original (`a.b` admits `axb`), provided that the whole is one; otherwise they stand for
    themselves (there such a section stops the broker). The whole topic must match, capitals are told apart, and NAME
    itself is always admitted. Unfit topics never are, whatever the patterns say.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._patterns = tuple(_pattern(name) for name in sorted(self._names) if ACTIVE.search(name))
        self._known: dict[str, bool] = {}

    def accepts(self, topic: str) -> bool:
        """Tell whether a section admits the topic."""
        answer = self._known.get(topic)
        if answer is None:
            answer = self._matches(topic) and unfit(topic) is None
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[topic] = answer
        return answer

    def _matches(self, topic: str) -> bool:
        return topic in self._names or any(pattern.fullmatch(topic) for pattern in self._patterns)


def _pattern(name: str) -> re.Pattern[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of patterns that it may read otherwise some day
        try:
            return re.compile(name.replace("*", ".*"))
        except (re.error, OverflowError, RecursionError):
            return re.compile(".*".join(map(re.escape, name.split("*"))))
