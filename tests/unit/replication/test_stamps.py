"""What a slave remembers of producers' batches: what its master does, as far as it has copied."""

import asyncio
from dataclasses import replace

from metaq.model import TopicPartition
from metaq.store.entries import Batch
from metaq.store.log import PartitionLog
from metaq.store.store import MessageStore
from tests.unit.replication.conftest import QUICK, Copying, Pair, publish

KEY = TopicPartition("test", 1)
SMALL = replace(QUICK, step=500)  # bytes of an answer: batches are cut by them


def bodies(count: int) -> list[bytes]:
    return [b"%d:" % n + b"x" * (n % 90) for n in range(count)]


def remembered(store: MessageStore) -> list[Batch]:
    """Return the batches of the partition that a store has stamps of, with its number for the log left out."""
    log = store.get(KEY)
    assert log is not None
    return [batch._replace(log_id=0) for batch in store.producers.between(log.id, 0, log.end)]


def log_of(slave: Copying) -> PartitionLog:
    log = slave.store.get(KEY)
    assert log is not None
    return log


async def test_stamps_come_with_the_records_however_batches_are_cut(pair: Pair) -> None:
    async with pair.master() as master, pair.slave(SMALL) as slave:
        await publish(master, "test", bodies(400), 1)  # there before the slave comes
        slave.follow(master, test=4)
        await slave.is_like(master, KEY)
        theirs = remembered(master.running.broker.store)
        assert len(theirs) > 4 and theirs[0].length > 2 * SMALL.step
        assert remembered(slave.store) == theirs
        await asyncio.gather(*(publish(master, "test", bodies(70), 1) for _ in range(3)))
        await slave.is_like(master, KEY)
        theirs = remembered(master.running.broker.store)
        assert len({batch.stamp.producer for batch in theirs}) == 4
        assert remembered(slave.store) == theirs
    async with pair.slave() as slave:  # it was stopped in order
        assert remembered(slave.store) == theirs
    pair.check_equal(KEY)


async def test_a_log_that_was_cut_within_a_batch_has_its_stamp_again_with_the_rest_of_it(pair: Pair) -> None:
    async with pair.master() as master, pair.slave() as slave:
        slave.follow(master, test=4)
        await publish(master, "test", bodies(120), 1)
        await slave.is_like(master, KEY)
        theirs = remembered(master.running.broker.store)
        slave.follow(None)
    within = theirs[1].offset + 20 + len(bodies(51)[50])
    async with pair.slave(SMALL) as slave:
        done = asyncio.get_running_loop().create_future()
        slave.store.set_aside(log_of(slave), within, done.set_result)
        assert await done is None
        assert remembered(slave.store) == theirs[:1]
    async with pair.master() as master, pair.slave(SMALL) as slave:
        slave.follow(master, test=4)
        await slave.is_like(master, KEY)
        assert remembered(slave.store) == theirs
    async with pair.slave() as slave:
        assert remembered(slave.store) == theirs
    pair.check_equal(KEY)


async def test_a_log_that_is_set_aside_whole_takes_its_stamps_along(pair: Pair) -> None:
    async with pair.master() as master, pair.slave() as slave:
        slave.follow(master, test=4)
        await publish(master, "test", bodies(60), 1)
        await slave.is_like(master, KEY)
        (producer,) = {batch.stamp.producer for batch in remembered(slave.store)}
        old = log_of(slave).id
    async with pair.slave() as slave:
        done = asyncio.get_running_loop().create_future()
        slave.store.move_aside(log_of(slave), done.set_result)
        assert await done is None
        assert not list(slave.store.producers.between(old, 0, 1 << 40))
        assert producer not in {state.producer for state in slave.store.producers.states()}
