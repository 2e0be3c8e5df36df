"""The whole store: what puts cost, several data paths, other brokers kept out, syncing by count and by interval."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from metaq.model import TopicPartition
from tests.unit.store.course import FAST, HOME, LOCK, SAFE, config, content_of, crash, opened, recover


def cost_of_puts(partitions: int) -> Counter[str]:
    """Return how often each kind of call to the disk is made for 200 puts that go to 16 of so many partitions."""
    with opened(config(journal_file_size=1 << 20, open_files=100)) as (world, life):

        async def course() -> Counter[str]:
            life.open()
            keys = [TopicPartition("fast", number) for number in range(partitions)]
            for key in keys:
                life.put(key, 60)
            await life.settle()
            disk = life.machine.disk
            disk.log.clear()
            for number in range(200):
                life.put(keys[number % 16 * (partitions // 16)], 60)
                life.put(SAFE, 60)
                if number % 10 == 0:
                    await life.settle()
            await life.settle()
            counted = Counter(operation.name for operation in disk.log)
            life.store.abandon()
            return counted

        return world.run(course())


def test_a_put_costs_the_disk_the_same_among_16_and_among_2000_partitions() -> None:
    few, many = cost_of_puts(16), cost_of_puts(2000)
    assert few == many
    assert set(few) <= {"pwrite", "fdatasync"} and few["fdatasync"] <= 41


def test_topics_with_data_paths_of_their_own_are_found_there_after_a_stop_and_after_a_crash() -> None:
    there = "/disk2/meta"
    topics = tuple(replace(topic, data_path=there) for topic in config().topics)
    with opened(config(topics=topics)) as (world, life):

        async def course() -> None:
            life.open()
            life.put(FAST, 400)
            life.put(SAFE, 300)
            await life.settle()
            await life.close()
            life.open()
            life.put(FAST, 900, 900)
            await life.settle()
            life.store.sync_now()
            await asyncio.sleep(1)
            life.model.synced()

        world.run(course())
        crash(life.machine, life.model, power=True)

        async def again() -> None:
            life.open()
            await life.check()
            await life.close()

        world.run(again())
        start, content = content_of(life.machine.disk, f"{there}/{FAST}")
        assert (start, len(content)) == (0, 2200)
        assert not life.machine.disk.exists(f"{HOME}/{FAST}")


@pytest.mark.parametrize("key", [FAST, SAFE])
def test_java_is_kept_out_exactly_while_the_folder_is_not_clean(key: TopicPartition) -> None:
    with opened() as (world, life):

        async def course() -> None:
            disk = life.machine.disk
            for _ in range(2):
                life.open()
                assert disk.exists(LOCK)
                life.put(key, 100)
                await life.settle()
                await life.checkpoint()
                assert disk.exists(LOCK), "emptying the journal now and then does not make it clean"
                await life.close()
                assert not disk.exists(LOCK)
            life.open()
            life.store.abandon()
            assert disk.exists(LOCK)

        world.run(course())


def test_a_topic_that_does_not_wait_is_synced_within_its_interval() -> None:
    topics = tuple(replace(topic, unflush_interval=2.0) for topic in config().topics)
    with opened(config(topics=topics)) as (world, life):

        async def course() -> None:
            store = life.open()
            life.put(FAST, 100)
            await life.settle()
            assert store.journal.durable < store.journal.sequence
            await asyncio.sleep(2.1)
            assert store.journal.durable == store.journal.sequence
            life.model.synced()

        world.run(course())
        crash(life.machine, life.model, power=True)
        recover(world, life)


def test_a_topic_that_does_not_wait_is_synced_by_count() -> None:
    topics = tuple(replace(topic, unflush_threshold=5) for topic in config().topics)
    with opened(config(topics=topics)) as (world, life):

        async def course() -> None:
            store = life.open()
            for _ in range(5):
                life.put(FAST, 30)
                await life.settle()
            await asyncio.sleep(0.5)
            assert store.journal.durable < store.journal.sequence
            life.put(FAST, 30)
            await asyncio.sleep(0.5)
            assert store.journal.durable == store.journal.sequence

        world.run(course())


def test_ids_go_on_above_the_highest_after_a_crash_and_after_a_stop() -> None:
    with opened() as (world, life):

        async def course() -> list[int]:
            found = []
            for stop in (True, False, True):
                store = life.open()
                found.append(store.journal.highest_id)
                life.put(SAFE, 30, 30)
                await life.settle()
                await life.close() if stop else store.abandon()
            return found

        assert world.run(course()) == [0, 2, 4]


def test_a_log_is_cut_or_dropped_only_where_that_makes_sense() -> None:
    with opened() as (world, life):

        async def course() -> None:
            store = life.open()
            life.put(SAFE, 100)
            log = life.log(SAFE)
            for to in (0, 50):
                with pytest.raises(ValueError, match="safe-0 cannot be cut"):
                    store.cut(log, to, lambda error: None)
            with pytest.raises(ValueError, match="safe-0 cannot be dropped"):
                store.drop(log, lambda error: None)
            await life.settle()
            for to in (-1, 101):
                with pytest.raises(ValueError, match="safe-0 cannot be cut"):
                    store.cut(log, to, lambda error: None)
            await life.cut(SAFE, 100)
            await life.drop(SAFE)
            await life.close()

        world.run(course())


@pytest.mark.parametrize("end", ["cut", "drop"])
@pytest.mark.parametrize("key", [SAFE, FAST], ids=str)
def test_what_is_put_while_a_log_ends_is_refused_and_not_journaled_behind_its_end(
    end: str, key: TopicPartition
) -> None:
    with opened() as (world, life):

        async def course() -> None:
            store = life.open()
            life.put(key, 100)
            await life.settle()
            log = life.log(key)
            told: list[Exception | None] = []
            store.cut(log, 0, told.append) if end == "cut" else store.drop(log, told.append)
            for _ in range(2):  # in the turn of the end, and while its round is on its way
                store.append(log, life.model.record(50))
                store.commit(told.append, 50)
                await asyncio.sleep(0)
            with pytest.raises(ValueError, match="cannot be dropped"):
                store.drop(log, told.append)
            async with asyncio.timeout(5):
                while len(told) < 3:
                    await asyncio.sleep(0.001)
            assert sorted(map(str, told)) == ["None"] + 2 * [f"{key} was cut or dropped"]
            assert (log.end, log.visible, log.held) == ((0, 0, False) if end == "cut" else (100, 100, False))
            again = store.create(key)
            assert (again is log) is (end == "cut")
            store.append(again, life.model.record(70))
            store.commit(told.append, 70)
            async with asyncio.timeout(5):
                while len(told) < 4:
                    await asyncio.sleep(0.001)
            assert told[-1] is None
            store.abandon()
            reopened = life.open()
            assert [(each.key, each.visible) for each in reopened.all()] == [(key, 70)]
            await reopened.close()

        world.run(course())


def test_one_seed_gives_the_same_files_twice() -> None:
    def once() -> tuple[int, dict[str, bytes | None]]:
        with opened(seed=7) as (world, life):

            async def course() -> None:
                life.open()
                for size in (100, 900, 3100):
                    life.put(SAFE, size)
                    life.put(FAST, size)
                await life.settle()
                await life.close()

            world.run(course())
            return world.digest(), life.machine.disk.snapshot()

    assert once() == once()
