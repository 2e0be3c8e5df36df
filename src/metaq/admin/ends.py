"""Where the logs of a cluster begin and end: one question to each broker, whatever the number of its partitions."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from metaq.client.asking import parse_offsets
from metaq.errors import MetaqError
from metaq.model import BrokerPartition, ClusterPartition


class Log(Protocol):
    """What is asked of the brokers; `metaq.aio.MessageQueue` is one."""

    async def brokers(self) -> Mapping[int, str]: ...
    async def partitions(self, topic: str) -> list[str]: ...
    async def stats_text(self, broker: int, item: str = "") -> bytes: ...
    async def offset_at(self, topic: str, partition: BrokerPartition, since: datetime) -> int: ...


class Bounds(NamedTuple):
    """The offsets of the first message of a partition and of the one to come."""

    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Ends:
    """What the brokers said. `away`: why those did not answer that are registered."""

    known: Mapping[ClusterPartition, Bounds]
    present: frozenset[int]  # broker ids
    away: Mapping[int, str]

    def of(self, place: ClusterPartition) -> Bounds | None:
        """Return the bounds of a partition, (0, 0) for one nothing was sent to yet; None: its broker is away."""
        if place.partition.broker_id not in self.present:
            return None
        return self.known.get(place, Bounds(0, 0))

    def reason(self, place: ClusterPartition) -> str:
        """Return why the bounds of a partition are not known."""
        broker_id = place.partition.broker_id
        return f"broker {broker_id} does not answer: {self.away.get(broker_id, 'it is not registered')}"


async def read_ends(log: Log) -> Ends:
    """Ask all brokers at once. One that does not answer is noted; raises what finding the brokers raises."""
    ids = sorted(await log.brokers())
    answers = await asyncio.gather(*(_ask(log, broker_id) for broker_id in ids))
    known: dict[ClusterPartition, Bounds] = {}
    away: dict[int, str] = {}
    for broker_id, answer in zip(ids, answers, strict=True):
        if isinstance(answer, MetaqError):
            away[broker_id] = str(answer)
            continue
        for each in parse_offsets(answer.decode("utf-8", "replace")):
            place = ClusterPartition(each.topic, BrokerPartition(broker_id, each.partition))
            known[place] = Bounds(each.first, each.end)
    return Ends(known, frozenset(ids) - away.keys(), away)


async def _ask(log: Log, broker_id: int) -> bytes | MetaqError:
    try:
        return await log.stats_text(broker_id, "offsets")
    except MetaqError as exc:
        return exc
