"""A follower beside a master of ours: bytes, segments, repairs, and what it tells."""

from metaq.model import TopicPartition
from metaq.record import pack
from metaq.replication.status import State
from tests.unit.replication.conftest import Pair, publish

TEST = [TopicPartition("test", n) for n in range(4)]
BODIES = [b"%d:" % n + b"x" * (n % 700) for n in range(2000)]


async def test_an_empty_slave_gets_the_same_bytes_in_the_same_segments(pair: Pair) -> None:
    async with pair.master({"maxSegmentSize": 20_000}) as master, pair.slave() as slave:
        await publish(master, "test", BODIES)
        slave.follow(master, test=4, quick=4)
        await slave.is_like(master, *TEST)
        for key in TEST:
            status = await slave.reaches(key, State.CURRENT)
            assert (status.error, status.lag, status.messages, status.seconds) == (None, 0, 0, 0.0)
        await publish(master, "test", BODIES)
        await publish(master, "quick", [b"1"], 2)
        await slave.is_like(master, *TEST, TopicPartition("quick", 2))
    pair.check_equal(*TEST, TopicPartition("quick", 2))


async def test_it_goes_on_where_it_was(pair: Pair) -> None:
    async with pair.master() as master:
        for _ in range(3):
            async with pair.slave() as slave:
                slave.follow(master, test=4)
                await publish(master, "test", BODIES[:200])
                await slave.is_like(master, *TEST)
                assert all(slave.of(key).repaired is None for key in TEST)
            await publish(master, "test", BODIES[200:300])
        async with pair.slave() as slave:
            slave.follow(master, test=4)
            await slave.is_like(master, *TEST)
    pair.check_equal(*TEST)


async def test_messages_whose_ids_repeat_or_fall_are_all_copied(pair: Pair) -> None:
    key = TEST[0]
    folder = pair.master_home / "data" / str(key)
    folder.mkdir(parents=True)
    records = [pack(id, 0, b"%d" % number) for number, id in enumerate((-7, -7, 900, 5, 5, 900, -7))]
    (folder / f"{0:020d}.meta").write_bytes(b"".join(records))
    async with pair.master() as master, pair.slave() as slave:
        slave.follow(master, test=4)
        await slave.is_like(master, key)
        assert slave.of(key).repaired is None
    pair.check_equal(key)
