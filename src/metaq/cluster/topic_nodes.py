"""Changes of topics that a command asks many brokers for: where their nodes are, and what is in them. Pure.

    <root>/pymetaq/topics/asking              ephemeral: a command is at it; its data names the request
    <root>/pymetaq/topics/brokers/<b>         ephemeral: the master <b> takes requests; a Java broker never does
    <root>/pymetaq/topics/requests/<r>        what is asked of whom
    <root>/pymetaq/topics/requests/<r>/<b>    what became of it at broker <b>

A result is created once, by the broker as `applying` or by the command as `withdrawn`: whoever comes first decides
whether the change is made there. So none is made after its command has told the outcome, and none by a broker that
starts later. One command is at it at a time; it removes what an earlier one left.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from metaq.cluster.paths import Paths
from metaq.config.editing import Action, TopicChange

VERSION: Final = 1  # of the JSON in the nodes; a broker refuses another


class TopicPaths:
    """All paths of such requests below one root."""

    def __init__(self, root: str) -> None:
        self.top = f"{Paths(root).ours}/topics"
        self.asking = f"{self.top}/asking"
        self.brokers = f"{self.top}/brokers"
        self.requests = f"{self.top}/requests"

    def broker(self, broker_id: int) -> str:
        return f"{self.brokers}/{broker_id}"

    def request(self, name: str) -> str:
        return f"{self.requests}/{name}"

    def result(self, name: str, broker_id: int) -> str:
        return f"{self.requests}/{name}/{broker_id}"


@dataclass(frozen=True, slots=True)
class TopicRequest:
    """What is asked of which masters."""

    change: TopicChange
    brokers: frozenset[int]


class Progress(Enum):
    APPLYING = "applying"
    DONE = "done"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class TopicResult:
    """What became of a request at one broker. `text`: one sentence; `kept`: where a dropped topic's files lie now."""

    progress: Progress
    text: str = ""
    kept: str | None = None
    process: str = ""  # of `applying`: which one is at it

    @property
    def is_final(self) -> bool:
        """Whether nothing more will come."""
        return self.progress is not Progress.APPLYING


def encode_request(request: TopicRequest) -> bytes:
    """Return the JSON of a request's node."""
    change = request.change
    return json.dumps(
        {
            "version": VERSION,
            "action": change.action.value,
            "topic": change.topic,
            "settings": dict(change.settings),
            "brokers": sorted(request.brokers),
        }
    ).encode()


def decode_request(data: bytes | None) -> TopicRequest:
    """Return the request of a node. Raises ValueError."""
    values = _object(data)
    if values.get("version") != VERSION:
        raise ValueError(f"version {values.get('version')!r} of a request is not {VERSION}")
    brokers = values.get("brokers")
    if not isinstance(brokers, list) or not all(isinstance(each, int) for each in brokers):
        raise ValueError("a request must name its brokers by number")
    return TopicRequest(read_change(values), frozenset(brokers))


def read_change(values: Mapping[str, object]) -> TopicChange:
    """Return the change that "action", "topic" and "settings" state. Raises ValueError."""
    topic, settings = values.get("topic"), values.get("settings")
    if not isinstance(topic, str):
        raise ValueError("topic must be a text")
    if not isinstance(settings, dict) or not all(isinstance(text, str) for pair in settings.items() for text in pair):
        raise ValueError("settings must be an object of texts")
    return TopicChange(Action(values.get("action")), topic, settings)


def encode_result(result: TopicResult) -> bytes:
    """Return the JSON of a result's node."""
    return json.dumps(
        {"progress": result.progress.value, "text": result.text, "kept": result.kept, "process": result.process}
    ).encode()


def decode_result(data: bytes | None) -> TopicResult:
    """Return the result of a node. Raises ValueError."""
    values = _object(data)
    kept = values.get("kept")
    return TopicResult(
        Progress(values.get("progress")),
        str(values.get("text", "")),
        None if kept is None else str(kept),
        str(values.get("process", "")),
    )


def _object(data: bytes | None) -> dict[str, object]:
    values: object = json.loads(data or b"null")
    if not isinstance(values, dict):
        raise ValueError("no JSON object")
    return values
