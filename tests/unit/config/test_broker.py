"""server.ini as a whole: the deployment's file, defaults, and every kind of mistake with its message."""

import os
import zlib
from dataclasses import fields, replace
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.config.broker import load, parse
from metaq.config.model import BrokerConfig, DeletePolicy, TopicConfig, ZooKeeperConfig
from metaq.errors import ConfigError

SEED: Final = Path(__file__).parents[2] / "data" / "seed" / "server.ini"
ENV: Final = {"HOME": "/home/meta"}


def no_folder(path: str) -> bool:
    return False


def read(text: str | bytes) -> BrokerConfig:
    data = text.encode() if isinstance(text, str) else text
    return parse(data, "conf/server.ini", env=ENV, is_dir=no_folder)


def with_system(line: str) -> BrokerConfig:
    """Read a file whose third line, in [system], is `line`."""
    return read(f"[system]\nbrokerId=0\n{line}\n[zookeeper]\nzk.zkEnable=false\n[topic=t]\n")


def with_zookeeper(line: str) -> BrokerConfig:
    """Read a file whose fourth line, in [zookeeper], is `line`."""
    return read(f"[system]\nbrokerId=0\n[zookeeper]\n{line}\n[topic=t]\n")


def with_topic(line: str) -> BrokerConfig:
    """Read a file whose sixth line, in [topic=t], is `line`."""
    return read(f"[system]\nbrokerId=0\n[zookeeper]\nzk.zkEnable=false\n[topic=t]\n{line}\n")


def with_ours(line: str) -> BrokerConfig:
    """Read a file whose fourth line, in [pymetaq], is `line`."""
    return read(f"[system]\nbrokerId=0\n[pymetaq]\n{line}\n[zookeeper]\nzk.zkEnable=false\n[topic=t]\n")


def test_the_file_of_the_deployment_loads_unchanged() -> None:
    data = SEED.read_bytes()
    config = parse(data, str(SEED), env=ENV, is_dir=no_folder)
    topic = TopicConfig(
        name="",
        num_partitions=16,
        unflush_threshold=0,
        unflush_interval=10.0,
        data_path="/home/meta/meta",
        delete_policy=DeletePolicy(action="delete", age=168 * 3600.0),
        delete_when="0 0 6,18 * * ?",
        stat=True,
    )
    assert config.defaults == topic
    assert [t.name for t in config.topics] == ["test", "meta-test", "oct29"]
    assert all(config.topic(t.name) == t and t.num_partitions == 16 and t.stat for t in config.topics)
    assert config.zookeeper == ZooKeeperConfig(connect="192.168.51.33:2181")
    assert (config.broker_id, config.server_port, config.dashboard_http_port) == (1, 8123, 8120)
    assert (config.max_segment_size, config.max_transfer_size) == (1 << 30, 100 << 20)
    assert (config.put_process_thread_count, config.flush_tx_log_at_commit) == (100, 1)
    assert config.update_consumer_offsets is True
    assert (config.data_path, config.data_log_path) == ("/home/meta/meta", "/home/meta/meta")
    assert (config.host_name, config.app_class_path, config.bind_address) == (None, None, None)
    assert (config.max_checkpoints, config.checkpoint_interval, config.max_tx_timeout) == (3, 3600.0, 60)
    assert (config.text, config.checksum, config.path) == (data, zlib.crc32(data), str(SEED))
    assert config.warnings == ()


def test_what_a_file_does_not_set_has_its_default() -> None:
    config = with_system("")
    default = BrokerConfig(broker_id=0)
    assert config.defaults == TopicConfig(name="", data_path="/home/meta/meta")
    assert config.topics == (TopicConfig(name="t", data_path="/home/meta/meta"),)
    assert config.zookeeper == ZooKeeperConfig(enable=False)
    names = {field.name for field in fields(BrokerConfig) if field.compare}
    same = {name for name in names if getattr(config, name) == getattr(default, name)}
    differ = {"defaults", "topics", "zookeeper", "data_path", "data_log_path", "path", "text", "checksum"}
    assert names - same == differ


