"""The real Java client at our broker, through a real ZooKeeper or our registry: it cannot tell it from the original."""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from metaq.config.broker import load
from tests.conftest import COORDINATORS
from tests.embedding import serving, settings
from tests.interop.conftest import SHORT_PAUSE_MS, Brokers, Judge
from tests.interop.jvm import Event, Finished, with_settings

pytestmark = pytest.mark.parametrize("coordinator", COORDINATORS, indirect=True)

SEED = Path(__file__).parents[1] / "data" / "seed" / "server.ini"
HERE = f"127.33.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"  # no other test's: the port is the deployment's


def messages(events: Iterable[Event]) -> dict[object, tuple[object, ...]]:
    """Return id → partition and beginning of each message that was sent or consumed."""
    return {e["id"]: (e["partition"], e["head"] if "head" in e else f"m-{e['n']}") for e in events}


def assert_same(produced: Finished, consumed: Finished, count: int) -> None:
    sent = messages(produced.of("sent"))
    assert len(sent) == count
    assert all(event["ok"] for event in produced.of("sent"))
    assert len(consumed.of("message")) == count
    assert messages(consumed.of("message")) == sent


async def test_a_java_producer_and_consumer_meet_at_our_broker_on_the_server_ini_of_the_seed(
    zk: str, judge: Judge, tmp_path: Path
) -> None:
    """Unchanged but for what its README allows: address of ZooKeeper, host name, data path, address to listen on."""
    text = SEED.read_text("utf-8")
    text = with_settings(text, "system", {"hostName": HERE, "dataPath": tmp_path / "data"})
    text = with_settings(text, "zookeeper", {"zk.zkConnect": zk})
    ini = tmp_path / "server.ini"
    ini.write_text(f"{text}\n[pymetaq]\nbindAddress={HERE}\n", "utf-8")
    async with serving(load(str(ini))) as broker:
        assert broker.port == 8123
        produced = await judge("Produce", topic="meta-test", count=200, size=100, attribute="a")
        consumed = await judge("Consume", topic="meta-test", group="g", count=200, max_delay_ms=10)
        assert_same(produced, consumed, 200)
        assert {event["attribute"] for event in consumed.of("message")} == {"a"}
        assert {event["size"] for event in consumed.of("message")} == {100}
        assert len({event["partition"] for event in consumed.of("message")}) == 16


async def test_one_java_producer_uses_a_java_broker_and_ours_side_by_side(
    zk: str, judge: Judge, java_broker: Brokers, tmp_path: Path
) -> None:
    links = {"zk.zkEnable": "true", "zk.zkConnect": zk, "zk.zkSyncTimeMs": SHORT_PAUSE_MS}
    ini = tmp_path / "server.ini"
    ini.write_text(settings(tmp_path, {"brokerId": 2}, zookeeper=links))
    await java_broker()
    async with serving(load(str(ini))):
        produced = await judge("Produce", topic="test", count=60, size=50)
        consumed = await judge("Consume", topic="test", group="g", count=60, max_delay_ms=10)
    assert_same(produced, consumed, 60)
    used = {str(event["partition"]) for event in produced.of("sent")}
    assert used == {"1-0", "1-1", "2-0", "2-1", "2-2", "2-3"}
