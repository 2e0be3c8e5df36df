"""The partitions that a consumer owns: what its group gives it and takes away, and steering them."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial

from metaq.client.consuming.committing import Committer
from metaq.client.consuming.options import ConsumerOptions
from metaq.client.consuming.pool import Pool
from metaq.client.consuming.starting import Starting
from metaq.client.consuming.stream import Stream, reader_options
from metaq.client.message import Message
from metaq.client.partitioner import Place, parse_partition
from metaq.client.source import Source
from metaq.cluster.znodes import NO_MESSAGE, Position
from metaq.errors import ConfigError
from metaq.model import BrokerPartition, ClusterPartition


class Share:
    """One stream for each partition; the holder that a member of a group talks to (cluster.membership.Holder)."""

    def __init__(self, group: str, starting: Starting, committer: Committer, options: ConsumerOptions) -> None:
        self.pool = Pool(options.prefetch)
        self.streams: dict[ClusterPartition, Stream] = {}
        self._group = group
        self._starting = starting
        self._committer = committer
        self._options = options
        self._paused: set[ClusterPartition] = set()
        self._giving: dict[ClusterPartition, Stream] = {}
        self._ending: dict[ClusterPartition, asyncio.Task[None]] = {}  # of what was given or lost last

    async def take(self, partitions: Sequence[ClusterPartition]) -> None:
        """Begin to fetch what is ours now. Raises what the offset store raises; then nothing has begun."""
        stored = await self._committer.load(partitions)
        options = reader_options(self._group, self._options)
        for key in partitions:
            stream = Stream(self._source(key), stored.get(key), self._starting, self.pool, options)
            stream.corrupt_raises = self._options.corrupt == "raise"
            stream.after = self._ending.get(key)  # a message of before it was lost may be handled yet
            if "latest" in (self._options.start, self._options.out_of_range):
                stream.began = self._keep_place
            self.streams[key] = stream
            if key in self._paused:
                stream.pause()
            stream.start()

    async def give(self, partitions: Sequence[ClusterPartition]) -> None:
        """Stop, wait for what is in hand, store the positions; not of those that are lost meanwhile."""
        going = {key: stream for key in partitions if (stream := self.streams.pop(key, None)) is not None}
        self._giving |= going
        try:
            if going:
                await asyncio.wait([self._stop(stream) for stream in going.values()])
            await self._committer.try_save(going.values())
        finally:
            for key in going:
                del self._giving[key]

    def lose(self, partitions: Sequence[ClusterPartition]) -> None:
        """Stop at once and store nothing: another may own them already."""
        for key in partitions:
            if key in self._giving:
                self._giving[key].is_lost = True
            elif (stream := self.streams.pop(key, None)) is not None:
                stream.is_lost = True
                self._stop(stream)

    async def ended(self) -> None:
        """Wait until what was lost has stopped."""
        if self._ending:
            await asyncio.wait(list(self._ending.values()))

    def _stop(self, stream: Stream) -> asyncio.Task[None]:
        """Stop a stream; return what ends once nothing of it is in hand, or the time for that is over."""
        stream.stop()
        task = asyncio.create_task(stream.finished(self._options.release_timeout), name=f"end {stream.key}")
        self._ending[stream.key] = task
        task.add_done_callback(partial(self._has_ended, stream.key))
        return task

    def _has_ended(self, key: ClusterPartition, task: asyncio.Task[None]) -> None:
        if self._ending.get(key) is task:
            del self._ending[key]

    async def _keep_place(self, stream: Stream) -> None:
        """Store where the group begins: "latest" would be another place the next time, and pass messages over."""
        await self._committer.try_save([stream])

    def of(self, message: Message) -> Stream | None:
        """Return the stream a message came from; None: its partition is not ours any more."""
        broker, _, number = message.partition.partition("-")
        return self.streams.get(ClusterPartition(message.topic, BrokerPartition(int(broker), int(number))))

    # steering

    def pause(self, topic: str | None = None, partition: Place | None = None) -> None:
        """Hand out nothing more of these partitions, also of those taken later; None: of all of them."""
        for stream in self._matching(topic, partition):
            self._paused.add(stream.key)
            stream.pause()

    def resume(self, topic: str | None = None, partition: Place | None = None) -> None:
        """Go on with what was paused, also with what is not ours at present."""
        self._paused -= set(_matching(self._paused, topic, partition))
        for stream in self._matching(topic, partition):
            stream.resume()

    def seek(self, topic: str, partition: Place, offset: int) -> None:
        """Go on at an offset of a partition that is ours; it must be that of a message, or the end."""
        if offset < 0:
            raise ConfigError(f"an offset is at least 0, not {offset}")
        streams = self._matching(topic, partition)
        if not streams:
            ours = ", ".join(map(str, sorted(self.streams)))
            raise ConfigError(f"{topic} {partition} is not one of ours; there are {ours or 'none'}")
        for stream in streams:
            stream.seek(Position(NO_MESSAGE, offset))

    async def seek_to_time(self, since: datetime, topic: str | None = None) -> None:
        """Go on, in all partitions that are ours, at the first message stored at `since` or later (see replay)."""
        for stream in self._matching(topic, None):
            position = await self._starting.place(stream.source, since)
            if self.streams.get(stream.key) is stream:
                stream.seek(position)

    async def skip(self) -> None:
        """Go on behind the corrupt records that were raised (option corrupt="raise")."""
        for stream in list(self.streams.values()):
            if stream.is_corrupt:
                await stream.skip()

    async def lag(self) -> Mapping[ClusterPartition, int]:
        """Return, for each partition that is ours, how many bytes are stored behind what is dealt with."""
        streams = list(self.streams.values())
        lags = await asyncio.gather(*(self._starting.lag(stream.source, stream.position()) for stream in streams))
        return {stream.key: lag for stream, lag in zip(streams, lags, strict=True)}

    def _source(self, key: ClusterPartition) -> Source:
        options = self._options
        return self._starting.replicas.source(key, options.preference, options.max_lag, options.timeout)

    def _matching(self, topic: str | None, partition: Place | None) -> list[Stream]:
        return [self.streams[key] for key in _matching(self.streams, topic, partition)]


def _matching(keys: Iterable[ClusterPartition], topic: str | None, partition: Place | None) -> list[ClusterPartition]:
    place = parse_partition(partition) if isinstance(partition, str) else partition
    return [
        key for key in keys if topic in (None, key.topic) and place in (None, key.partition, key.partition.partition)
    ]
