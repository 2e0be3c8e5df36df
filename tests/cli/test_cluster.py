"""`metaq topics`, `groups` and `brokers` on a real ZooKeeper and our own broker."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import metaq
from metaq.cli.main import run
from metaq.client.background import LoopThread
from metaq.testing import ZooKeeper
from tests.embedding import Serving, configured, settings

Capture = pytest.CaptureFixture[str]

RECORD = 20 + 80  # bytes
COUNT = 100


class World:
    """A broker with topic orders, 100 messages in each of two partitions; group billing is at 20 of one of them."""

    def __init__(self, zookeeper: ZooKeeper, folder: Path) -> None:
        hosts = zookeeper.chroot("cli")
        links = {"zk.zkEnable": "true", "zk.zkConnect": hosts, "zk.zkSyncTimeMs": 100}
        topics = "[topic=orders]\nnumPartitions=2\n[topic=returns]\n"
        self._config = configured(folder, settings(folder, zookeeper=links, topics=topics))
        self.url = f"zk://{hosts}/meta"
        self.thread = LoopThread()
        self.broker = self.thread.call(self._start())
        with metaq.connect(self.url) as mq:
            for partition in ("0-0", "0-1"):
                mq.producer("orders").send_many([bytes(80)] * COUNT, partition=partition)

    async def _start(self) -> Serving:
        return await Serving(self._config).start()

    @property
    def direct(self) -> str:
        return f"metaq://127.0.0.1:{self.broker.port}"

    def end(self) -> None:
        self.thread.call(self.broker.end())
        self.thread.close()


@pytest.fixture(scope="module")
def world(zookeeper: ZooKeeper, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(zookeeper, tmp_path_factory.mktemp("world"))
    yield made
    made.end()


@pytest.fixture(autouse=True)
def group(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name the cluster, and put group billing where every test expects it."""
    monkeypatch.setenv("METAQ_URL", world.url)
    for partition, to in (("0-0", 20 * RECORD), ("0-1", 0)):
        options = ["--topic", "orders", "--partition", partition, "--to", str(to), "--force"]
        assert run(["groups", "reset", "billing", *options]) == 0


def printed(capsys: Capture, *line: str, status: int = 0) -> list[list[str]]:
    """Carry out a command; return the fields of the lines it prints."""
    capsys.readouterr()
    assert run(list(line)) == status
    out, err = capsys.readouterr()
    assert err.count("\n") == (1 if status else 0), err
    return [row.split() for row in (err if status else out).splitlines()]


def values(capsys: Capture, *line: str) -> list[dict[str, object]]:
    """Carry out a command with `--json`; return what it prints."""
    capsys.readouterr()
    assert run([*line, "--json"]) == 0
    found = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert all(isinstance(value, dict) for value in found)
    return found


def test_brokers_are_listed_with_what_they_say(world: World, capsys: Capture) -> None:
    for url in (world.url, world.direct):
        header, row = printed(capsys, "brokers", "--url", url)
        assert header[:3] == ["ID", "ROLE", "ADDRESS"]
        assert row[:4] == ["0", "master", f"meta://127.0.0.1:{world.broker.port}", "1.4.6.2"]
        (value,) = values(capsys, "brokers", "--url", url)
        assert (value["id"], value["answers"], value["slave"]) == (0, True, None)


def test_topics_are_listed_with_and_without_zookeeper(world: World, capsys: Capture) -> None:
    orders = ["orders", "2", "0", "yes", "yes", str(2 * COUNT * RECORD)]
    assert printed(capsys, "topics", "list")[1:] == [orders, ["returns", "4", "0", "yes", "yes", "0"]]
    assert printed(capsys, "topics", "list", "--url", world.direct)[1:] == [
        orders,
        ["returns", "0", "-", "yes", "yes", "0"],
    ]
    assert [value["topic"] for value in values(capsys, "topics", "list")] == ["orders", "returns"]


