"""The real files, threads and clocks keep the contracts of `ports`."""

import asyncio
import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import uvloop

from metaq import ports
from metaq.files import OsFiles, OsThreads, SystemClock


@pytest.fixture
def files() -> ports.Files:
    return OsFiles()


@pytest.fixture
def fd(files: ports.Files, tmp_path: Path) -> Iterator[int]:
    fd = files.open(str(tmp_path / "f"), write=True, create=True)
    yield fd
    files.close(fd)


def test_create_makes_a_missing_file_and_keeps_an_existing_one(files: ports.Files, tmp_path: Path) -> None:
    path = str(tmp_path / "f")
    with pytest.raises(FileNotFoundError):
        files.open(path, write=True)
    for _ in range(2):
        fd = files.open(path, write=True, create=True)
        files.pwrite(fd, b"kept", files.size(fd))
        files.close(fd)
    assert files.read(path) == b"keptkept"
    assert not os.stat(path).st_mode & 0o111


def test_descriptors_without_write_do_not_write_and_are_not_inherited(files: ports.Files, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    fd = files.open(str(tmp_path / "f"))
    with pytest.raises(OSError, match="descriptor"):
        files.pwrite(fd, b"y", 0)
    assert not os.get_inheritable(fd)
    files.close(fd)


def test_reads_end_where_the_file_ends(files: ports.Files, fd: int) -> None:
    files.pwrite(fd, b"0123456789", 0)
    for read in (files.pread, files.pread_cached):
        assert read(fd, 4, 3) == b"3456"
        assert read(fd, 100, 7) == b"789"
        assert read(fd, 100, 10) == b""
        assert read(fd, 100, 1000) == b""
        assert read(fd, 0, 0) == b""


def test_all_kinds_of_buffers_are_written_whole(files: ports.Files, fd: int) -> None:
    for data in (b"abc", bytearray(b"abc"), memoryview(b"xabcx")[1:4]):
        files.truncate(fd, 0)
        files.pwrite(fd, data, 2)
        assert files.pread(fd, 10, 0) == b"\0\0abc"
    files.pwrite(fd, b"", 100)
    assert files.size(fd) == 5


@pytest.mark.parametrize(("count", "size"), [(0, 0), (1, 5), (3000, 7), (3000, 2100), (10, 100_000)])
def test_many_parts_are_written_one_behind_the_other(files: ports.Files, fd: int, count: int, size: int) -> None:
    parts = [bytes([number % 251]) * size for number in range(count)]
    files.pwrite_all(fd, parts, 10)
    assert files.pread(fd, count * size + 1, 10) == b"".join(parts)


def test_short_writes_and_reads_are_continued(files: ports.Files, fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite, pwritev, pread = os.pwrite, os.pwritev, os.pread
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, memoryview(data)[:1000], at))
    monkeypatch.setattr(os, "pwritev", lambda fd, parts, at: pwritev(fd, [parts[0][:1000]], at))
    monkeypatch.setattr(os, "pread", lambda fd, size, at: pread(fd, min(size, 900), at))
    parts = [os.urandom(3000) for _ in range(4)]
    files.pwrite_all(fd, parts, 5)
    assert files.pread(fd, 20_000, 5) == b"".join(parts)
    files.pwrite(fd, parts[0], 0)
    assert files.pread(fd, 3000, 0) == parts[0]


def test_a_file_system_that_takes_nothing_is_an_error_not_a_loop(
    files: ports.Files, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: 0)
    with pytest.raises(OSError, match="no more bytes"):
        files.pwrite(fd, b"x", 0)


