"""How TCP finds its pace: towards who copies the log as `replicaCongestionControl` says, else as it does."""

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from metaq.app import real_world
from metaq.config.model import BrokerConfig
from metaq.config.pair import SamsaConfig
from metaq.net.connection import Connection
from metaq.net.streams import Streams
from metaq.replication.pair.samsa import Samsa
from tests.embedding import HERE, PATIENCE, Dial, configured, serving, settings

MGET = b"mget g 100 0 12 1%s\r\ntest 0 0 9\r\n"


class Watched(Streams):
    """Real sockets. `accepted`: the broker's ends of connections; `dialled`: those that it made."""

    def __init__(self) -> None:
        self.accepted: list[asyncio.Protocol] = []
        self.dialled: list[asyncio.Transport] = []

    async def listen(
        self, factory: Callable[[], asyncio.Protocol], host: str | None, port: int, *, backlog: int = 1000
    ) -> asyncio.AbstractServer:
        def make() -> asyncio.Protocol:
            self.accepted.append(factory())
            return self.accepted[-1]

        return await super().listen(make, host, port, backlog=backlog)

    async def connect(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> asyncio.Transport:
        self.dialled.append(await super().connect(factory, host, port))
        return self.dialled[-1]

    def paces(self) -> list[str]:
        """Return the pace of each accepted connection."""
        return [pace_of(protocol._transport) for protocol in self.accepted if isinstance(protocol, Connection)]


def pace_of(transport: asyncio.Transport | None) -> str:
    assert transport is not None
    value: bytes = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
    return value.rstrip(b"\0").decode()


def other() -> str:
    """Return a congestion control that may be chosen here and is not the system's."""
    with open("/proc/sys/net/ipv4/tcp_congestion_control") as file:
        usual = file.read().strip()
    with open("/proc/sys/net/ipv4/tcp_allowed_congestion_control") as file:
        return next((name for name in file.read().split() if name != usual), usual)


def choosing(folder: Path, name: str) -> BrokerConfig:
    return configured(folder, settings(folder, {}, {"replicaCongestionControl": name}))


async def test_the_pace_towards_one_that_copies_is_chosen_with_its_first_question(folder: Path) -> None:
    network = Watched()
    async with serving(choosing(folder, other()), replace(real_world(), network=network)) as broker:
        dial = Dial(broker.port)
        slave, consumer = await dial(), await dial()
        await consumer.asks(MGET.replace(b"%s", b""))
        before = network.paces()
        await slave.asks(MGET.replace(b"%s", b" stamps"))
        usual = before[1]
        assert before == [usual, usual]
        assert network.paces() == [other(), usual]
        await dial.end()


@pytest.mark.parametrize("name", ["none", "nonesuch"])
async def test_what_cannot_be_chosen_is_said_once_and_does_no_harm(
    name: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network = Watched()
    async with serving(choosing(folder, name), replace(real_world(), network=network)) as broker:
        dial = Dial(broker.port)
        for _ in range(2):
            slave = await dial()
            before = network.paces()
            await slave.asks(MGET.replace(b"%s", b" stamps"))
            await slave.asks(MGET.replace(b"%s", b" stamps"))
            assert network.paces() == before
        await dial.end()
    said = [each for each in caplog.messages if "replicaCongestionControl" in each]
    assert [text.partition(":")[0] for text in said] == ["replicaCongestionControl=nonesuch"] * (name == "nonesuch")
    assert all(each.levelno == logging.WARNING for each in caplog.records if each.getMessage() in said)


async def test_the_master_of_a_pair_chooses_its_pace_towards_the_slave(folder: Path, tmp_path: Path) -> None:
    network = Watched()
    world = replace(real_world(), network=network)
    async with (
        serving(configured(tmp_path, settings(tmp_path))) as second,
        serving(choosing(folder, other()), world) as first,
    ):
        samsa = Samsa(first.running.broker, world, SamsaConfig(slave_host=HERE, slave_port=second.port))
        samsa.link.start()
        await samsa.link.ready(PATIENCE)
        assert [pace_of(each) for each in network.dialled] == [other()]
        await samsa.link.close()
