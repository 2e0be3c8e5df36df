"""Consumers on their stores, against our own broker: what a crash repeats, and what it does not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

import metaq.aio
from metaq.aio import FileOffsets, MemoryOffsets, OffsetStore, SqlOffsets, positions_after
from tests.client.conftest import QUICK
from tests.embedding import configured, serving, settings

COUNT = 300


@pytest.fixture
async def mq(tmp_path: Path) -> AsyncIterator[metaq.aio.MessageQueue]:
    """A client of a broker with messages "0" … "299" in four partitions."""
    async with (
        serving(configured(tmp_path, settings(tmp_path))) as broker,
        metaq.aio.connect(f"metaq://127.0.0.1:{broker.port}", link=QUICK) as client,
    ):
        await client.producer("test").send_many([b"%d" % n for n in range(COUNT)])
        yield client


async def test_results_stored_with_their_offsets_are_there_once_whatever_fails(
    mq: metaq.aio.MessageQueue, tmp_path: Path
) -> None:
    """Every second transaction fails, and its consumer ends with it."""
    engine = create_engine(f"sqlite:///{tmp_path}/results.db")
    store = SqlOffsets(engine, consumer_saves=False)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE result (n INTEGER)"))

    def count() -> list[int]:
        with engine.connect() as connection:
            return sorted(connection.scalars(text("SELECT n FROM result")))

    failures = 0
    async with asyncio.timeout(20):
        for turn in range(1000):
            if len(count()) == COUNT:
                break
            with suppress(ZeroDivisionError):
                async with mq.consumer("test", group="g", offsets=store, reject="drop") as consumer:
                    batch = await consumer.batch(40, wait=0.05)
                    with engine.begin() as connection:
                        rows = [{"n": int(message.data)} for message in batch]
                        connection.execute(text("INSERT INTO result VALUES (:n)"), rows)
                        store.save_in(connection, "g", positions_after(batch))
                        if turn % 2:
                            failures += 1
                            raise ZeroDivisionError
    assert count() == list(range(COUNT))
    assert failures > 2
    engine.dispose()


@pytest.mark.parametrize("kind", ["file", "memory", "sql"])
async def test_the_next_consumer_of_a_group_goes_on_where_the_one_before_ended(
    mq: metaq.aio.MessageQueue, tmp_path: Path, kind: str
) -> None:
    stores: dict[str, OffsetStore] = {
        "file": FileOffsets(str(tmp_path / "offsets")),
        "memory": MemoryOffsets(),
        "sql": SqlOffsets(f"sqlite:///{tmp_path}/o.db"),
    }
    seen: list[int] = []
    async with asyncio.timeout(20):
        while len(set(seen)) < COUNT:
            async with mq.consumer("test", group="g", offsets=stores[kind], ack="manual") as consumer:
                batch = await consumer.batch(50, wait=0.05)
                seen += [int(message.data) for message in batch]
                for message in batch:
                    consumer.ack(message)
    assert sorted(seen) == list(range(COUNT))
    await stores["sql"].close()


async def test_another_group_begins_at_the_start(mq: metaq.aio.MessageQueue, tmp_path: Path) -> None:
    path = f"file:{tmp_path}/offsets"
    for group in ("g", "h"):
        async with asyncio.timeout(20), mq.consumer("test", group=group, offsets=path) as consumer:
            seen: list[bytes] = []
            while len(seen) < COUNT:
                seen += [message.data for message in await consumer.batch(COUNT, wait=0.05)]
    assert await FileOffsets(f"{tmp_path}/offsets").groups() == ["g", "h"]
