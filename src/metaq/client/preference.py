"""Which copy of a partition is read: what `read_from` says, and the order in which that makes brokers tried. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

from metaq.errors import ConfigError
from metaq.model import BrokerAddress

Kind: TypeAlias = Literal["master", "slave", "nearest", "any"]

DEFAULT_MAX_LAG: Final = 30.0  # seconds
FORMS: Final = "master, slave, slave:<id>, nearest or any"
_KINDS: Final[Mapping[str, Kind]] = {"master": "master", "slave": "slave", "nearest": "nearest", "any": "any"}
_SHORTER: Final = 0.8  # of a round trip: less than that is worth moving for
_SOONER: Final = 0.001  # seconds that must be won as well


@dataclass(frozen=True, slots=True)
class Preference:
    """What to read from. `slave_id`: that slave alone is meant; None: any."""

    kind: Kind = "master"
    slave_id: int | None = None

    def __str__(self) -> str:
        return self.kind if self.slave_id is None else f"slave:{self.slave_id}"


MASTER: Final = Preference()


class Candidate(NamedTuple):
    """A broker that has a copy."""

    address: BrokerAddress
    is_master: bool


def parse_preference(text: str) -> Preference:
    """Return what `read_from` says. Raises ConfigError for words that say nothing."""
    kind = _KINDS.get(text)
    if kind is not None:
        return Preference(kind)
    word, _, number = text.partition(":")
    if word == "slave" and number.isascii() and number.isdigit() and len(number) < 10:
        return Preference("slave", int(number))
    raise ConfigError(f"read_from is {FORMS}, not {text[:80]!r}")


def check_max_lag(seconds: float | None) -> None:
    """Raise ConfigError if nothing could be done with it; None: a slave may lag behind for ever."""
    if seconds is not None and seconds <= 0:
        raise ConfigError(f"max_lag is more than 0 seconds, or None, not {seconds!r}")


def check_numbers(preference: Preference, are_known: bool) -> None:
    """Raise ConfigError if a slave is meant by a number that nobody knows."""
    if preference.slave_id is not None and not are_known:
        raise ConfigError(
            f"read_from={str(preference)!r} needs a client connected with zk://: without ZooKeeper nobody tells which"
            ' slave is which; name only that one in the URL, with read_from="slave"'
        )


def in_order(
    preference: Preference,
    master: BrokerAddress | None,
    slaves: Mapping[int, BrokerAddress],
    turn: int,
    near: Sequence[BrokerAddress] = (),
) -> list[Candidate]:
    """Return who may be read from, the one that is wanted first, then those to fall back to.

    `turn`, the number of the partition, spreads partitions over brokers that are as good; `near`: nearest first.
    """
    masters = [] if master is None else [Candidate(master, is_master=True)]
    others = [Candidate(address, is_master=False) for _, address in sorted(slaves.items())]
    match preference:
        case Preference("slave", None):
            return _turned(others, turn) + masters
        case Preference("slave", int(number)):
            wanted = [each for each in others if each.address == slaves.get(number)]
            return wanted + masters + [each for each in others if each not in wanted]
        case Preference("any"):
            return _turned(masters + others, turn)
        case Preference("nearest"):
            rank = {address: n for n, address in enumerate(near)}
            return sorted(masters + others, key=lambda each: rank.get(each.address, len(rank)))
        case _:
            return masters + others


def nearest_first(
    addresses: Iterable[BrokerAddress], round_trips: Mapping[BrokerAddress, float], before: Sequence[BrokerAddress] = ()
) -> list[BrokerAddress]:
    """Return addresses by their round trips, those not measured last.

    The first one of before stays so unless another is nearer by a fifth and by a millisecond: measuring is not exact.
    """
    ordered = sorted(addresses, key=lambda each: round_trips.get(each, float("inf")))
    if before and before[0] in ordered and before[0] in round_trips:
        kept = before[0]
        best, now = round_trips[ordered[0]], round_trips[kept]
        if best > _SHORTER * now or now - best < _SOONER:
            ordered.remove(kept)
            ordered.insert(0, kept)
    return ordered


def _turned(candidates: Sequence[Candidate], turn: int) -> list[Candidate]:
    at = turn % len(candidates) if candidates else 0
    return [*candidates[at:], *candidates[:at]]
