"""Reading a partition for a group: from a master or, while there is none, a slave; with a rule for lost offsets."""

import logging

from metaq.client.consuming.starting import Starting
from metaq.client.reader import Reader, ReaderOptions
from metaq.model import ClusterPartition, TopicPartition
from metaq.net.link import Link

log = logging.getLogger(__name__)


class GroupReader(Reader):
    """A reader whose broker may change, and that says so when messages are gone before they were read."""

    def __init__(self, key: ClusterPartition, offset: int, starting: Starting, options: ReaderOptions) -> None:
        super().__init__(key.topic, key.partition, offset, starting.routes, options)
        self._key = key
        self._starting = starting

    async def _link(self) -> Link:
        self._target = TopicPartition(self.topic, self._key.partition.partition)
        link, _ = await self._routes.to_replica(self._key.partition.broker_id, self._options.timeout)
        return link

    async def _moved(self, link: Link, offset: int, nearest: int) -> int:
        if nearest == offset:
            return offset
        position = await self._starting.lost(self._key, offset)
        return position.offset
