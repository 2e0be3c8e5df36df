"""What one run of the benchmark is to do, and how it speaks."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import click

from bench.cases import SETTINGS, Setting
from bench.clients import Clients
from bench.systems import System

T = TypeVar("T")

FEW: Final = (16, 1024)  # partitions of a quick run
RARELY: Final = 10_000  # partitions, from which on only the first round has a setting: the Java broker takes a minute


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run."""

    brokers: tuple[str, ...]
    systems: tuple[System, ...]
    rounds: int
    seconds: float  # of each load
    only: re.Pattern[str]
    folder: Path
    zk: str
    clients: Clients
    page: Path
    quick: bool
    ends: float  # of the monotonic clock: nothing is begun after it
    left: list[str] = field(default_factory=list)  # what was not measured as the time was over
    broken: list[str] = field(default_factory=list)

    @property
    def warm(self) -> float:
        """Seconds before each load, and three times that before the first."""
        return self.seconds / 3

    def wants(self, case: str) -> bool:
        return self.only.search(case) is not None

    def late(self) -> bool:
        return time.monotonic() > self.ends

    def turn(self, round_: int) -> list[str]:
        """Return the brokers in another order each round."""
        return turned(self.brokers, round_)

    def systems_in_turn(self, round_: int) -> list[System]:
        return turned(self.systems, round_)

    def settings(self, round_: int, urgent: bool) -> list[Setting]:
        """Return how the brokers are set up for the raw puts that have targets of their own, or for the others."""
        wanted = [each for each in SETTINGS if each.synced is urgent]
        if self.quick:
            return [each for each in wanted if each.partitions in FEW]
        return [each for each in wanted if each.partitions < RARELY or not round_]


def turned(items: Sequence[T], times: int) -> list[T]:
    """Return the items, begun with the one that comes first after so many turns."""
    first = times % len(items) if items else 0
    return [*items[first:], *items[:first]]


def one_line(error: Exception) -> str:
    return " ".join(str(error).split()).replace("|", "/")[-160:]


def say(words: str) -> None:
    click.echo(words, err=True)
