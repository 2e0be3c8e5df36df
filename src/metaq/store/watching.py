"""Who waits for partitions to move: those that have a log, and those that have none yet."""

from collections.abc import Mapping

from metaq.model import TopicPartition
from metaq.store.log import PartitionLog, Watcher

Watchers = dict[Watcher, None]  # in the order in which they came


class Watching:
    """The watchers of all partitions of a store. Each is told once; who wants to hear more must ask again."""

    def __init__(self, logs: Mapping[TopicPartition, PartitionLog]) -> None:
        self._logs = logs
        self._awaited: dict[TopicPartition, Watchers] = {}

    def __len__(self) -> int:
        """Return how many partitions somebody waits for."""
        return len(self._awaited) + sum(log.watchers is not None for log in self._logs.values())

    def watch(self, key: TopicPartition, watcher: Watcher) -> None:
        """Have `watcher` told when something becomes visible there, or the log is cut or dropped, or at `wake`."""
        log = self._logs.get(key)
        if log is None:
            self._awaited.setdefault(key, {})[watcher] = None
        elif log.watchers is None:
            log.watchers = {watcher: None}
        else:
            log.watchers[watcher] = None

    def unwatch(self, key: TopicPartition, watcher: Watcher) -> None:
        """Call that off; fine if it was told."""
        log = self._logs.get(key)
        watchers = self._awaited.get(key) if log is None else log.watchers
        if watchers is None:
            return
        watchers.pop(watcher, None)
        if not watchers:
            if log is None:
                del self._awaited[key]
            else:
                log.watchers = None

    def appeared(self, log: PartitionLog) -> None:
        """Hand those who wait for this log over to it; they are told when something is in it."""
        log.watchers = self._awaited.pop(log.key, None)

    def wake(self, topic: str | None = None) -> None:
        """Tell all who wait for partitions of a topic, or of any."""
        woken: Watchers = {}
        for log in self._logs.values():
            if log.watchers is not None and topic in (None, log.key.topic):
                woken |= log.watchers
                log.watchers = None
        for key in [key for key in self._awaited if topic in (None, key.topic)]:
            woken |= self._awaited.pop(key)
        for nth, watcher in enumerate(woken):
            watcher.woken(nth)
