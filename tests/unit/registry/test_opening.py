"""Opening a registry's folder of which a byte was altered, or the end of a file, or a whole file is missing."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack

import pytest

from metaq.errors import CorruptStore
from metaq.registry.entries import FILE_HEADER_SIZE, ROUND_MAGIC, SEAL_MAGIC
from metaq.registry.layout import log_path, look, snapshot_path
from metaq.registry.log import LogOptions
from metaq.registry.opening import recover
from tests.simulation.media import File
from tests.simulation.world import World
from tests.unit.registry.keeper import PLACE, Course, Keeper, Memory, Model, remembered, start_machine

FILES = LogOptions(file_size=8192, snapshot_after=1 << 30)


class Folder:
    """A folder that a process left behind, and what the registry in it remembers."""

    def __init__(self, course: Course, seed: int = 1) -> None:
        self.world = World(seed)
        self.keeper = Keeper(start_machine(self.world), Model(), FILES, seed)
        self.keeper.sizes = (0, 1, 30)
        self.world.run(course(self.keeper))
        self.disk = self.keeper.machine.disk
        self.memory = self.keeper.model.memories[-1]
        self.paths = sorted(path for path, content in self.disk.snapshot().items() if content is not None)

    def content(self, path: str) -> bytearray:
        node = self.disk.media.find(path)
        assert isinstance(node, File)
        return node.content

    def read(self) -> Memory:
        return remembered(recover(self.disk, PLACE, look(self.disk, PLACE)).state)

    def check(self, path: str) -> str:
        """Open with a damaged file: it is refused, with the file's name, or all is there. Return why it is refused."""
        try:
            assert self.read() == self.memory, f"{path}: something is lost and nobody is told"
        except CorruptStore as exc:
            assert path in str(exc)
            return str(exc)
        return ""


Leave = Callable[..., Folder]


@pytest.fixture
def leave() -> Iterator[Leave]:
    """Make folders."""
    with ExitStack() as stack:

        def make(course: Course, seed: int = 1) -> Folder:
            folder = Folder(course, seed)
            stack.callback(folder.world.close)
            return folder

        yield make


async def several(keeper: Keeper) -> None:
    """Leave two snapshots, log before, between and behind them in several files, and a seal."""
    for number in range(4):
        keeper.open()
        keeper.write(3)
        await keeper.settle()
        keeper.write(4)
        await keeper.settle()
        if number in (1, 2):
            await keeper.log.close()
        else:
            await asyncio.sleep(1)
            keeper.log.abandon()


async def closed(keeper: Keeper) -> None:
    """Leave what a process leaves that ended in order."""
    keeper.open()
    keeper.write(8)
    await keeper.settle()
    await keeper.log.close()


async def killed(keeper: Keeper) -> None:
    """Leave a log that was not closed, without a snapshot."""
    keeper.open()
    for _ in range(5):
        keeper.write(2)
        await keeper.settle()
    await asyncio.sleep(1)
    keeper.log.abandon()


COURSES = pytest.mark.parametrize("course", [several, closed, killed], ids=lambda course: course.__name__)


def places(content: bytes, step: int) -> Iterable[int]:
    """Return positions of a file: each `step`-th where something is, some in the zeros behind it."""
    end = len(content.rstrip(b"\0")) + 16
    filled = range(FILE_HEADER_SIZE if content.startswith(b"MZL1") else 64, min(end, len(content)), step)
    return sorted({*range(64), *filled, *range(64, len(content), 40 * step)})


def flip(folder: Folder, step: int, masks: Iterable[int]) -> int:
    refused = 0
    for path in folder.paths:
        content = folder.content(path)
        for position in places(bytes(content), step):
            for mask in masks:
                content[position] ^= mask
                refused += bool(folder.check(path))
                content[position] ^= mask
    return refused


