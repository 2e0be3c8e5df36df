"""Which partitions exist, which are closed, which one a put without a partition gets (storage.md §8)."""

from metaq.config.model import BrokerConfig
from metaq.config.topics import TopicNames
from metaq.errors import PartitionClosed, TopicNotAccepted, WrongPartition
from metaq.model import TopicPartition
from metaq.ports import Random

RANDOM_PARTITION = -1


class Topics:
    """The legal partitions of a configuration. Closed ones are remembered while the process lives, not longer."""

    def __init__(self, config: BrokerConfig, random: Random) -> None:
        self._random = random
        self._closed: dict[str, set[int]] = {}
        self.configure(config)

    def configure(self, config: BrokerConfig) -> None:
        """Take the topics of a reloaded file; what it does not name any more is not accepted any more."""
        self._config = config
        self._names = TopicNames(topic.name for topic in config.topics)

    def count(self, topic: str) -> int:
        """Return the number of partitions of a topic, by its own section or that of [system]."""
        return self._config.topic(topic).num_partitions

    def resolve(self, target: TopicPartition) -> TopicPartition:
        """Return the partition that a put goes to. Raises PartitionClosed, TopicNotAccepted, WrongPartition."""
        topic, partition = target
        if partition in self._closed.get(topic, ()):
            raise PartitionClosed(f"partition[{self._config.broker_id}-{partition}] has been closed")
        if not self._names.accepts(topic):
            raise TopicNotAccepted(topic)
        count = self.count(topic)
        if partition == RANDOM_PARTITION:
            return self._choose(topic, count)
        if not 0 <= partition < count:
            raise WrongPartition(partition)
        return target

    def has(self, target: TopicPartition) -> bool:
        """Return whether there is such a partition, be it closed."""
        return self._names.accepts(target.topic) and 0 <= target.partition < self.count(target.topic)

    def _choose(self, topic: str, count: int) -> TopicPartition:
        closed = self._closed.get(topic)
        if not closed:
            return TopicPartition(topic, self._random.randrange(count))
        open_ = [partition for partition in range(count) if partition not in closed]
        if not open_:
            raise PartitionClosed(f"partition[{self._config.broker_id}-{RANDOM_PARTITION}] has been closed")
        return TopicPartition(topic, open_[self._random.randrange(len(open_))])

    def is_open(self, target: TopicPartition) -> bool:
        """Return whether no administrator closed the partition."""
        return target.partition not in self._closed.get(target.topic, ())

    def check_open(self, target: TopicPartition) -> None:
        """Raise PartitionClosed, with the text that gets are answered, if an administrator closed the partition."""
        if target.partition in self._closed.get(target.topic, ()):
            raise PartitionClosed(f"Partition[{self._config.broker_id}-{target.partition}] has been closed")

    def close(self, topic: str, first: int, last: int) -> None:
        """Close partitions first … last of a configured topic: puts and gets are answered 403. Raises ValueError."""
        if not self._config.has_section(topic):
            raise ValueError(f"topic {topic!r} is not configured")
        if not 0 <= first <= last:
            raise ValueError(f"no range of partitions: {first} to {last}")
        self._closed.setdefault(topic, set()).update(range(first, last + 1))

    def open(self, topic: str) -> None:
        """Open all partitions of a topic again."""
        self._closed.pop(topic, None)
