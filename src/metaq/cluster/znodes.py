"""What the text of znodes and their names means, both ways (reference: Broker, TopicBroker, ZkOffsetStorage). Pure.

All is plain UTF-8 text. Where data may be null (None) or empty the reader says what that means; text that means
nothing raises ValueError, for the caller to skip or to report.
"""

import json
import re
from collections.abc import Iterable
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from metaq.cluster.paths import MASTER, SLAVE
from metaq.model import BrokerAddress, BrokerPartition

DEFAULT_PORT: Final = 8123
MAX_PARTITIONS: Final = 1_000_000  # per topic and broker; more is a typing error that would cost readers their memory
NO_MESSAGE: Final = -1  # message id of a position nothing was consumed at
_LONG: Final = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_COUNT: Final = re.compile(r"[0-9]{1,10}", re.ASCII)


class Member(NamedTuple):
    """A broker as topics list it: `<b>-m`, the master of id b, or `<b>-s<k>`, its slave k."""

    broker_id: int
    slave_id: int | None


class TopicBroker(NamedTuple):
    """What a broker says of a topic; `broker` repeats the name of the node, and readers use that name instead."""

    num_parts: int
    broker: str


class Position(NamedTuple):
    """Where a group goes on reading: byte `offset`; `message_id` of the last message passed on, often negative."""

    message_id: int
    offset: int


def encode_address(address: BrokerAddress) -> bytes:
    return str(address).encode()


def decode_address(data: bytes | None) -> BrokerAddress | None:
    """Return host and port of `meta://host:port`; path and query are ignored. None: null or blank, nobody is there."""
    text = _text(data)
    if not text:
        return None
    parts = urlsplit(text)
    if parts.scheme not in ("meta", "metaq") or not parts.hostname or any(c.isspace() for c in text):
        raise ValueError(f"{text!r} is no broker URL like meta://host:port")
    host = parts.netloc.rpartition("@")[2]  # `hostname` would be in lower case
    host = host[1 : host.index("]")] if host.startswith("[") else host.partition(":")[0]
    return BrokerAddress(host, DEFAULT_PORT if parts.port is None else parts.port)


def encode_topic(topic: TopicBroker) -> bytes:
    """Return compact JSON of exactly two properties: Java readers refuse any other."""
    return json.dumps({"numParts": topic.num_parts, "broker": topic.broker}, separators=(",", ":")).encode()


def decode_topic(data: bytes | None) -> TopicBroker:
    """Return what the JSON says, in whatever order and with whatever else in it; ValueError if the count is missing."""
    try:
        value = json.loads(_text(data))
    except RecursionError as exc:
        raise ValueError("JSON is nested too deeply") from exc
    count = value.get("numParts") if isinstance(value, dict) else None
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= MAX_PARTITIONS:
        raise ValueError(f"{_text(data)[:100]!r} has no numParts from 0 to {MAX_PARTITIONS}")
    broker = value.get("broker")
    return TopicBroker(count, broker if isinstance(broker, str) else "")


def encode_count(count: int) -> bytes:
    """Return a partition count, or a checksum, as decimal text."""
    return str(count).encode()


def decode_count(data: bytes | None) -> int:
    return _number(_COUNT, _text(data))


def encode_position(position: Position) -> bytes:
    return f"{position.message_id}-{position.offset}".encode()


def decode_position(data: bytes | None) -> Position | None:
    """Return the position; None: null data, nothing stored. Before 1.4 there was no message id.

    The text is split at its last dash, unless that is its first character. Empty data means nothing to the original
    either: it raises ValueError.
    """
    if data is None:
        return None
    text = data.decode("utf-8", "replace")
    dash = text.rfind("-")
    if dash <= 0:
        return Position(NO_MESSAGE, _long(text))
    return Position(_long(text[:dash]), _long(text[dash + 1 :]))


def consumer_name(group: str, suffix: str) -> str:
    """Return the name of a consumer's node; `suffix` is its configured id or `<host>-<pid>-<uuid>`."""
    return f"{group}_{suffix}"


def encode_topics(topics: Iterable[str]) -> bytes:
    """Return what a consumer's node says: its topics."""
    return ",".join(topics).encode()


def decode_topics(data: bytes | None) -> list[str]:
    """Return a consumer's topics; null or blank data: none."""
    text = "" if data is None else data.decode("utf-8", "replace")
    return text.split(",") if text.strip() else []


def encode_owner(consumer: str) -> bytes:
    return consumer.encode()


def decode_owner(data: bytes | None) -> str | None:
    """Return the name of the owner's node; None: nobody is named."""
    return _text(data) or None


def decode_member(name: str) -> Member | None:
    """Return the broker a topic's child names; None: the name is of another form, to be ignored."""
    broker, dash, role = name.partition("-")
    if not dash or not _COUNT.fullmatch(broker):
        return None
    if role == "m":
        return Member(int(broker), None)
    if role[:1] == "s" and _COUNT.fullmatch(role[1:]):
        return Member(int(broker), int(role[1:]))
    return None


def decode_broker_child(name: str) -> Member | None:
    """Return (-1, slave id or None) for a child `master` or `slave<k>` of a broker's node; None for any other."""
    if name == MASTER:
        return Member(-1, None)
    rest = name.removeprefix(SLAVE)
    return Member(-1, int(rest)) if rest != name and _COUNT.fullmatch(rest) else None


def decode_broker_id(name: str) -> int | None:
    """Return the id a child of `ids` names; None: it is no number, to be ignored."""
    return int(name) if _COUNT.fullmatch(name) else None


def decode_partition(name: str) -> BrokerPartition | None:
    """Return the partition `<b>-<n>` names; None: the name is of another form."""
    broker, _, partition = name.partition("-")
    if not _COUNT.fullmatch(broker) or not _COUNT.fullmatch(partition):
        return None
    return BrokerPartition(int(broker), int(partition))


def _text(data: bytes | None) -> str:
    return "" if data is None else data.decode("utf-8", "replace").strip()


def _number(pattern: re.Pattern[str], text: str) -> int:
    if not pattern.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is no decimal number")
    return int(text)


def _long(text: str) -> int:
    number = _number(_LONG, text)
    if not -(1 << 63) <= number < 1 << 63:
        raise ValueError(f"{text} does not fit into 64 bits")
    return number
