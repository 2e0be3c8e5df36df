"""Offsets in a file: the form of 1.4.6.2, several writers, and what crashes and errors leave."""

import asyncio
import errno
import fcntl
import json
import os
import sys
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from metaq.client.offsets import FileOffsets
from metaq.client.offsets.file import decode
from metaq.cluster.znodes import Position
from metaq.errors import OffsetStoreError
from metaq.model import ClusterPartition
from tests.client.offsets.conftest import many, place
from tests.simulation.disk import Operation, PowerLoss
from tests.simulation.world import Machine, World

REFERENCE = (
    b'{"g-10-0-0-9":[{"topic":"meta-test","partition":{"brokerId":0,"partition":1},'
    b'"offset":1048576,"messageId":-1,"modified":true}]}'
)
PLACE = place("meta-test", 0, 1)
WRITER = """
import asyncio, sys
from metaq.client.offsets import FileOffsets
from metaq.cluster.znodes import Position
from metaq.model import BrokerPartition, ClusterPartition

async def write(path, group, rounds):
    store = FileOffsets(path)
    for n in range(1, rounds + 1):
        await store.save(group, {ClusterPartition("t", BrokerPartition(0, p)): Position(n, n * 10) for p in range(9)})
    await store.close()

asyncio.run(write(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


async def test_the_file_is_byte_for_byte_the_reference_s(tmp_path: Path) -> None:
    path = tmp_path / "offsets"
    store = FileOffsets(str(path))
    await store.save("g-10-0-0-9", {PLACE: Position(-1, 1048576)})
    assert path.read_bytes() == REFERENCE
    await store.close()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (REFERENCE, {PLACE: Position(-1, 1048576)}),
        (
            b'{ "g-10-0-0-9" :\n [ {"modified":false, "messageId":-5465310905774374905, "offset":7,'
            b' "partition":{"partition":1,"brokerId":0,"autoAck":true}, "topic":"meta-test"} ],\n "h": null }\n',
            {PLACE: Position(-5465310905774374905, 7)},
        ),
        (
            b'{"g-10-0-0-9":[{"topic":"meta-test","offset":7,"partition":{"brokerId":0,"partition":1}}]}',
            {PLACE: (-1, 7)},
        ),
        (b'{"g-10-0-0-9":[]}', {}),
        (b"{}", {}),
        (b"", {}),
        (b"\n", {}),
    ],
)
async def test_files_of_a_java_client_are_read(
    tmp_path: Path, data: bytes, expected: dict[ClusterPartition, Position]
) -> None:
    path = tmp_path / "offsets"
    path.write_bytes(data)
    store = FileOffsets(str(path))
    assert await store.stored("g-10-0-0-9") == expected
    assert await store.groups() == (["g-10-0-0-9"] if expected else [])
    await store.close()


@pytest.mark.parametrize(
    "data",
    [
        b"garbage",
        b"[]",
        b'"text"',
        b'{"g":7}',
        b'{"g":[7]}',
        b'{"g":[{"topic":"t","offset":7}]}',
        b'{"g":[{"topic":7,"offset":7,"partition":{"brokerId":0,"partition":1}}]}',
        b'{"g":[{"topic":"t","offset":"7","partition":{"brokerId":0,"partition":1}}]}',
        b'{"g":[{"topic":"t","offset":true,"partition":{"brokerId":0,"partition":1}}]}',
        b'{"g":[{"topic":"t","offset":9223372036854775808,"partition":{"brokerId":0,"partition":1}}]}',
        b"[" * 100_000,
        b"\xff\xfe\xfd",
        REFERENCE[:-1],
        bytes(100),
    ],
    ids=range(14),
)
async def test_a_file_of_another_form_is_named_and_left_as_it_is(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "offsets"
    path.write_bytes(data)
    store = FileOffsets(str(path))
    with pytest.raises(OffsetStoreError, match=f"{path} holds no offsets: .*left as it is") as caught:
        await store.load("g", [PLACE])
    assert caught.value.retriable
    with pytest.raises(OffsetStoreError, match=str(path)):
        await store.save("g", {PLACE: Position(1, 2)})
    assert path.read_bytes() == data
    path.unlink()
    await store.save("g", {PLACE: Position(1, 2)})
    assert await store.stored("g") == {PLACE: Position(1, 2)}
    await store.close()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["topic", "partition"]), inner),
    max_leaves=12,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(JSON)
@example({"g": [{"topic": "t", "partition": {"brokerId": None, "partition": 1}, "offset": 1}]})
def test_any_json_is_offsets_or_a_value_error(value: object) -> None:
    try:
        content = decode(json.dumps(value).encode())
    except ValueError:
        return
    assert isinstance(value, dict)
    assert content.keys() == value.keys()


async def test_what_is_there_of_other_groups_and_partitions_stays(tmp_path: Path) -> None:
    path = tmp_path / "offsets"
    path.write_bytes(REFERENCE)
    store = FileOffsets(str(path))
    await store.save("ü", {PLACE: Position(1, 2)})
    await store.save("g-10-0-0-9", {place("meta-test", 0, 2): Position(3, 4)})
    data = path.read_bytes()
    assert data.isascii()
    assert decode(data) == {
        "g-10-0-0-9": {PLACE: Position(-1, 1048576), place("meta-test", 0, 2): Position(3, 4)},
        "ü": {PLACE: Position(1, 2)},
    }
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["offsets", "offsets.lock"]
    await store.close()


async def test_processes_that_write_one_file_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "offsets"
    command = [sys.executable, "-c", WRITER, str(path)]
    processes = [await asyncio.create_subprocess_exec(*command, group, "40") for group in ("a", "b")]
    store = FileOffsets(str(path))
    for n in range(20):
        await store.save("c", {PLACE: Position(n, n)})
    async with asyncio.timeout(30):
        assert [await process.wait() for process in processes] == [0, 0]
    expected = {place("t", 0, p): Position(40, 400) for p in range(9)}
    assert [await store.stored(group) for group in "abc"] == [expected, expected, {PLACE: Position(19, 19)}]
    await store.close()


async def test_a_lock_that_another_keeps_is_an_error_in_time_and_none_when_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "offsets"
    store = FileOffsets(str(path), patience=0.1)
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(OffsetStoreError, match=rf"{path}: not written within 0\.1 s.*{path}\.lock"):
        await store.save("g", {PLACE: Position(1, 2)})
    assert await store.load("g", [PLACE]) == {}
    os.close(lock)
    await store.save("g", {PLACE: Position(1, 2)})
    assert await store.load("g", [PLACE]) == {PLACE: Position(1, 2)}
    await store.close()


async def test_a_path_that_is_a_folder_is_named(tmp_path: Path) -> None:
    store = FileOffsets(str(tmp_path))
    with pytest.raises(OffsetStoreError, match=f"{tmp_path}: Is a directory"):
        await store.load("g", [PLACE])
    await store.close()


async def test_one_store_serves_several_event_loops(tmp_path: Path) -> None:
    store = FileOffsets(str(tmp_path / "offsets"))
    await store.save("g", {PLACE: Position(1, 2)})
    other = await asyncio.to_thread(asyncio.run, store.load("g", [PLACE]))
    third = await asyncio.to_thread(asyncio.run, store.load("g", [PLACE]))
    assert other == third == await store.load("g", [PLACE]) == {PLACE: Position(1, 2)}
    await store.close()


# on a simulated disk

PATH = "/home/app/.meta_offsets"


def on(machine: Machine) -> FileOffsets:
    return FileOffsets(PATH, files=machine.disk, threads=machine.threads)


async def save_rounds(machine: Machine, rounds: list[int], saved: list[int]) -> None:
    """Save some rounds, and note which are done."""
    store = on(machine)
    for round in rounds:
        await store.save("g", many(30, round=round))
        saved.append(round)


@pytest.mark.parametrize("power", [True, False], ids=["power loss", "end of the process"])
@pytest.mark.parametrize("seed", range(8))
def test_a_crash_at_any_step_leaves_one_whole_save_and_never_an_older_one(seed: int, power: bool) -> None:
    """Round 0 is durable; the process ends in some call of the rounds after it."""
    with World(seed) as world:
        machine = world.machine()
        world.run(save_rounds(machine, [0], []))
        before = machine.disk.operations
    steps = 0
    for step in range(1, 30):
        with World(seed) as world:
            machine = world.machine()
            saved: list[int] = []
            world.run(save_rounds(machine, [0], saved))
            machine.disk.crash_at(before + step)
            try:
                world.run(save_rounds(machine, [1, 2, 3], saved))
            except PowerLoss:
                steps += 1
            machine.crash(power=power)
            found = world.run(on(machine).stored("g"))
            possible = [many(30, round=round) for round in (saved[-1], saved[-1] + 1)]
            assert found in possible
            world.run(save_rounds(machine, [9], saved))  # what is left of a crash disturbs nobody
            assert world.run(on(machine).stored("g")) == many(30, round=9)
    assert steps > 10


def is_call(name: str, call: Operation) -> bool:
    return call.name == name


def test_a_disk_that_fails_is_an_error_that_names_the_file_and_passes() -> None:
    with World(1) as world:
        machine = world.machine()
        world.run(save_rounds(machine, [0], []))
        for name in ("pwrite", "fdatasync", "rename", "truncate", "sync_dir"):
            fault = machine.disk.fail(partial(is_call, name), OSError(errno.ENOSPC, "No space left"))
            with pytest.raises(OffsetStoreError, match=rf"{PATH}: No space left"):
                world.run(save_rounds(machine, [1], []))
            fault.stop()
            assert world.run(on(machine).stored("g")) in (many(30, round=0), many(30, round=1))
        world.run(save_rounds(machine, [2], []))
        assert world.run(on(machine).stored("g")) == many(30, round=2)
