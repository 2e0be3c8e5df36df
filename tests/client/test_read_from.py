"""Reading from a slave: who is chosen, who steps in while that one is away, and the way back (read_from, max_lag)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest

import metaq.aio
from metaq.aio import ConfigError, Message, Reader
from metaq.client.connect import Outside
from metaq.cluster.memory import MemoryRegistry, MemoryTree
from metaq.cluster.paths import Paths
from metaq.cluster.znodes import encode_address
from metaq.model import TopicPartition
from metaq.protocol.commands import Command, Get, Offset, Version
from metaq.protocol.encoder import result
from tests.client.conftest import QUICK
from tests.client.consuming import Ledger, consumer_of, fill, take, take_messages
from tests.client.fake_broker import OURS, Act, FakeBroker, Peer, behave, silence, until
from tests.client.test_cluster import register, withdraw

PATHS = Paths("/meta")
T0: Final = TopicPartition("t", 0)
EITHER = pytest.mark.parametrize("extensions", [(), OURS], ids=["1.4.6.2", "ours"])


class Trio:
    """A master and two slaves of broker 0, numbers 1 and 2, that have the same messages."""

    def __init__(self) -> None:
        self.tree = MemoryTree()
        self.registry = MemoryRegistry(self.tree)
        self.master, self.one, self.two = (FakeBroker(0, partitions=1) for _ in range(3))
        self.slaves = {1: self.one, 2: self.two}

    @property
    def all(self) -> list[FakeBroker]:
        return [self.master, self.one, self.two]

    async def register_slave(self, number: int) -> None:
        """Do what a slave does, as far as clients look."""
        path = PATHS.broker_address(0, number)
        await self.registry.create(path, encode_address(self.slaves[number].address), ephemeral=True)
        await self.registry.create(
            f"{PATHS.subscribe('t')}/0-s{number}", b'{"numParts":1,"broker":"0-s%d"}' % number, ephemeral=True
        )

    def put(self, text: bytes, *brokers: FakeBroker) -> None:
        """Have some brokers, or all, store a message."""
        for broker in brokers or self.all:
            broker.append(T0, 0, text)

    def connect(self) -> metaq.aio.MessageQueue:
        outside = Outside(session=lambda _: MemoryRegistry(self.tree))
        return metaq.aio.connect("zk://anywhere/meta", link=QUICK, timeout=0.5, outside=outside)


@asynccontextmanager
async def trio(messages: int = 3, extensions: tuple[str, ...] = ()) -> AsyncIterator[Trio]:
    """Run all three, registered, with messages 0/0, 0/1, …"""
    made = Trio()
    await made.registry.connect()
    try:
        for broker in made.all:
            broker.extensions = extensions
            await broker.start()
            fill(broker, messages)
        await register(made.registry, made.master)
        for number in made.slaves:
            await made.register_slave(number)
        yield made
    finally:
        for broker in made.all:
            await broker.stop()
        await made.registry.close()


@EITHER
@pytest.mark.parametrize(("read_from", "number"), [("slave:1", 1), ("slave:2", 2)])
async def test_a_slave_that_is_named_is_the_only_one_read_from(
    read_from: str, number: int, extensions: tuple[str, ...]
) -> None:
    async with trio(extensions=extensions) as brokers, brokers.connect() as mq:
        consumer = consumer_of(mq, Ledger(), read_from=read_from)
        assert await take(consumer, 3) == [b"0/0", b"0/1", b"0/2"]
        brokers.put(b"later")
        assert await take(consumer, 1) == [b"later"]
        for broker in brokers.all:
            assert bool(broker.of(Get)) == (broker is brokers.slaves[number])


async def test_partitions_are_spread_over_slaves_and_the_master_is_left_alone() -> None:
    async with trio(0) as brokers:
        for broker in brokers.all:
            broker.partitions = 2
            fill(broker, 2, partition=0)
            fill(broker, 2, partition=1)
        path = f"{PATHS.subscribe('t')}/0-m"
        await brokers.registry.set(path, b'{"numParts":2,"broker":"0-m"}')
        async with brokers.connect() as mq:
            assert len(await take(consumer_of(mq, Ledger(), read_from="slave"), 4)) == 4
        assert not brokers.master.of(Get)
        assert {get.target for get in brokers.one.of(Get) if isinstance(get, Get)} == {T0}
        assert {get.target for get in brokers.two.of(Get) if isinstance(get, Get)} == {TopicPartition("t", 1)}


async def test_the_nearest_is_read_from_whichever_it_is() -> None:
    async with trio() as brokers:
        for broker, seconds in ((brokers.master, 0.04), (brokers.one, 0.0), (brokers.two, 0.02)):
            broker.always(Version, after(seconds))
        async with brokers.connect() as mq:
            consumer = consumer_of(mq, Ledger(), read_from="nearest")
            assert len(await take(consumer, 3)) == 3
            assert [bool(broker.of(Get)) for broker in brokers.all] == [False, True, False]
            await brokers.one.stop()
            brokers.put(b"from the next one", brokers.master, brokers.two)
            assert await take(consumer, 1) == [b"from the next one"]
            assert brokers.two.of(Get)
            assert not brokers.master.of(Get)


@EITHER
async def test_while_the_slave_is_away_the_master_is_read_and_then_the_slave_again(extensions: tuple[str, ...]) -> None:
    async with trio(extensions=extensions) as brokers, brokers.connect() as mq:
        consumer = consumer_of(mq, Ledger(), read_from="slave:2", max_lag=0.4)
        assert len(await take(consumer, 3)) == 3
        await brokers.two.stop()
        brokers.put(b"while it is away", brokers.master)
        assert await take(consumer, 1) == [b"while it is away"]
        brokers.put(b"while it is away", brokers.two)
        seen = len(brokers.two.of(Get))
        await brokers.two.start()
        await until(lambda: len(brokers.two.of(Get)) > seen)
        brokers.put(b"after it is back")
        assert await take(consumer, 1) == [b"after it is back"]


@EITHER
async def test_a_slave_is_read_as_soon_as_a_dead_master_is_not_registered_any_more(
    extensions: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "metaq.net.link")
    async with trio(extensions=extensions) as brokers, brokers.connect() as mq:
        consumer = consumer_of(mq, Ledger(), timeout=600)
        assert len(await take(consumer, 3)) == 3
        await brokers.master.stop()
        brokers.put(b"only slaves have it", brokers.one, brokers.two)
        await until(lambda: caplog.text.count("dialling again") > 3)  # so it waits for the master
        await withdraw(brokers.registry, brokers.master)
        assert await take(consumer, 1) == [b"only slaves have it"]


async def test_a_master_that_is_back_is_read_soon_though_its_slave_was_asked_to_wait() -> None:
    async with trio(extensions=OURS) as brokers, brokers.connect() as mq:
        consumer = consumer_of(mq, Ledger())
        assert len(await take(consumer, 3)) == 3
        await brokers.master.stop()
        await withdraw(brokers.registry, brokers.master)
        seen = len(brokers.one.of(Get)) + len(brokers.two.of(Get))
        await until(lambda: len(brokers.one.of(Get)) + len(brokers.two.of(Get)) > seen)
        await brokers.master.start()
        await register(brokers.registry, brokers.master)
        brokers.put(b"no slave has it", brokers.master)
        assert await take(consumer, 1) == [b"no slave has it"]


async def test_a_slave_that_is_still_far_behind_when_it_is_back_is_not_read_before_it_has_caught_up() -> None:
    async with trio() as brokers, brokers.connect() as mq:
        consumer = consumer_of(mq, Ledger(), read_from="slave:2", max_lag=0.2)
        assert len(await take(consumer, 3)) == 3
        await brokers.two.stop()
        for number in range(5):
            brokers.put(b"%d" % number, brokers.master)
        assert len(await take(consumer, 5)) == 5
        rounds = len(brokers.master.of(Version))
        await until(lambda: len(brokers.master.of(Version)) > rounds + 4)  # what was read long ago is what counts
        seen, looks = len(brokers.two.of(Get)), len(brokers.two.of(Offset))
        await brokers.two.start()
        await until(lambda: len(brokers.two.of(Offset)) > looks + 6)
        assert len(brokers.two.of(Get)) == seen
        for number in range(5):
            brokers.put(b"%d" % number, brokers.two)
        await until(lambda: len(brokers.two.of(Get)) > seen)


@EITHER
async def test_a_slave_that_lacks_too_long_what_its_master_has_is_left_until_it_has_it(
    extensions: tuple[str, ...],
) -> None:
    async with trio(extensions=extensions) as brokers, brokers.connect() as mq:
        consumer = consumer_of(mq, Ledger(), read_from="slave:1", max_lag=0.1)
        assert len(await take(consumer, 3)) == 3
        brokers.put(b"not copied", brokers.master)
        (message,) = await take_messages(consumer, 1)
        assert message.data == b"not copied"
        consumer.ack(message)
        seen = len(brokers.one.of(Get))
        brokers.put(b"not copied", brokers.one, brokers.two)
        await until(lambda: len(brokers.one.of(Get)) > seen)
        assert await consumer.lag() == dict.fromkeys(consumer.partitions, 0)


async def test_a_reader_that_is_slow_itself_stays_where_it_is() -> None:
    async with trio() as brokers, brokers.connect() as mq:
        consumer = consumer_of(mq, Ledger(), read_from="slave:1", max_lag=0.1)
        assert await take(consumer, 1) == [b"0/0"]
        for number in range(4):  # nobody asks for these, so most of them are not fetched
            before = len(brokers.one.of(Get))
            brokers.put(b"%d" % number)
            looks = len(brokers.master.of(Version))
            await until(lambda: len(brokers.one.of(Get)) > before or len(brokers.master.of(Version)) > looks + 3)  # noqa: B023
        looks = len(brokers.one.of(Offset))
        await until(lambda: len(brokers.one.of(Offset)) > looks)  # it was asked whether it lags
        assert await take(consumer, 6) == [b"0/1", b"0/2", b"0", b"1", b"2", b"3"]
        assert not brokers.master.of(Get)


async def test_without_a_limit_a_slave_is_waited_for_and_the_lag_is_that_to_the_master() -> None:
    async with trio() as brokers, brokers.connect() as mq:
        consumer = consumer_of(mq, Ledger(), read_from="slave:1", max_lag=None)
        consumer.ack((await take_messages(consumer, 3))[-1])
        brokers.put(b"later", brokers.master)
        seen = len(brokers.one.of(Get))
        await until(lambda: len(brokers.one.of(Get)) > seen + 3)
        (lag,) = (await consumer.lag()).values()
        assert lag == brokers.master.bases[T0] + len(brokers.master.logs[T0]) - len(brokers.one.logs[T0])
        assert not brokers.master.of(Get)
        brokers.put(b"later", brokers.one)
        assert await take(consumer, 1) == [b"later"]


async def test_a_slave_that_does_not_answer_is_left_for_the_master() -> None:
    async with trio() as brokers, brokers.connect() as mq:
        consumer = consumer_of(mq, Ledger(), read_from="slave:1", timeout=0.2)
        assert len(await take(consumer, 3)) == 3
        brokers.one.always(Get, silence)
        brokers.put(b"more")
        assert await take(consumer, 1) == [b"more"]
        assert brokers.master.of(Get)


async def test_a_slave_that_hangs_while_it_is_waited_at_is_left_for_the_master(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("metaq.client.replicas._ANSWER", 0.1)
    monkeypatch.setattr("metaq.client.replicas._ROUND", 0.1)
    async with trio(extensions=OURS) as brokers, brokers.connect() as mq:
        consumer = consumer_of(mq, Ledger(), read_from="slave:1", max_lag=None)
        assert len(await take(consumer, 3)) == 3
        await until(lambda: brokers.one.polls)
        for kind in (Get, Version, Offset):
            brokers.one.always(kind, silence)
        assert not brokers.master.of(Get)
        brokers.put(b"more", brokers.master)
        assert await take(consumer, 1) == [b"more"]
        assert "does not answer, it is not read from meanwhile" in caplog.text
        for kind in (Get, Version, Offset):
            brokers.one.always(kind, behave)
        brokers.put(b"more", brokers.one)
        seen = len(brokers.one.of(Get))
        await until(lambda: len(brokers.one.of(Get)) > seen)


async def test_a_slave_that_has_much_to_send_first_is_not_taken_for_silent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("metaq.client.replicas._ANSWER", 0.2)

    def trickle(peer: Peer, command: Command) -> None:
        """Answer the question of the version at once when asked first; later not before others are answered."""
        peer.send(result(404, "bytes of another answer", 0))
        asyncio.get_running_loop().call_later(0.15, trickle, peer, command)

    async with trio(extensions=OURS) as brokers, brokers.connect() as mq:
        consumer = consumer_of(mq, Ledger(), read_from="slave:1", max_lag=0.2)
        assert len(await take(consumer, 3)) == 3
        brokers.one.always(Version, trickle)
        rounds = len(brokers.master.of(Version))
        await until(lambda: len(brokers.master.of(Version)) > rounds + 3)
        brokers.put(b"more")
        assert await take(consumer, 1) == [b"more"]
        assert not brokers.master.of(Get)
        assert "does not answer" not in caplog.text


async def test_a_record_that_is_corrupt_on_the_slave_is_read_from_the_master() -> None:
    async with trio(0) as brokers, brokers.connect() as mq:
        brokers.put(b"first")
        at = len(brokers.one.logs[T0])
        brokers.put(b"second")
        brokers.one.logs[T0][at + 20] ^= 1
        consumer = consumer_of(mq, Ledger(), read_from="slave:1")
        assert await take(consumer, 2) == [b"first", b"second"]


async def test_what_a_slave_has_deleted_already_is_read_from_the_master(caplog: pytest.LogCaptureFixture) -> None:
    async with trio(0) as brokers, brokers.connect() as mq:
        brokers.put(b"first")
        start = len(brokers.one.logs[T0])
        brokers.put(b"second")
        brokers.one.logs[T0] = brokers.one.logs[T0][start:]
        brokers.one.bases[T0] = start
        consumer = consumer_of(mq, Ledger(), read_from="slave:1", start=0)
        assert await take(consumer, 2) == [b"first", b"second"]
        assert "not in the log" not in caplog.text


async def test_a_slave_that_names_its_own_end_moves_nobody_back() -> None:
    def names_its_end(peer: Peer, command: Command) -> None:  # 1.4.6.2 with updateConsumerOffsets
        assert isinstance(command, Get)
        end = len(peer.broker.logs[T0])
        if command.offset > end:
            peer.send(result(301, str(end), command.opaque))
        else:
            behave(peer, command)

    async with trio() as brokers, brokers.connect() as mq:
        brokers.put(b"in the others", brokers.master, brokers.two)
        brokers.one.always(Get, names_its_end)
        consumer = consumer_of(mq, Ledger(), read_from="slave:1", max_lag=None)
        assert len(await take(consumer, 3)) == 3
        consumer.seek("t", "0-0", len(brokers.master.logs[T0]))
        seen = len(brokers.one.of(Get))
        await until(lambda: len(brokers.one.of(Get)) > seen + 3)
        brokers.put(b"in the others", brokers.one)
        brokers.put(b"news")
        assert await take(consumer, 1) == [b"news"]


async def test_without_a_master_slaves_are_read_whoever_is_preferred() -> None:
    for read_from in ("master", "slave", "slave:2", "slave:7", "nearest", "any"):
        async with trio() as brokers, brokers.connect() as mq:
            await withdraw(brokers.registry, brokers.master)
            await brokers.master.stop()
            assert len(await take(consumer_of(mq, Ledger(), read_from=read_from), 3)) == 3


@EITHER
async def test_whatever_comes_and_goes_every_message_comes_once_and_in_order(extensions: tuple[str, ...]) -> None:
    async with trio(0, extensions) as brokers, brokers.connect() as mq:
        brokers.put(b"0")
        consumer = consumer_of(mq, Ledger(), read_from="slave", max_lag=0.2)
        number = 1
        got = await take(consumer, 1)
        for _ in range(6):
            for broker in (brokers.one, brokers.two):
                await broker.stop()
                for _ in range(20):
                    brokers.put(b"%d" % number)
                    number += 1
                    await asyncio.sleep(0)
                got += await take(consumer, 15)
                await broker.start()
                await has_peers(broker)
        got += await take(consumer, number - len(got))
        assert got == [b"%d" % each for each in range(number)]


@EITHER
async def test_a_reader_reads_from_a_slave_too_and_elsewhere_while_that_one_is_away(
    extensions: tuple[str, ...],
) -> None:
    async with trio(extensions=extensions) as brokers, brokers.connect() as mq, asyncio.timeout(5):
        reader = mq.reader("t", "0-0", read_from="slave:1", max_lag=0.2)
        assert [message.data async for message in until_end(reader, 3)] == [b"0/0", b"0/1", b"0/2"]
        assert not brokers.master.of(Get)
        await brokers.one.stop()
        brokers.put(b"more", brokers.master)
        assert (await anext(reader)).data == b"more"
        brokers.put(b"more", brokers.one)
        await brokers.one.start()
        seen = len(brokers.one.of(Get))
        waiting = asyncio.ensure_future(anext(reader))
        await until(lambda: len(brokers.one.of(Get)) > seen)
        brokers.put(b"from the slave", brokers.one)
        assert (await waiting).data == b"from the slave"


async def test_a_slave_alone_in_the_url_is_enough_to_read() -> None:
    async with FakeBroker(3) as slave:
        slave.is_slave = True
        fill(slave, 2)
        async with metaq.aio.connect(slave.url, link=QUICK, timeout=0.5) as mq:
            assert await mq.partitions("t") == ["3-0"]
            assert len([message async for message in mq.browse("t")]) == 2
            assert (await anext(mq.reader("t", 0))).data == b"0/0"
            assert len(await take(consumer_of(mq, Ledger(), read_from="slave"), 2)) == 2
            with pytest.raises(ConfigError, match="read_from='slave:1' needs a client connected with zk://"):
                mq.consumer("t", group="g", read_from="slave:1")


@pytest.mark.parametrize("words", ["", "slaves", "slave:", "slave:x", "slave:-1", "master:1", "Slave", "nearest "])
async def test_other_words_and_times_are_refused(mq: metaq.aio.MessageQueue, words: str) -> None:
    with pytest.raises(ConfigError, match="read_from is master, slave, slave:<id>, nearest or any, not"):
        mq.consumer("t", group="g", read_from=words)
    with pytest.raises(ConfigError, match="max_lag is more than 0 seconds"):
        mq.reader("t", 0, max_lag=0)


async def has_peers(broker: FakeBroker) -> None:
    """Return when somebody is connected to it."""
    await until(lambda: broker.peers)


async def until_end(reader: Reader, count: int) -> AsyncIterator[Message]:
    """Yield so many messages."""
    for _ in range(count):
        yield await anext(reader)


def after(seconds: float) -> Act:
    """Answer as a broker does, but later."""

    def act(peer: Peer, command: Command) -> None:
        asyncio.get_running_loop().call_later(seconds, behave, peer, command)

    return act
