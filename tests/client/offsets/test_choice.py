"""What `consumer(offsets=…)` may be told, and the positions a user stores himself."""

import re
from pathlib import Path

import pytest

from metaq.client.message import Message
from metaq.client.offsets import (
    FileOffsets,
    MemoryOffsets,
    SqlOffsets,
    Surroundings,
    ZooKeeperOffsets,
    make_store,
    positions_after,
)
from metaq.cluster.memory import MemoryRegistry, MemoryTree
from metaq.cluster.znodes import Position
from metaq.errors import ConfigError, NoBroker, OffsetStoreError
from metaq.model import ClusterPartition
from tests.client.offsets.conftest import many, place

ALONE = Surroundings(home="/home/app")


async def test_words_and_urls_name_stores(tmp_path: Path) -> None:
    with_zookeeper = Surroundings(registry=MemoryRegistry(MemoryTree()), root="/r", home="/home/app")
    assert isinstance(make_store(None, with_zookeeper), ZooKeeperOffsets)
    assert isinstance(make_store("zookeeper", with_zookeeper), ZooKeeperOffsets)
    assert isinstance(make_store("memory", ALONE), MemoryOffsets)
    assert isinstance(make_store("sqlite://", ALONE), SqlOffsets)


@pytest.mark.parametrize(
    ("choice", "path"),
    [
        (None, "/home/app/.meta_offsets"),
        ("file:", "/home/app/.meta_offsets"),
        ("file:/a/b", "/a/b"),
        ("file:///a/b", "/a/b"),
        ("file:/a:b", "/a:b"),
    ],
)
async def test_files_are_named_by_path_or_url(choice: str | None, path: str) -> None:
    store = make_store(choice, ALONE)
    assert isinstance(store, FileOffsets)
    assert store.path == path


def test_a_path_may_be_relative_or_begin_with_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    for choice, path in [("file:o", f"{tmp_path}/o"), ("file:~/o", "/home/me/o"), ("file:", "/home/me/.meta_offsets")]:
        store = make_store(choice, Surroundings())
        assert isinstance(store, FileOffsets)
        assert store.path == path


@pytest.mark.parametrize("choice", ["zookeper", "", "/a/b", "memory:", "mysql", "zookeeper:x"])
def test_a_word_that_names_none_is_refused_with_those_that_do(choice: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"offsets={choice!r} is none of") + '.*"zookeeper".*"file:PATH"'):
        make_store(choice, ALONE)


def test_zookeeper_needs_a_client_of_it() -> None:
    with pytest.raises(ConfigError, match="zk://"):
        make_store("zookeeper", ALONE)


async def test_a_store_handed_in_is_not_closed_by_who_uses_it() -> None:
    closed = []

    class Own(MemoryOffsets):
        async def close(self) -> None:
            closed.append(self)

    own = Own()
    store = make_store(own, ALONE)
    await store.save("g", many(2))
    assert await store.load("g", list(many(2))) == await own.stored("g") == many(2)
    await store.close()
    assert not closed


async def test_whatever_a_store_of_the_user_s_raises_is_an_error_that_is_tried_again() -> None:
    class Broken(MemoryOffsets):
        async def load(self, group: object, partitions: object) -> dict[ClusterPartition, Position]:
            raise ZeroDivisionError("by zero")

        async def save(self, group: object, positions: object) -> None:
            raise NoBroker("away")

    store = make_store(Broken(), ALONE)
    with pytest.raises(OffsetStoreError, match="Broken: ZeroDivisionError by zero") as caught:
        await store.load("g", [])
    assert caught.value.retriable
    with pytest.raises(NoBroker, match="away"):
        await store.save("g", {})


def test_the_positions_after_messages_are_those_of_the_last_in_each_partition() -> None:
    messages = [Message("t", partition, offset, offset + 1, 0, b"12345") for partition, offset in [
        ("0-1", 0), ("0-1", 50), ("10-0", 7), ("0-1", 25)
    ]]  # fmt: skip
    after = positions_after(messages)
    assert after == {place("t", 0, 1): Position(51, 75), place("t", 10, 0): Position(8, 32)}
    assert positions_after([]) == {}
