"""A member of a group, for use with asyncio (reference: SimpleMessageConsumer, SimpleFetchManager)."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from metaq.client.consuming.committing import Committer
from metaq.client.consuming.dispatch import Dispatcher, HandlerOptions
from metaq.client.consuming.duplicates import Duplicates
from metaq.client.consuming.hand import Hand
from metaq.client.consuming.handlers import Handler, one_by_one
from metaq.client.consuming.member import Member
from metaq.client.consuming.options import ConsumerOptions
from metaq.client.consuming.rejecting import Rejects
from metaq.client.consuming.run import Run
from metaq.client.consuming.share import Share
from metaq.client.consuming.starting import Starting
from metaq.client.consuming.stream import Stream
from metaq.client.message import Message
from metaq.client.offsets import OffsetStore
from metaq.client.partitioner import Place
from metaq.client.replicas import Replicas
from metaq.errors import ConfigError
from metaq.model import ClusterPartition

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a consumer works with."""

    replicas: Replicas
    store: OffsetStore
    rejects: Rejects
    member: Callable[[Share, tuple[str, ...]], Member]


class Consumer:
    """Takes its share of the partitions of its topics, and hands their messages out.

    It joins its group when it is first asked for messages. Messages of one partition come in order; a message may come
    again when a partition has changed hands, but none is passed over. Use one way of consuming: iterate, `batch` or
    `run`.
    """

    def __init__(self, group: str, topics: Sequence[str], parts: Parts, options: ConsumerOptions) -> None:
        self.group = group
        self.topics = tuple(topics)
        self._parts = parts
        self._options = options
        self._committer = Committer(group, parts.store)
        self._duplicates = Duplicates(options.skip_duplicates) if options.skip_duplicates else None
        self._share = Share(group, Starting(parts.replicas, group, options), self._committer, options)
        self._chooses = options.filter is not None or self._duplicates is not None
        self._hand = Hand(self)
        self._dispatchers: set[Dispatcher] = set()
        self._joining: asyncio.Task[None] | None = None
        self._committing: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._is_closed = False
        self._member = parts.member(self._share, self.topics)

    # life

    async def join(self) -> None:
        """Enter the group; may be called again. Raises RegistryError if ZooKeeper does not answer in time."""
        if self._is_closed:
            raise ConfigError(f"group {self.group}: the consumer is closed")
        if not await self._has_joined():
            raise ConfigError(f"group {self.group}: the consumer was closed meanwhile")

    async def _has_joined(self) -> bool:
        """Join, if that was not done before; False: the consumer is closed. Raises as `join`."""
        if self._is_closed:
            return False
        if self._joining is None:
            self._joining = asyncio.create_task(self._join(), name=f"join {self.group}")
            self._joining.add_done_callback(_hear)  # those who waited may be gone; the next one is told
        joining = self._joining
        await asyncio.wait([joining])  # one who waits may be cancelled, the others go on
        if joining.cancelled():
            return False
        if self._joining is joining and joining.exception() is not None:
            self._joining = None  # the next one tries again
        joining.result()
        return not self._is_closed

    async def _join(self) -> None:
        await self._member.join()
        self._committing = asyncio.create_task(self._commit_now_and_then(), name=f"commit {self.group}")

    async def close(self) -> None:
        """Leave the group in order: handlers end, positions are stored, partitions are free for others.

        A message that was handed out and not acknowledged comes again, to whoever takes its partition. May be called
        again, and meanwhile; a call that is cancelled does not keep it from ending.
        """
        if self._closing is None:
            self._is_closed = True
            self._closing = asyncio.create_task(self._close(), name=f"leave {self.group}")
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._hand.close()
        self._share.pool.wake_all()
        dispatchers = list(self._dispatchers)
        for dispatcher in dispatchers:
            dispatcher.stop()
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._parts.store.close)
            stack.push_async_callback(self._parts.rejects.close)
            for task in (self._joining, self._committing):
                if task is not None:
                    task.cancel()
                    await asyncio.wait([task])
            await self._member.leave()
            await self._share.ended()
            for dispatcher in dispatchers:
                await dispatcher.ended()

    async def __aenter__(self) -> Self:
        await self.join()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._is_closed

    @property
    def has_left(self) -> bool:
        """Whether closing it has ended."""
        return self._closing is not None and self._closing.done()

    @property
    def acks_itself(self) -> bool:
        """Whether messages are acknowledged without a call of `ack`."""
        return self._options.ack == "auto"

    @property
    def duplicates(self) -> Duplicates | None:
        """The filter of messages that were dealt with."""
        return self._duplicates

    @property
    def name(self) -> str:
        """The name of this member in its group."""
        return self._member.name

    @property
    def partitions(self) -> list[ClusterPartition]:
        """The partitions that are its share now, sorted."""
        return sorted(self._share.streams)

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Consume these topics from now on and no others."""
        self.topics = tuple(topics)
        await self._member.update_topics(self.topics)

    # handing out

    async def next_run(self, wait: float | None = None) -> Run | None:
        """Return messages of one partition, perhaps none that are wanted.

        None: nothing came within `wait` seconds, or the consumer is closed.
        Raises NoStoredOffset, OffsetLost and CorruptMessage where the options want that; the other partitions go on.
        """
        if self._committing is None and not await self._has_joined():
            return None
        loop = asyncio.get_running_loop()
        deadline = None if wait is None else loop.time() + wait
        while not self._is_closed:
            stream = self._share.pool.take()
            if stream is not None:
                return self._hand_out(stream)
            left = None if deadline is None else deadline - loop.time()
            if (left is not None and left <= 0) or not await self._share.pool.wait(left):
                return None
        return None

    def _hand_out(self, stream: Stream) -> Run:
        accepts = self._accepts if self._chooses else None
        run = Run(stream, stream.take(), acks=self._options.ack == "auto", accepts=accepts)
        stream.held[run] = None
        return run

    def _accepts(self, message: Message) -> bool:
        """Say whether a message is no duplicate and a filter lets it pass.

        One at which the filter raises does not pass (reference: client.md §7.7).
        """
        known, accepts = self._duplicates, self._options.filter
        return (known is None or message[:4] not in known) and (accepts is None or _passes(accepts, message))

    def done(self, run: Run) -> None:
        """Acknowledge what was handed out of a run, and let the next one of its partition come."""
        finished = run.finish()
        if self._duplicates is not None and self.acks_itself:
            self._duplicates.add(finished)
        run.stream.drop(run)
        run.release()

    async def advance(self, finished: Run | None = None) -> Run | None:
        """Return the run that one who iterates has in hand; where that is the finished one, the next. See Hand."""
        return await self._hand.advance(finished)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        """Return the next message, waiting for it; that acknowledges the one before. Raises as `next_run`."""
        message = self._hand.message_at_hand() or await self._hand.message()
        if message is None:
            raise StopAsyncIteration
        return message

    async def batch(self, most: int = 1000, wait: float = 1.0) -> list[Message]:
        """Return at most `most` messages, of whatever partitions; that acknowledges the batch before.

        Waits for the first one for ever, for more no longer than `wait` seconds. An empty list: the consumer is closed.
        """
        return await self._hand.batch(most, wait)

    @property
    def asked(self) -> int:
        """How many batches were asked for."""
        return self._hand.asked

    def take_back(self, asked: int) -> None:
        """Hand out again a batch that did not arrive, if one was begun since so many were asked for."""
        if self._hand.asked > asked:
            self._hand.take_back()

    async def batches(self, most: int = 1000, wait: float = 1.0) -> AsyncIterator[list[Message]]:
        """Yield what `batch` returns, until the consumer is closed."""
        while batch := await self.batch(most, wait):
            yield batch

    # handlers

    async def run(
        self,
        handler: Callable[[Message], Awaitable[object]],
        *,
        concurrency: int = 1,
        key: Callable[[Message], Hashable] | str | None = None,
    ) -> None:
        """Call `handler` for each message, `concurrency` calls at once, until the consumer is closed.

        A call that raises is made again after a while, `retries` times; then the message is rejected. Meanwhile only
        messages of the same partition wait, or, with `key` (a function of a message, or "attribute"), only those of
        that partition with the same key.
        """
        await self.work(one_by_one(handler), HandlerOptions(concurrency=concurrency, key=key))

    async def work(self, handler: Handler, options: HandlerOptions) -> None:
        """Do the same with a handler that takes several messages at a call."""
        if not await self._has_joined():
            return
        dispatcher = Dispatcher(self, handler, self._parts.rejects, self._options, options)
        self._dispatchers.add(dispatcher)
        try:
            await dispatcher.run()
        finally:
            self._dispatchers.discard(dispatcher)

    # acknowledging

    def ack(self, message: Message) -> bool:
        """Take a message, and all before it in its partition, for dealt with; False: its partition is not ours."""
        stream = self._share.of(message)
        if stream is None or stream.progress is None:
            return False
        stream.progress.reach(message.id, message.next_offset)
        if self._duplicates is not None and not self.acks_itself:
            self._duplicates.add([message[:4]])
        return True

    async def reject(self, message: Message, error: BaseException | None = None) -> None:
        """Do with a message what the option `reject` says."""
        await self._parts.rejects.reject(message, error or ConfigError("rejected"))

    async def commit(self) -> None:
        """Store now how far the messages are dealt with. Raises what the offset store raises."""
        await self._committer.save(list(self._share.streams.values()))

    async def _commit_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(self._options.commit_every)
            await self._committer.try_save(list(self._share.streams.values()))

    # steering

    def pause(self, topic: str | None = None, partition: Place | None = None) -> None:
        """Hand out nothing more of these partitions; None: of all that are ours."""
        self._share.pause(topic, partition)

    def resume(self, topic: str | None = None, partition: Place | None = None) -> None:
        """Go on with what was paused."""
        self._share.resume(topic, partition)

    def seek(self, topic: str, partition: Place, offset: int) -> None:
        """Go on at an offset of a partition that is ours; it must be that of a message, or the end."""
        self._share.seek(topic, partition, offset)

    async def seek_to_time(self, since: datetime, topic: str | None = None) -> None:
        """Go on, in all partitions that are ours, at the first message stored at `since` or later (see replay)."""
        await self._share.seek_to_time(since, topic)

    async def skip(self) -> None:
        """Go on behind the corrupt records that were raised (option corrupt="raise")."""
        await self._share.skip()

    async def lag(self) -> Mapping[ClusterPartition, int]:
        """Return, for each partition that is ours, how many bytes are stored behind what is dealt with.

        They are those of the master, or, while it is away, of a slave.
        """
        return await self._share.lag()


def _passes(accepts: Callable[[Message], bool], message: Message) -> bool:
    try:
        return accepts(message)
    except Exception as exc:  # noqa: BLE001 - what a filter fails at is not accepted, as in the original
        log.error(
            "%s %s: message %d at %d passed over, the filter failed: %r",
            message.topic, message.partition, message.id, message.offset, exc,
        )  # fmt: skip
        return False


def _hear(task: asyncio.Task[None]) -> None:
    """Ask a task for its error, or asyncio would print it when nobody else does."""
    if not task.cancelled():
        task.exception()
