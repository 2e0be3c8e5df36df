"""How producers behave: what the method of MessageQueue takes as keywords. Pure."""

from dataclasses import dataclass
from typing import TypedDict

from metaq.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerOptions:
    """How a producer behaves. `retries` sends again what may have been stored already: it may then be there twice."""

    timeout: float = 20.0  # seconds until the outcome of a message is known; with puts: that one attempt may take
    retries: int = 0  # of puts, which is how messages go to brokers that know no batches
    in_flight: int = 50_000  # messages without an answer; above it sending waits
    linger: float = 0.0  # seconds a message may wait for others to go with
    default_topic: str | None = None  # whose partitions are used as long as the topic has none

    def __post_init__(self) -> None:
        if self.in_flight < 1 or self.retries < 0 or self.linger < 0:
            raise ConfigError("in_flight is at least 1, retries and linger at least 0")


class ProducerKeywords(TypedDict, total=False):
    """The same, as keywords."""

    timeout: float
    retries: int
    in_flight: int
    linger: float
    default_topic: str | None