def test_a_topic_has_the_settings_of_its_section_and_others_those_of_system() -> None:
    config = BrokerConfig(
        broker_id=0, defaults=TopicConfig(name="", num_partitions=3), topics=(TopicConfig(name="a", num_partitions=7),)
    )
    assert config.topic("a").num_partitions == 7
    assert config.topic("b") == TopicConfig(name="b", num_partitions=3)
    assert (config.has_section("a"), config.has_section("b")) == (True, False)
    again = replace(config, topics=(TopicConfig(name="b"),))
    assert (again.has_section("a"), again.topic("b")) == (False, TopicConfig(name="b"))


def test_a_blank_value_counts_as_not_set() -> None:
    assert with_system("numPartitions=\nserverPort =  \nhostName=").server_port == 8123
    assert with_topic("numPartitions=\nstat=\ngroup.g=").topics == with_topic("").topics


def test_every_key_of_system_is_read() -> None:
    config = with_system(
        "numPartitions=2*2\nunflushThreshold=-1\nunflushInterval=500\nmaxSegmentSize=1<<20\nmaxTransferSize=1024*1024\n"
        "serverPort=0\ndashboardHttpPort=80\nhostName=h.example\ndataPath=/d\ndataLogPath=/l\n"
        "getProcessThreadCount=1\nputProcessThreadCount=2\ndeletePolicy=archive,10s,TRUE\ndeleteWhen=0  0 1 ? * SUN\n"
        "quartzThreadCount=3\nmaxCheckpoints=4\ncheckpointInterval=5000000000\nmaxTxTimeoutTimerCapacity=6\n"
        "flushTxLogAtCommit=2\nmaxTxTimeoutInSeconds=7\nacceptPublish=false\nacceptSubscribe=1==2\nstat=TRUE\n"
        "updateConsumerOffsets=true\nloadMessageStoresInParallel=true"
    )
    assert config.defaults == TopicConfig(
        name="",
        num_partitions=4,
        unflush_threshold=-1,
        unflush_interval=0.5,
        data_path="/d",
        delete_policy=DeletePolicy(action="archive", age=10.0, compress=True),
        delete_when="0 0 1 ? * SUN",
        accept_publish=False,
        accept_subscribe=False,
        stat=True,
    )
    assert (config.max_segment_size, config.max_transfer_size) == (1 << 20, 1 << 20)
    assert (config.server_port, config.dashboard_http_port, config.host_name) == (0, 80, "h.example")
    assert (config.data_path, config.data_log_path) == ("/d", "/l")
    assert (config.get_process_thread_count, config.put_process_thread_count) == (1, 2)
    assert (config.quartz_thread_count, config.max_checkpoints, config.checkpoint_interval) == (3, 4, 5_000_000.0)
    assert (config.max_tx_timeout_timer_capacity, config.flush_tx_log_at_commit, config.max_tx_timeout) == (6, 2, 7)
    assert config.update_consumer_offsets
    assert config.load_message_stores_in_parallel


def test_every_key_of_zookeeper_is_read() -> None:
    config = with_zookeeper(
        "zk.zkConnect=a:1,b:2/chroot\nzk.zkRoot=m/n/\nzk.zkSessionTimeoutMs=1000\nzk.zkConnectionTimeoutMs=2000\n"
        "zk.zkSyncTimeMs=0\nzk.zkEnable=true"
    )
    assert config.zookeeper == ZooKeeperConfig(
        connect="a:1,b:2/chroot", root="/m/n", session_timeout=1.0, connection_timeout=2.0, sync_time=0.0
    )


def test_every_key_of_a_topic_is_read() -> None:
    (topic,) = with_topic(
        "numPartitions=3\ndeletePolicy=delete,1m\ndeleteWhen=0 0 1 * * ?\ndataPath=/t\nunflushThreshold=5\n"
        "unflushInterval=-1\nacceptPublish=false\nacceptSubscribe=FALSE\nstat=True\ngroup.g=com.example.F\ngroup.h=x.Y"
    ).topics
    assert topic == TopicConfig(
        name="t",
        num_partitions=3,
        unflush_threshold=5,
        unflush_interval=0.0,
        data_path="/t",
        delete_policy=DeletePolicy(age=60.0),
        delete_when="0 0 1 * * ?",
        accept_publish=False,
        accept_subscribe=False,
        stat=True,
        filters=(("g", "com.example.F"), ("h", "x.Y")),
    )


