"""A synchronous pair in one process: a master and a slave of ours, and a slave that does as told, like one in Java."""

import asyncio
import errno
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Final

from metaq import app
from metaq.config.pair import SamsaConfig
from metaq.errors import Status
from metaq.files import OsFiles
from metaq.model import TopicPartition
from metaq.protocol.commands import Command, Get, Offset, Sync, Version
from metaq.protocol.decoder import Decoder
from metaq.protocol.encoder import put_reply, result, value_head
from metaq.record import checksum, pack
from metaq.replication.pair.gregor import serve_as_slave
from metaq.replication.pair.samsa import Samsa
from tests.embedding import HERE, NOTHING, PATIENCE, Dial, Peer, Serving, Settings, configured, serving, settings

ONE_TOPIC: Final = "[topic=test]\nnumPartitions=2\n"
KEY: Final = TopicPartition("test", 0)


async def until(condition: Callable[[], bool]) -> None:
    """Return when it holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.002)


class FullDisk(OsFiles):
    """The disk, which is `full` for rounds of the journal while it is told so."""

    def __init__(self) -> None:
        super().__init__()
        self.full = False

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, position: int) -> None:
        if self.full and any(data):
            raise OSError(errno.ENOSPC, "No space left on device")
        super().pwrite(fd, data, position)

    def pwrite_durable(self, fd: int, data: bytes, position: int) -> None:
        if self.full:
            time.sleep(0.05)  # the slave answers first
            raise OSError(errno.ENOSPC, "No space left on device")
        super().pwrite_durable(fd, data, position)


class Master:
    """A broker of ours that is the master of a pair; `peer` is a client's connection to it."""

    def __init__(self, serving: Serving, samsa: Samsa, peer: Peer, disk: FullDisk) -> None:
        self.serving = serving
        self.samsa = samsa
        self.peer = peer
        self.disk = disk
        self.store = serving.running.broker.store
        self._opaque = 0

    async def put(self, body: bytes, partition: int = 0) -> tuple[int, str]:
        """Put a message; return status and text of the answer."""
        self._opaque += 1
        await self.peer.sends(b"put test %d %d 0 %d\r\n%b" % (partition, len(body), self._opaque, body))
        head, _, text = (await self.peer.frame()).partition(b"\r\n")
        return int(head.split(b" ")[1]), text.decode()

    async def read(self, partition: int = 0, offset: int = 0) -> bytes:
        """Return what a consumer reads at once."""
        frame = await self.peer.asks(b"get test group %d %d 1000000 9\r\n" % (partition, offset))
        head, _, data = frame.partition(b"\r\n")
        return data if head.startswith(b"value") else b""

    async def up(self) -> None:
        """Return when the slave has all."""
        assert await self.samsa.settled(PATIENCE)

    async def down(self) -> None:
        """Return when the master has noticed that the slave is gone."""
        await until(lambda: not self.samsa.link.is_open)


@asynccontextmanager
async def master(
    folder: Path, slave: int, system: Settings = NOTHING, topics: str = ONE_TOPIC, **options: object
) -> AsyncIterator[Master]:
    """Run a master whose slave is at a port of this machine."""
    folder.mkdir(exist_ok=True)
    config = configured(folder, settings(folder, system, topics=topics))
    disk = FullDisk()
    world = replace(app.real_world(), files=disk)
    pair = SamsaConfig(slave_host=HERE, slave_port=slave, send_timeout=1.0, check_interval=0.02)
    for name, value in options.items():
        object.__setattr__(pair, name, value)
    async with serving(config, world) as broker:
        samsa = Samsa(broker.running.broker, world, pair)
        samsa.attach()
        running = [asyncio.ensure_future(samsa.run()), asyncio.ensure_future(samsa.health.run())]
        dial = Dial(broker.port)
        try:
            yield Master(broker, samsa, await dial(), disk)
        finally:
            await dial.end()
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            assert all(task.cancelled() for task in running), [task.exception() for task in running]


@asynccontextmanager
async def slave(
    folder: Path, port: int = 0, system: Settings = NOTHING, topics: str = ONE_TOPIC
) -> AsyncIterator[Serving]:
    """Run a slave of ours."""
    folder.mkdir(exist_ok=True)
    config = configured(folder, settings(folder, {"serverPort": port, **system}, topics=topics))
    async with serving(config) as broker:
        serve_as_slave(broker.running.broker)
        yield broker


def files(folder: Path, partition: str = "test-0") -> dict[str, bytes]:
    """Return the segments of a partition of a broker that has stopped, by name."""
    return {path.name: path.read_bytes() for path in sorted((folder / "data" / partition).glob("*.meta"))}


class Does(Enum):
    """What the stand-in does with the next `sync`."""

    STORE = "stores it and says so"
    REFUSE = "answers 500, stores nothing"
    FORGET = "stores it and says nothing"
    IGNORE = "stores nothing and says nothing"
    HANG_UP = "closes the connection"


class JavaLike(asyncio.Protocol):
    """A slave as the one of 1.4.6.2 is seen on the wire: `sync` goes to the end, whatever was before."""

    def __init__(self) -> None:
        self.logs: dict[TopicPartition, bytearray] = {}
        self.hidden: set[TopicPartition] = set()  # logs that are passed over until something is put
        self.does = Does.STORE
        self.port = 0
        self._server: asyncio.AbstractServer | None = None
        self._decoder = Decoder()
        self._transports: list[asyncio.Transport] = []

    async def open(self, port: int = 0) -> "JavaLike":
        """Listen."""
        self._server = await asyncio.get_running_loop().create_server(lambda: self, HERE, port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def close(self) -> None:
        """Go away; what is stored stays."""
        assert self._server is not None
        self._server.close()
        self.hang_up()
        await self._server.wait_closed()

    def hang_up(self) -> None:
        """End the connections."""
        for transport in self._transports:
            transport.abort()
        self._transports.clear()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transports.append(transport)
        self._decoder = Decoder()

    def data_received(self, data: bytes) -> None:
        for command in self._decoder.feed(data):
            reply = self._answer(command)
            if reply and self._transports:
                self._transports[-1].write(reply)

    def _answer(self, command: Command) -> bytes:
        match command:
            case Version(opaque):
                return result(Status.SUCCESS, "1.4.6.2", opaque)
            case Offset(target, _, offset, opaque):
                log = None if target in self.hidden else self.logs.get(target)
                if log is None:
                    return result(Status.NOT_FOUND, "no such partition", opaque)
                return result(Status.SUCCESS, str(len(log) if offset >= len(log) else 0), opaque)
            case Get(target, _, offset, size, opaque):
                found = bytes(self.logs.get(target, b"")[offset : offset + size])
                return value_head(len(found), opaque) + found
            case Sync():
                return self._sync(command)
        raise AssertionError(command)

    def _sync(self, command: Sync) -> bytes:
        if self.does is Does.HANG_UP:
            self.hang_up()
            return b""
        if self.does is Does.REFUSE:
            return result(Status.ERROR, "disk full", command.opaque)
        if self.does is Does.IGNORE:
            return b""
        self.hidden.discard(command.target)
        log = self.logs.setdefault(command.target, bytearray())
        if command.checksum not in (checksum(command.body), -1):
            return result(Status.ERROR, "checksum failure", command.opaque)
        offset = len(log)
        log += pack(command.id, command.flag, command.body)
        if self.does is Does.FORGET:
            return b""
        return put_reply(command.id, command.target.partition, offset, command.opaque)
