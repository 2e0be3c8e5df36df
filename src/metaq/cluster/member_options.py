"""Who joins which group how; checked once."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, get_args

from metaq.cluster.assignment import Strategy
from metaq.cluster.znodes import consumer_name
from metaq.errors import ConfigError

_REFUSED: Final = "~!#$%^&*()+=`'\",;/?[]<>.: "  # by Java members, in the name of a group


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipOptions:
    """Who joins what. Raises ConfigError for names that Java members or the tree do not take.

    `consumer_id`: a name of one's own within the group; None: `<host>-<pid>-<uuid>`, as the original does.
    `sync_time`: seconds; the longest time between two tries for a partition that another owns.
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
        check_group(self.group)
        if self.consumer_id is None and not (self.host and self.uuid):
            raise ConfigError(f"group {self.group}: wanted a consumer_id, or host, pid and uuid to make one of")
        if "/" in self.name or (self.consumer_id is not None and not self.consumer_id.strip()):
            raise ConfigError(f"group {self.group}: consumer id {self.consumer_id!r} is blank or has a slash")
        if self.strategy not in get_args(Strategy):
            raise ConfigError(
                f"group {self.group}: no strategy {self.strategy!r}; there are {', '.join(get_args(Strategy))}"
            )

    @property
    def name(self) -> str:
        """Return the name of the member's node below `ids`."""
        suffix = f"{self.host}-{self.pid}-{self.uuid}" if self.consumer_id is None else self.consumer_id
        return consumer_name(self.group, suffix)


def check_group(group: str) -> None:
    """Raise ConfigError for a name that no Java member takes (reference: MetaMessageSessionFactory)."""
    if not group.strip() or any(character in _REFUSED for character in group):
        raise ConfigError(f"group {group!r}: must not be blank nor have a space or any of {_REFUSED.strip()}")


def check_topics(topics: Iterable[str]) -> tuple[str, ...]:
    """Return topics, each once. Raises ConfigError for one that cannot stand in a member's node."""
    found = tuple(dict.fromkeys(topics))
    for topic in found:
        if not topic.strip() or "," in topic or "/" in topic:
            raise ConfigError(f"topic {topic!r}: must not be blank nor have a comma or a slash")
    return found