def test_cached_reads_give_none_when_they_would_wait(
    files: ports.Files, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.pwrite(fd, b"0123456789", 0)

    def wait(*_: object) -> int:
        raise BlockingIOError(errno.EAGAIN, "later")

    def fill_part(fd: int, buffers: list[bytearray], position: int, flags: int) -> int:
        buffers[0][:3] = b"012"
        return 3

    monkeypatch.setattr(os, "preadv", wait)
    assert files.pread_cached(fd, 5, 0) is None
    monkeypatch.setattr(os, "preadv", fill_part)  # only the first pages are in memory
    assert files.pread_cached(fd, 5, 0) is None
    assert files.pread_cached(fd, 5, 7) == b"012"  # as much as the file has
    monkeypatch.undo()
    assert files.pread_cached(fd, 5, 0) == b"01234"


def test_a_file_system_without_cached_reads_is_asked_once(
    files: ports.Files, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def refuse(*arguments: object) -> int:
        asked.append(arguments)
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(os, "preadv", refuse)
    assert [files.pread_cached(fd, 5, 0) for _ in range(3)] == [None, None, None]
    assert len(asked) == 1


def test_other_errors_of_cached_reads_pass_through(
    files: ports.Files, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(OSError, match="broken"):
        files.pread_cached(fd, 5, 0)


def test_directories_are_listed_by_name_with_sizes_and_times(files: ports.Files, tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"12345")
    os.utime(tmp_path / "b", (1000, 1234.5))
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("b")
    (tmp_path / "dangling").symlink_to("nowhere")
    entries = files.list(str(tmp_path))
    assert [(entry.name, entry.is_dir, entry.size) for entry in entries] == [
        ("a", True, 0),
        ("b", False, 5),
        ("dangling", False, 0),
        ("link", False, 5),
    ]
    assert entries[1].mtime == 1234.5
    with pytest.raises(FileNotFoundError):
        files.list(str(tmp_path / "none"))


def test_exists_says_no_only_where_nothing_is(
    files: ports.Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").write_bytes(b"")
    assert files.exists(str(tmp_path))
    assert files.exists(str(tmp_path / "f"))
    assert not files.exists(str(tmp_path / "none"))
    assert not files.exists(str(tmp_path / "f" / "below"))

    def refuse(*_: object) -> os.stat_result:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(PermissionError):
        files.exists(str(tmp_path))


def test_names_are_made_moved_and_removed(files: ports.Files, tmp_path: Path) -> None:
    deep = str(tmp_path / "x" / "y")
    files.make_dir(deep)
    files.make_dir(deep)
    files.sync_dir(deep)
    (tmp_path / "f").write_bytes(b"new")
    (tmp_path / "x" / "g").write_bytes(b"old")
    files.rename(str(tmp_path / "f"), str(tmp_path / "x" / "g"))
    assert files.read(str(tmp_path / "x" / "g")) == b"new"
    with pytest.raises(OSError, match="not empty"):
        files.remove_dir(str(tmp_path / "x"))
    files.remove(str(tmp_path / "x" / "g"))
    files.remove_dir(deep)
    files.remove_dir(str(tmp_path / "x"))
    assert list(tmp_path.iterdir()) == []


def test_a_directory_is_locked_once_until_its_descriptor_closes(files: ports.Files, tmp_path: Path) -> None:
    fd = files.lock_dir(str(tmp_path))
    open_before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(BlockingIOError):
        OsFiles().lock_dir(str(tmp_path))
    assert len(os.listdir("/proc/self/fd")) == open_before
    assert list(tmp_path.iterdir()) == []
    files.close(fd)
    files.close(files.lock_dir(str(tmp_path)))


def test_a_file_is_locked_once_until_its_descriptor_closes(files: ports.Files, tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    fd = files.lock_file(path)
    open_before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(BlockingIOError):
        OsFiles().lock_file(path)
    assert len(os.listdir("/proc/self/fd")) == open_before
    files.close(fd)
    files.close(files.lock_file(path))


def test_free_space_is_told_per_file_system(files: ports.Files, tmp_path: Path) -> None:
    system, free = files.free_space(str(tmp_path))
    assert system == os.stat(tmp_path).st_dev
    space = os.statvfs(tmp_path)
    assert 0 < free <= space.f_blocks * space.f_frsize


def test_syncing_passes(files: ports.Files, fd: int) -> None:
    files.pwrite(fd, b"x", 0)
    files.fdatasync(fd)
    with pytest.raises(OSError, match="descriptor"):
        files.fdatasync(1 << 20)


def test_every_way_of_syncing_reaches_the_system_with_what_was_written(
    files: ports.Files, fd: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing short of cutting the power shows that a sync was done; so what the system is asked for is looked at."""
    asked: list[str] = []
    where = {fd: "file"}

    def hear(name: str, call: Callable[..., object]) -> Callable[..., object]:
        def heard(number: int, *rest: object) -> object:
            flags = " durable" if rest[2:] == (os.RWF_DSYNC,) else ""
            asked.append(f"{name}{flags} {where.get(number) or os.readlink(f'/proc/self/fd/{number}')}")
            return call(number, *rest)

        return heard

    for name in ("fdatasync", "fsync", "pwritev"):
        monkeypatch.setattr(os, name, hear(name, getattr(os, name)))
    monkeypatch.setattr("metaq.files._libc", SimpleNamespace(syncfs=hear("syncfs", lambda number: 0)))
    files.fdatasync(fd)
    files.pwrite_durable(fd, b"x" * 100, 0)
    files.sync_dir(str(tmp_path))
    files.sync_all(str(tmp_path))
    assert asked == ["fdatasync file", "pwritev durable file", f"fsync {tmp_path}", f"syncfs {tmp_path}"]
    asked.clear()
    monkeypatch.setattr(os, "pwritev", lambda number, parts, position, flags: os.pwrite(number, parts[0][:3], position))
    files.pwrite_durable(fd, b"0123456789", 0)
    assert asked == ["fdatasync file"], "what one call did not take is synced too"
    assert files.pread(fd, 10, 0) == b"0123456789"


def test_clocks_tell_the_time() -> None:
    clock: ports.Clock = SystemClock()
    assert abs(clock.time() - time.time()) < 10
    before = clock.monotonic()
    assert before <= clock.monotonic() <= time.monotonic()


# Workers


def run_on(factory: Callable[[], asyncio.AbstractEventLoop], scene: Callable[[ports.Worker], object]) -> None:
    """Run a synchronous scene with a worker on a loop of this kind, then close the worker."""

    async def main() -> None:
        threads: ports.Threads = OsThreads(asyncio.get_running_loop())
        worker = threads.worker("test disk")
        scene(worker)
        finished = asyncio.Event()
        worker.submit(lambda: None, lambda result, error: finished.set())
        async with asyncio.timeout(20):
            await finished.wait()
        await asyncio.to_thread(worker.close)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_jobs_run_in_order_in_one_thread_and_outcomes_come_in_order_on_the_loop(
    factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    worked: list[tuple[int, str]] = []
    told: list[tuple[int | None, BaseException | None, str]] = []

    def job(number: int) -> int:
        worked.append((number, threading.current_thread().name))
        if number == 3:
            raise SystemExit(3)
        return number * number

    def tell(result: int | None, error: BaseException | None) -> None:
        told.append((result, error, threading.current_thread().name))

    def scene(worker: ports.Worker) -> None:
        for number in range(5):
            worker.submit(partial(job, number), tell)

    run_on(factory, scene)
    here = threading.current_thread().name
    assert worked == [(number, "test disk") for number in range(5)]
    assert [result for result, _, _ in told] == [0, 1, 4, None, 16]
    assert isinstance(told[3][1], SystemExit)
    assert {name for _, _, name in told} == {here}


def test_close_finishes_what_was_submitted_and_takes_no_more() -> None:
    worked: list[int] = []
    loop = asyncio.new_event_loop()
    worker = OsThreads(loop).worker("test disk")
    gate = threading.Event()
    worker.submit(lambda: gate.wait(20), lambda result, error: None)
    for number in range(100):
        worker.submit(partial(worked.append, number), lambda result, error: None)
    gate.set()
    worker.close()
    assert worked == list(range(100))
    assert "test disk" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(RuntimeError, match="worker test disk is closed"):
        worker.submit(lambda: None, lambda result, error: None)
    worker.close()
    loop.close()


def test_outcomes_for_a_closed_loop_are_dropped_and_the_jobs_done() -> None:
    worked: list[int] = []
    told: list[int] = []
    loop = asyncio.new_event_loop()
    worker = OsThreads(loop).worker("test disk")
    gate = threading.Event()
    worker.submit(lambda: gate.wait(20), lambda result, error: told.append(1))
    worker.submit(lambda: worked.append(2), lambda result, error: told.append(2))
    loop.close()
    gate.set()
    worker.close()
    assert worked == [2]
    assert told == []


def test_a_process_ends_although_its_worker_was_not_closed() -> None:
    script = """
import asyncio, threading
from metaq.files import OsThreads
async def main():
    started = threading.Event()
    worker = OsThreads(asyncio.get_running_loop()).worker("stuck")
    worker.submit(lambda: (started.set(), threading.Event().wait()), lambda result, error: None)
    started.wait()
asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", script], timeout=30, capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
