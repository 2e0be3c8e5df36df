"""Loads that press on a broker, and what is looked at meanwhile; for test_pressure.py and bench/pressure.py."""

import asyncio
import json
import resource
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, cast

from metaq.model import TopicPartition
from tests.embedding import HERE

PATIENCE: Final = 60.0  # seconds until a reply that must come counts as lost
MIB: Final = 1 << 20


def most_connections(wanted: int) -> int:
    """Return how many connections this process may make, after it has raised its own limit; at most `wanted`."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(wanted, (hard - 100) // 2 - 100)


def jain(shares: Sequence[float]) -> float:
    """Return Jain's index of fairness: 1 if all shares are equal, 1/n if one has everything."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 0.0


class Client(asyncio.Protocol):
    """One connection that counts the replies it gets, and calls `replied` for each; `deaf`: it reads nothing."""

    def __init__(self, *, deaf: bool = False) -> None:
        self.replies: dict[bytes, int] = {}  # status, "value" for values → how many
        self.bytes = 0
        self.lost = False
        self.transport: asyncio.Transport
        self.replied: Callable[[bytes, int, bytes], None] = lambda status, opaque, body: None
        self._deaf = deaf
        self._kept = bytearray()
        self._news = asyncio.Event()

    @classmethod
    async def dial(cls, port: int, host: str = HERE, *, deaf: bool = False) -> "Client":
        """Connect from an address of the loopback network."""
        loop = asyncio.get_running_loop()
        made = await loop.create_connection(lambda: cls(deaf=deaf), HERE, port, local_addr=(host, 0))
        return made[1]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self._deaf:
            self.transport.pause_reading()

    def hear(self) -> None:
        """Begin to read."""
        self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self.bytes += len(data)
        kept = self._kept
        kept += data
        position = 0
        while (end := kept.find(b"\r\n", position)) >= 0:
            words = bytes(kept[position:end]).split(b" ")
            value = words[0] == b"value"
            next_ = end + 2 + int(words[1 if value else 2])
            if next_ > len(kept):
                break
            status = b"value" if value else words[1]
            self.replies[status] = self.replies.get(status, 0) + 1
            self.replied(status, int(words[-1]), bytes(kept[end + 2 : next_]))
            position = next_
        del kept[:position]
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._news.set()

    @property
    def count(self) -> int:
        """How many replies have come."""
        return sum(self.replies.values())

    async def until(self, count: int) -> None:
        """Return when so many replies have come. Raises AssertionError if they do not, or if the connection ends."""
        try:
            async with asyncio.timeout(PATIENCE):
                while self.count < count:
                    assert not self.lost, f"closed after {self.replies}"
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{count - self.count} replies are missing, {self.replies} came") from None


async def dial_many(port: int, count: int, *, deaf: bool = False) -> list[Client]:
    """Make so many connections, 1,000 from each address."""
    clients: list[Client] = []
    for first in range(0, count, 200):
        part = range(first, min(first + 200, count))
        clients += await asyncio.gather(
            *(Client.dial(port, f"127.0.1.{1 + number // 1000}", deaf=deaf) for number in part)
        )
    return clients


@dataclass
class Look:
    """What was seen while a load was on: seconds that `version` took, and resident memory in MiB, by time.

    `stretch`: how many times longer all took because others use the processors too.
    """

    times: list[float] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)
    stretch: float = 1.0

    def quantile(self, part: float) -> float:
        """Return how long `version` took in so many of all cases."""
        assert self.times, "version was never asked"
        return sorted(self.times)[min(len(self.times) - 1, int(len(self.times) * part))]

    @property
    def peak(self) -> float:
        """The most memory seen."""
        return max(memory for _, memory in self.memory)


@asynccontextmanager
async def looking(port: int, pid: int) -> AsyncIterator[Look]:
    """Ask for the version every 10 ms, from another process, and look at the memory, until the block ends."""
    look = Look()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.looker", str(port), str(pid), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        limit=1 << 26,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    assert await process.stdout.readline() == b"looking\n"
    try:
        yield look
        process.stdin.close()
        found = json.loads(await process.stdout.readline() or b"{}")
        look.times, look.memory, look.stretch = found["times"], found["memory"], found["stretch"]
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
        await process.wait()


class Pressing:
    """A producer that has `window` puts under way until told to stop, all to one partition.

    `acknowledged` has the body of each by its offset. Bodies are told apart by what they begin with.
    """

    def __init__(self, client: Client, name: str, target: TopicPartition, *, window: int, size: int) -> None:
        self.client = client
        self.acknowledged: dict[int, bytes] = {}
        self.target = target
        self.name = name
        self._size = size
        self._sent = 0
        self._stopped = False
        client.replied = self._replied
        self._under_way: dict[int, bytes] = {}
        self._put(window)

    def _put(self, count: int) -> None:
        wire = []
        for _ in range(count):
            head = b"%b:%d:" % (self.name.encode(), self._sent)
            body = head + b"." * (self._size - len(head))
            self._under_way[self._sent] = body
            wire.append(b"put %b %d %d 0 -1 %d\r\n%b" % (
                self.target[0].encode(), self.target[1], len(body), self._sent, body
            ))  # fmt: skip
            self._sent += 1
        self.client.transport.write(b"".join(wire))

    def _replied(self, status: bytes, opaque: int, text: bytes) -> None:
        assert status == b"200", (status, text)
        self.acknowledged[int(text.rsplit(b" ", 1)[1])] = self._under_way.pop(opaque)
        if not self._stopped:
            self._put(1)

    async def stop(self) -> None:
        """Send no more and return when everything is answered."""
        self._stopped = True
        await self.client.until(self._sent)