def test_a_topic_is_shown_with_its_partitions(world: World, capsys: Capture) -> None:
    end = str(COUNT * RECORD)
    for url in (world.url, world.direct):
        lines = printed(capsys, "topics", "show", "orders", "--url", url)
        assert lines[2:] == [["0-0", "0", end, end], ["0-1", "0", end, end]]
        (value,) = values(capsys, "topics", "show", "orders", "--url", url)
        assert value["partitions"] == [{"partition": f"0-{n}", "first": 0, "end": COUNT * RECORD} for n in range(2)]
    assert " ".join(printed(capsys, "topics", "show", "none", status=1)[0]) == "metaq: no broker has topic none"


def test_the_lag_of_a_group_is_told_by_partition_and_in_all(capsys: Capture) -> None:
    end = str(COUNT * RECORD)
    assert printed(capsys, "groups", "list")[1] == ["billing", "0", "orders", "18000"]
    assert printed(capsys, "groups", "lag", "billing")[1:] == [
        ["orders", "0-0", "2000", end, "8000"],
        ["orders", "0-1", "0", end, end],
        ["total", "18000"],
    ]
    assert printed(capsys, "groups", "lag", "billing", "--topic", "orders")[-1] == ["total", "18000"]
    (value,) = values(capsys, "groups", "lag", "billing")
    assert value["lag"] == 18000
    line = printed(capsys, "groups", "lag", "billing", "--topic", "returns", status=1)[0]
    assert " ".join(line) == "metaq: group billing has nothing of topic returns; it has orders"


def test_a_group_with_members_is_shown_and_not_moved(world: World, capsys: Capture) -> None:
    before = threading.active_count()
    with metaq.connect(world.url) as mq, mq.consumer("orders", group="billing", consumer_id="a") as consumer:
        assert next(iter(consumer)).offset in (0, 20 * RECORD)
        lines = printed(capsys, "groups", "show", "billing")
        assert lines[1] == ["billing_a", "orders"]
        assert [line[:3] for line in lines[4:]] == [["orders", f"0-{n}", "billing_a"] for n in range(2)]
        (value,) = values(capsys, "groups", "show", "billing")
        assert value["members"] == [{"id": "billing_a", "topics": ["orders"]}]
        line = printed(capsys, "groups", "skip", "billing", "--topic", "orders", status=1)[0]
        assert "orders 0-0 is owned by billing_a, 2 of 2 are owned" in " ".join(line)
    assert printed(capsys, "groups", "show", "billing")[1] == []  # no members; a blank line
    assert threading.active_count() == before


def test_a_group_is_put_somewhere_else(capsys: Capture) -> None:
    end = str(COUNT * RECORD)
    to_end = [["orders", "0-0", "2000", end], ["orders", "0-1", "0", end]]
    capsys.readouterr()
    assert run(["groups", "skip", "billing", "--topic", "orders", "--dry-run"]) == 0
    assert capsys.readouterr().err == "nothing was written (--dry-run)\n"
    assert printed(capsys, "groups", "skip", "billing", "--topic", "orders")[1:] == to_end
    assert printed(capsys, "groups", "lag", "billing")[-1] == ["total", "0"]
    for to in ("earliest", "2020-01-31T12:00"):
        moved = values(capsys, "groups", "reset", "billing", "--topic", "orders", "--partition", "0", "--to", to)
        assert [(value["partition"], value["to"], value["written"]) for value in moved] == [("0-0", 0, True)]
    assert printed(capsys, "groups", "lag", "billing")[-1] == ["total", end]


def test_text_that_means_nothing_is_shown_and_replaced(world: World, capsys: Capture) -> None:
    async def spoil() -> None:
        from metaq.cluster.zk import ZooKeeperClient  # noqa: PLC0415 - in the thread with the loop

        client = ZooKeeperClient(world.url.removeprefix("zk://").removesuffix("/meta"))
        await client.connect()
        await client.set("/meta/consumers/billing/offsets/orders/0-0", b"garbage")
        await client.close()

    world.thread.call(spoil())
    row = printed(capsys, "groups", "lag", "billing")[1]
    assert " ".join(row) == "orders 0-0 ? 10000 - stored text means nothing: 'garbage'"
    (value,) = values(capsys, "groups", "show", "billing")
    partitions = value["partitions"]
    assert isinstance(partitions, list)
    assert partitions[0]["stored"] == "garbage"
    moved = printed(capsys, "groups", "skip", "billing", "--topic", "orders", "--partition", "0-0")
    assert moved[1] == ["orders", "0-0", "garbage", "10000"]


