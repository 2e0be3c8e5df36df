"""What a consumer does when its group gives it partitions and takes them away, at any moment."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Unpack

import pytest

import metaq.aio
from metaq.aio import ConfigError
from metaq.client.consuming.committing import Committer
from metaq.client.consuming.member import SoleMember
from metaq.client.consuming.options import ConsumerKeywords, ConsumerOptions
from metaq.client.consuming.share import Share
from metaq.client.consuming.starting import Starting
from metaq.client.replicas import Replicas
from metaq.cluster.znodes import Position
from metaq.model import BrokerPartition, ClusterPartition, TopicPartition
from metaq.protocol.commands import Get
from tests.client.consuming import FAST, Ledger, consumer_of, fill, take
from tests.client.fake_broker import FakeBroker, until

PARTS: Final = [ClusterPartition("t", BrokerPartition(0, n)) for n in (0, 1)]


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


class Slow(Ledger):
    """Stores nothing before it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.go_on = asyncio.Event()

    async def save(self, group: str, positions: Mapping[ClusterPartition, Position]) -> None:
        self.asked += 1
        await self.go_on.wait()
        await super().save(group, positions)


class Hand:
    """Has a message for as long as the test likes."""

    is_stopped = False

    def settle(self) -> None: ...

    def stop(self) -> None:
        self.is_stopped = True

    def pause(self) -> int | None:
        return None

    def resume(self) -> None: ...


def share_of(mq: metaq.aio.MessageQueue, ledger: Ledger, **keywords: Unpack[ConsumerKeywords]) -> Share:
    settings: ConsumerKeywords = {**FAST, **keywords}
    options = ConsumerOptions(**settings)
    return Share("g", Starting(Replicas(mq._routes), "g", options), Committer("g", ledger), options)


async def begin(share: Share, partitions: Sequence[ClusterPartition] = PARTS) -> None:
    """Take partitions and wait until it is known where they begin."""
    await share.take(partitions)
    await until(lambda: all(share.streams[each].progress for each in partitions))


def reach(share: Share, *ends: int) -> None:
    for part, end in zip(PARTS, ends, strict=True):
        progress = share.streams[part].progress
        assert progress is not None
        progress.reach(7, end)


async def test_what_is_lost_while_it_is_given_back_is_not_stored(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    ends = [fill(broker, 3, n)[-1] for n in (0, 1)]
    share = share_of(mq, ledger)
    await begin(share)
    reach(share, *ends)
    hand, stream = Hand(), share.streams[PARTS[1]]
    stream.held[hand] = None
    giving = asyncio.ensure_future(share.give(PARTS))
    await until(lambda: hand.is_stopped)
    share.lose(PARTS[:1])
    stream.drop(hand)
    await giving
    assert (ledger.offset(0), ledger.offset(1)) == (None, ends[1])


async def test_what_is_lost_while_another_store_is_under_way_is_not_stored_after_it(
    broker: FakeBroker, mq: metaq.aio.MessageQueue
) -> None:
    ends = [fill(broker, 3, n)[-1] for n in (0, 1)]
    store = Slow()
    share = share_of(mq, store)
    await begin(share)
    reach(share, *ends)
    first, second = share.streams.values()
    saves = [asyncio.ensure_future(share._committer.save([each])) for each in (second, first)]
    await until(lambda: store.asked == 1)
    share.lose(PARTS[:1])
    store.go_on.set()
    await asyncio.gather(*saves)
    assert (store.offset(0), store.offset(1)) == (None, ends[1])
    await share.give(PARTS)


async def test_a_partition_that_comes_back_is_not_handled_before_a_handler_of_before_has_ended(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, 3)
    share = share_of(mq, ledger, release_timeout=30.0)
    await begin(share, PARTS[:1])
    hand, stream = Hand(), share.streams[PARTS[0]]
    stream.held[hand] = None
    for _ in range(2):  # also when it was lost a second time before that
        share.lose(PARTS[:1])
        await share.take(PARTS[:1])
    assert hand.is_stopped
    gets = len(broker.of(Get))
    await asyncio.sleep(0.03)
    assert share.pool.take() is None
    assert len(broker.of(Get)) <= gets + 1
    stream.drop(hand)
    await until(lambda: share.streams[PARTS[0]].can_be_taken)
    share.lose(PARTS[:1])
    await share.ended()
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith(("fetch", "end"))] == []


