"""What only a real server can show, ZooKeeper or our registry: time-outs, restarts, threads, sockets."""

import asyncio
import logging
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from metaq.cluster.operations import Node, RegistryClosed, State, Unreachable
from metaq.cluster.registry import BrokerRegistration
from metaq.cluster.watching import watch_node
from metaq.cluster.zk import REQUESTS_AT_ONCE, NeverBlockingHandler, ZooKeeperClient
from metaq.config.model import BrokerConfig, ZooKeeperConfig
from metaq.errors import ConfigError
from metaq.model import BrokerAddress
from metaq.testing import Coordinator, Registry, ZooKeeper
from tests.cluster.conftest import DEADLINE, until, until_async
from tests.cluster.gate import Gate
from tests.conftest import COORDINATORS, require

BOTH = pytest.mark.parametrize("coordinator", COORDINATORS, indirect=True)


@pytest.fixture
async def gate(coordinator: Coordinator) -> AsyncIterator[Gate]:
    """The only way to ZooKeeper, which a test may cut."""
    async with Gate(coordinator.address) as made:
        yield made


async def connected(server: Coordinator | Gate, *, patience: float | None = None) -> ZooKeeperClient:
    client = ZooKeeperClient(server.address, session_timeout=4.0, patience=patience)
    await client.connect(DEADLINE)
    return client


def kazoo_threads() -> int:
    return sum("asyncio" not in each.name and each is not threading.main_thread() for each in threading.enumerate())


async def test_nobody_at_the_address_is_an_error_that_names_it_and_leaves_no_thread() -> None:
    before = kazoo_threads()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        client = ZooKeeperClient(address)
        with pytest.raises(Unreachable, match=rf"{address} within 0\.2 s"):
            await client.connect(0.2)
    await until(lambda: kazoo_threads() == before)
    with pytest.raises(RegistryClosed):
        await client.get("/")


async def test_a_host_list_that_is_none_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"zk\.zkConnect=localhost:port"):
        await ZooKeeperClient("localhost:port").connect(1.0)


async def test_an_operation_before_connecting_is_an_error() -> None:
    with pytest.raises(RegistryClosed):
        await ZooKeeperClient("127.0.0.1:1").get("/")


@BOTH
async def test_closing_ends_the_threads_and_the_log_stays_quiet(
    coordinator: Coordinator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    before = kazoo_threads()
    client = await connected(coordinator)
    assert kazoo_threads() > before
    await client.close()
    assert kazoo_threads() == before
    assert {record.name for record in caplog.records if record.name != "asyncio"} == {"metaq.cluster.zk"}
    assert len(caplog.records) <= 3


@BOTH
async def test_a_chroot_is_created_and_hides_the_rest(coordinator: Coordinator) -> None:
    inside = ZooKeeperClient(f"{coordinator.address}/made-by-connect")
    await inside.connect(DEADLINE)
    outside = await connected(coordinator)
    await inside.create("/meta/x", b"1")
    assert await outside.get("/made-by-connect") == Node(None, 0)
    assert await outside.get("/made-by-connect/meta/x") == Node(b"1", 0)
    watch = watch_node(inside, "/meta/x")
    assert await watch.value() == Node(b"1", 0)
    await outside.set("/made-by-connect/meta/x", b"2")

    async def is_seen() -> bool:
        return await watch.value() == Node(b"2", 0)

    await until_async(is_seen)
    await watch.close()
    await inside.close()
    await outside.close()


@BOTH
async def test_without_connection_operations_wait_or_lose_patience_and_close_is_quick(gate: Gate) -> None:
    patient, hasty = await connected(gate), await connected(gate, patience=0.1)
    states: list[State] = []
    patient.on_state(states.append)
    gate.cut()
    await until(lambda: patient.state is hasty.state is State.SUSPENDED)
    with pytest.raises(Unreachable, match=gate.address):
        await hasty.get("/")
    waiting = asyncio.create_task(patient.create("/later", b"1", ephemeral=True))
    # far more than kazoo's pair of sockets would hold while nobody empties it
    abandoned = [asyncio.create_task(patient.exists(f"/{n}")) for n in range(2000)]
    async with asyncio.timeout(4.0):
        await hasty.close()
    for task in abandoned:
        task.cancel()
    gate.open()
    async with asyncio.timeout(DEADLINE):
        await waiting
    assert await patient.get("/later") == Node(b"1", patient.session)
    assert (states[0], states[-1]) == (State.SUSPENDED, State.CONNECTED)
    await patient.close()


@BOTH
async def test_a_server_that_accepts_and_never_answers_is_soon_left(coordinator: Coordinator) -> None:
    async with Gate(coordinator.address, deaf=1) as gate:
        client = ZooKeeperClient(gate.address, session_timeout=6.0)
        await client.connect(4.0)
        assert gate.connections == 2
        await client.close()


@BOTH
async def test_requests_under_way_when_the_connection_breaks_are_repeated(gate: Gate) -> None:
    client = await connected(gate)
    await client.create("/repeated")
    for _ in range(6):
        tasks = [asyncio.create_task(client.set("/repeated", b"%d" % n)) for n in range(300)]
        tasks += [asyncio.create_task(client.ensure(f"/repeated/{n}")) for n in range(100)]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        gate.cut()
        gate.open()
        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(*tasks)
    assert len(await client.children("/repeated") or ()) == 100
    await client.close()


@BOTH
async def test_whoever_waits_when_it_is_closed_gets_an_error(gate: Gate) -> None:
    client = await connected(gate)
    gate.cut()
    await until(lambda: client.state is State.SUSPENDED)
    tasks = [asyncio.create_task(client.get(f"/{n}")) for n in range(200)]
    await asyncio.sleep(0)
    await client.close()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(each) for each in results} == {RegistryClosed}


