"""How producers with a spool behave: what the methods of MessageQueue take as keywords."""

from dataclasses import dataclass, field
from typing import TypedDict

from metaq.client.spool import SpoolLimits
from metaq.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderedOptions:
    """Seconds. Of a message that a broker refuses with another status than 403, see `keep_refused`."""

    timeout: float = 20.0  # for one attempt to put a message
    patience: float = 1.0  # how long a message waits for a connection before it, and those behind it, are spooled
    retry: float = 1.0  # between attempts to send what is spooled, unless something happens meanwhile
    keep_refused: bool = True  # spool it; False: raise Refused, if nothing is spooled before it
    limits: SpoolLimits = field(default_factory=SpoolLimits)  # of each partition

    def __post_init__(self) -> None:
        _check(self)


class OrderedKeywords(TypedDict, total=False):
    """The same, as keywords."""

    timeout: float
    patience: float
    retry: float
    keep_refused: bool
    limits: SpoolLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class OneWayOptions:
    """Seconds."""

    timeout: float = 20.0  # for one attempt to put a message
    patience: float = 1.0  # how long messages wait for a connection before they are spooled
    retry: float = 5.0  # between attempts to send what is spooled, unless something happens meanwhile
    limits: SpoolLimits = field(default_factory=SpoolLimits)  # of the topic; messages under way count too

    def __post_init__(self) -> None:
        _check(self)


class OneWayKeywords(TypedDict, total=False):
    """The same, as keywords."""

    timeout: float
    patience: float
    retry: float
    limits: SpoolLimits


def _check(options: OrderedOptions | OneWayOptions) -> None:
    for name in ("timeout", "retry"):
        if getattr(options, name) <= 0:
            raise ConfigError(f"{name} is more than 0, not {getattr(options, name)!r}")
    if options.patience < 0:
        raise ConfigError(f"patience is at least 0, not {options.patience!r}")
