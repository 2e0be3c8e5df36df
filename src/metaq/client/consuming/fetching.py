"""Reading a partition for a group: from the master or a slave, as is preferred; with a rule for lost offsets."""

from collections.abc import Callable

from metaq.client.consuming.starting import Starting
from metaq.client.message import Block
from metaq.client.reader import Reader, ReaderOptions
from metaq.client.source import Source
from metaq.model import TopicPartition
from metaq.net.link import Link


class GroupReader(Reader):
    """A reader whose broker may change, and that says so when messages are gone before they were read.

    `moved` is called with the offset to go on from when the one to be read is not in the log.
    """

    def __init__(
        self,
        source: Source,
        offset: int,
        starting: Starting,
        options: ReaderOptions,
        moved: Callable[[int], None],
    ) -> None:
        key = source.key
        super().__init__(key.topic, key.partition, offset, starting.replicas, options)
        self._target = TopicPartition(key.topic, key.partition.partition)
        self._source: Source = source
        self._starting = starting
        self._tell = moved
        self._seen = -1  # generation of what is known of brokers when the end of the log was looked at

    async def look(self, wait: float = 0.0) -> Block | None:
        """Do as Reader.look. Where nothing is there, see to it, once after each change, that the log did not shrink.

        1.4.6.2 answers an offset beyond the end as it does the end: a broker that lost messages, or all, would be
        waited for until it has as many again, and those would be passed over.
        """
        block = await super().look(wait)
        seen = self._routes.changes.generation
        if block is None and self._offset and seen != self._seen:
            bounds = await self._starting.bounds(self._source)
            if bounds.end:
                self._seen = seen
                if not bounds.have(self._offset):
                    await self._go_on(self._offset)
        return block

    async def _link(self) -> Link:
        return (await self._source.way()).link

    async def _moved(self, link: Link, offset: int, nearest: int) -> int:
        if nearest == offset:  # a broker of 1.4.6.2 with a filter looks at whole records only, and none fits
            self._size = min(2 * self._size, self._options.largest)
            return offset
        bounds = await self._starting.bounds_of_one_with(self._source, offset)
        if bounds.have(offset):  # filters of a broker pass over what is there; a slave may not have it yet
            return max(offset, nearest) if bounds.link is link else offset
        return await self._go_on(offset)

    async def _go_on(self, offset: int) -> int:
        position = await self._starting.lost(self._source, offset)
        self.seek(position.offset)
        self._tell(position.offset)
        return position.offset
