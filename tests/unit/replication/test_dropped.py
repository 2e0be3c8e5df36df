"""When a topic that is missing at the master counts as dropped, and what is moved aside then."""

from dataclasses import dataclass, field
from typing import cast

import pytest

from metaq.config.broker import parse
from metaq.config.model import BrokerConfig
from metaq.errors import StoreError
from metaq.model import TopicPartition
from metaq.replication import dropped
from metaq.replication.dropped import Dropped
from metaq.store.log import Gate
from metaq.store.store import MessageStore


@dataclass(frozen=True)
class FakeLog:
    key: TopicPartition


@dataclass
class FakeStore:
    logs: list[FakeLog]
    error: Exception | None = None
    aside: list[str] = field(default_factory=list)

    def all(self) -> list[FakeLog]:
        return list(self.logs)

    def move_aside(self, log: FakeLog, gate: Gate) -> None:
        if self.error is None:
            self.logs.remove(log)
            self.aside.append(str(log.key))
        gate(self.error)


@dataclass
class Slave:
    """What a slave has; `ours` are the topics of its own configuration."""

    store: FakeStore
    ours: set[str] = field(default_factory=set)
    forgotten: list[str] = field(default_factory=list)

    def dropped(self) -> Dropped:
        return Dropped(cast(MessageStore, self.store), lambda key: key.topic in self.ours, self.forget)

    async def forget(self, topic: str) -> None:
        self.forgotten.append(topic)


@pytest.fixture
def slave() -> Slave:
    return Slave(FakeStore([FakeLog(TopicPartition(topic, n)) for topic in ("a", "b") for n in range(2)]))


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropped, "SURE", 0.0)


def naming(*topics: str) -> BrokerConfig:
    text = "[system]\nbrokerId=1\n[zookeeper]\nzk.zkEnable=false\n" + "".join(f"[topic={topic}]\n" for topic in topics)
    return parse(text.encode(), "server.ini")


async def test_one_answer_without_it_is_not_enough_nor_are_two_at_once(slave: Slave) -> None:
    learning = slave.dropped()
    assert learning.learn(naming("a", "b")) == []
    assert learning.learn(naming("b")) == []
    assert learning.learn(naming("b")) == []
    assert learning.pending
    assert learning.learn(naming("a", "b")) == []
    assert not learning.pending


async def test_what_the_master_has_never_named_is_not_dropped(slave: Slave, at_once: None) -> None:
    learning = slave.dropped()
    assert [learning.learn(naming("b")) for _ in range(3)] == [[], [], []]
    assert not learning.pending


async def test_what_a_pattern_of_the_master_admits_is_not_dropped(slave: Slave, at_once: None) -> None:
    learning = slave.dropped()
    assert [learning.learn(naming(*names)) for names in (("a", "b"), ("a*", "b"), ("a*", "b"))] == [[], [], []]


async def test_all_of_it_is_moved_aside_said_once_and_forgotten(
    slave: Slave, at_once: None, caplog: pytest.LogCaptureFixture
) -> None:
    learning = slave.dropped()
    learning.learn(naming("a", "b"))
    assert learning.learn(naming("b")) == ["a"]
    await learning.move("a")
    assert (slave.store.aside, slave.forgotten) == (["a-0", "a-1"], ["a"])
    assert "topic a: the master has dropped it; what was copied is kept in pymetaq/aside" in caplog.text
    assert learning.learn(naming("b")) == []
    assert not learning.pending


async def test_a_topic_of_which_nothing_was_copied_is_forgotten_too(slave: Slave, at_once: None) -> None:
    learning = slave.dropped()
    learning.learn(naming("a", "empty"))
    assert learning.learn(naming("a")) == ["empty"]
    await learning.move("empty")
    assert (slave.store.aside, slave.forgotten) == ([], ["empty"])
    assert not learning.pending


async def test_what_our_own_configuration_has_stays(slave: Slave, at_once: None) -> None:
    slave.ours.add("a")
    learning = slave.dropped()
    learning.learn(naming("a", "b"))
    learning.learn(naming("b"))
    await learning.move("a")
    assert (slave.store.aside, slave.forgotten) == ([], [])
    assert learning.pending


async def test_what_cannot_be_moved_is_said_once_and_tried_again(
    slave: Slave, at_once: None, caplog: pytest.LogCaptureFixture
) -> None:
    learning = slave.dropped()
    learning.learn(naming("a", "b"))
    learning.learn(naming("b"))
    slave.store.error = StoreError("the disk is full")
    for _ in range(2):
        await learning.move("a")
    assert caplog.text.count("topic a, which the master has dropped, is not moved aside yet: the disk is full") == 1
    slave.store.error = None
    assert learning.learn(naming("b")) == ["a"]
    await learning.move("a")
    assert slave.store.aside == ["a-0", "a-1"]