def test_offsets_kept_elsewhere_are_shown_and_moved_too(world: World, tmp_path: Path, capsys: Capture) -> None:
    store = f"file:{tmp_path}/offsets"
    with metaq.connect(world.direct) as mq, mq.consumer("orders", group="local", offsets=store) as consumer:
        consumer.batch(10)
        consumer.batch(10)
    options = ["--offsets", store, "--url", world.direct]
    assert printed(capsys, "groups", "list", *options)[1] == ["local", "0", "orders", "19000"]
    printed(capsys, "groups", "skip", "local", "--topic", "orders", *options)
    assert printed(capsys, "groups", "lag", "local", *options)[-1] == ["total", "0"]


def test_a_group_is_carried_to_another_root(capsys: Capture) -> None:
    line = ["groups", "copy", "billing", "--to-root", "/read-slave2/meta"]
    assert "no broker is registered below /read-slave2/meta" in " ".join(printed(capsys, *line, status=1)[0])
    copied = [["orders", "0-0", "-", "2000"], ["orders", "0-1", "-", "0"]]
    capsys.readouterr()
    assert run([*line, "--force", "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert [row.split() for row in out.splitlines()[1:]] == copied
    assert err == "nothing was written (--dry-run)\n"
    assert printed(capsys, *line, "--force")[1:] == copied
    back = values(capsys, "groups", "copy", "billing", "--from-root", "/read-slave2/meta", "--to-root", "/cli/meta")
    assert [(value["from"], value["to"], value["written"]) for value in back] == [(2000, 2000, True), (0, 0, True)]


@pytest.mark.parametrize("members", [(), ("--group", "readers")])
def test_messages_are_printed_from_whoever_is_preferred(members: tuple[str, ...], capsys: Capture) -> None:
    line = ["consume", "orders", *members, "--read-from", "slave:2", "--max-lag", "5", "--count", "200"]
    capsys.readouterr()
    assert run(line) == 0  # there is no slave: the master steps in
    assert capsys.readouterr().out.count("\n") == 200
    assert run(["consume", "orders", "--read-from", "slave:x"]) == 2
    assert "read_from is master, slave, slave:<id>, nearest or any, not 'slave:x'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["list", "show g", "lag g", "skip g --topic t", "reset g --topic t --to latest"])
def test_without_zookeeper_groups_are_said_to_live_there(world: World, command: str, capsys: Capture) -> None:
    line = printed(capsys, "groups", *command.split(), "--url", world.direct, status=1)[0]
    assert " ".join(line[:5]) == "metaq: groups live in ZooKeeper:"


@pytest.mark.parametrize(
    ("line", "status", "words"),
    [
        ("groups show none", 1, "there is no group none; there are billing"),
        ("groups skip none --topic orders", 1, "there is no group none"),
        ("groups reset billing --topic orders --to 999999", 1, "999999 is outside of the log"),
        ("groups reset billing --topic orders --partition 0-9 --to 0", 1, "no partition 0-9 of topic orders"),
        ("groups reset billing --topic orders --to sometime", 2, "'sometime' is not earliest, latest, an offset"),
        ("groups reset billing --to latest", 2, "Missing option '--topic'"),
        ("groups lag", 2, "Missing argument 'GROUP'"),
        ("groups list --offsets nothing", 1, "offsets='nothing' is none of"),
        ("groups list --offsets sqlite:////nowhere/o.db", 1, "unable to open database file"),
        ("topics", 2, "metaq topics"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_a_status(line: str, status: int, words: str, capsys: Capture) -> None:
    capsys.readouterr()
    assert run(line.split()) == status
    out, err = capsys.readouterr()
    assert words in err + out
    assert "Traceback" not in err