def test_every_key_of_ours_is_read() -> None:
    config = with_ours(
        "bindAddress=127.0.0.1\nmaxMessageSize=1\njournalFileSize=1024*1024\njournalLimit=1<<33\ntailMemory=1<<32\n"
        "diskReserve=0\nlargeRun=2\nopenFiles=3\nidleTimeout=0.5\nstopWait=0\nlogLevel=debug\n"
        "slaveReadRoot=gz/meta/\nreplicaCongestionControl=cubic\nmetricsAddress=[::1]:0\nmetricsPartitions=true"
    )
    assert (config.bind_address, config.max_message_size, config.journal_file_size) == ("127.0.0.1", 1, 1 << 20)
    assert (config.journal_limit, config.tail_memory, config.disk_reserve) == (1 << 33, 1 << 32, 0)
    assert (config.large_run, config.open_files, config.idle_timeout) == (2, 3, 0.5)
    assert (config.stop_wait, config.log_level) == (0.0, "debug")
    assert config.slave_read_root == "/gz/meta"
    assert with_ours("slaveReadRoot=none").slave_read_root == ""
    assert (config.replica_congestion_control, config.metrics_address) == ("cubic", ("::1", 0))
    assert config.metrics_partitions
    assert with_ours("replicaCongestionControl=none").replica_congestion_control == ""
    assert with_ours("metricsAddress=host:9125").metrics_address == ("host", 9125)


def test_a_topic_has_the_settings_of_system_where_its_section_states_none() -> None:
    config = read(
        "[topic=a]\nstat=false\n[topic=b]\n[system]\nbrokerId=0\nnumPartitions=5\nstat=true\ndataPath=/d\n"
        "[zookeeper]\nzk.zkEnable=false\n[topic=a]\nnumPartitions=7\n"
    )
    assert [(t.name, t.num_partitions, t.stat, t.data_path) for t in config.topics] == [
        ("a", 7, False, "/d"),
        ("b", 5, True, "/d"),
    ]


def test_relative_paths_start_at_the_working_directory() -> None:
    config = with_system("dataPath=a/../b\ndataLogPath=./log")
    assert (config.data_path, config.data_log_path) == (os.path.abspath("b"), os.path.abspath("log"))


def test_the_log_path_follows_the_data_path() -> None:
    assert with_system("dataPath=/d").data_log_path == "/d"


def test_filter_classes_are_looked_for_beside_the_folder_of_the_file_if_it_is_there(tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    conf.mkdir()
    file = conf / "server.ini"
    file.write_bytes(SEED.read_bytes())
    assert load(str(file)).app_class_path is None
    (tmp_path / "provided").mkdir()
    assert load(str(file)).app_class_path == str(tmp_path / "provided")


def test_a_bare_file_name_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "server.ini").write_bytes(SEED.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert load("server.ini", env=ENV).broker_id == 1


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "none.ini")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == f"{path}: cannot be read: No such file or directory"


def test_a_byte_order_mark_and_gbk_comments_do_no_harm() -> None:
    text = "; 主题\n[system]\nbrokerId=3\n[zookeeper]\nzk.zkEnable=false\n[topic=t]\n"
    assert read(b"\xef\xbb\xbf" + text.encode()).broker_id == 3
    assert read(text.encode("gbk")).broker_id == 3
    assert read(text.replace("\n", "\r\n")).broker_id == 3


@pytest.mark.parametrize(
    ("written", "root"),
    [("/meta", "/meta"), ("meta", "/meta"), ("meta/", "/meta"), ("/a/b/", "/a/b"), ("/", ""), ("", "/meta")],
)
def test_the_root_gets_its_leading_slash_and_loses_its_trailing_one(written: str, root: str) -> None:
    assert with_zookeeper(f"zk.zkConnect=h:1\nzk.zkRoot={written}").zookeeper.root == root


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("delete,168", DeletePolicy(age=604800.0)),
        ("delete,10s", DeletePolicy(age=10.0)),
        ("delete,10m", DeletePolicy(age=600.0)),
        ("delete,10h,true", DeletePolicy(age=36000.0)),
        ("delete,-1", DeletePolicy(age=-3600.0)),
        ("archive,1", DeletePolicy(action="archive", age=3600.0)),
        ("archive,1,True", DeletePolicy(action="archive", age=3600.0, compress=True)),
        ("archive,1, true", DeletePolicy(action="archive", age=3600.0)),
    ],
)
def test_policies_read_as_in_the_original(text: str, policy: DeletePolicy) -> None:
    assert with_system(f"deletePolicy={text}").defaults.delete_policy == policy


