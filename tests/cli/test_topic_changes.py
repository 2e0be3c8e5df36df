"""`metaq topics create|alter|drop`: at the broker of a home, and at all of a cluster with a broker that is not ours."""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pytest

import metaq
from metaq.cli.control import ask
from metaq.cli.home import Home
from metaq.cli.main import run
from metaq.client.background import LoopThread
from metaq.cluster.paths import Paths
from metaq.cluster.topic_nodes import TopicPaths
from metaq.cluster.zk import ZooKeeperClient
from metaq.cluster.znodes import encode_address
from metaq.model import BrokerAddress
from metaq.testing import Registry
from tests.embedding import Serving, configured, settings

Capture = pytest.CaptureFixture[str]

SEEN: float = 2.0  # seconds until producers and consumers of ours have a new topic


class Cluster:
    """Two brokers of ours, and the nodes of a Java broker where one is wanted."""

    def __init__(self, folder: Path, hosts: str) -> None:
        self.url = f"zk://{hosts}/meta"
        self.thread = LoopThread()
        self.zookeeper = self.thread.make(lambda: ZooKeeperClient(hosts))
        self.brokers = [self.thread.call(self._start(folder / str(n), hosts, n)) for n in (0, 1)]

    async def _start(self, folder: Path, hosts: str, number: int) -> Serving:
        folder.mkdir()
        links = {"zk.zkEnable": "true", "zk.zkConnect": hosts, "zk.zkSyncTimeMs": 100}
        text = settings(folder, {"brokerId": number}, zookeeper=links, topics="; ours\n[topic=test]\n")
        if not number:
            await self.zookeeper.connect(10)
        return await Serving(configured(folder, text)).start()

    def files(self) -> list[str]:
        return [Path(broker.config.path).read_text() for broker in self.brokers]

    def add_java(self) -> None:
        path = Paths("/meta").broker_address(9)
        data = encode_address(BrokerAddress("127.0.0.1", 1))
        self.thread.call(self.zookeeper.create(path, data, ephemeral=True))

    def end(self) -> None:
        for broker in self.brokers:
            self.thread.call(broker.end())
        self.thread.call(self.zookeeper.close())
        self.thread.close()


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with Registry(tmp_path / "registry") as registry:
        made = Cluster(tmp_path, registry.address)
        monkeypatch.setenv("METAQ_URL", made.url)
        yield made
        made.end()


def printed(capsys: Capture, *line: str, status: int = 0) -> str:
    """Carry out a command; return what it prints."""
    capsys.readouterr()
    assert run(["topics", *line]) == status
    out, err = capsys.readouterr()
    return out + err


def test_a_topic_comes_to_all_brokers_and_is_used_within_two_seconds(cluster: Cluster, capsys: Capture) -> None:
    before = cluster.files()
    with metaq.connect(cluster.url) as mq:
        with mq.consumer("orders", group="g", start="earliest") as consumer, ThreadPoolExecutor(1) as pool:
            reading = pool.submit(lambda: [str(each.partition) for each in islice(consumer, 6)])
            out = printed(capsys, "create", "orders", "--partitions", "3", "--set", "deletePolicy=delete,48")
            assert [line.split(": ", 1)[1] for line in out.splitlines()] == [
                "topic orders is created; it has 3 partitions"
            ] * 2
            for n in range(6):
                mq.producer("orders").send(b"%d" % n, partition=f"{n % 2}-{n // 2}", timeout=SEEN)
            assert sorted(reading.result(SEEN)) == ["0-0", "0-1", "0-2", "1-0", "1-1", "1-2"]
            printed(capsys, "alter", "orders", "--partitions", "4")
            mq.producer("orders").send(b"more", partition="1-3", timeout=SEEN)
        assert len(mq.partitions("orders")) == 8
        assert "[topic=orders]\nnumPartitions=4\ndeletePolicy=delete,48\n" in cluster.files()[0]
        out = printed(capsys, "drop", "orders", "--yes")
        assert out.count("topic orders is dropped; its messages are kept in ") == 2
        assert mq.partitions("orders") == []
    assert cluster.files() == before
    assert "orders" not in printed(capsys, "list")


def test_brokers_can_be_chosen_and_each_says_what_became_of_it(cluster: Cluster, capsys: Capture) -> None:
    addresses = [str(broker.running.address) for broker in cluster.brokers]
    assert printed(capsys, "create", "orders", "--partitions", "2", "--broker", "1") == (
        f"broker 1 at {addresses[1]}: topic orders is created; it has 2 partitions\n"
    )
    assert printed(capsys, "create", "orders", "--partitions", "2", status=1) == (
        f"broker 0 at {addresses[0]}: topic orders is created; it has 2 partitions\n"
        f"broker 1 at {addresses[1]}: not done: topic orders exists already: "
        f"{cluster.brokers[1].config.path} has its section\n"
    )
    out = printed(capsys, "alter", "orders", "--partitions", "1", "--json", status=1)
    answers = [json.loads(line) for line in out.splitlines()]
    assert [(each["broker"], each["address"], each["progress"]) for each in answers] == [
        (0, addresses[0], "failed"),
        (1, addresses[1], "failed"),
    ]
    assert printed(capsys, "drop", "orders", "--yes", "--broker", "5", status=1) == (
        "metaq: broker 5 is not registered as a master; there are 0, 1\n"
    )