def cut(folder: Folder, step: int) -> int:
    refused = 0
    for path in folder.paths:
        content = folder.content(path)
        whole = bytes(content)
        for position in places(whole, step):
            del content[position:]
            refused += bool(folder.check(path))
            content[:] = whole
    return refused


@COURSES
def test_a_byte_that_was_altered_is_noticed_or_does_no_harm(leave: Leave, course: Course) -> None:
    assert flip(leave(course), 7, [0x10]) > 10


@COURSES
def test_a_file_that_was_cut_short_is_noticed_or_does_no_harm(leave: Leave, course: Course) -> None:
    assert cut(leave(course), 7) > 10


@pytest.mark.soak
@COURSES
def test_any_byte_that_was_altered_is_noticed_or_does_no_harm(leave: Leave, course: Course) -> None:
    for seed in range(3):
        assert flip(leave(course, seed), 1, [0x01, 0x80, 0xFF]) > 10
        assert cut(leave(course, seed), 1) > 10


def test_without_a_seal_only_the_last_round_can_be_mistaken_for_one_that_was_never_written(leave: Leave) -> None:
    async def just_now(keeper: Keeper) -> None:
        keeper.open()
        keeper.write(6)
        await keeper.settle()
        keeper.write(1)
        await keeper.settle()
        keeper.log.abandon()

    folder = leave(just_now)
    (path,) = folder.paths
    content = folder.content(path)
    last = content.rindex(ROUND_MAGIC)
    content[last + 30] ^= 1
    assert folder.read() == folder.keeper.model.memories[6]
    content[last + 30] ^= 1
    content[last - 1] ^= 1
    assert "damaged at" in folder.check(path)


def test_what_is_wrong_is_said_with_file_and_place(leave: Leave) -> None:
    folder = leave(several)
    logs = [path for path in folder.paths if path.endswith(".log")]
    content = folder.content(logs[-1])
    rounds = [place for place in range(len(content)) if content.startswith(ROUND_MAGIC, place)]
    whole = bytes(content)

    def why(change: Callable[[], None]) -> str:
        change()
        try:
            return folder.check(logs[-1])
        finally:
            content[:] = whole

    first, second, *_ = rounds
    assert first == FILE_HEADER_SIZE
    sequence = int.from_bytes(whole[first + 8 : first + 16], "big")
    assert why(lambda: content.__setitem__(first + 30, 255)) == (
        f"{logs[-1]} is damaged at {first}: no round {sequence} is there,"
        f" but round {sequence + 1} at {second} came after it"
    )
    assert why(lambda: content.__setitem__(rounds[-1] + 30, 255)).endswith(
        f"but the seal at {whole.rindex(SEAL_MAGIC)} says that round {sequence + len(rounds) - 1} was on disk"
    )
    assert why(lambda: content.__setitem__(20, 255)) == f"{logs[-1]}: its header is damaged"
    assert (
        why(lambda: content.__delitem__(slice(5000, None))) == f"{logs[-1]} ends at 5000, it was made with 8192 bytes"
    )
    assert why(content.clear) == f"{logs[-1]}: its header has 0 of 4096 bytes"


def test_a_damaged_snapshot_is_replaced_by_the_one_before_it_and_the_log(
    leave: Leave, caplog: pytest.LogCaptureFixture
) -> None:
    folder = leave(several)
    *_, older, newer = (path for path in folder.paths if path.endswith(".snapshot"))
    folder.content(newer)[70] ^= 1
    with caplog.at_level(logging.WARNING):
        assert folder.read() == folder.memory
    assert f"{newer}: the block at 64 is damaged; what it held was taken from the log instead" in caplog.text
    folder.content(older)[70] ^= 1
    assert folder.check(newer).startswith(f"{newer}: the block at 64 is damaged; and without it: ")


def test_a_damaged_first_snapshot_is_replaced_by_the_log_alone(leave: Leave) -> None:
    async def long(keeper: Keeper) -> None:
        keeper.open()
        for _ in range(30):
            keeper.write(5)
            await keeper.settle()
        await keeper.log.close()

    folder = leave(long)
    path, *logs = sorted(folder.paths, key=lambda path: path.endswith(".log"))
    assert len(logs) > 2
    folder.content(path)[70] ^= 1
    assert folder.check(path) == ""


