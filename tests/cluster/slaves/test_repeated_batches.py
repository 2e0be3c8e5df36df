"""A producer does not hear that its batch is stored, and the master dies: the slave answers it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from metaq import aio
from metaq.client.connect import Outside
from metaq.model import TopicPartition
from metaq.net.streams import Streams
from tests.cluster.conftest import DEADLINE, until
from tests.cluster.slaves.sites import Site, Sites
from tests.faults.processes import Process

KEY = TopicPartition("test", 0)
BODIES = [b"%d" % n * 30 for n in range(200)]


class Deaf(asyncio.Protocol):
    """Passes on all but what the peer says while `is_deaf`; then a connection stays so."""

    def __init__(self, protocol: asyncio.Protocol, network: "HalfDeaf") -> None:
        self._network = network
        self._lost = False
        self._received = protocol.data_received
        self.connection_made = protocol.connection_made  # type: ignore[method-assign]
        self.connection_lost = protocol.connection_lost  # type: ignore[method-assign]
        self.eof_received = protocol.eof_received  # type: ignore[method-assign]
        self.pause_writing = protocol.pause_writing  # type: ignore[method-assign]
        self.resume_writing = protocol.resume_writing  # type: ignore[method-assign]

    def data_received(self, data: bytes) -> None:
        self._lost = self._lost or self._network.is_deaf
        if not self._lost:
            self._received(data)


class HalfDeaf(Streams):
    """A network whose replies are lost from some time on, on connections that are there then."""

    is_deaf = False

    async def connect(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> asyncio.Transport:
        return await super().connect(lambda: Deaf(factory(), self), host, port)


@pytest.fixture
async def master(sites: Sites) -> AsyncIterator[Process]:
    """A process, which can be killed; it is registered for a second longer."""
    ini = sites.site("master").ini
    ini.write_text(ini.read_text().replace("[zookeeper]", "[zookeeper]\nzk.zkSessionTimeoutMs=1000"))
    process = await Process.start(ini)
    yield process
    await process.kill()


async def promote(slave: Site) -> None:
    assert await slave.slave.promote(force=False, wait=DEADLINE) == ""


async def start_as_master(slave: Site) -> None:
    await slave.end()
    slave.role = lambda: None
    await slave.start()


def end_at(site: Site) -> int:
    log = site.broker.running.broker.store.get(KEY)
    return 0 if log is None else log.visible


@pytest.mark.parametrize("succeed", [promote, start_as_master])
async def test_at_the_slave_it_is_answered_as_the_master_would_have(
    succeed: Callable[[Site], Awaitable[None]], sites: Sites, master: Process, hosts: str
) -> None:
    slave = await sites.slave(1).start()
    network = HalfDeaf()
    size = sum(20 + len(body) for body in BODIES)
    async with aio.connect(f"zk://{hosts}/meta", outside=Outside(network=network)) as mq:
        producer = mq.producer("test", retries=1000)
        first = await producer.send(b"first", partition=0)
        network.is_deaf = True
        sending = asyncio.ensure_future(producer.send_many(BODIES, partition=0, timeout=DEADLINE))
        await until(lambda: end_at(slave) == 25 + size and slave.slave.status().state == "current")
        assert not sending.done()
        await master.kill()
        network.is_deaf = False
        await until(lambda: slave.slave.status().master is None)
        await succeed(slave)
        receipts = await sending
        assert end_at(slave) == 25 + size, "none of it was stored again"
        last = await producer.send(b"last", partition=0)
        async with mq.reader("test", partition=0, offset=0) as reader:
            found = [await anext(reader) for _ in range(202)]
    assert [message.body for message in found] == [b"first", *BODIES, b"last"]
    sent = [first, *receipts, last]
    assert [(each.id, each.offset) for each in sent] == [(message.id, message.offset) for message in found]
