"""Changes of topics on a running broker: written into its server.ini, then reloaded, so that the file stays the truth.

A create or an alter is the same as editing the file and reloading it. A drop goes in this order, so that nobody finds
a topic half there, and nothing is lost wherever it stops:

    its nodes leave ZooKeeper → its partitions are closed (403) → its logs are moved aside → its section goes → reload
"""

import asyncio
import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from metaq.broker.broker import Broker
from metaq.config.editing import Action, Edited, TopicChange, edit, is_done
from metaq.config.model import BrokerConfig
from metaq.config.reload import Reloaded
from metaq.errors import ConfigError, MetaqError, StoreError
from metaq.model import TopicPartition
from metaq.ports import World
from metaq.store.awaiting import in_thread
from metaq.store.checkpoint import replace_file
from metaq.store.log import PartitionLog
from metaq.store.store import place_of

log = logging.getLogger(__name__)

_THREAD: Final = "metaq-topics"
_TELL_REGISTRY: Final = 5.0  # seconds that a drop waits until ZooKeeper has forgotten the topic
_UNTIL_SETTLED: Final = 10.0  # seconds until what is on its way into a log must be there
_LOOK: Final = 0.2  # seconds between looks whether a log is held, of whose end nobody is told


class ChangeError(MetaqError):
    """A change of topics was not made, or not wholly; the text says what is how now."""


