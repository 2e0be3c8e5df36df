"""A synchronous pair of ours: both have what was acknowledged, and nobody sees what only one has."""

import asyncio
from pathlib import Path

from metaq.record import HEADER_SIZE, checksum, pack, walk
from tests.cluster.pair import KEY, ONE_TOPIC, files, master, slave, until
from tests.embedding import Dial, configured, serving, settings


async def test_what_is_acknowledged_is_on_both_at_the_same_offset_and_under_the_same_id(tmp_path: Path) -> None:
    async with slave(tmp_path / "slave") as second, master(tmp_path / "master", second.port) as first:
        await first.up()
        for number in range(20):
            status, text = await first.put(b"message %d" % number, number % 2)
            assert status == 200, text
        log, copy = first.store.get(KEY), second.running.broker.store.get(KEY)
        assert log is not None
        assert copy is not None
        assert log.confirmed == log.visible == copy.visible == log.end > 0
    assert files(tmp_path / "master") == files(tmp_path / "slave") != {}


async def test_a_put_without_a_slave_is_refused_and_nothing_is_stored(tmp_path: Path) -> None:
    async with slave(tmp_path / "slave") as second:
        port = second.port
        async with master(tmp_path / "master", port) as first:
            await first.up()
            assert (await first.put(b"both"))[0] == 200
            await second.end()
            await first.down()
            assert await first.put(b"nobody") == (500, "Slave is disconnected ")
            log = first.store.get(KEY)
            assert log is not None
            assert log.end == HEADER_SIZE + len(b"both")


async def test_a_slave_that_was_away_or_empty_gets_all_it_lacks_with_the_same_segments(tmp_path: Path) -> None:
    small = {"maxSegmentSize": 1000}
    async with slave(tmp_path / "away", system=small) as old:
        port = old.port
        async with master(tmp_path / "master", port, system=small) as first:
            await first.up()
            for _ in range(30):
                assert (await first.put(b"x" * 100))[0] == 200
            await old.end()
            await first.down()
            async with slave(tmp_path / "empty", port, system={"maxSegmentSize": 1 << 20}) as new:
                await first.up()
                assert (await first.put(b"after"))[0] == 200
                assert new.running.broker.store.get(KEY) is not None
            await first.down()
            async with slave(tmp_path / "away", port):
                await first.up()
    assert len(files(tmp_path / "master")) > 3
    assert files(tmp_path / "master") == files(tmp_path / "empty") == files(tmp_path / "away")


async def test_a_master_that_lost_its_end_takes_it_back_from_the_slave(tmp_path: Path) -> None:
    async with slave(tmp_path / "slave") as second:
        async with master(tmp_path / "master", second.port) as first:
            await first.up()
            for number in range(10):
                assert (await first.put(b"message %d" % number))[0] == 200
        (segment,) = (tmp_path / "master" / "data" / "test-0").glob("*.meta")
        whole = segment.read_bytes()
        segment.write_bytes(whole[: 3 * (HEADER_SIZE + len(b"message 0"))])
        async with master(tmp_path / "master", second.port) as first:
            await first.up()
            assert await first.read() == whole
            assert (await first.put(b"more"))[0] == 200
    assert files(tmp_path / "master") == files(tmp_path / "slave")


async def test_a_slave_takes_no_puts_and_a_partition_it_does_not_have_says_so(tmp_path: Path) -> None:
    more = ONE_TOPIC.replace("2", "3")
    async with (
        slave(tmp_path / "slave") as second,
        master(tmp_path / "master", second.port, topics=more) as first,
    ):
        await first.up()
        dial = Dial(second.port)
        peer = await dial()
        await peer.sends(b"put test 0 2 0 1\r\nhi")
        await peer.gets(rb"result 500 .*slave of a synchronous pair.*")
        await dial.end()
        assert (await first.put(b"good", 1))[0] == 200
        status, text = await first.put(b"bad", 2)
        assert status == 500
        assert "[partition 'test-2'] failed" in text
        assert (await first.put(b"good", 1))[0] == 200
        assert first.samsa.health.registered
        await until(lambda: first.samsa.lines.behind == 0)


