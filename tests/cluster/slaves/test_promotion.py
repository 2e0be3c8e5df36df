"""A slave that becomes the master while it runs, and what keeps it from that."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from metaq import aio
from metaq.cluster.paths import Paths
from metaq.cluster.zk import ZooKeeperClient
from metaq.config.editing import Action, TopicChange
from metaq.errors import MetaqError, StoreError
from metaq.model import TopicPartition
from metaq.record import pack
from metaq.replication.promotion import NotPromoted
from metaq.store.log import PartitionLog
from tests.cluster.conftest import DEADLINE, until
from tests.cluster.slaves.sites import Site, Sites, same

PATHS = Paths()
NOTE = Path("data/pymetaq/promoted")


async def pair(sites: Sites) -> tuple[Site, Site]:
    """Return a master with messages, and a slave that has all of them."""
    master, slave = await sites.site("master").start(), await sites.slave(1).start()
    await master.put("test", 0, *(b"%d" % n for n in range(50)))
    await same(master, slave)
    await until(lambda: slave.slave.status().state == "current")
    return master, slave


async def promote(site: Site, *, force: bool = False, wait: float = DEADLINE, rest: Sequence[str] = ()) -> str:
    return await site.slave.promote(force=force, wait=wait, rest=rest)


def full(_: PartitionLog) -> None:
    raise StoreError("no space")


def copies_no_more(slave: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a slave without room; who promotes it waits in vain for what it lacks, and need not do so for long."""
    monkeypatch.setattr(slave.broker.running.broker.store, "check_space", full)
    monkeypatch.setattr("metaq.replication.slave._SETTLING", 0.05)


async def is_gone(slave: Site) -> None:
    await until(lambda: not slave.slave.status().copying.connected and slave.slave.status().master is None)


async def test_the_slave_takes_messages_behind_the_copied_ones_once_the_master_has_stopped(
    sites: Sites, hosts: str, tree: ZooKeeperClient
) -> None:
    master, slave = await pair(sites)
    promoting = asyncio.ensure_future(promote(slave))
    async with aio.connect(f"zk://{hosts}/meta") as mq, asyncio.timeout(DEADLINE):
        consumer = mq.consumer("test", group="g")
        before = [await anext(consumer) for _ in range(50)]
        assert not promoting.done()
        await master.end()
        assert await promoting == ""
        sent = await mq.producer("test").send(b"new")
        after = await anext(consumer)
    assert (after.body, after.id) == (b"new", sent.id)
    assert after.id > max(message.id for message in before)
    assert await tree.children(PATHS.broker(1)) == ["master", "master_config_checksum"]
    assert await tree.children(PATHS.publish("test")) == ["1-m"]
    assert await tree.children("/read-slave1/meta/brokers/ids/1") is None
    node = await tree.get(PATHS.broker_address(1))
    assert node is not None
    assert node.data == str(slave.broker.running.address).encode()


async def test_it_is_a_whole_master_and_stays_one_over_a_restart(
    sites: Sites, hosts: str, tree: ZooKeeperClient, caplog: pytest.LogCaptureFixture
) -> None:
    master, slave = await pair(sites)
    await master.end()
    await promote(slave)
    change = TopicChange(Action.CREATE, "orders", {"numPartitions": "3"})
    await slave.broker.running.changes.apply(change)
    assert await tree.children(PATHS.publish("orders")) == ["1-m"]
    other = await sites.slave(2).start()
    await same(slave, other)
    await slave.end()
    await slave.start()
    assert await tree.children(PATHS.broker(1)) == ["master", "master_config_checksum", "slave2"]
    assert f"starts as that; for a slave remove {slave.folder / NOTE}" in caplog.text
    assert slave.broker.running.broker.replica is None
    await slave.put("orders", 2, b"taken")
    await same(slave, other)


async def test_without_its_note_it_is_a_slave_again(sites: Sites) -> None:
    master, slave = await pair(sites)
    await master.end()
    await promote(slave)
    await slave.end()
    (slave.folder / NOTE).unlink()
    await slave.start()
    assert slave.slave.status().slave_id == 1


