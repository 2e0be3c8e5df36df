"""Which partition a message goes to. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from metaq.errors import ConfigError
from metaq.model import BrokerPartition
from metaq.ports import Random


class Selector(Protocol):
    """Chooses one of the partitions of a topic; they are sorted by broker, then by number, as in every other client.

    A function of yours always sees all of them, those of brokers that are away too, so that a key stays where it is.
    """

    def __call__(
        self, topic: str, partitions: Sequence[BrokerPartition], data: bytes, attribute: str | None, /
    ) -> BrokerPartition: ...


Key: TypeAlias = str | bytes | int
KeyFunction: TypeAlias = Callable[[bytes, str | None], Key | None]  # of data and attribute; None: it has no key


def by_attribute(data: bytes, attribute: str | None) -> Key | None:
    """Return the attribute: the key of a message unless something else is said."""
    return attribute


@dataclass(frozen=True, slots=True)
class ByKey:
    """The partition by a key: all messages of one key in one partition, whichever process sends them.

    It is partition `key_hash(key) % number` of all, those of brokers that are away too. Messages without a key go to
    the partitions in turn. `key` is a function of data and attribute; without one the attribute is the key.
    """

    key: KeyFunction = by_attribute


SelectorChoice: TypeAlias = str | ByKey | Selector  # one of _NAMED, ByKey(function) or a function
Place: TypeAlias = str | int | BrokerPartition  # "1-0", a number where there is one broker, or a BrokerPartition


class RoundRobin:
    """One after the other. Begins anywhere, so that many short-lived producers do not all begin with the first."""

    def __init__(self, random: Random) -> None:
        self._next = random.randrange(1 << 30)

    def __call__(
        self, topic: str, partitions: Sequence[BrokerPartition], data: bytes, attribute: str | None, /
    ) -> BrokerPartition:
        self._next += 1
        return partitions[self._next % len(partitions)]


class BrokersInTurn:
    """One broker after the other, and the partitions of each in turn: for few messages that should be spread widely."""

    def __init__(self, random: Random) -> None:
        self._next = random.randrange(1 << 30)

    def __call__(
        self, topic: str, partitions: Sequence[BrokerPartition], data: bytes, attribute: str | None, /
    ) -> BrokerPartition:
        brokers = sorted({partition.broker_id for partition in partitions})
        self._next += 1
        turn, number = divmod(self._next, len(brokers))
        mine = [partition for partition in partitions if partition.broker_id == brokers[number]]
        return mine[turn % len(mine)]


class RandomChoice:
    """Any, all alike."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def __call__(
        self, topic: str, partitions: Sequence[BrokerPartition], data: bytes, attribute: str | None, /
    ) -> BrokerPartition:
        return partitions[self._random.randrange(len(partitions))]


class KeySelector:
    """ByKey at work. `keyless` is for the messages that have no key."""

    def __init__(self, key: KeyFunction, keyless: Selector) -> None:
        self.key = key
        self.keyless = keyless

    def __call__(
        self, topic: str, partitions: Sequence[BrokerPartition], data: bytes, attribute: str | None, /
    ) -> BrokerPartition:
        key = self.key(data, attribute)
        if key is None:
            return self.keyless(topic, partitions, data, attribute)
        return partitions[key_hash(key) % len(partitions)]


def key_hash(key: Key) -> int:
    """Return the hash of a key, 0 … 2³¹-1: that of Java with the sign bit masked, the same in every process.

    Text: `String.hashCode()`. Bytes: the same of as many characters 0 … 255. A number: `Long.hashCode()`. A selector in
    Java that takes `(key.hashCode() & 0x7FFFFFFF) % partitions.size()` chooses the same partitions.
    """
    if isinstance(key, int):
        bits = key & 0xFFFF_FFFF_FFFF_FFFF
        return (bits ^ bits >> 32) & 0x7FFF_FFFF
    number = 0
    if isinstance(key, str):
        if key.isascii():
            units: Sequence[int] = key.encode()
        else:
            text = key.encode("utf-16-be", "surrogatepass")
            units = [text[n] << 8 | text[n + 1] for n in range(0, len(text), 2)]
    else:
        units = key
    for unit in units:
        number = number * 31 + unit & 0xFFFF_FFFF
    return number & 0x7FFF_FFFF


_NAMED: Final[dict[str, Callable[[Random], Selector]]] = {
    "round_robin": RoundRobin,
    "brokers": BrokersInTurn,
    "random": RandomChoice,
    "key": lambda random: KeySelector(by_attribute, RoundRobin(random)),
}


FREE: Final = (RoundRobin, BrokersInTurn, RandomChoice)  # those to which one partition is as good as another


def make_selector(choice: SelectorChoice, random: Random) -> Selector:
    """Return the selector that is named. Raises ConfigError for a name there is not."""
    if isinstance(choice, ByKey):
        return KeySelector(choice.key, RoundRobin(random))
    if not isinstance(choice, str):
        return choice
    if choice not in _NAMED:
        raise ConfigError(f"no selector {choice!r}; there are {', '.join(_NAMED)}, or give a function")
    return _NAMED[choice](random)


def parse_partition(text: str) -> BrokerPartition:
    """Return the partition a text `<brokerId>-<partition>` names. Raises ConfigError."""
    broker, dash, number = text.partition("-")
    if not (dash and broker.isascii() and broker.isdigit() and number.isascii() and number.isdigit()):
        raise ConfigError(f"{text!r} is no partition; wanted <brokerId>-<partition>, as 1-0")
    return BrokerPartition(int(broker), int(number))


Layout: TypeAlias = str | Mapping[str, str]  # "0:4;1:4", or that by topic


def parse_layout(layout: Layout, topic: str) -> list[BrokerPartition]:
    """Return the partitions of a topic by `broker:count` pairs, sorted. Raises ConfigError.

    `0:4;1:4`: four of broker 0, four of broker 1 (reference: `topic.num.<topic>` of partitionsInfo).
    """
    text = layout if isinstance(layout, str) else layout.get(topic)
    if text is None:
        raise ConfigError(f"{topic}: the layout does not name it; it names {', '.join(layout) or 'nothing'}")
    found: set[BrokerPartition] = set()
    for pair in text.rstrip(";").split(";"):
        broker, colon, count = (part.strip() for part in pair.partition(":"))
        if not (colon and broker.isascii() and broker.isdigit() and count.isascii() and count.isdigit()):
            raise ConfigError(f"{topic}: {text!r} is no layout; wanted <brokerId>:<partitions>;…, as 0:4;1:4")
        found.update(BrokerPartition(int(broker), number) for number in range(int(count)))
    if not found:
        raise ConfigError(f"{topic}: the layout {text!r} has no partition")
    return sorted(found)