PERIOD: Final = "the period must follow the comma without a blank: a number, in hours or with s, m or h behind"
POLICY: Final = "write delete,168 or archive,168 or archive,168,true"

SYSTEM_MISTAKES: Final = {
    "numPartitions=16 ; x": "not an integer expression; a comment needs a line of its own",
    "numPartitions=16 # x": "not an integer expression; a comment needs a line of its own",
    "numPartitions=many": "not an integer expression",
    "numPartitions=10k": "not an integer expression",
    "numPartitions=1.5": "not an integer expression",
    "numPartitions=true": "not an integer but true or false",
    "numPartitions=1/0": "divides by zero",
    "numPartitions=0": "must be at least 1",
    "numPartitions=1-2": "is -1, must be at least 1",
    "unflushThreshold=2147483648": "must be between -2147483648 and 2147483647",
    "unflushInterval=99999999999999999999": "does not fit into 64 bits",
    "maxSegmentSize=2*1024*1024*1024": "is 2147483648, must be between 1 and 2147483647",
    "maxTransferSize=-1": "must be at least 1",
    "serverPort=65536": "must be between 0 and 65535",
    "dashboardHttpPort=-1": "must be between 0 and 65535",
    "hostName=a b": "no host name or address",
    "appClassPath=/none": "no such folder: /none",
    "getProcessThreadCount=0": "must be at least 1",
    "putProcessThreadCount=0": "must be at least 1",
    "quartzThreadCount=0": "must be at least 1",
    "maxCheckpoints=0": "must be at least 1",
    "checkpointInterval=0": "must be at least 1",
    "maxTxTimeoutTimerCapacity=0": "must be at least 1",
    "maxTxTimeoutInSeconds=0": "must be at least 1",
    "flushTxLogAtCommit=3": "must be between 0 and 2",
    "deletePolicy=drop,1": f"unknown policy 'drop'; {POLICY}",
    "deletePolicy=Delete,1": f"unknown policy 'Delete'; {POLICY}",
    "deletePolicy=delete": PERIOD,
    "deletePolicy=delete, 168": PERIOD,
    "deletePolicy=delete,1d": PERIOD,
    "deleteWhen=0 0 6 * * *": "no Quartz cron expression: exactly one of day of month and day of week must be ?",
    "deleteWhen=0 0 6 30 2 ?": "this never fires",
    "acceptPublish=yes": "neither true nor false; write true or false",
    "acceptSubscribe=1": "a number, neither true nor false; write true or false",
    "stat=on": "neither true nor false; write true or false",
    "numPartition=1": "[system] has no such key; did you mean numPartitions?",
    "NUMPARTITIONS=1": "[system] has no such key; did you mean numPartitions?",
    "diamondZKDataId=x": "[system] has no such key; did you mean brokerId?",
    "zk.zkConnect=h:1": "[system] has no such key; it belongs into [zookeeper]",
    "bindAddress=h": "[system] has no such key; it belongs into [pymetaq]",
    "brokerId=1024": "must be between 0 and 1023",
    "brokerId=-1": "must be between 0 and 1023",
    "novalue": "neither a [section] nor name=value; a comment begins with ; or #",
    "[system": "a section ends with ]; a comment needs a line of its own",
    "[topic=a/b]": "a topic must not contain /",
    "[topic=]": "a topic needs a name",
    "[topic=..]": "a topic of dots alone would be a folder's own name",
    "[pymetaq other]": "no such section; write [pymetaq], [pymetaq topic=NAME] or [pymetaq replication]",
}


