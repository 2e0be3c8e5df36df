"""How a slave copies: sizes in bytes, times in seconds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from metaq.model import TopicPartition
from metaq.net.link import LinkOptions

# Over a line that was cut TCP repeats more and more seldom, at last not for half a minute: dial again before. A master
# of ours answers every few seconds, so silence means that.
FAR: Final = LinkOptions(
    connect_timeout=5.0, heartbeat_idle=6.0, heartbeat_timeout=2.0, heartbeat_failures=2, longest_delay=2.0
)


def _any(_: TopicPartition) -> bool:
    return True


def _nobody(_: str) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowerOptions:
    """`max_delay`: between two questions about an idle partition of a Java master, which cannot make them wait.

    `last_delay`: the same while that master is about to stop.
    `accepts` says whether our configuration has a partition; `appeared` is told of a topic whose first log was made.
    """

    group: str
    max_delay: float = 0.5
    last_delay: float = 0.02
    accepts: Callable[[TopicPartition], bool] = _any
    appeared: Callable[[str], None] = _nobody
    step: int = 1 << 20  # that one question asks for
    memory: int = 16 << 20  # asked for and not here yet, all questions together; of one partition a quarter at most
    answer: float = 20.0  # until an answer counts as missing
    retry: float = 5.0  # before a partition that stopped is tried again
    look: float = 1.0  # between two looks at the ends of the master's logs; longer where there are thousands
    link: LinkOptions = FAR
