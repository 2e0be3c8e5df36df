"""What lies outside the process, as ports: clock, randomness, files, threads, network.

Nothing in store, broker, cluster and client reaches outside by itself; `app` passes the real things in, tests pass
simulated ones (design.md §5a). Implementations: `files.py` (files, threads), `net` (network), `random.Random`.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

T = TypeVar("T")


class Clock(Protocol):
    """Wall clock and monotonic clock, both in seconds. (`time.time`, `time.monotonic`.)"""

    def time(self) -> float: ...
    def monotonic(self) -> float: ...


class Random(Protocol):
    """The part of `random.Random` we use."""

    def randrange(self, stop: int, /) -> int: ...
    def random(self) -> float: ...


class Timer(Protocol):
    """A call that is due later and may be called off."""

    def cancel(self) -> None: ...


class Scheduler(Protocol):
    """The part of a running event loop that synchronous code needs; `asyncio.AbstractEventLoop` is one."""

    def call_soon(self, callback: Callable[[], object], /) -> Timer: ...
    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer: ...
    def time(self) -> float: ...


class Entry(Protocol):
    """One entry of a directory."""

    @property
    def name(self) -> str: ...
    @property
    def is_dir(self) -> bool: ...
    @property
    def size(self) -> int: ...  # bytes; 0 for directories
    @property
    def mtime(self) -> float: ...  # seconds since 1970


class Files(Protocol):
    """Files and directories. Everything blocks; OSError passes through. The seam where tests break the disk.

    Paths are absolute text. Nothing written is durable before `fdatasync` (bytes) and `sync_dir` (names).
    """

    def open(self, path: str, *, write: bool = False, create: bool = False) -> int:
        """Return a file descriptor; `create` makes the file where it is missing (never truncates)."""

    def close(self, fd: int) -> None: ...
    def pread(self, fd: int, size: int, position: int) -> bytes: ...
    def pread_cached(self, fd: int, size: int, position: int) -> bytes | bytearray | None:
        """As pread, but only what is in memory already; None: it would have to wait for the disk."""

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, position: int) -> None:
        """Write all of `data`. After an error any part of it may have been written."""

    def pwrite_all(self, fd: int, parts: Sequence[bytes | memoryview], position: int) -> None:
        """Write all parts one behind the other, as one write where the system allows it."""

    def pwrite_durable(self, fd: int, data: bytes, position: int) -> None:
        """Write all of `data` and return once these bytes are on disk; of earlier writes that says nothing."""

    def fdatasync(self, fd: int) -> None: ...
    def truncate(self, fd: int, size: int) -> None: ...
    def size(self, fd: int) -> int: ...
    def read(self, path: str) -> bytes:
        """Return the whole content; FileNotFoundError."""

    def list(self, path: str) -> Sequence[Entry]:
        """Return the entries of a directory, sorted by name; FileNotFoundError."""

    def exists(self, path: str) -> bool: ...
    def make_dir(self, path: str) -> None:
        """Create a directory and its missing parents; fine if it is there. Syncs nothing."""

    def sync_dir(self, path: str) -> None: ...
    def sync_all(self, path: str) -> None:
        """Make everything on the file system of `path` durable, bytes and names. OSError if any of it could not be."""

    def rename(self, source: str, target: str) -> None:
        """Replace target atomically. Durable after sync_dir."""

    def make_like(self, path: str, model: str) -> None:
        """Give a file the mode of another, and its owner as far as we may."""

    def remove(self, path: str) -> None: ...
    def remove_dir(self, path: str) -> None:
        """Remove a directory that is empty."""

    def lock_dir(self, path: str) -> int:
        """Lock the directory for this process (flock) and return its descriptor; BlockingIOError if another has it."""

    def lock_file(self, path: str) -> int:
        """Do the same with a file, which is made where it is missing and stays; it works on network drives too."""

    def most_open(self) -> int:
        """Return how many descriptors this process may have."""

    def free_space(self, path: str) -> tuple[int, int]:
        """Return (id of the file system, bytes a process like ours may still write there)."""


class Worker(Protocol):
    """One thread that does blocking jobs in order."""

    def submit(self, work: Callable[[], T], done: Callable[[T | None, BaseException | None], None]) -> None:
        """Run `work` in the thread; then, on the loop, call `done(result, None)` or `done(None, error)`."""

    def close(self) -> None:
        """Finish what was submitted, then end the thread. Blocks; nothing may be submitted afterwards."""


class Threads(Protocol):
    """Makes the workers of a broker."""

    def worker(self, name: str) -> Worker: ...


class Network(Protocol):
    """Streams to and from other hosts."""

    async def listen(
        self, factory: Callable[[], asyncio.Protocol], host: str | None, port: int, *, backlog: int = 1000
    ) -> asyncio.AbstractServer:
        """Accept connections; host None means all addresses, port 0 any free one. OSError if it is taken."""

    async def connect(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> asyncio.Transport:
        """Dial; the protocol's connection_made has been called when this returns. OSError if nobody answers."""


@dataclass(frozen=True, slots=True)
class World:
    """All that lies outside, in one hand: what `app` passes down and a simulation replaces."""

    clock: Clock
    random: Random
    files: Files
    threads: Threads
    network: Network
