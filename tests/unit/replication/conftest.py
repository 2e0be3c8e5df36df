"""A master and a follower in one loop, and what their logs hold."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

import metaq.aio
from metaq.app import real_world
from metaq.model import BrokerAddress, TopicPartition
from metaq.replication.follower import Follower
from metaq.replication.options import FollowerOptions
from metaq.replication.status import PartitionStatus, State
from metaq.store.log import PartitionLog
from metaq.store.store import MessageStore
from tests.embedding import HERE, NOTHING, PATIENCE, TOPICS, Serving, Settings, configured, serving, settings

QUICK: Final = FollowerOptions(group="slave", look=0.05, retry=0.1)


async def until(condition: Callable[[], bool], what: Callable[[], object] = lambda: "") -> None:
    """Wait for a condition; it fails the test if that takes longer than PATIENCE."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"it did not happen: {what()}") from None


def segments(folder: Path, key: TopicPartition) -> dict[str, bytes]:
    """Return name → content of the segments of a partition that is closed."""
    return {path.name: path.read_bytes() for path in sorted((folder / "data" / str(key)).glob("*.meta"))}


class Pair:
    """Two homes below a folder. Whoever is opened is closed at the end."""

    def __init__(self, folder: Path) -> None:
        self.master_home, self.slave_home = folder / "master", folder / "slave"
        for home in (self.master_home, self.slave_home):
            home.mkdir()
        self.folder = folder

    @asynccontextmanager
    async def master(
        self, system: Settings = NOTHING, topics: str = TOPICS, home: Path | None = None
    ) -> AsyncIterator[Serving]:
        home = home or self.master_home
        async with serving(configured(home, settings(home, system, topics=topics))) as broker:
            yield broker

    @asynccontextmanager
    async def slave(self, options: FollowerOptions = QUICK, topics: str = TOPICS) -> AsyncIterator["Copying"]:
        """Open the slave's store, and copy while the block runs."""
        home = self.slave_home
        world = real_world()
        store = MessageStore.open(configured(home, settings(home, topics=topics)), world)
        follower = Follower(store, world, options)
        try:
            house = asyncio.create_task(store.keep_house())
            running = asyncio.create_task(follower.run())
            try:
                yield Copying(store, follower)
            finally:
                house.cancel()
                running.cancel()
                done = await asyncio.gather(running, house, return_exceptions=True)
                assert all(isinstance(each, asyncio.CancelledError) for each in done), done
        finally:
            await store.close()

    def check_equal(self, *keys: TopicPartition) -> None:
        """Both are closed: the same segments, and the same bytes in them."""
        for key in keys:
            assert segments(self.slave_home, key) == segments(self.master_home, key), key


class Copying:
    """A store that follows."""

    def __init__(self, store: MessageStore, follower: Follower) -> None:
        self.store = store
        self.follower = follower

    def follow(self, master: Serving | None, **topics: int) -> None:
        address = None if master is None else BrokerAddress(HERE, master.port)
        self.follower.follow(address, topics)

    def of(self, key: TopicPartition) -> PartitionStatus:
        return next(each for each in self.follower.status().partitions if each.key == key)

    async def is_like(self, master: Serving, *keys: TopicPartition) -> None:
        """Wait until partitions end where the master's do."""
        theirs = master.running.broker.store

        def end_of(log: PartitionLog | None) -> int:
            return 0 if log is None else log.visible

        await until(
            lambda: all(end_of(self.store.get(key)) == end_of(theirs.get(key)) for key in keys), self.follower.status
        )

    async def reaches(self, key: TopicPartition, state: State) -> PartitionStatus:
        await until(lambda: self.of(key).state is state, lambda: self.of(key))
        return self.of(key)


async def publish(master: Serving, topic: str, bodies: list[bytes], partition: int | None = None) -> None:
    """Send messages, to one partition or to all in turn, in batches so small that segments may end between them."""
    async with metaq.aio.connect(f"metaq://{HERE}:{master.port}") as mq:
        producer = mq.producer(topic)
        for at in range(0, len(bodies), 50):
            await producer.send_many(bodies[at : at + 50], partition=partition)


@pytest.fixture
def pair(folder: Path) -> Pair:
    return Pair(folder)
