"""A follower whose log is not the master's: it is found out, said once, set aside, and fetched again."""

import asyncio
import dataclasses
import errno
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from metaq.errors import DiskFull
from metaq.model import TopicPartition
from metaq.replication.status import State
from tests.unit.replication.conftest import QUICK, Pair, publish, segments, until

KEY = TopicPartition("test", 1)
FIRST = [b"%d:" % n + b"a" * (n % 300) for n in range(400)]
SECOND = [b"%d:" % n + b"b" * (n % 200) for n in range(400)]
SMALL = {"maxSegmentSize": 20_000}


def restore(pair: Pair, kept: Path) -> None:
    """Have the master wake up with an older disk."""
    shutil.rmtree(pair.master_home)
    shutil.copytree(kept, pair.master_home)


async def two_with_a_tail(pair: Pair) -> Path:
    """Leave both stopped: with FIRST and SECOND; return a folder with a master that has FIRST only."""
    kept = pair.folder / "kept"
    async with pair.master(SMALL) as master:
        await publish(master, "test", FIRST, 1)
    shutil.copytree(pair.master_home, kept)
    async with pair.master(SMALL) as master, pair.slave() as slave:
        await publish(master, "test", SECOND, 1)
        slave.follow(master, test=4)
        await slave.is_like(master, KEY)
    pair.check_equal(KEY)
    return kept


def set_aside(pair: Pair) -> bytes:
    """Return all that was set aside, in order of offsets."""
    found = list((pair.slave_home / "data" / ".metaq" / "aside").glob("*.cut")) or list(pair.slave_home.rglob("*.cut"))
    return b"".join(path.read_bytes() for path in sorted(found, key=lambda p: int(p.name.split("@")[1].split(".")[0])))


