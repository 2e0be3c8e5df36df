"""Frozen values that every layer speaks of; no behaviour beyond their text form."""

from dataclasses import dataclass
from typing import NamedTuple


class TopicPartition(NamedTuple):
    """One partition of one topic on one broker: what a command on the wire names."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


class BrokerPartition(NamedTuple):
    """One partition of a topic in a cluster; its text form is `<brokerId>-<partition>` (reference: Partition)."""

    broker_id: int
    partition: int

    def __str__(self) -> str:
        return f"{self.broker_id}-{self.partition}"


class ClusterPartition(NamedTuple):
    """One partition of one topic, wherever it is in a cluster: what a consumer of a group owns."""

    topic: str
    partition: BrokerPartition

    def __str__(self) -> str:
        return f"{self.topic} {self.partition}"


class BrokerAddress(NamedTuple):
    """Where a broker listens; its text form is the URL brokers register, `meta://host:port` (reference: Broker)."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"meta://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a broker says of a stored message.

    `offset` is the byte position of the record in its partition; `partition` the text `<brokerId>-<partition>`.
    """

    id: int
    partition: str
    offset: int