class Running(Protocol):
    """The broker that serves."""

    broker: Broker

    @property
    def config(self) -> BrokerConfig: ...
    async def reload(self) -> Reloaded: ...
    async def forget(self, topic: str) -> None:
        """Have ZooKeeper forget a topic; return when it has."""


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change has led to. `kept`: where the files of a dropped topic lie; None: it had none."""

    text: str  # one sentence
    kept: str | None = None


class TopicChanges:
    """Carries out changes of topics at one broker, one at a time. `refusal`: why it takes none, if it does not."""

    def __init__(self, running: Running, world: World) -> None:
        self._running = running
        self._world = world
        self._one_at_a_time = asyncio.Lock()
        self.refusal = ""
        self.allowed = asyncio.Event()
        self.allowed.set()

    def refuse(self, why: str) -> None:
        """Take none from here on."""
        self.refusal = why
        self.allowed.clear()

    def allow(self) -> None:
        """Take changes from here on."""
        self.refusal = ""
        self.allowed.set()

    async def apply(self, change: TopicChange) -> Changed:
        """Make a change; return when it is in force, and in ZooKeeper if that answers within seconds.

        Raises ConfigError, ChangeError or OSError; nothing is changed then, unless the text says so.
        """
        if self.refusal:
            raise ChangeError(self.refusal)
        async with self._one_at_a_time:
            path, data = await in_thread(self._world, _THREAD, self._read)
            new = await in_thread(self._world, _THREAD, lambda: edit(data, path, change))
            if change.action is Action.DROP:
                changed = await self._drop(path, change.topic, new)
            else:
                self._check_logs(change.topic, new)
                await self._take(path, data, new.data)
                changed = self._changed(change)
            log.info("%s: %s", path, changed.text)
            return changed

    @property
    def config(self) -> BrokerConfig:
        """The configuration in force."""
        return self._running.config

    async def is_made(self, change: TopicChange) -> bool:
        """Tell whether server.ini says what the change leads to. Raises ConfigError or OSError."""
        path, data = await in_thread(self._world, _THREAD, self._read)
        return await in_thread(self._world, _THREAD, lambda: is_done(data, path, change))

    def _changed(self, change: TopicChange) -> Changed:
        count = self._running.config.topic(change.topic).num_partitions
        word = "created" if change.action is Action.CREATE else "changed"
        return Changed(f"topic {change.topic} is {word}; it has {count} partition{'s' if count > 1 else ''}")

    def _check_logs(self, topic: str, new: Edited) -> None:
        """Refuse to leave messages of an earlier topic of this name where nobody can read them."""
        count = new.config.topic(topic).num_partitions
        highest = max((each.key.partition for each in self._logs(topic)), default=-1)
        if highest >= count:
            raise ChangeError(
                f"topic {topic} cannot have {count} partitions: there are messages of it in partition {highest}"
            )

    def _logs(self, topic: str) -> list[PartitionLog]:
        return [each for each in self._running.broker.store.all() if each.key.topic == topic]

    # -- the file

    def _read(self) -> tuple[str, bytes]:
        path = os.path.realpath(self._running.config.path)  # a link to the file stays one
        return path, self._world.files.read(path)

    async def _take(self, path: str, old: bytes, new: bytes) -> None:
        """Write the file and reload it; if it cannot be taken, put the old one back."""
        await self._write(path, new)
        try:
            await self._running.reload()
        except (MetaqError, OSError):
            await self._write(path, old)
            with suppress(MetaqError, OSError):
                await self._running.reload()
            raise

    async def _write(self, path: str, data: bytes | None) -> None:
        """Replace the file whole or not at all; None: only see whether that is possible. Raises ConfigError."""
        files = self._world.files
        folder, name = os.path.split(path)

        def write() -> None:
            files.close(files.open(path, write=True))  # one that may not be written is not to be replaced either
            if data is None:
                files.close(files.open(f"{path}.new", write=True, create=True))
                files.remove(f"{path}.new")
            else:
                replace_file(files, folder, name, data, like=True)

        try:
            await in_thread(self._world, _THREAD, write)
        except OSError as exc:
            raise ConfigError(f"{path} cannot be written: {exc.strerror or exc}") from exc

    # -- drop

    async def _drop(self, path: str, topic: str, new: Edited) -> Changed:
        await self._write(path, None)
        broker = self._running.broker
        logs = self._logs(topic)
        closed = self._close(topic, logs)
        await self._forget(topic)
        moved = 0
        try:
            for each in logs:
                await self._move(each)
                moved += 1
        except (MetaqError, OSError, ValueError) as exc:
            if moved:
                raise ChangeError(self._half(topic, f"{moved} of {len(logs)} partitions", exc)) from exc
            self._reopen(topic, closed)
            await self._running.reload()
            raise ChangeError(f"topic {topic} is not dropped, its messages cannot be moved: {exc}") from exc
        try:
            await self._write(path, new.data)
            await self._running.reload()
        except (MetaqError, OSError) as exc:
            raise ChangeError(self._half(topic, "all messages", exc)) from exc
        broker.open_partitions(topic)  # for one of that name to come
        await self._forget(topic)  # somebody may have reloaded meanwhile
        if not logs:
            return Changed(f"topic {topic} is dropped; it had no messages")
        kept = f"{self._aside}/{topic}-*"
        return Changed(f"topic {topic} is dropped; its messages are kept in {kept}", kept)

    @property
    def _aside(self) -> str:
        return f"{place_of(self._running.config).own}/aside"

    def _half(self, topic: str, what: str, error: Exception) -> str:
        return (
            f"topic {topic} is closed but not dropped: {what} are kept in {self._aside}, then came an error: {error}; "
            "drop it again"
        )

    def _close(self, topic: str, logs: list[PartitionLog]) -> list[int]:
        """Refuse what is put and got from here on; return which partitions were closed already."""
        broker = self._running.broker
        if not broker.config.has_section(topic):
            return []  # refused in any case: the file has its section, but was not reloaded
        count = max(broker.config.topic(topic).num_partitions, *(each.key.partition + 1 for each in logs), 1)
        closed = [n for n in range(count) if not broker.topics.is_open(TopicPartition(topic, n))]
        broker.close_partitions(topic, 0, count - 1)
        return closed

    def _reopen(self, topic: str, closed: list[int]) -> None:
        broker = self._running.broker
        broker.open_partitions(topic)
        for partition in closed:
            broker.close_partitions(topic, partition, partition)

    async def _forget(self, topic: str) -> None:
        try:
            async with asyncio.timeout(_TELL_REGISTRY):
                await self._running.forget(topic)
        except TimeoutError:
            log.warning("ZooKeeper does not answer; it forgets topic %s later", topic)

    async def _move(self, each: PartitionLog) -> None:
        """Move a log aside once nothing is on its way into it. Raises StoreError, ValueError if that takes too long."""
        store = self._running.broker.store
        with suppress(TimeoutError):
            async with asyncio.timeout(_UNTIL_SETTLED):
                while each.held or each.end != each.visible:
                    moved = _Moved()
                    store.watching.watch(each.key, moved)
                    await asyncio.wait([moved.future], timeout=_LOOK)
                    store.watching.unwatch(each.key, moved)
        done: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        store.move_aside(each, lambda error: None if done.done() else done.set_result(error))
        if (error := await done) is not None:
            raise error if isinstance(error, StoreError) else StoreError(str(error))


class _Moved:
    """Waits for the next move of a log."""

    def __init__(self) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def woken(self, _: int) -> None:
        """Hear that it moved."""
        if not self.future.done():
            self.future.set_result(None)
