"""What a changed server.ini means for a running broker."""

import pytest

from metaq.config.broker import parse
from metaq.config.model import BrokerConfig
from metaq.config.reload import Reloaded, reload
from metaq.errors import ConfigError

ENV = {"HOME": "/home/meta"}
OLD = (
    "[system]\nbrokerId=1\nnumPartitions=4\nserverPort=8123\n"
    "[zookeeper]\nzk.zkConnect=h:2181\n[topic=a]\n[topic=b]\nnumPartitions=2\n"
)


def running() -> BrokerConfig:
    return parse(OLD.encode(), "conf/server.ini", env=ENV, is_dir=lambda path: False)


def after(text: str) -> Reloaded:
    return reload(running(), text.encode(), env=ENV, is_dir=lambda path: False)


def test_a_file_that_says_the_same_changes_nothing() -> None:
    reloaded = after(f"; a comment\n{OLD}")
    assert (reloaded.added, reloaded.changed, reloaded.removed, reloaded.restart) == ((), (), (), ())
    assert reloaded.config.topics == running().topics
    assert reloaded.config.text == f"; a comment\n{OLD}".encode()
    assert reloaded.config.checksum != running().checksum


def test_topics_are_added_changed_and_removed() -> None:
    reloaded = after(OLD.replace("[topic=a]\n", "[topic=c]\nstat=true\n").replace("numPartitions=2", "numPartitions=3"))
    assert (reloaded.added, reloaded.changed, reloaded.removed) == (("c",), ("b",), ("a",))
    assert [(t.name, t.num_partitions, t.stat) for t in reloaded.config.topics] == [("c", 4, True), ("b", 3, False)]
    assert reloaded.restart == ()


def test_settings_of_the_start_stay_and_what_needs_a_restart_is_named() -> None:
    reloaded = after(
        OLD.replace("numPartitions=4", "numPartitions=9\ndataPath=/d\nstat=true")
        .replace("8123", "8124")
        .replace("h:2181", "i:2181\nzk.zkSyncTimeMs=1")
        + "[pymetaq]\nbindAddress=127.0.0.1\n[topic=c]\n"
    )
    assert reloaded.restart == (
        "[system] numPartitions",
        "[system] serverPort",
        "[system] dataPath",
        "[system] dataLogPath",
        "[system] stat",
        "[zookeeper] zk.zkConnect",
        "[zookeeper] zk.zkSyncTimeMs",
        "[pymetaq] bindAddress",
    )
    assert (reloaded.added, reloaded.changed, reloaded.removed) == (("c",), (), ())
    config, before = reloaded.config, running()
    assert (config.server_port, config.zookeeper, config.bind_address) == (8123, before.zookeeper, None)
    assert config.defaults == before.defaults
    new = config.topic("c")
    assert (new.num_partitions, new.data_path, new.stat) == (4, "/home/meta/meta", False)


def test_a_topic_that_names_the_running_default_itself_is_unchanged() -> None:
    assert after(OLD.replace("[topic=a]", "[topic=a]\nnumPartitions=4")).changed == ()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("[topic=c]\nnumPartition=1\n", "11: numPartition=1: [topic=c] has no such key; did you mean numPartitions?"),
        ("[topic=c]\nnumPartitions=x\n", "11: numPartitions=x: not an integer expression"),
        (
            "[topic=c]\ndeleteWhen=0 0 25 * * ?\n",
            "11: deleteWhen=0 0 25 * * ?: no Quartz cron expression: hour 25 is not in 0-23",
        ),
        ("[system]\nserverPort=x\n", "11: serverPort=x: not an integer expression"),
        ("[pymetaq]\nx=1\n", "11: x=1: [pymetaq] has no such key; did you mean largeRun?"),
        ("nonsense\n", "10: nonsense: neither a [section] nor name=value; a comment begins with ; or #"),
    ],
)
def test_a_file_that_is_wrong_anywhere_is_refused_as_a_whole(wrong: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        after(OLD + wrong)
    assert str(caught.value) == f"conf/server.ini:{message}"
