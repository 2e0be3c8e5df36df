"""The failure matrix of a synchronous pair (reference: replication.md 3.5), with a slave as the one of 1.4.6.2."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from metaq.record import pack, walk
from tests.cluster.pair import KEY, Does, JavaLike, Master, master, until

FAILED: Final = "Put message to [slave 'meta://127.0.0.1:{port}'] [partition 'test-0'] failed"


@pytest.fixture
async def java() -> AsyncIterator[JavaLike]:
    """A slave that does as told."""
    slave = await JavaLike().open()
    try:
        yield slave
    finally:
        await slave.close()


class Row(NamedTuple):
    """Whether the master can write it, what the slave does, what the producer hears, whether it comes in the end."""

    writes: bool
    does: Does
    status: int
    text: str
    failures: int
    comes: bool = True


MATRIX: Final = [
    Row(True, Does.STORE, 200, "", 0),
    Row(True, Does.REFUSE, 500, FAILED, 1),
    Row(True, Does.IGNORE, 500, FAILED, 1),
    Row(True, Does.FORGET, 500, FAILED, 1),
    Row(True, Does.HANG_UP, 500, FAILED, 1),
    Row(False, Does.STORE, 500, "disk full", 0),
    Row(False, Does.REFUSE, 500, FAILED, 1, comes=False),
    Row(False, Does.IGNORE, 500, "disk full", 0, comes=False),
    Row(False, Does.HANG_UP, 500, FAILED, 1, comes=False),
]


def bodies(data: bytes) -> list[bytes]:
    """Return what records hold."""
    return [record.body for record in walk(data)]


@pytest.mark.parametrize("row", MATRIX, ids=lambda row: f"{'writes' if row.writes else 'full'}-{row.does.name}")
async def test_what_a_producer_hears_and_what_is_where_afterwards(row: Row, java: JavaLike, tmp_path: Path) -> None:
    async with master(tmp_path, java.port, send_timeout=0.6) as first:
        await first.up()
        assert (await first.put(b"before"))[0] == 200
        java.does = row.does
        counted = first.samsa.health.failed_copies
        first.disk.full = not row.writes
        status, text = await first.put(b"this")
        assert status == row.status
        assert row.text.format(port=java.port) in text
        if status != 200 and row.does is not Does.FORGET:
            assert bodies(await first.read()) == [b"before"]
        assert first.samsa.health.failed_copies >= counted + row.failures
        await until(lambda: not first.store.rounds._journal.busy)
        first.disk.full = False
        java.does = Does.STORE
        first.store.space.set_full(frozenset())
        await put_again(first, b"after")
        assert bodies(await first.read()) == [b"before", *([b"this"] if row.comes else []), b"after"]
        assert await first.read() == bytes(java.logs[KEY])


async def put_again(first: Master, body: bytes) -> None:
    """Put until it is accepted: a partition that is being brought up refuses."""
    async with asyncio.timeout(10):
        while (await first.put(body))[0] != 200:
            await asyncio.sleep(0.01)


async def test_a_message_whose_copy_failed_is_not_seen_until_the_slave_has_it(java: JavaLike, tmp_path: Path) -> None:
    async with master(tmp_path, java.port, send_timeout=0.6) as first:
        await first.up()
        assert (await first.put(b"before"))[0] == 200
        java.does = Does.REFUSE
        assert (await first.put(b"hidden"))[0] == 500
        log = first.store.get(KEY)
        assert log is not None
        await until(lambda: log.visible > log.confirmed == log.readable)
        assert bodies(await first.read()) == [b"before"]
        status, text = await first.put(b"not even stored")
        assert status == 500
        assert text.endswith("failed: 500: disk full")
        java.does = Does.STORE
        await until(lambda: log.readable == log.visible)
        assert bodies(await first.read()) == [b"before", b"hidden"]


async def test_a_master_whose_slave_is_away_leaves_zookeeper_once_and_comes_back_when_it_has_all(
    tmp_path: Path,
) -> None:
    java = await JavaLike().open()
    port = java.port
    told: list[str] = []
    heard: list[list[str]] = []

    async def hook(command: Sequence[str]) -> None:
        heard.append(list(command))

    async with master(tmp_path, port, failure_threshold=5, send_timeout=0.6, notify_command=("page", "me")) as first:
        health = first.samsa.health

        async def register() -> None:
            told.append("register")

        async def withdraw() -> None:
            told.append("withdraw")

        health.register, health.withdraw, health.notify = register, withdraw, hook
        await first.up()
        assert (await first.put(b"before"))[0] == 200
        await java.close()
        await first.down()
        for _ in range(200):  # all at once: that is one failure, or two
            await first.peer.sends(b"put test 0 1 0 9\r\nx")
        for _ in range(200):
            await first.peer.gets(rb"result 500 22 9\r\nSlave is disconnected ")
        assert health.failures < 5
        async with asyncio.timeout(10):
            while health.registered:
                assert await first.put(b"nobody") == (500, "Slave is disconnected ")
        assert told == ["withdraw"]
        await java.open(port)
        await until(lambda: health.registered)
        assert told == ["withdraw", "register"]
        assert (await first.put(b"after"))[0] == 200
        await until(lambda: len(heard) == 4)
        slave = f"meta://127.0.0.1:{port}"
        assert [command[:4] for command in heard] == [
            ["page", "me", "slave-lost", slave],
            ["page", "me", "unregistered", slave],
            ["page", "me", "slave-back", slave],
            ["page", "me", "registered", slave],
        ]
        assert not [key for key in java.logs if key.topic != "test"], "the slave was given messages to try it"
    await java.close()


async def test_bad_puts_and_topics_the_slave_lacks_do_not_end_the_registration(java: JavaLike, tmp_path: Path) -> None:
    async with master(tmp_path, java.port, failure_threshold=5) as first:
        await first.up()
        for number in range(12):
            await first.peer.sends(b"put test 0 3 0 1 %d\r\nbad" % number)
            await first.peer.gets(rb"result 500 .*Checksum failure.*")
        java.does = Does.REFUSE
        for _ in range(12):
            assert (await first.put(b"refused"))[0] == 500
        assert first.samsa.health.registered
        assert first.samsa.health.events == {}


async def test_a_slave_in_java_whose_end_is_no_boundary_here_is_refused_and_named(
    java: JavaLike, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    java.logs[KEY] = bytearray(pack(77, 0, b"of another history"))
    async with master(tmp_path, java.port) as first:
        await until(lambda: first.samsa.link.is_open and not first.samsa.lines.behind)
        assert bodies(await first.read()) == [b"of another history"], "it was acknowledged once, and is taken"
        await java.close()
        await first.down()
        other = bytearray(pack(78, 0, b"of one more history"))
        java.logs[KEY] = other
        await java.open(java.port)
        line = first.samsa.lines.get(KEY)
        assert line is not None
        await until(lambda: line.own)
        assert "test-0" in line.reason
        assert "differs" in line.reason or "no record" in line.reason
        status, text = await first.put(b"not there")
        assert status == 500
        assert line.reason in text
        assert java.logs[KEY] == other
        assert sum("is not copied" in record.getMessage() for record in caplog.records) == 1


async def test_what_the_slave_lacks_is_not_seen_after_a_restart_of_the_master_either(
    java: JavaLike, tmp_path: Path
) -> None:
    async with master(tmp_path, java.port) as first:
        await first.up()
        assert (await first.put(b"before"))[0] == 200
        java.does = Does.HANG_UP
        assert (await first.put(b"hidden"))[0] == 500
        port = java.port
        await java.close()
        await first.down()
        await until((tmp_path / "data" / "pymetaq" / "pair-behind").exists)
    async with master(tmp_path, port) as first:
        assert bodies(await first.read()) == [b"before"]
        java.does = Does.STORE
        await java.open(port)
        await first.up()
        assert bodies(await first.read()) == [b"before", b"hidden"]
        await until(lambda: not (tmp_path / "data" / "pymetaq" / "pair-behind").exists())


async def test_who_waits_for_a_message_gets_it_when_the_slave_has_it(java: JavaLike, tmp_path: Path) -> None:
    async with master(tmp_path, java.port) as first:
        await first.up()
        assert (await first.put(b"before"))[0] == 200
        log = first.store.get(KEY)
        assert log is not None
        java.does = Does.REFUSE
        assert (await first.put(b"hidden"))[0] == 500
        await until(lambda: log.visible > log.readable)
        await first.peer.sends(b"get test group 0 26 1000 77 wait 9000\r\n")
        assert await first.put(b"x")
        java.does = Does.STORE
        reply = await first.peer.frame()
        assert reply.startswith(b"value ")
        assert reply.endswith(b"hidden")


async def test_a_log_that_a_slave_in_java_has_not_loaded_yet_is_found_and_gets_nothing_twice(
    java: JavaLike, tmp_path: Path
) -> None:
    async with master(tmp_path, java.port) as first:
        await first.up()
        assert (await first.put(b"before"))[0] == 200
        await java.close()
        await first.down()
        java.hidden.add(KEY)
        await java.open(java.port)
        await put_again(first, b"after")
        assert bodies(await first.read()) == [b"before", b"after"]
        assert await first.read() == bytes(java.logs[KEY])