@pytest.mark.parametrize("kind", [ZooKeeper, Registry])
async def test_a_broker_stays_registered_over_a_restart_of_zookeeper_and_is_again_when_the_session_ends(
    kind: type[Coordinator], tmp_path: Path
) -> None:
    require("ZooKeeper (Debian package zookeeper)", kind is Registry or ZooKeeper.available())
    with kind(tmp_path) as server:
        ours, theirs = await connected(server), await connected(server)
        broker = BrokerRegistration(ours, BrokerConfig(broker_id=3), BrokerAddress("10.0.0.5", 8123))
        await broker.register(["t"])
        await asyncio.to_thread(server.restart)
        await broker.add_topic("u")
        described = b'{"numParts":1,"broker":"3-m"}'
        assert await theirs.get("/meta/brokers/topics-sub/u/3-m") == Node(described, ours.session)
        old = ours.session
        server.expire(*ours.credentials)

        async def is_back() -> bool:
            return ours.session not in (0, old) and await theirs.exists("/meta/brokers/topics-sub/u/3-m")

        await until_async(is_back)
        assert await theirs.get("/meta/brokers/ids/3/master") == Node(b"meta://10.0.0.5:8123", ours.session)
        assert await theirs.children("/meta/brokers/topics") == ["t", "u"]
        await broker.withdraw()
        await ours.close()
        await theirs.close()


@BOTH
async def test_withdrawing_without_zookeeper_gives_up(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metaq.cluster.registry._WITHDRAW_TIME", 0.1)
    client = await connected(gate)
    config = BrokerConfig(broker_id=3, zookeeper=ZooKeeperConfig(root="/withdrawn"))
    broker = BrokerRegistration(client, config, BrokerAddress("10.0.0.5", 8123))
    await broker.register(["t"])
    gate.cut()
    await until(lambda: client.state is State.SUSPENDED)
    async with asyncio.timeout(5.0):
        await broker.withdraw()
        await client.close()


async def test_the_runner_says_why_it_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("ZooKeeper (Debian package zookeeper)", ZooKeeper.available())
    monkeypatch.setattr("metaq.testing._JARS", tmp_path / "none.jar")
    with pytest.raises(OSError, match="did not start"):
        ZooKeeper(tmp_path).start()


def test_waking_the_thread_of_kazoo_never_waits_for_it() -> None:
    reading, writing = NeverBlockingHandler().create_socket_pair()
    with writing, reading:
        assert {writing.send(b"\0") for _ in range(5000)} == {1}
        assert len(reading.recv(5000)) > 2 * REQUESTS_AT_ONCE


@BOTH
async def test_the_time_out_of_the_session_is_the_one_the_server_grants(zk: str) -> None:
    for asked, granted in ((0.1, 0.4), (5.0, 5.0), (3600.0, 60.0)):
        client = ZooKeeperClient(zk, session_timeout=asked)
        await client.connect()
        assert client.session_timeout == granted
        await client.close()