async def test_what_a_master_lost_is_set_aside(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    kept = await two_with_a_tail(pair)
    whole = b"".join(segments(pair.slave_home, KEY).values())
    restore(pair, kept)
    had = len(b"".join(segments(kept, KEY).values()))
    with caplog.at_level(logging.WARNING):
        async with pair.master(SMALL) as master, pair.slave() as slave:
            slave.follow(master, test=4)
            await slave.is_like(master, KEY)
            status = await slave.reaches(KEY, State.CURRENT)
            assert status.repaired is not None and f"differ from offset {had} on" in status.repaired
            await publish(master, "test", FIRST[:50], 1)
            await slave.is_like(master, KEY)
    assert len([r for r in caplog.records if "differ from offset" in r.message]) == 1
    pair.check_equal(KEY)
    assert set_aside(pair) == whole[had:]


@pytest.mark.parametrize("count", [10, 4000])
async def test_other_records_at_the_same_offsets_are_fetched_again(pair: Pair, count: int) -> None:
    """The master is shorter than the slave, or has grown beyond it."""
    kept = await two_with_a_tail(pair)
    restore(pair, kept)
    async with pair.master(SMALL) as master, pair.slave() as slave:
        await publish(master, "test", [b"c%d" % n for n in range(count)], 1)
        slave.follow(master, test=4)
        await slave.is_like(master, KEY)
        assert "differ from offset" in (slave.of(KEY).repaired or "")
    pair.check_equal(KEY)


async def test_a_log_that_has_nothing_of_the_masters_is_set_aside_whole(pair: Pair) -> None:
    await two_with_a_tail(pair)
    whole = b"".join(segments(pair.slave_home, KEY).values())
    async with pair.master(SMALL, home=pair.folder / "kept") as master, pair.slave() as slave:
        slave.follow(master, test=4)
        await slave.is_like(master, KEY)
    shutil.rmtree(pair.master_home)
    pair.master_home.mkdir()
    async with pair.master() as master, pair.slave() as slave:
        slave.follow(master, test=4)
        stopped = await slave.reaches(KEY, State.STOPPED)
        assert (stopped.error or "").startswith("the master has no log of it")
        await publish(master, "test", SECOND, 1)
        await slave.is_like(master, KEY)
        assert "nothing in common" in (slave.of(KEY).repaired or "")
    pair.check_equal(KEY)
    assert len(set_aside(pair)) == len(whole)


async def test_a_slave_that_was_away_too_long_begins_where_the_master_begins(pair: Pair) -> None:
    async with pair.master(SMALL) as master, pair.slave() as slave:
        await publish(master, "test", FIRST[:20], 1)
        slave.follow(master, test=4)
        await slave.is_like(master, KEY)
    async with pair.master(SMALL) as master:
        await publish(master, "test", FIRST + SECOND, 1)
    for name in list(segments(pair.master_home, KEY))[:2]:
        (pair.master_home / "data" / str(KEY) / name).unlink()
    async with pair.master(SMALL) as master, pair.slave() as slave:
        slave.follow(master, test=4)
        await slave.is_like(master, KEY)
        assert "nothing in common" in (slave.of(KEY).repaired or "")
        log = slave.store.get(KEY)
        assert log is not None and log.start > 0
    pair.check_equal(KEY)


async def test_an_empty_slave_begins_where_the_master_begins(pair: Pair) -> None:
    async with pair.master(SMALL) as master:
        await publish(master, "test", FIRST + SECOND, 1)
    first = next(iter(segments(pair.master_home, KEY)))
    (pair.master_home / "data" / str(KEY) / first).unlink()
    async with pair.master(SMALL) as master, pair.slave() as slave:
        slave.follow(master, test=4)
        await slave.is_like(master, KEY)
        assert slave.of(KEY).repaired is None
    pair.check_equal(KEY)


async def test_broken_bytes_are_refused_and_others_go_on(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    other = TopicPartition("test", 2)
    async with pair.master(SMALL) as master:
        await publish(master, "test", FIRST, 1)
        await publish(master, "test", FIRST, 2)
    name, content = list(segments(pair.master_home, KEY).items())[1]
    path = pair.master_home / "data" / str(KEY) / name
    path.write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    async with pair.master(SMALL) as master, pair.slave() as slave:
        slave.follow(master, test=4)
        await slave.is_like(master, other)
        stopped = await slave.reaches(KEY, State.STOPPED)
        assert "does not follow on our log: at" in (stopped.error or "") and "checksum" in (stopped.error or "")
        await asyncio.sleep(QUICK.retry * 3)  # it tries again, and says nothing new
        assert int(name[:20]) < stopped.end <= int(name[:20]) + 5000
    assert len([r for r in caplog.records if "copying stops" in r.message]) == 1


async def test_a_topic_that_we_do_not_have_names_the_remedy_until_we_have_it(pair: Pair) -> None:
    have = {"test"}
    options = dataclasses.replace(QUICK, accepts=lambda key: key.topic in have)
    other = TopicPartition("quick", 0)
    async with pair.master() as master, pair.slave(options) as slave:
        await publish(master, "test", FIRST, 1)
        await publish(master, "quick", FIRST, 0)
        slave.follow(master, test=4, quick=1)
        await slave.is_like(master, KEY)
        stopped = await slave.reaches(other, State.STOPPED)
        assert "add [topic=quick] there and reload" in (stopped.error or "")
        await until(lambda: bool(slave.of(other).seconds))  # it lacks something, for longer and longer
        have.add("quick")
        await slave.is_like(master, other)
        assert slave.of(other).error is None


async def test_a_master_that_comes_and_goes_is_followed(pair: Pair) -> None:
    async with pair.slave() as slave:
        slave.follow(None, test=4)
        for body in FIRST[:3]:
            async with pair.master() as master:
                slave.follow(master, test=4)
                await publish(master, "test", [body], 1)
                await slave.is_like(master, KEY)
            await until(lambda: not slave.follower.status().connected)
            assert slave.of(KEY).state is State.WAITING
            assert slave.follower.status().error
        slave.follow(None, test=4)
        await until(lambda: slave.follower.status().error is None)
        assert slave.of(KEY).end > 0


async def test_a_slave_that_comes_and_goes_leaves_no_connection_behind(pair: Pair) -> None:
    async with pair.master() as master, pair.slave() as slave:
        await publish(master, "test", FIRST[:3], 1)
        connections = master.running.broker.count_connections
        for _ in range(5):
            slave.follow(master, test=4)
            await slave.is_like(master, KEY)
            slave.follow(None, test=4)
            await until(lambda: not slave.follower.status().connected)
        await until(lambda: connections() == 0)


async def test_a_log_that_was_dropped_at_the_master_and_begun_anew_is_followed(pair: Pair) -> None:
    async with pair.master() as master, pair.slave() as slave:
        await publish(master, "test", FIRST, 1)
        slave.follow(master, test=4)
        await slave.is_like(master, KEY)
        store = master.running.broker.store
        log = store.get(KEY)
        assert log is not None
        dropped: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        store.drop(log, dropped.set_result)
        assert await dropped is None
        master.running.broker.puts.forget()
        await publish(master, "test", SECOND[:100], 1)
        await slave.is_like(master, KEY)
        assert "nothing in common" in (slave.of(KEY).repaired or "")
    pair.check_equal(KEY)


async def test_a_partition_that_is_closed_at_the_master_is_waited_for_and_nothing_is_set_aside(pair: Pair) -> None:
    async with pair.master() as master, pair.slave() as slave:
        await publish(master, "test", FIRST, 1)
        slave.follow(master, test=4)
        await slave.is_like(master, KEY)
        slave.follow(None, test=4)
        await until(lambda: not slave.follower.status().connected)
        master.running.broker.close_partitions("test", 1, 1)
        slave.follow(master, test=4)
        await until(lambda: "does not give what it has" in (slave.of(KEY).error or ""), lambda: slave.of(KEY))
        master.running.broker.open_partitions("test")
        await publish(master, "test", SECOND, 1)
        await slave.is_like(master, KEY)
        assert (await slave.reaches(KEY, State.CURRENT)).repaired is None
    pair.check_equal(KEY)


async def test_a_full_disk_is_waited_for(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise DiskFull("disk full")

    async with pair.master() as master, pair.slave() as slave:
        await publish(master, "test", FIRST, 1)
        monkeypatch.setattr(slave.store, "check_space", full)
        slave.follow(master, test=4)
        assert "cannot append: disk full" in ((await slave.reaches(KEY, State.STOPPED)).error or "")
        monkeypatch.undo()
        await slave.is_like(master, KEY)
        assert (await slave.reaches(KEY, State.CURRENT)).error is None
    pair.check_equal(KEY)


async def test_records_that_could_not_be_written_are_fetched_again(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal has no room for the first two rounds: what was appended of them is void."""
    async with pair.master() as master, pair.slave() as slave:
        await publish(master, "test", FIRST, 1)
        lost: list[list[bytes | memoryview]] = []
        journal = slave.store.journal
        write = journal.write

        def refuse(parts: list[bytes | memoryview], sync: bool, done: Callable[[OSError | None], None]) -> None:
            if len(lost) == 2:
                write(parts, sync, done)
            else:
                lost.append(parts)
                asyncio.get_running_loop().call_soon(done, OSError(errno.ENOSPC, "no space left on device"))

        monkeypatch.setattr(journal, "write", refuse)
        slave.follow(master, test=4)
        await slave.is_like(master, KEY)
        assert len(lost) == 2
    pair.check_equal(KEY)


async def test_partitions_that_appear_later_are_copied_too(pair: Pair) -> None:
    async with pair.master() as master, pair.slave() as slave:
        slave.follow(master, test=1)
        await publish(master, "test", FIRST)
        await slave.is_like(master, TopicPartition("test", 0))
        assert slave.store.get(KEY) is None
        slave.follow(master, test=2)
        await slave.is_like(master, KEY)
        slave.follow(master, test=1)
        assert [each.key.partition for each in slave.follower.status().partitions] == [0]
        kept = slave.store.get(KEY)
        assert kept is not None and kept.visible > 0