@pytest.mark.parametrize(("line", "reason"), SYSTEM_MISTAKES.items())
def test_a_mistake_in_system_names_file_line_key_value_and_what_would_be_right(line: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with_system(line)
    assert str(caught.value) == f"conf/server.ini:3: {line}: {reason}"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("zk.zkConnect=h", None),
        ("zk.zkConnect=h:x", "'h:x' is no host:port; write 10.0.0.1:2181,10.0.0.2:2181"),
        ("zk.zkConnect=h:1,:2", "':2' is no host:port; write 10.0.0.1:2181,10.0.0.2:2181"),
        ("zk.zkConnect=h:0", "'h:0' is no host:port; write 10.0.0.1:2181,10.0.0.2:2181"),
        ("zk.zkConnect=h:70000", "'h:70000' is no host:port; write 10.0.0.1:2181,10.0.0.2:2181"),
        ("zk.zkRoot=/a//b", "no path of ZooKeeper; write it like /meta"),
        ("zk.zkSessionTimeoutMs=0", "must be at least 1"),
        ("zk.zkConnectionTimeoutMs=0", "must be at least 1"),
        ("zk.zkSyncTimeMs=-1", "must be at least 0"),
        ("zk.zkEnable=no", "neither true nor false; write true or false"),
        ("zk.zkConect=h:1", "[zookeeper] has no such key; did you mean zk.zkConnect?"),
        ("zkConnect=h:1", "[zookeeper] has no such key; did you mean zk.zkConnect?"),
    ],
)
def test_a_mistake_in_zookeeper_is_named(line: str, reason: str | None) -> None:
    if reason is None:
        assert with_zookeeper(line).zookeeper.connect == "h"
        return
    with pytest.raises(ConfigError) as caught:
        with_zookeeper(line)
    assert str(caught.value) == f"conf/server.ini:4: {line}: {reason}"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("numPartitions=0", "must be at least 1"),
        ("deletePolicy=archive,x", PERIOD),
        ("deleteWhen=@daily", None),
        ("acceptPublish=maybe", "neither true nor false; write true or false"),
        ("serverPort=1", "[topic=t] has no such key; it belongs into [system]"),
        ("numPartitons=1", "[topic=t] has no such key; did you mean numPartitions?"),
        ("group.=x", "[topic=t] has no such key; did you mean stat?"),
    ],
)
def test_a_mistake_in_a_topic_is_named(line: str, reason: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        with_topic(line)
    if reason is None:
        reason = (
            "no Quartz cron expression: 1 fields, not 6 or 7: second minute hour day-of-month month day-of-week [year]"
        )
    assert str(caught.value) == f"conf/server.ini:6: {line}: {reason}"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("bindAddres=h", "[pymetaq] has no such key; did you mean bindAddress?"),
        ("bindAddress=a b", "no host name or address"),
        ("maxMessageSize=0", "must be at least 1"),
        ("journalFileSize=1", "must be at least 4096"),
        ("journalFileSize=1<<30", "journalLimit 268435456 is below journalFileSize 1073741824"),
        ("journalLimit=1<<20", "journalLimit 1048576 is below journalFileSize 67108864"),
        ("openFiles=-1", "must be at least 0"),
        ("idleTimeout=0", "must be more than 0 seconds"),
        ("idleTimeout=-1", "must be a number of seconds, 0 or more, such as 300 or 0.5"),
        ("stopWait=soon", "must be a number of seconds, 0 or more, such as 300 or 0.5"),
        ("slaveReadRoot=/", "must be a path of its own, such as /read-slave1/meta, or none"),
        ("slaveReadRoot=/a//b", "no path of ZooKeeper; write it like /meta"),
        (
            "replicaCongestionControl=b b r",
            "no name of a congestion control; write bbr, or none for that of the system",
        ),
        ("metricsAddress=9125", "no host:port; write 127.0.0.1:9125, or 0.0.0.0:9125 for all addresses"),
        ("metricsAddress=::1:9125", "no host:port; write 127.0.0.1:9125, or 0.0.0.0:9125 for all addresses"),
        ("metricsAddress=h:99999", "no host:port; write 127.0.0.1:9125, or 0.0.0.0:9125 for all addresses"),
        ("logLevel=loud", "must be one of debug, info, warning, error"),
        ("brokerId=1", "[pymetaq] has no such key; it belongs into [system]"),
    ],
)
def test_a_mistake_in_our_section_is_named(line: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with_ours(line)
    assert str(caught.value) == f"conf/server.ini:4: {line}: {reason}"


ADVICE: Final = "write zk.zkConnect=host:2181, or zk.zkEnable=false to run without ZooKeeper"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "conf/server.ini: no section [system]; it holds brokerId and the defaults of all topics"),
        ("brokerId=1\n", "conf/server.ini:1: brokerId=1: stands before the first section; a file begins with [system]"),
        (
            "\n[system]\n",
            "conf/server.ini:2: [system] brokerId: "
            "must be set: a number from 0 to 1023, a different one for each broker",
        ),
        (
            "[system]\nbrokerId=\n",
            "conf/server.ini:2: brokerId=: must be set: a number from 0 to 1023, a different one for each broker",
        ),
        ("[system]\nbrokerId=1\n[topic=t]", f"conf/server.ini: no section [zookeeper]; {ADVICE}"),
        (
            "[system]\nbrokerId=1\n[zookeeper]\nzk.zkRoot=\n[topic=t]",
            f"conf/server.ini:3: [zookeeper]: sets nothing; {ADVICE}",
        ),
        (
            "[system]\nbrokerId=1\n[zookeeper]\nzk.zkEnable=false\n[Topic=t]",
            "conf/server.ini: no section [topic=NAME]; at least one topic must be named",
        ),
        (
            "[system]\nbrokerId=1\n[zookeeper]\nzk.zkEnable=false\n[topic=t]\n[pymetaq topic=t]\na=1",
            "conf/server.ini:7: a=1: [pymetaq topic=t] has no keys yet",
        ),
        (
            "[system]\nbrokerId=1\n[zookeeper]\nzk.zkEnable=false\n[topic=t]\n[pymetaq replication]\na=1",
            "conf/server.ini:7: a=1: [pymetaq replication] has no keys yet",
        ),
    ],
)
def test_what_is_missing_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("[topic= a ]", "[topic= a]: a topic must not contain a blank"),
        (r"[topic=a\nb]", "[topic=a\ufffdb]: a topic must not contain the character U+000A"),
        (r"[topic=a\\b]", "[topic=a\\b]: a topic must not contain \\"),
    ],
)
def test_a_topic_no_folder_can_be_named_after_is_refused_on_one_line(section: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with_system(section)
    assert str(caught.value) == f"conf/server.ini:3: {message}"


def test_a_topic_in_gbk_is_refused_instead_of_mangled() -> None:
    data = b"[system]\nbrokerId=1\n[zookeeper]\nzk.zkEnable=false\n[topic=" + b"\xff\xfe" + b"]\n"
    with pytest.raises(ConfigError, match=r"^conf/server.ini:5: .* U\+FFFD, which stands for bytes that are no UTF-8$"):
        read(data)


@pytest.mark.parametrize(
    ("config", "warnings"),
    [
        (with_system("topics=1"), ("conf/server.ini:3: topics=1: [system] takes this name but it has no effect",)),
        (with_system("[slave]\nx=1"), ("conf/server.ini:3: [slave]: nothing reads this section",)),
        (with_system("[Topic=c]"), ("conf/server.ini:3: [Topic=c]: nothing reads this section",)),
        (
            with_zookeeper("zk.zkEnable=false\nbrokerId=2"),
            ("conf/server.ini:5: brokerId=2: [zookeeper] takes this name but it has no effect",),
        ),
        (with_topic("topic=x"), ("conf/server.ini:6: topic=x: [topic=t] takes this name but it has no effect",)),
        (
            with_topic("stat=yes"),
            ("conf/server.ini:6: stat=yes: read as false, as the original does; write true or false",),
        ),
        (
            with_system("dataPath=~/x"),
            (
                "conf/server.ini:3: dataPath=~/x: ~ is not the home folder here but a folder of that name; "
                "write the path in full",
            ),
        ),
        (with_system("[pymetaq topic=t]\n[pymetaq replication]\n[pymetaq]"), ()),
    ],
)
def test_what_has_no_effect_or_surprises_is_read_with_a_warning(
    config: BrokerConfig, warnings: tuple[str, ...]
) -> None:
    assert config.warnings == warnings


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(ConfigError) as caught:
        with_system(f"numPartitions={'x' * 10_000}")
    assert str(caught.value) == f"conf/server.ini:3: numPartitions={'x' * 80}…: not an integer expression"


LINES: Final = st.lists(
    st.sampled_from([*SYSTEM_MISTAKES, "[zookeeper]", "[topic=t]", "[pymetaq]", "zk.zkEnable=false", "brokerId=1"])
    | st.text(max_size=12),
    max_size=10,
)


@given(LINES)
def test_any_text_is_a_configuration_or_one_configuration_error(lines: list[str]) -> None:
    data = "\n".join(["[system]", *lines]).encode("utf-8", "surrogatepass")
    try:
        config = read(data)
    except ConfigError as exc:
        assert str(exc).startswith("conf/server.ini:")
        assert "\n" not in str(exc)
    else:
        assert config.topics