async def test_where_a_group_begins_at_the_end_is_stored_at_once(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    """A session lost before the first store would begin at another end, behind messages nobody has handled."""
    end = fill(broker, 3)[-1]
    share = share_of(mq, ledger, start="latest", commit_every=3600.0)
    await begin(share, PARTS[:1])
    await until(lambda: ledger.offset(0) == end)
    share.lose(PARTS[:1])
    broker.append(TopicPartition("t", 0), 0, b"while the session was lost")
    await share.take(PARTS[:1])
    await until(lambda: share.streams[PARTS[0]].can_be_taken)
    assert [m.data for m in share.streams[PARTS[0]].take()] == [b"while the session was lost"]
    share.lose(PARTS[:1])
    await share.ended()


async def test_a_store_that_cannot_keep_the_beginning_does_not_keep_messages_from_coming(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger
) -> None:
    fill(broker, 1)
    consumer = consumer_of(mq, ledger, start="latest", commit_every=0.01)
    await consumer.join()
    ledger.failures = 1
    await until(lambda: broker.of(Get))
    end = fill(broker, 1)[0]
    assert await take(consumer, 1) == [b"0/0"]
    await until(lambda: ledger.offset(0) == end)


async def test_an_error_of_a_store_that_nobody_expected_does_not_end_the_storing(
    broker: FakeBroker, mq: metaq.aio.MessageQueue, caplog: pytest.LogCaptureFixture
) -> None:
    class Odd(Ledger):
        async def save(self, group: str, positions: Mapping[ClusterPartition, Position]) -> None:
            if self.failures:
                self.failures -= 1
                raise ZeroDivisionError("so much for that")
            await super().save(group, positions)

    ends = [fill(broker, 3, n)[-1] for n in (0, 1)]
    store = Odd()
    share = share_of(mq, store)
    await begin(share)
    reach(share, *ends)
    store.failures = 1
    assert not await share._committer.try_save(share.streams.values())
    assert "group g: offsets not stored" in caplog.text
    assert "ZeroDivisionError" in caplog.text
    await share.give(PARTS)
    assert (store.offset(0), store.offset(1)) == tuple(ends)


async def test_an_offset_below_zero_is_refused(broker: FakeBroker, mq: metaq.aio.MessageQueue, ledger: Ledger) -> None:
    fill(broker, 1)
    consumer = consumer_of(mq, ledger)
    await consumer.join()
    with pytest.raises(ConfigError, match="an offset is at least 0, not -1"):
        consumer.seek("t", 0, -1)


# without ZooKeeper


class Taker:
    """A holder that takes its time, and may fail."""

    def __init__(self) -> None:
        self.has: list[ClusterPartition] = []
        self.errors: list[Exception] = []
        self.go_on = asyncio.Event()

    async def take(self, partitions: Sequence[ClusterPartition]) -> None:
        await self.go_on.wait()
        if self.errors:
            raise self.errors.pop()
        self.has += partitions

    async def give(self, partitions: Iterable[ClusterPartition]) -> None:
        for each in partitions:
            self.has.remove(each)

    def lose(self, partitions: Sequence[ClusterPartition]) -> None: ...


@pytest.fixture
def sole(broker: FakeBroker, mq: metaq.aio.MessageQueue) -> Callable[[Taker], SoleMember]:
    for topic in ("t", "u"):
        fill(broker, 1, topic=topic)
    return lambda taker: SoleMember(mq._routes, taker, "g_1", ["t"])


async def test_a_partition_is_taken_once_though_topics_change_while_it_is_taken(
    sole: Callable[[Taker], SoleMember], mq: metaq.aio.MessageQueue
) -> None:
    taker = Taker()
    member = sole(taker)
    joining = asyncio.ensure_future(member.join())
    updating = asyncio.ensure_future(member.update_topics(["t", "u"]))
    for _ in range(20):
        mq._routes.changes.bump()
        await asyncio.sleep(0)
    taker.go_on.set()
    await asyncio.gather(joining, updating)
    assert [each.topic for each in taker.has] == ["t", "u"]
    await member.leave()
    assert taker.has == []


async def test_topics_changed_before_joining_or_after_leaving_take_nothing(
    sole: Callable[[Taker], SoleMember],
) -> None:
    taker = Taker()
    taker.go_on.set()
    member = sole(taker)
    await member.update_topics(["u"])
    assert taker.has == []
    await member.join()
    assert [each.topic for each in taker.has] == ["u"]
    await member.leave()
    await member.update_topics(["t"])
    assert taker.has == []


async def test_whatever_a_store_raises_partitions_are_taken_later(
    sole: Callable[[Taker], SoleMember], mq: metaq.aio.MessageQueue
) -> None:
    taker = Taker()
    taker.go_on.set()
    taker.errors = [metaq.aio.RegistryError("a store of the user's, in ZooKeeper, is away")]
    member = sole(taker)
    await member.join()
    assert taker.has == []
    mq._routes.changes.bump()
    await until(lambda: taker.has)
    await member.leave()
