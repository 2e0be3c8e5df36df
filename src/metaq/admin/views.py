"""What there is to see of a running broker, as values: all that metrics are made of."""

from collections.abc import Mapping
from dataclasses import dataclass

from metaq.broker.broker import Broker
from metaq.broker.ports import PairFigures
from metaq.broker.stats import Tally
from metaq.broker.stats_text import PIECE, BrokerState, PartitionState, Pieces
from metaq.broker.turns import make


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A broker at a moment; its partitions are as they were when it came to them.

    `tallies`: what is counted of topics, see `Statistics.tallies`. `slave`: what `slave-status` tells, None: it copies
    nobody. `pair`: None unless it is the master of a pair.
    """

    broker_id: int
    state: BrokerState
    journal_bytes: int
    journal_limit: int
    tallies: list[tuple[str, Tally]]
    partitions: list[PartitionState]
    slave: Mapping[str, object] | None
    pair: PairFigures | None


async def look(broker: Broker) -> View:
    """Return how a broker is; others have their turn of the loop meanwhile."""
    return await make(_look(broker))


def _look(broker: Broker) -> Pieces[View]:
    partitions = []
    for number, each in enumerate(broker.partitions(), 1):
        if not number % PIECE:
            yield
        partitions.append(each)
    slave = None if broker.replica is None else (yield from broker.replica.values())
    return View(
        broker_id=broker.config.broker_id,
        state=broker.state(),
        journal_bytes=broker.store.journal.backlog(),
        journal_limit=broker.config.journal_limit,
        tallies=broker.statistics.tallies(),
        partitions=partitions,
        slave=slave,
        pair=broker.pair(),
    )
