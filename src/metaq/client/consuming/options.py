"""How a consumer behaves: what `MessageQueue.consumer` takes as keywords."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, TypeAlias, TypedDict

from metaq.client.message import Message
from metaq.client.offsets import OffsetStore
from metaq.client.preference import DEFAULT_MAX_LAG, Preference, check_max_lag, parse_preference
from metaq.errors import ConfigError

Where: TypeAlias = Literal["earliest", "latest", "stored"] | int | datetime
Reject: TypeAlias = (
    Literal["recover", "dead_letter", "drop"] | Callable[[Message, BaseException], Awaitable[None] | None]
)  # fmt: skip

_NAMED: Final = ("earliest", "latest", "stored")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerOptions:
    """Seconds and bytes, where nothing else is said.

    `start` says where to begin in a partition for which the group has no offset stored, `out_of_range` where the
    stored one is no longer in the log (retention took it) or not yet: "earliest", "latest", an offset, or a datetime:
    the first message stored then or later. "stored": only go on from a stored offset, else raise NoStoredOffset.

    `ack`: "auto" acknowledges a message when the next one is asked for, or its handler has returned; "manual" leaves
    it to `ack(message)`. `offsets` is where positions are kept: "zookeeper", "memory", "file:PATH", an URL of
    SQLAlchemy, or a store of yours; None: ZooKeeper, or a file in the home where the client uses none.

    `read_from` says which copy of a partition is read: "master" (a slave only while the master is away), "slave",
    "slave:<id>" (that one), "nearest" (by measured round trip) or "any" (partitions are spread over all). While the one
    that is meant is away, or a slave lacks for more than `max_lag` seconds what its master has, another is read from.
    """

    start: Where = "earliest"
    out_of_range: Where = "earliest"
    ignore_stored: bool = False  # begin at `start` whenever a partition is taken over
    ack: Literal["auto", "manual"] = "auto"
    offsets: OffsetStore | str | None = None
    commit_every: float = 5.0
    broadcast: bool = False  # every host gets all messages: the group's name ends with the host's address
    read_from: str = "master"
    max_lag: float | None = DEFAULT_MAX_LAG  # None: a slave may lag behind for ever
    strategy: Literal["default", "consistent"] = "default"  # how partitions are divided; the same in all of a group
    consumer_id: str | None = None  # instead of <host>-<pid>-<uuid>
    filter: Callable[[Message], bool] | None = None  # what it does not accept, or raises at, counts as dealt with
    skip_duplicates: int = 0  # remember so many ids of messages dealt with, and pass over those that come again
    retries: int = 5  # calls of a handler after the first one, before a message is rejected
    first_backoff: float = 0.5  # before the first of them; doubled each time
    longest_backoff: float = 5.0
    reject: Reject = "recover"
    recover_path: str | None = None  # a folder; None: ~/.metaq/recover
    recover_every: float = 300.0  # between two looks at what was put there
    corrupt: Literal["skip", "raise"] = "skip"  # what becomes of a record that fails its checksum twice
    max_size: int = 1 << 20  # fetched at once; a larger message is fetched in pieces
    prefetch: int = 32 << 20  # fetched and not handed out, of all partitions together
    timeout: float = 10.0  # for one answer
    longest_delay: float = 0.5  # between two looks at the end of a partition
    release_timeout: float = 10.0  # a partition is given away after that even if a message of it is still in hand
    sync_time: float = 5.0  # between attempts to claim what another still has (reference: zkSyncTimeMs)

    def __post_init__(self) -> None:
        _check_where("start", self.start)
        _check_where("out_of_range", self.out_of_range)
        _check_word("ack", self.ack, ("auto", "manual"))
        _check_word("strategy", self.strategy, ("default", "consistent"))
        _check_word("corrupt", self.corrupt, ("skip", "raise"))
        if isinstance(self.reject, str):
            _check_word("reject", self.reject, ("recover", "dead_letter", "drop"))
        for name in ("commit_every", "longest_delay", "max_size", "prefetch", "timeout", "recover_every"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is more than 0, not {getattr(self, name)!r}")
        if self.retries < 0 or self.skip_duplicates < 0:
            raise ConfigError("retries and skip_duplicates are at least 0")
        parse_preference(self.read_from)
        check_max_lag(self.max_lag)

    @property
    def preference(self) -> Preference:
        """What `read_from` says."""
        return parse_preference(self.read_from)


class ConsumerKeywords(TypedDict, total=False):
    """The same, as keywords."""

    start: Where
    out_of_range: Where
    ignore_stored: bool
    ack: Literal["auto", "manual"]
    offsets: OffsetStore | str | None
    commit_every: float
    broadcast: bool
    read_from: str
    max_lag: float | None
    strategy: Literal["default", "consistent"]
    consumer_id: str | None
    filter: Callable[[Message], bool] | None
    skip_duplicates: int
    retries: int
    first_backoff: float
    longest_backoff: float
    reject: Reject
    recover_path: str | None
    recover_every: float
    corrupt: Literal["skip", "raise"]
    max_size: int
    prefetch: int
    timeout: float
    longest_delay: float
    release_timeout: float
    sync_time: float


def _check_where(name: str, value: Where) -> None:
    if value not in _NAMED and not isinstance(value, int | datetime):
        raise ConfigError(f"{name} is {', '.join(_NAMED)}, an offset or a datetime, not {value!r}")
    if isinstance(value, int) and value < 0:
        raise ConfigError(f"{name}: an offset is at least 0, not {value}")


def _check_word(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} is {' or '.join(allowed)}, not {value!r}")
