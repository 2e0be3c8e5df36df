"""Which partition a message goes to. Pure."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

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


SelectorChoice: TypeAlias = str | Selector  # "round_robin", "random" or a function
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


class RandomChoice:
    """Any, all alike."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def __call__(
        self, topic: str, partitions: Sequence[BrokerPartition], data: bytes, attribute: str | None, /
    ) -> BrokerPartition:
        return partitions[self._random.randrange(len(partitions))]


_NAMED: dict[str, Callable[[Random], Selector]] = {"round_robin": RoundRobin, "random": RandomChoice}


def make_selector(choice: SelectorChoice, random: Random) -> Selector:
    """Return the selector that is named. Raises ConfigError for a name there is not."""
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