async def test_there_is_no_second_master(sites: Sites, tree: ZooKeeperClient) -> None:
    master, slave = await pair(sites)
    for force in (False, True):
        with pytest.raises(NotPromoted, match=r"^still a slave: the master of broker 1 is registered at meta://.*stop"):
            await promote(slave, force=force, wait=0)
    await master.put("test", 0, b"more")
    await same(master, slave)
    assert not (slave.folder / NOTE).exists()


async def test_of_two_slaves_one_becomes_the_master_and_the_other_follows_it(sites: Sites) -> None:
    master, slave = await pair(sites)
    other = await sites.slave(2).start()
    await same(master, other)
    await until(lambda: other.slave.status().state == "current")
    both = {asyncio.ensure_future(promote(each)): each for each in (slave, other)}
    await master.end()
    await until(lambda: any(each.done() and not each.exception() for each in both))
    (new,) = [site for each, site in both.items() if each.done() and not each.exception()]
    ((refused, follower),) = [item for item in both.items() if item[1] is not new]
    await new.put("test", 1, b"more")
    await same(new, follower)
    if not refused.done():
        refused.cancel()  # the new master was there before the old one was missed: it waits for that one's end
    with pytest.raises((MetaqError, asyncio.CancelledError)):
        await refused


async def test_what_the_slave_lacks_is_given_up_only_when_told_so(
    sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    master, slave = await pair(sites)
    copies_no_more(slave, monkeypatch)
    await master.put("test", 0, b"x" * 1000)
    await until(lambda: slave.slave.status().copying.lag > 0)
    await master.end()
    await is_gone(slave)
    with pytest.raises(
        NotPromoted, match=r"1020 bytes, about \d+ messages, are at the master only: test-0 from \d+ to"
    ):
        await promote(slave)
    assert "1020 bytes" in await promote(slave, force=True)
    assert "Lost by that: 1020 bytes" in (slave.folder / NOTE).read_text()


async def lacking(sites: Sites, monkeypatch: pytest.MonkeyPatch) -> tuple[Site, Site]:
    """Return a master that has ended with messages in old and new partitions that its slave has not fetched."""
    master = await sites.site("master", maxSegmentSize=3000).start()
    slave = await sites.slave(1).start()
    await master.put("test", 0, *(b"%d" % n for n in range(50)))
    await same(master, slave)
    await until(lambda: slave.slave.status().state == "current")
    copies_no_more(slave, monkeypatch)
    await master.put("test", 0, *(b"x" * 500 for n in range(20)))
    await master.put("oct29", 1, b"y")
    await master.end()
    return master, slave


async def test_what_the_slave_lacks_is_taken_from_the_folder_of_the_old_master(
    sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    master, slave = await lacking(sites, monkeypatch)
    assert await promote(slave, rest=[str(master.folder / "data")]) == ""
    await slave.end()
    assert len(master.files()) == 5
    assert slave.files() == master.files()


async def test_batches_in_what_is_taken_from_there_are_known(sites: Sites, monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = await pair(sites)
    copies_no_more(slave, monkeypatch)
    batches = [
        batch(0, 3, 40),
        batch(1, 2000, 1200),
        batch(2, 1, 7),
    ]  # the second is larger than what is read at a time
    peer = await master.peer()
    first = [await peer.asks(sent) for sent in batches]
    assert all(answer.startswith(b"result 200") for answer in first)
    await master.end()
    await promote(slave, rest=[str(master.folder / "data")])
    peer = await slave.peer()
    assert [await peer.asks(sent) for sent in batches] == first
    await slave.end()
    assert slave.files() == master.files()


def batch(sequence: int, count: int, size: int) -> bytes:
    """Return an mput of so many messages to test-0."""
    records = pack(0, 0, b"x" * size) * count
    return b"mput test 0 %d %d 77 0 %d 1\r\n%b" % (len(records), count, sequence, records)


async def test_batches_there_are_not_believed_if_another_broker_wrote_behind_them(
    sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    master, slave = await pair(sites)
    copies_no_more(slave, monkeypatch)
    assert (await (await master.peer()).asks(batch(0, 3, 40))).startswith(b"result 200")
    await master.end()
    path = master.folder / "data/test-0/00000000000000000000.meta"
    path.write_bytes(path.read_bytes() + pack(1 << 60, 0, b"one in Java"))
    await promote(slave, rest=[str(master.folder / "data")])
    store = slave.broker.running.broker.store
    log = store.get(TopicPartition("test", 0))
    assert log is not None and log.end == path.stat().st_size
    assert not list(store.producers.between(log.id, 0, log.end))


async def test_a_record_that_is_cut_at_the_end_of_that_folder_is_left_there(
    sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    master, slave = await lacking(sites, monkeypatch)
    path = master.folder / "data/oct29-1/00000000000000000000.meta"
    path.write_bytes(path.read_bytes() * 2 + path.read_bytes()[:-1])
    await promote(slave, rest=[str(master.folder / "data")])
    assert slave.bounds()["oct29-1"] == (0, 42)


async def test_no_other_folder_is_taken_for_that_of_the_master(sites: Sites, monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = await lacking(sites, monkeypatch)
    data = master.folder / "data"
    before = slave.bounds()
    with pytest.raises(NotPromoted, match="no messages of test-0, of which this slave has some"):
        await promote(slave, rest=[str(sites.site("empty").folder)])
    (data / "transactions/redo.in-use--see-metaq-doctor").touch()
    with pytest.raises(NotPromoted, match="is in use by a broker of ours, or was when that was killed"):
        await promote(slave, rest=[str(data)])
    (data / "transactions/redo.in-use--see-metaq-doctor").unlink()
    first = data / "test-0/00000000000000000000.meta"
    first.write_bytes(first.read_bytes().replace(b"49", b"94"))
    with pytest.raises(NotPromoted, match=r"what stands there before .*, where this slave's log ends, is not the same"):
        await promote(slave, rest=[str(data)])
    assert slave.bounds() == before
    assert slave.slave.slave_id == 1


async def test_a_slave_without_messages_takes_nobodys(sites: Sites) -> None:
    master, slave = await sites.site("master").start(), await sites.slave(1).start()
    await until(lambda: slave.slave.status().copying.connected)
    await master.end()
    with pytest.raises(NotPromoted, match="this slave has no messages yet by which"):
        await promote(slave, rest=[str(master.folder / "data")])


async def test_a_slave_that_has_not_met_its_master_does_not_know_what_it_lacks(
    sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metaq.replication.slave._SETTLING", 0.05)  # waiting does not help
    master, slave = await pair(sites)
    await slave.end()
    await master.end()
    await slave.start()
    with pytest.raises(NotPromoted, match="is not known: this slave has not met it since it was started"):
        await promote(slave)
    assert "is not known" in await promote(slave, force=True)
    await slave.put("test", 0, b"new")


async def test_what_a_master_takes_after_it_left_the_registry_is_copied_too(sites: Sites) -> None:
    master, slave = await pair(sites)
    await master.broker.running.withdraw()
    await until(lambda: slave.slave.status().master is None)
    with pytest.raises(NotPromoted, match="has left ZooKeeper, but serves on"):
        await promote(slave, wait=0)
    await master.put("test", 0, b"late")
    await same(master, slave)
    await master.end()
    assert await promote(slave) == ""


async def test_a_slave_whose_note_cannot_be_written_stays_one(sites: Sites, tree: ZooKeeperClient) -> None:
    master, slave = await pair(sites)
    await master.end()
    (slave.folder / NOTE).with_suffix(".new").mkdir()
    with pytest.raises(OSError, match="promoted"):
        await promote(slave)
    assert await tree.children(PATHS.broker(1)) == ["slave1"]
    await (await sites.site("again").start()).put("test", 0, b"1")
    await until(lambda: slave.slave.status().master is not None)
