"""A consumer for plain code: the one of `consumer`, run in the background thread (see `metaq.sync`)."""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from itertools import chain
from typing import Self

from metaq.client.background import LoopThread
from metaq.client.consuming.consumer import Consumer as CoreConsumer
from metaq.client.consuming.dispatch import HandlerOptions
from metaq.client.consuming.handlers import in_threads
from metaq.client.consuming.run import Run
from metaq.client.message import Message
from metaq.client.partitioner import Place
from metaq.errors import ConfigError
from metaq.model import ClusterPartition


class Consumer:
    """Takes its share of the partitions of its topics, and hands their messages out. See metaq.aio.Consumer.

    One thread iterates; the other methods may be called from any.
    """

    def __init__(self, core: CoreConsumer, thread: LoopThread) -> None:
        self.group = core.group
        self._core = core
        self._thread = thread

    # life

    def join(self) -> None:
        """Enter the group now and not when the first message is asked for."""
        self._thread.call(self._core.join())

    def close(self) -> None:
        """Leave the group in order: handlers end, positions are stored, partitions are free for others."""
        if not self._thread.is_closed:
            self._thread.call(self._core.close())

    def __enter__(self) -> Self:
        self.join()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics it consumes."""
        return self._core.topics

    @property
    def name(self) -> str:
        """The name of this member in its group."""
        return self._core.name

    @property
    def partitions(self) -> list[ClusterPartition]:
        """The partitions that are its share now, sorted."""
        return self._thread.make(lambda: self._core.partitions)

    def subscribe(self, topics: Iterable[str]) -> None:
        """Consume these topics from now on and no others."""
        self._thread.call(self._core.subscribe(topics))

    # messages

    def __iter__(self) -> Iterator[Message]:
        """Return the messages until the consumer is closed; asking for the next one acknowledges the one before.

        A loop that was left may be entered again: it goes on with the next message.
        """
        return chain.from_iterable(self._rests())

    def _rests(self) -> Iterator[Iterator[Message]]:
        finished: Run | None = None
        while (run := self._thread.call(self._core.advance(finished))) is not None:
            while run.more():
                yield run.rest
            finished = run

    def batch(self, most: int = 1000, wait: float = 1.0) -> list[Message]:
        """Return at most `most` messages; that acknowledges the batch before. See metaq.aio.Consumer.batch."""
        asked = self._core.asked
        try:
            return self._thread.call(self._core.batch(most, wait))
        except BaseException:
            with suppress(ConfigError):  # the client is closed
                self._thread.post(lambda: self._core.take_back(asked))  # Ctrl-C may have come between there and here
            raise

    def batches(self, most: int = 1000, wait: float = 1.0) -> Iterator[list[Message]]:
        """Yield what `batch` returns, until the consumer is closed."""
        while batch := self.batch(most, wait):
            yield batch

    def run(
        self,
        handler: Callable[[Message], object],
        *,
        concurrency: int = 1,
        key: Callable[[Message], Hashable] | str | None = None,
    ) -> None:
        """Call `handler` for each message, in `concurrency` threads, until the consumer is closed.

        See metaq.aio.Consumer.run for what happens to messages it fails at. Ctrl-C ends it when the calls that run
        have ended.
        """
        options = HandlerOptions(concurrency=concurrency, key=key)
        with ThreadPoolExecutor(concurrency, thread_name_prefix=f"metaq {self.group}") as executor:
            work = in_threads(handler, executor)
            running = self._thread.make(lambda: asyncio.create_task(self._core.work(work, options)))
            try:
                self._thread.call(_outcome(running))
            finally:
                if not self._thread.is_closed:  # as long as it runs it needs the threads
                    self._thread.call(_end(running))

    # acknowledging

    def ack(self, message: Message) -> bool:
        """Take a message, and all before it in its partition, for dealt with; False: its partition is not ours."""
        if self._core.acks_itself:
            return self._thread.make(lambda: self._core.ack(message))
        return self._core.ack(message)  # nobody else moves the position, so this needs no way through the other thread

    def reject(self, message: Message, error: BaseException | None = None) -> None:
        """Do with a message what the option `reject` says."""
        self._thread.call(self._core.reject(message, error))

    def commit(self) -> None:
        """Store now how far the messages are dealt with. Raises what the offset store raises."""
        self._thread.call(self._core.commit())

    # steering

    def pause(self, topic: str | None = None, partition: Place | None = None) -> None:
        """Hand out nothing more of these partitions; None: of all that are ours."""
        self._thread.make(lambda: self._core.pause(topic, partition))

    def resume(self, topic: str | None = None, partition: Place | None = None) -> None:
        """Go on with what was paused."""
        self._thread.make(lambda: self._core.resume(topic, partition))

    def seek(self, topic: str, partition: Place, offset: int) -> None:
        """Go on at an offset of a partition that is ours; it must be that of a message, or the end."""
        self._thread.make(lambda: self._core.seek(topic, partition, offset))

    def seek_to_time(self, since: datetime, topic: str | None = None) -> None:
        """Go on, in all partitions that are ours, at the first message stored at `since` or later."""
        self._thread.call(self._core.seek_to_time(since, topic))

    def skip(self) -> None:
        """Go on behind the corrupt records that were raised (option corrupt="raise")."""
        self._thread.call(self._core.skip())

    def lag(self) -> Mapping[ClusterPartition, int]:
        """Return, for each partition that is ours, how many bytes are stored behind what is dealt with."""
        return self._thread.call(self._core.lag())


async def _outcome(running: asyncio.Task[None]) -> None:
    await asyncio.wait([running])
    running.result()


async def _end(running: asyncio.Task[None]) -> None:
    running.cancel()
    await asyncio.wait([running])
