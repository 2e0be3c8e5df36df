"""A broker inside a test, and a peer that talks bytes to it: `async with serving(settings(folder)) as broker`."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar, cast

from metaq import app
from metaq.config.broker import parse
from metaq.config.model import BrokerConfig
from metaq.net.streams import Streams
from metaq.ports import Network, World
from metaq.replication.role import Role

T = TypeVar("T")

HERE: Final = "127.0.0.1"
PATIENCE: Final = 20.0  # seconds until something that must happen counts as not happening
NOTHING: Final[Mapping[str, object]] = MappingProxyType({})
TOPICS: Final = "[topic=test]\n[topic=quick]\nunflushThreshold=1000\n[topic=wild*]\nnumPartitions=9\n"
Settings = Mapping[str, object]


def settings(
    folder: str | Path,
    system: Settings = NOTHING,
    pymetaq: Settings = NOTHING,
    zookeeper: Settings = NOTHING,
    topics: str = TOPICS,
) -> str:
    """Return the text of a server.ini: broker 0, 4 partitions, synced, in `folder`, no ZooKeeper."""
    places = {"serverPort": 0, "hostName": HERE, "dataPath": f"{folder}/data"}
    own = {"bindAddress": HERE, "journalFileSize": 1 << 20, "diskReserve": 0}
    sections = {
        "system": {"brokerId": 0, "numPartitions": 4, "unflushThreshold": 0, **places, **system},
        "zookeeper": {"zk.zkEnable": "false", **zookeeper},
        "pymetaq": {**own, **pymetaq},
    }
    lines = [line for name, keys in sections.items() for line in (f"[{name}]", *(f"{k}={v}" for k, v in keys.items()))]
    return "\n".join(lines) + "\n" + topics


def configured(folder: Path, text: str) -> BrokerConfig:
    """Write a server.ini into `folder` and return what it means."""
    path = folder / "server.ini"
    path.write_text(text)
    return parse(text.encode(), str(path))


class Serving:
    """A broker that runs in this loop. `ended` is done when `app.run` has returned or raised."""

    def __init__(self, config: BrokerConfig, world: World | None = None, role: Role | None = None) -> None:
        self.config = config
        self.stop = asyncio.Event()
        self.running: app.RunningBroker
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[None] = asyncio.ensure_future(
            app.run(config, ready=self._serves, stop=self.stop, world=world, role=role)
        )

    def _serves(self, running: app.RunningBroker) -> None:
        self.running = running
        self._ready.set_result(None)

    async def start(self) -> "Serving":
        """Return when it serves. Raises what kept it from doing so."""
        await asyncio.wait([self._ready, self.ended], return_when=asyncio.FIRST_COMPLETED)
        if not self._ready.done():
            self._ready.cancel()
            await self.ended
        return self

    @property
    def port(self) -> int:
        return self.running.port

    async def end(self) -> None:
        """Stop in order; fine if it has ended. Raises what `app.run` raises."""
        self.stop.set()
        async with asyncio.timeout(PATIENCE):
            await self.ended


@asynccontextmanager
async def serving(config: BrokerConfig, world: World | None = None) -> AsyncIterator[Serving]:
    """Run a broker while the block runs."""
    broker = await Serving(config, world).start()
    try:
        yield broker
    finally:
        await broker.end()


class Peer(asyncio.Protocol):
    """The client's end of a connection, in bytes. What does not come within PATIENCE fails the test."""

    def __init__(self) -> None:
        self.received = bytearray()  # and not yet taken
        self.lost = False
        self.transport: asyncio.Transport
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one, but not by inheritance

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._news.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def drained(self) -> None:
        """Return when the other end has taken most of what was sent, or is gone."""
        async with asyncio.timeout(PATIENCE):
            await self._writable.wait()

    async def sends(self, data: bytes) -> None:
        """Send; what the other end does not take yet waits in the transport."""
        self.transport.write(data)

    async def more(self) -> None:
        """Wait for more bytes, or the end. Raises ConnectionResetError if that was before."""
        if self.lost:
            raise ConnectionResetError(f"closed, after {bytes(self.received[-200:])!r}")
        self._news.clear()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"nothing more came after {bytes(self.received[-200:])!r}") from None

    async def frame(self) -> bytes:
        """Return the next reply, head and body. Raises ConnectionResetError if the connection ends before."""
        while (end := self.received.find(b"\r\n")) < 0:
            await self.more()
        head = self.received[:end].split(b" ")
        size = end + 2 + int(head[2 if head[0] == b"result" else 1])
        while len(self.received) < size:
            await self.more()
        frame = bytes(self.received[:size])
        del self.received[:size]
        return frame

    async def gets(self, pattern: bytes) -> re.Match[bytes]:
        """Take the next reply, which must match the pattern as a whole."""
        frame = await self.frame()
        match = re.fullmatch(pattern, frame, re.DOTALL)
        assert match is not None, f"{frame[:500]!r} is not {pattern!r}"
        return match

    async def asks(self, data: bytes) -> bytes:
        """Send one request and return its reply."""
        await self.sends(data)
        return await self.frame()

    async def gets_exactly(self, data: bytes) -> None:
        """Take these bytes, be they several replies."""
        while len(self.received) < len(data) and data.startswith(self.received):
            await self.more()
        assert bytes(self.received[: len(data)]) == data
        del self.received[: len(data)]

    async def closes(self) -> None:
        """See the broker close the connection without another byte."""
        while not self.lost:
            await self.more()
        assert not self.received

    async def stays_silent_until(self, event: Awaitable[T]) -> T:
        """Wait for something else; meanwhile nothing may come, nor the connection end."""
        result = await event
        assert not self.received
        assert not self.lost
        return result


class Dial:
    """Makes peers: `peer = await dial()`. All connections are closed at the end of the test."""

    def __init__(self, port: int, network: Network | None = None, host: str = HERE) -> None:
        self._network = network or Streams()
        self._port = port
        self._host = host
        self._peers: list[Peer] = []

    async def __call__(self) -> Peer:
        peer = Peer()
        await self._network.connect(lambda: peer, self._host, self._port)
        self._peers.append(peer)
        return peer

    async def end(self) -> None:
        for peer in self._peers:
            peer.transport.abort()
