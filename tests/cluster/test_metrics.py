"""Metrics as a real client gets them, of a broker, of a slave that lags, of a master whose slave is away."""

import asyncio
import logging
import re
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

import metaq.admin
from metaq.app import real_world
from metaq.config.pair import SamsaConfig
from metaq.config.slave import SlaveConfig
from metaq.errors import ConfigError, StoreError
from metaq.model import BrokerAddress, TopicPartition
from metaq.replication.pair.roles import SamsaRole
from metaq.replication.slave import Slave
from metaq.replication.status import FollowerStatus, PartitionStatus, State
from metaq.store.log import PartitionLog
from tests.cluster.conftest import until
from tests.cluster.slaves.conftest import hosts, sites
from tests.cluster.slaves.sites import Sites, same
from tests.embedding import HERE, PATIENCE, Dial, Serving, configured, serving, settings
from tests.pauses import Pauses

__all__ = ["hosts", "sites"]

HERE_ANY = {"metricsAddress": f"{HERE}:0"}
OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
MASTER = BrokerAddress("master", 8123)

Samples = Mapping[str, float]  # by name and labels as PromQL writes them


@pytest.fixture(autouse=True)
def told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def urls(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return where brokers of this process said that their metrics are."""
    return re.findall(r"metrics are at (http://\S+)", caplog.text)


async def fetch(url: str, accept: str = "") -> tuple[str, str]:
    """Return type and text of an answer."""

    def get() -> tuple[str, str]:
        with urlopen(Request(url, headers={"Accept": accept}), timeout=PATIENCE) as answer:
            return answer.headers["Content-Type"], answer.read().decode()

    return await asyncio.to_thread(get)


async def scrape(url: str) -> Samples:
    kind, text = await fetch(url)
    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    return {named(s.name, s.labels): s.value for family in parse(text) for s in family.samples}


def named(name: str, labels: Mapping[str, str]) -> str:
    inside = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return f"{name}{{{inside}}}" if inside else name


async def test_a_broker_tells_what_it_counts_and_stores(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    topics = "[topic=test]\nstat=true\n[topic=plain]\n"
    async with serving(configured(folder, settings(folder, {}, HERE_ANY, topics=topics))) as broker:
        dial = Dial(broker.port)
        peer = await dial()
        for topic in (b"test", b"test", b"plain"):
            assert (await peer.asks(b"put %b 0 5 0 -1 1\r\nhello" % topic)).startswith(b"result 200 ")
        assert (await peer.asks(b"put test 0 5 0 1 1\r\nhello")).startswith(b"result 5")
        await peer.asks(b"get test g 0 0 1000 1\r\n")
        await peer.asks(b"get test g 0 50 1000 1\r\n")
        (url,) = urls(caplog)
        found = await scrape(url)
        assert {name: found[name] for name in found if "topic=" in name and "test" in name} == {
            'metaq_puts_total{topic="test"}': 3,
            'metaq_put_failures_total{topic="test"}': 1,
            'metaq_copied_messages_total{topic="test"}': 0,
            'metaq_message_bytes_total{topic="test"}': 10,
            'metaq_gets_total{topic="test"}': 2,
            'metaq_get_misses_total{topic="test"}': 1,
            'metaq_offset_queries_total{topic="test"}': 0,
            'metaq_partitions{topic="test"}': 1,
            'metaq_stored_messages{topic="test"}': 2,
            'metaq_stored_bytes{topic="test"}': 50,
        }
        assert found['metaq_puts_total{topic=""}'] == 1
        assert found['metaq_stored_messages{topic="plain"}'] == 1
        assert found["metaq_connections"] == 1
        assert found["metaq_journal_bytes"] > 0
        assert not any("partition=" in name or "slave" in name or "pair" in name for name in found)
        kind, text = await fetch(url, OPENMETRICS)
        assert kind.startswith("application/openmetrics-text; version=1.0.0")
        open_metrics = parse_openmetrics(text)  # type: ignore[no-untyped-call]
        assert {f.name for f in open_metrics} == {f.name for f in parse((await fetch(url))[1])}
        await dial.end()
    with pytest.raises(OSError, match="refused"):
        await fetch(url)


async def test_a_slave_tells_how_far_it_is_behind(
    sites: Sites, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    master = await sites.site("master").start()
    await master.put("test", 0, b"a" * 80)
    slave = sites.slave(1)
    slave.ini.write_text(f"{slave.ini.read_text()}\n[pymetaq]\nmetricsAddress={HERE}:0\nmetricsPartitions=true\n")
    await slave.start()
    await same(master, slave)
    (url,) = urls(caplog)
    await until(lambda: slave.slave.status().state == "current")
    found = await scrape(url)
    assert found["metaq_slave_connected"] == 1
    assert found['metaq_slave_state{state="current"}'] == 1
    assert found['metaq_slave_lag_bytes{topic="test"}'] == 0

    def full(log: PartitionLog) -> None:
        raise StoreError("no room")

    monkeypatch.setattr(slave.broker.running.broker.store, "check_space", full)
    await master.put("test", 0, *[b"b" * 80] * 3)
    await master.put("test", 1, b"c" * 80)
    await until(lambda: slave.slave.status().copying.lag == 400)
    found = await scrape(url)
    assert found['metaq_slave_lag_bytes{topic="test"}'] == 400
    assert found['metaq_slave_lag_max_bytes{topic="test"}'] == 300
    assert found['metaq_slave_partition_lag_bytes{partition="1",topic="test"}'] == 100
    assert found['metaq_slave_partition_lag_messages{partition="0",topic="test"}'] == 3
    assert found['metaq_slave_lag_seconds{topic="test"}'] > 0
    assert found['metaq_slave_lag_bytes{topic="oct29"}'] == 0
    assert found['metaq_slave_state{state="current"}'] == 0
    assert found['metaq_partition_end_offset_bytes{partition="0",topic="test"}'] == 100


async def test_the_master_of_a_pair_tells_that_its_slave_is_away(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pair = SamsaConfig(slave_host=HERE, slave_port=1, check_interval=0.02, failure_threshold=2)
    broker = await Serving(configured(folder, settings(folder, {}, HERE_ANY)), role=SamsaRole(pair, 0.0)).start()
    dial = Dial(broker.port)
    peer = await dial()
    (url,) = urls(caplog)
    try:
        async with asyncio.timeout(PATIENCE):
            puts, found = 0, await scrape(url)
            assert found["metaq_pair_unregistered"] == found["metaq_pair_refused_puts_total"] == 0
            while not found["metaq_pair_unregistered"]:
                assert (await peer.asks(b"put test 0 5 0 -1 1\r\nhello")).startswith(b"result 500 ")
                puts += 1
                found = await scrape(url)
        assert found["metaq_pair_connected"] == 0
        assert found["metaq_pair_refused_puts_total"] == puts
        assert found["metaq_pair_failed_copies_total"] >= 2
        assert found['metaq_pair_notifications_total{event="slave-lost"}'] == 1
        assert found['metaq_pair_notifications_total{event="unregistered"}'] == 1
        assert found['metaq_pair_notifications_total{event="slave-back"}'] == 0
        assert b"pair_puts_refused %d\r\n" % puts in await peer.asks(b"stats  1\r\n")
    finally:
        await dial.end()
        await broker.end()


class Far:
    """Copies nothing, and says how it is with each of many partitions."""

    def __init__(self, count: int) -> None:
        self._count = count

    def overview(self) -> FollowerStatus:
        return FollowerStatus(MASTER, True, None, ())

    def partitions(self) -> Iterator[PartitionStatus]:
        for number in range(self._count):
            key = TopicPartition("test", number)
            yield PartitionStatus(key, State.COPYING, 100, 300, lag=200, messages=2, seconds=0.5)


async def test_a_scrape_of_20000_partitions_does_not_hold_up_the_broker(
    folder: Path, pauses: Pauses, caplog: pytest.LogCaptureFixture
) -> None:
    count = 20_000
    ours = {**HERE_ANY, "metricsPartitions": "true"}
    config = configured(folder, settings(folder, {}, ours, topics=f"[topic=test]\nnumPartitions={count}\n"))
    async with serving(config) as serves:
        broker = serves.running.broker
        for number in range(count):
            broker.puts.place(TopicPartition("test", number))
            await asyncio.sleep(0)
        slave = Slave(SlaveConfig(slave_id=1, slave_group="slaves"))
        slave.join(broker, real_world())
        slave._follower = Far(count)  # type: ignore[assignment]  # stands in for it
        (url,) = urls(caplog)
        with pauses.below(0.05, "a scrape"):
            latest = time.monotonic()
            scraping = asyncio.create_task(fetch(url))
            longest = 0.0
            while not scraping.done():
                await asyncio.sleep(0.001)
                longest, latest = max(longest, time.monotonic() - latest), time.monotonic()
        print(f"longest pause {longest * 1e3:.1f} ms by the clock, in callbacks {pauses.longest() * 1e3:.1f} ms")
        _, text = await scraping
        assert text.count("\nmetaq_slave_partition_lag_bytes{") == count
        assert text.count("\nmetaq_partition_end_offset_bytes{") == count
        assert '\nmetaq_slave_lag_bytes{topic="test"} 4e+06\n' in text


async def test_a_broker_whose_metrics_cannot_be_served_says_so_and_does_not_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await asyncio.start_server(lambda *_: None, HERE, 0)
    taken = {"metricsAddress": f"{HERE}:{server.sockets[0].getsockname()[1]}"}
    with pytest.raises(ConfigError, match=r"metricsAddress=127\.0\.0\.1:\d+: cannot listen there: .*in use"):
        await Serving(configured(folder, settings(folder, {}, taken))).start()
    server.close()
    monkeypatch.delitem(sys.modules, "metaq.admin.families", raising=False)
    monkeypatch.delattr(metaq.admin, "families", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client.exposition", None)
    with pytest.raises(ConfigError, match=r"metricsAddress=.*pip install 'pymetaq\[metrics\]'"):
        await Serving(configured(folder, settings(folder, {}, HERE_ANY))).start()
