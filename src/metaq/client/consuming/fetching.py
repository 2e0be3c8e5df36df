"""Reading a partition for a group: from a master or, while there is none, a slave; with a rule for lost offsets."""

from collections.abc import Callable

from metaq.client.consuming.starting import Starting
from metaq.client.message import Block
from metaq.client.reader import Reader, ReaderOptions
from metaq.model import ClusterPartition, TopicPartition
from metaq.net.link import Link


class GroupReader(Reader):
    """A reader whose broker may change, and that says so when messages are gone before they were read.

    `moved` is called with the offset to go on from when the one to be read is not in the log.
    """

    def __init__(
        self,
        key: ClusterPartition,
        offset: int,
        starting: Starting,
        options: ReaderOptions,
        moved: Callable[[int], None],
    ) -> None:
        super().__init__(key.topic, key.partition, offset, starting.routes, options)
        self._key = key
        self._starting = starting
        self._tell = moved
        self._seen = -1  # generation of what is known of brokers when the end of the log was looked at
        self._way: tuple[int, Link] | None = None  # at a generation, the link that it is read over

    async def look(self, wait: float = 0.0) -> Block | None:
        """Do as Reader.look. Where nothing is there, see to it, once after each change, that the log did not shrink.

        1.4.6.2 answers an offset beyond the end as it does the end: a broker that lost messages, or all, would be
        waited for until it has as many again, and those would be passed over.
        """
        block = await super().look(wait)
        seen = self._routes.changes.generation
        if block is None and self._offset and seen != self._seen:
            bounds = await self._starting.bounds(self._key)
            if bounds.end:
                self._seen = seen
                if not bounds.have(self._offset):
                    await self._go_on(self._offset)
        return block

    async def _link(self) -> Link:
        seen = self._routes.changes.generation
        if self._way is not None and self._way[0] == seen and self._way[1].is_open:
            return self._way[1]  # nothing has changed since the directory was asked
        self._target = TopicPartition(self.topic, self._key.partition.partition)
        link, _ = await self._routes.to_replica(self._key.partition.broker_id, self._options.timeout)
        self._way = seen, link
        return link

    async def _moved(self, link: Link, offset: int, nearest: int) -> int:
        if nearest == offset:  # a broker of 1.4.6.2 with a filter looks at whole records only, and none fits
            self._size = min(2 * self._size, self._options.largest)
            return offset
        bounds = await self._starting.bounds(self._key)
        if bounds.have(offset):  # filters of a broker pass over what is there; a slave may not have it yet
            return max(offset, nearest)
        return await self._go_on(offset)

    async def _go_on(self, offset: int) -> int:
        position = await self._starting.lost(self._key, offset)
        self.seek(position.offset)
        self._tell(position.offset)
        return position.offset