async def test_roles_change_and_what_only_the_old_master_has_is_taken_or_set_aside(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    async with slave(two) as second, master(one, second.port) as first:
        await first.up()
        for number in range(5):
            assert (await first.put(b"message %d" % number))[0] == 200
    for folder, own in ((one, b"unseen by two"), (two, b"unseen by one")):
        (path,) = (folder / "data" / "test-0").glob("*.meta")
        path.write_bytes(path.read_bytes() + pack(1 << 50, 0, own))
    async with slave(one) as old, master(two, old.port) as new:
        await new.up()
        assert (await new.put(b"goes on"))[0] == 200
    assert files(one) == files(two)
    bodies = [record.body for record in walk(b"".join(files(one).values()))]
    assert bodies == [*(b"message %d" % number for number in range(5)), b"unseen by one", b"goes on"]
    aside = b"".join(path.read_bytes() for path in (one / "data").rglob("aside/**/*") if path.is_file())
    assert b"unseen by two" in aside


async def test_a_slave_whose_log_ends_before_the_masters_begins_starts_anew(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    small = {"maxSegmentSize": 100}
    async with slave(two, system=small) as second, master(one, second.port, system=small) as first:
        await first.up()
        assert (await first.put(b"x" * 80))[0] == 200
    async with serving(configured(one, settings(one, small, topics=ONE_TOPIC))) as alone:
        dial = Dial(alone.port)
        peer = await dial()
        for number in range(3):
            assert b"result 200" in await peer.asks(b"put test 0 80 0 %d\r\n" % number + b"y" * 80)
        await dial.end()
    for path in sorted((one / "data" / "test-0").glob("*.meta"))[:2]:
        path.unlink()
    async with slave(two, system=small) as second, master(one, second.port, system=small) as first:
        await first.up()
        assert (await first.put(b"z"))[0] == 200
    assert files(one) == files(two)
    assert min(files(one)) > "0" * 19 + "0.meta"


async def test_what_names_no_topic_here_or_a_transaction_is_refused_and_goes_nowhere(tmp_path: Path) -> None:
    seen: list[str] = []
    async with slave(tmp_path / "slave") as second, master(tmp_path / "master", second.port) as first:
        await first.up()
        puts = first.serving.running.broker.puts
        puts.registry = Noting(seen)
        await first.peer.sends(b"put nosuch 0 2 0 1\r\nhi")
        await first.peer.gets(rb"result 500 .*nosuch.*")
        await first.peer.sends(b"put test 0 5 0 %d TX:s:1 2\r\nhello" % checksum(b"hello"))
        await first.peer.gets(rb"result 500 .*does not support transactions.*")
        assert (await first.put(b"good"))[0] == 200
        assert seen == ["test"]
    assert files(tmp_path / "master") == files(tmp_path / "slave") != {}
    assert b"hello" not in b"".join(files(tmp_path / "slave").values())


class Noting:
    """Notes topics that are to be registered."""

    def __init__(self, seen: list[str]) -> None:
        self._seen = seen

    def topic_appeared(self, topic: str) -> None:
        self._seen.append(topic)


async def test_large_messages_and_batches_are_copied_like_others(tmp_path: Path) -> None:
    large = {"maxTransferSize": 4 << 20}
    one, two = tmp_path / "one", tmp_path / "two"
    async with slave(two, system=large) as second, master(one, second.port, large) as first:
        await first.up()
        for size in (600_000, 10, 1_500_000, 10):
            assert (await first.put(bytes(size)))[0] == 200
        records = pack(0, 0, b"one") + pack(0, 0, b"two")
        frame = await first.peer.asks(b"mput test 0 %d 2 77 0 0 5\r\n%b" % (len(records), records))
        assert frame.startswith(b"result 200")
        again = await first.peer.asks(b"mput test 0 %d 2 77 0 0 5\r\n%b" % (len(records), records))
        assert again == frame
    assert files(one) == files(two)
    assert len(b"".join(files(one).values())) == 2_100_020 + 6 + 6 * HEADER_SIZE


async def test_a_topic_that_is_dropped_and_made_again_begins_again_at_the_slave_too(tmp_path: Path) -> None:
    async with slave(tmp_path / "slave") as second, master(tmp_path / "master", second.port) as first:
        await first.up()
        for _ in range(5):
            assert (await first.put(b"of the old one"))[0] == 200
        log = first.store.get(KEY)
        assert log is not None
        gone: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        first.store.move_aside(log, gone.set_result)
        assert await gone is None
        first.serving.running.broker.puts.forget()
        async with asyncio.timeout(10):
            while (await first.put(b"of the new one"))[0] != 200:
                await asyncio.sleep(0.01)
        assert (await first.put(b"last"))[0] == 200
    assert files(tmp_path / "master") == files(tmp_path / "slave")
    bodies = {record.body for record in walk(b"".join(files(tmp_path / "slave").values()))}
    assert bodies == {b"of the new one", b"last"}
