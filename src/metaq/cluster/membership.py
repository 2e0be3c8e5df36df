"""One member of a consumer group (reference: ConsumerZooKeeper)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from metaq.cluster.assignment import Strategy
from metaq.cluster.ports import Registry
from metaq.cluster.znodes import consumer_name
from metaq.errors import ConfigError
from metaq.model import ClusterPartition

# what Java members refuse in the name of a group
_FORBIDDEN: Final = frozenset("~!#$%^&*()+=`'\",;/?[]<>.: ")
_STRATEGIES: Final = ("default", "consistent")


class Holder(Protocol):
    """Who consumes what a member owns. All is called on the loop; calls for one partition never overlap, but for lose.

    `lose` may come while `take` or `give` of the same partitions runs; that call is then cancelled, and until it has
    ended nothing else is asked about its partitions.
    """

    async def take(self, partitions: Sequence[ClusterPartition]) -> None:
        """Begin to consume: they are claimed. All of them or, if it raises, none.

        After an error the claims are given up and tried again later, each partition alone.
        """

    async def give(self, partitions: Sequence[ClusterPartition]) -> None:
        """Stop, let handlers end, commit. Nothing of them is consumed once this returns or raises; others may claim."""

    def lose(self, partitions: Sequence[ClusterPartition]) -> None:
        """Stop now and commit nothing: the session is over, or may be, and somebody else may own them already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipOptions:
    """Who joins what. Raises ConfigError for names that Java members or the tree do not take.

    `consumer_id`: a name of one's own within the group; None: `<host>-<pid>-<uuid>`, as the original does.
    `sync_time`: seconds; the longest time between two tries for a partition that another still owns.
    `timeout`: seconds that `join` may take.
    """

    root: str = "/meta"
    group: str
    topics: tuple[str, ...]
    consumer_id: str | None = None
    host: str = ""
    pid: int = 0
    uuid: str = ""
    strategy: Strategy = "default"
    sync_time: float = 5.0
    timeout: float = 30.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "topics", check_topics(self.topics))
        if not self.group.strip() or not _FORBIDDEN.isdisjoint(self.group):
            raise ConfigError(f"group {self.group!r}: must not be blank nor have any of {''.join(sorted(_FORBIDDEN))}")
        if self.consumer_id is None and not (self.host and self.uuid):
            raise ConfigError(f"group {self.group}: wanted a consumer_id, or host, pid and uuid to make one of")
        if "/" in self.name or not (self.consumer_id is None or self.consumer_id.strip()):
            raise ConfigError(f"group {self.group}: consumer id {self.consumer_id!r} is blank or has a slash")
        if self.strategy not in _STRATEGIES:
            raise ConfigError(f"group {self.group}: no strategy {self.strategy!r}; there are {', '.join(_STRATEGIES)}")

    @property
    def name(self) -> str:
        """Return the name of the member's node below `ids`."""
        suffix = self.consumer_id if self.consumer_id is not None else f"{self.host}-{self.pid}-{self.uuid}"
        return consumer_name(self.group, suffix)


def check_topics(topics: Iterable[str]) -> tuple[str, ...]:
    """Return topics, each once. Raises ConfigError for one that could not stand in a member's node."""
    found = tuple(dict.fromkeys(topics))
    for topic in found:
        if not topic.strip() or "," in topic or "/" in topic:
            raise ConfigError(f"topic {topic!r}: must not be blank nor have a comma or a slash")
    return found


class Membership:
    """One member: takes the partitions that are its share, gives back those that are not, in every session anew."""

    def __init__(self, registry: Registry, holder: Holder, options: MembershipOptions) -> None:
        self._registry = registry
        self._holder = holder
        self._options = options

    @property
    def name(self) -> str:
        """Return the name of our node below `ids`, which owner nodes repeat."""
        return self._options.name

    @property
    def owned(self) -> frozenset[ClusterPartition]:
        """Return what the holder has taken and not given back or lost."""
        raise NotImplementedError

    async def join(self) -> None:
        """Register and take our share; return when the first rebalance is done. Partitions others own yet come later.

        Raises RegistryError if that takes longer than `options.timeout`; nothing is registered then.
        """
        raise NotImplementedError

    async def leave(self) -> None:
        """Give everything back, delete our nodes. May be called again; without ZooKeeper everything is lost instead.

        Cancelled, it loses what is left and leaves the nodes to the end of the session.
        """
        raise NotImplementedError

    async def update_topics(self, topics: Iterable[str]) -> None:
        """Subscribe these topics and no others; return when the rebalance is done. Raises ConfigError."""
        raise NotImplementedError