def test_a_java_broker_is_named_and_all_others_make_the_change(cluster: Cluster, capsys: Capture) -> None:
    cluster.add_java()
    out = printed(capsys, "create", "orders", "--partitions", "2", "--set", "stat=true", status=1).splitlines()
    assert [line.split(": ", 1)[1] for line in out] == [
        *["topic orders is created; it has 2 partitions"] * 2,
        "not done: a Java broker, or an older one: edit server.ini there: [topic=orders] with "
        "numPartitions=2, stat=true, then reload",
    ]
    answers = printed(capsys, "drop", "orders", "--yes", "--json", status=1).splitlines()
    java = json.loads(answers[2])
    assert (java["broker"], java["progress"]) == (9, "elsewhere")
    assert "take out [topic=orders], then reload" in java["text"]


def test_a_second_command_at_the_same_time_is_refused(cluster: Cluster, capsys: Capture) -> None:
    asking = TopicPaths("/meta").asking
    cluster.thread.call(cluster.zookeeper.create(asking, b"another", ephemeral=True))
    out = printed(capsys, "create", "orders", "--partitions", "2", status=1)
    assert out.startswith("metaq: another command changes topics of this cluster at present; ")
    cluster.thread.call(cluster.zookeeper.delete(asking))
    printed(capsys, "create", "orders", "--partitions", "2")


def test_the_broker_of_a_home_makes_a_change_alone(shared: Home, url: str, capsys: Capture) -> None:
    before = shared.ini.read_text()
    home = ["--home", str(shared.path)]
    assert printed(capsys, "create", "orders", "--partitions", "1", *home) == (
        "topic orders is created; it has 1 partition\n"
    )
    assert printed(capsys, "alter", "orders", "--partitions", "3", "--set", "stat=true", *home) == (
        "topic orders is changed; it has 3 partitions\n"
    )
    with metaq.connect(url) as mq:
        mq.producer("orders").send(b"x", partition=2)
    reply = json.loads(printed(capsys, "drop", "orders", "--yes", "--json", *home))
    assert reply["kept"].endswith("/pymetaq/aside/orders-*")
    assert list(Path(reply["kept"]).parent.glob("orders-*"))
    assert shared.ini.read_text() == before
    assert ask(shared.socket, "stats", {"item": "config"})["text"] == before


def test_without_a_cluster_the_broker_of_the_home_is_meant(
    shared: Home, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAQ_HOME", str(shared.path))
    monkeypatch.delenv("METAQ_URL", raising=False)
    printed(capsys, "create", "orders", "--partitions", "1")
    out = printed(capsys, "create", "orders", "--partitions", "1", status=1)
    assert out == f"metaq: topic orders exists already: {shared.ini} has its section\n"
    printed(capsys, "drop", "orders", "--yes")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (("create", "a b", "--partitions", "1"), "topic 'a b': a topic must not contain a blank"),
        (("create", "x"), "Missing option '--partitions'"),
        (("create", "x", "--partitions", "0"), "0 is not in the range x>=1"),
        (("create", "x", "--partitions", "1", "--set", "stat"), "--set stat: write KEY=VALUE"),
        (("create", "x", "--partitions", "1", "--set", "numPartitions=2"), "is set with --partitions"),
        (("create", "x", "--partitions", "1", "--set", "stat=maybe"), "topic x: stat=maybe: read as false"),
        (("create", "x", "--partitions", "1", "--set", "deletWhen=1"), "did you mean deleteWhen?"),
        (("alter", "test"), "what is to be changed?"),
        (("drop", "test"), "add --yes to drop it"),
        (("drop", "test", "--yes", "--home", ".", "--broker", "1"), "--broker is for a cluster"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anybody_is_asked(
    line: tuple[str, ...], text: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAQ_URL", "zk://127.0.0.1:1/meta")
    out = printed(capsys, *line, status=1 if text[:5] in ("topic", "did y") else 2)
    assert text in out
    assert out.count("\n") == 1


def test_a_cluster_named_by_its_brokers_cannot_be_asked(url: str, capsys: Capture) -> None:
    out = printed(capsys, "create", "x", "--partitions", "1", status=2)
    assert out.startswith("metaq: a cluster is changed through its ZooKeeper: --url zk://host:port; or use --home")


def test_a_home_without_a_broker_is_not_changed(home: Home, capsys: Capture) -> None:
    before = home.ini.read_text()
    assert printed(capsys, "create", "x", "--partitions", "1", "--home", str(home.path), status=1) == (
        "Broker is not running.\n"
    )
    assert home.ini.read_text() == before
    assert not os.path.exists(f"{home.ini}.new")
