"""What tests of consumers share: a store that can fail, messages to read, short waits."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, Unpack

from metaq.aio import Consumer, Message, MessageQueue
from metaq.client.consuming.options import ConsumerKeywords
from metaq.cluster.znodes import Position
from metaq.errors import OffsetStoreError
from metaq.model import BrokerPartition, ClusterPartition, TopicPartition
from tests.client.fake_broker import FakeBroker

FAST: Final = ConsumerKeywords(
    first_backoff=0.002, longest_backoff=0.02, longest_delay=0.01, release_timeout=1.0, recover_every=0.02
)


class Ledger:
    """An offset store in memory that a test can look into, and break: so many calls fail then."""

    def __init__(self) -> None:
        self.stored: dict[ClusterPartition, Position] = {}
        self.failures = 0
        self.saves = 0
        self.is_closed = False

    async def load(self, group: str, partitions: Sequence[ClusterPartition]) -> dict[ClusterPartition, Position]:
        self._fail()
        return {each: self.stored[each] for each in partitions if each in self.stored}

    async def save(self, group: str, positions: Mapping[ClusterPartition, Position]) -> None:
        self._fail()
        self.saves += 1
        self.stored.update(positions)

    async def close(self) -> None:
        self.is_closed = True

    def offset(self, partition: int, topic: str = "t", broker: int = 0) -> int | None:
        """Return the stored offset of a partition."""
        position = self.stored.get(ClusterPartition(topic, BrokerPartition(broker, partition)))
        return None if position is None else position.offset

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise OffsetStoreError("the ledger is away")


def fill(broker: FakeBroker, count: int, partition: int = 0, topic: str = "t") -> list[int]:
    """Store messages `<partition>/<number>` and return their offsets, and the end behind them."""
    target = TopicPartition(topic, partition)
    offsets = [broker.append(target, 0, b"%d/%d" % (partition, number))[1] for number in range(count)]
    return [*offsets, broker.bases[target] + len(broker.logs[target])]


def consumer_of(
    mq: MessageQueue,
    ledger: Ledger,
    topics: str | list[str] = "t",
    group: str = "g",
    **options: Unpack[ConsumerKeywords],
) -> Consumer:
    """Return a consumer whose waits are short."""
    settings: ConsumerKeywords = {**FAST, "offsets": ledger, **options}
    return mq.consumer(topics, group=group, **settings)


async def take(consumer: Consumer, count: int) -> list[bytes]:
    """Return the data of the next messages."""
    async with asyncio.timeout(5.0):
        return [(await anext(consumer)).data for _ in range(count)]


async def take_messages(consumer: Consumer, count: int) -> list[Message]:
    async with asyncio.timeout(5.0):
        return [await anext(consumer) for _ in range(count)]