def test_after_a_snapshot_was_damaged_the_next_commit_begins_a_new_one(leave: Leave) -> None:
    folder = leave(several)
    *_, newer = (path for path in folder.paths if path.endswith(".snapshot"))
    folder.content(newer)[70] ^= 1
    keeper = folder.keeper

    async def mend() -> None:
        keeper.open(damaged=True)
        keeper.write(1)
        await keeper.settle()
        await asyncio.sleep(1)
        keeper.log.abandon()

    folder.world.run(mend())
    names = list(look(folder.disk, PLACE).snapshots.values())
    assert newer not in names
    assert len(names) == 2
    folder.content(names[-1])[70] ^= 1
    assert folder.read() == keeper.model.memories[-1]


def test_a_file_that_is_missing_in_the_middle_is_named(leave: Leave) -> None:
    folder = leave(several)
    found = look(folder.disk, PLACE)
    *_, newest = found.snapshots.values()
    needed = sorted(found.logs)[-2]
    for path in (log_path(PLACE, needed), newest):
        folder.disk.remove(path)
    with pytest.raises(CorruptStore, match=f"{log_path(PLACE, needed)} is missing"):
        folder.read()


def test_a_log_whose_snapshots_are_gone_is_refused_with_the_round_it_begins_with(leave: Leave) -> None:
    folder = leave(several)
    found = look(folder.disk, PLACE)
    for path in found.snapshots.values():
        folder.disk.remove(path)
    first = found.logs[min(found.logs)]
    with pytest.raises(CorruptStore, match=f"{first} begins with round .*, no snapshot has those before it"):
        folder.read()


def test_a_snapshot_without_its_log_is_refused(leave: Leave) -> None:
    folder = leave(closed)
    found = look(folder.disk, PLACE)
    folder.disk.remove(found.logs[1])
    with pytest.raises(CorruptStore, match=f"{found.logs[1]} is missing"):
        folder.read()
    folder.content(found.snapshots[max(found.snapshots)])[70] ^= 1
    with pytest.raises(CorruptStore, match=f"the block at 64 is damaged; and without it: {PLACE} has no log"):
        folder.read()


def test_files_of_another_registry_are_not_taken_for_this_ones(leave: Leave) -> None:
    one, other = leave(several, 1), leave(several, 2)
    found = look(one.disk, PLACE)
    last = found.logs[max(found.logs)]
    assert last in other.paths
    one.content(last)[:] = other.content(last)
    assert "goes on with round" in one.check(last)


def test_nothing_is_changed_in_a_folder_that_is_refused(leave: Leave) -> None:
    folder = leave(killed)
    (path,) = folder.paths
    folder.content(path)[FILE_HEADER_SIZE + 1] ^= 1
    leftover = folder.disk.open(f"{PLACE}/snapshot.new", write=True, create=True)
    folder.disk.pwrite(leftover, b"half a file", 0)
    before = folder.disk.snapshot()

    async def open_it() -> None:
        with pytest.raises(CorruptStore, match="damaged"):
            folder.keeper.open()

    folder.world.run(open_it())
    assert folder.disk.snapshot() == before
    folder.content(path)[FILE_HEADER_SIZE + 1] ^= 1

    async def open_again() -> None:
        folder.keeper.open()  # the lock was let go

    folder.world.run(open_again())
    assert not folder.disk.exists(f"{PLACE}/snapshot.new")


def test_a_snapshot_that_lies_about_its_place_is_refused(leave: Leave) -> None:
    folder = leave(closed)
    (path,) = (path for path in folder.paths if path.endswith(".snapshot"))
    folder.disk.rename(path, snapshot_path(PLACE, 77))
    assert folder.read() == folder.memory  # from the log
