"""server.ini → BrokerConfig (reference: config.md §3-6, MetaConfig). The first mistake found is a ConfigError.

Stricter than the original where it would start and then misbehave: ranges are checked, numbers that do not fit are
refused. Milder: of its six mandatory keys only brokerId must be there, the others have the defaults it documents.
"""

import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from metaq.config import ini, keys, values
from metaq.config.model import BrokerConfig, TopicConfig, ZooKeeperConfig
from metaq.config.reading import INT64, Options, shortened
from metaq.config.topics import unfit
from metaq.errors import ConfigError

TOPIC_SECTION: Final = "topic="
OURS: Final = "pymetaq"
PORTS: Final = (0, 65535)


def load(path: str, *, env: Mapping[str, str] = os.environ) -> BrokerConfig:
    """Return the configuration in the file; ConfigError if it cannot be read or used."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read: {exc.strerror}") from exc
    return parse(data, path, env=env)


def parse(
    data: bytes,
    path: str = "server.ini",
    *,
    env: Mapping[str, str] = os.environ,
    is_dir: Callable[[str], bool] = os.path.isdir,
) -> BrokerConfig:
    """Return the configuration that `data` states; `path` is where it came from and stands in messages.

    HOME of `env` is where `meta` lies if no dataPath is set; `is_dir` says whether a folder of classes exists.
    """
    document = Document(data, path)
    system = document.required("system", "it holds brokerId and the defaults of all topics")
    warnings = system.refuse_unknown(keys.SYSTEM, keys.IGNORED_SYSTEM)
    home = env.get("HOME") or os.path.expanduser("~")
    data_path = system.read("dataPath", os.path.join(home, "meta"), values.path)
    defaults = _topic(system, TopicConfig(name="", data_path=data_path, stat=system.boolean("stat", False)))
    config = _system(system, defaults, path, is_dir)
    config = _pymetaq(document.section(OURS), config)
    zookeeper, more = _zookeeper(document)
    topics, topic_warnings = read_topics(document, defaults)
    return replace(
        config,
        zookeeper=zookeeper,
        topics=topics,
        path=path,
        text=data,
        checksum=zlib.crc32(data),
        warnings=(*warnings, *more, *topic_warnings, *document.check_sections(), *_tilde(system, document)),
    )


class Document:
    """A parsed file and where it came from."""

    def __init__(self, data: bytes, path: str) -> None:
        self.path = path
        try:
            self._sections = ini.parse(data)
        except ini.IniError as exc:
            raise ConfigError(f"{path}:{exc.line}: {shortened(exc.text)}: {exc.reason}") from exc

    def section(self, name: str) -> Options:
        """Return the options of a section, none if it is not there."""
        return Options(self.path, self._sections.get(name, ini.Section(name, 1)))

    def required(self, name: str, purpose: str) -> Options:
        """Return the options of a section that must be there."""
        if name not in self._sections:
            raise ConfigError(f"{self.path}: no section [{name}]; {purpose}")
        return self.section(name)

    def topics(self) -> list[tuple[str, int, Options]]:
        """Return (topic, line, options) of each topic's section; ConfigError if there is none."""
        found = [
            (section.name.removeprefix(TOPIC_SECTION), section.line, Options(self.path, section))
            for section in self._sections.values()
            if section.name.startswith(TOPIC_SECTION)
        ]
        if not found:
            raise ConfigError(f"{self.path}: no section [topic=NAME]; at least one topic must be named")
        return found

    def check_sections(self) -> list[str]:
        """Refuse what is wrong in sections of ours without keys; return a warning for each section nobody reads."""
        warnings = []
        for section in self._sections.values():
            name = section.name
            if name in ("system", "zookeeper", OURS) or name.startswith(TOPIC_SECTION):
                continue
            if name == f"{OURS} replication" or name.startswith(f"{OURS} {TOPIC_SECTION}"):
                Options(self.path, section).refuse_unknown((), ())
            elif name.split(" ")[0] == OURS:
                raise ConfigError(
                    f"{self.path}:{section.line}: [{shortened(name)}]: no such section; "
                    f"write [{OURS}], [{OURS} topic=NAME] or [{OURS} replication]"
                )
            else:
                warnings.append(f"{self.path}:{section.line}: [{shortened(name)}]: nothing reads this section")
        return warnings


def read_topics(document: Document, defaults: TopicConfig) -> tuple[tuple[TopicConfig, ...], list[str]]:
    """Return the topics of the file, with the settings of `defaults` where they state none, and warnings."""
    topics = []
    warnings = []
    for name, line, options in document.topics():
        if reason := unfit(name):
            raise ConfigError(f"{document.path}:{line}: [topic={shortened(name)}]: {reason}")
        filters = {key for key in options.names() if key.startswith(keys.FILTER) and key != keys.FILTER}
        warnings += options.refuse_unknown({*keys.TOPIC, *filters}, keys.IGNORED_TOPIC)
        named = ((key.removeprefix(keys.FILTER), options.text(key)) for key in options.names() if key in filters)
        topic = _topic(options, replace(defaults, name=name))
        stat = _lenient_stat(options, topic.stat, warnings)
        topics.append(replace(topic, stat=stat, filters=tuple((group, text) for group, text in named if text)))
    return tuple(topics), warnings


def _topic(options: Options, defaults: TopicConfig) -> TopicConfig:
    """Return `defaults` with what the section sets; the keys that [system] and a topic's section share."""
    return replace(
        defaults,
        num_partitions=options.integer("numPartitions", defaults.num_partitions, low=1),
        unflush_threshold=options.integer("unflushThreshold", defaults.unflush_threshold),
        unflush_interval=max(0.0, options.milliseconds("unflushInterval", defaults.unflush_interval)),
        data_path=options.read("dataPath", defaults.data_path, values.path),
        delete_policy=options.read("deletePolicy", defaults.delete_policy, values.delete_policy),
        delete_when=options.read("deleteWhen", defaults.delete_when, values.cron),
        accept_publish=options.boolean("acceptPublish", defaults.accept_publish),
        accept_subscribe=options.boolean("acceptSubscribe", defaults.accept_subscribe),
    )


def _lenient_stat(options: Options, default: bool, warnings: list[str]) -> bool:
    """Read `stat` of a topic as the original: what is not true is false, and no error."""
    try:
        return options.boolean("stat", default)
    except ConfigError:
        warnings.append(options.note("stat", "read as false, as the original does; write true or false"))
        return False


def _system(options: Options, defaults: TopicConfig, path: str, is_dir: Callable[[str], bool]) -> BrokerConfig:
    if options.text("brokerId") is None:
        raise options.error("brokerId", "must be set: a number from 0 to 1023, a different one for each broker")
    base = BrokerConfig(broker_id=options.integer("brokerId", 0, 0, 1023), defaults=defaults)
    count = options.integer
    return replace(
        base,
        server_port=count("serverPort", base.server_port, *PORTS),
        dashboard_http_port=count("dashboardHttpPort", base.dashboard_http_port, *PORTS),
        host_name=options.read("hostName", None, values.host),
        data_path=defaults.data_path,
        data_log_path=options.read("dataLogPath", defaults.data_path, values.path),
        app_class_path=_app_class_path(options, path, is_dir),
        max_segment_size=count("maxSegmentSize", base.max_segment_size, low=1),
        max_transfer_size=count("maxTransferSize", base.max_transfer_size, low=1),
        get_process_thread_count=count("getProcessThreadCount", base.get_process_thread_count, low=1),
        put_process_thread_count=count("putProcessThreadCount", base.put_process_thread_count, low=1),
        quartz_thread_count=count("quartzThreadCount", base.quartz_thread_count, low=1),
        max_checkpoints=count("maxCheckpoints", base.max_checkpoints, low=1),
        checkpoint_interval=options.milliseconds("checkpointInterval", base.checkpoint_interval, 1, INT64[1]),
        max_tx_timeout_timer_capacity=count("maxTxTimeoutTimerCapacity", base.max_tx_timeout_timer_capacity, low=1),
        flush_tx_log_at_commit=count("flushTxLogAtCommit", base.flush_tx_log_at_commit, 0, 2),
        max_tx_timeout=count("maxTxTimeoutInSeconds", base.max_tx_timeout, low=1),
        update_consumer_offsets=options.boolean("updateConsumerOffsets", base.update_consumer_offsets),
        load_message_stores_in_parallel=options.boolean("loadMessageStoresInParallel", False),
    )


def _app_class_path(options: Options, path: str, is_dir: Callable[[str], bool]) -> str | None:
    """Return the folder of consumer filters: the one that is set, else `../provided` beside the file's if it exists."""
    configured = options.read("appClassPath", None, values.path)
    if configured is None:
        beside = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(path)), "..", "provided"))
        return beside if is_dir(beside) else None
    if not is_dir(configured):
        raise options.error("appClassPath", f"no such folder: {configured}")
    return configured


def _zookeeper(document: Document) -> tuple[ZooKeeperConfig, list[str]]:
    advice = "write zk.zkConnect=host:2181, or zk.zkEnable=false to run without ZooKeeper"
    options = document.required("zookeeper", advice)
    warnings = options.refuse_unknown(keys.ZOOKEEPER, keys.IGNORED_ZOOKEEPER)
    if all(options.text(name) is None for name in keys.ZOOKEEPER):
        raise ConfigError(f"{document.path}:{options.line('')}: [zookeeper]: sets nothing; {advice}")
    base = ZooKeeperConfig()
    config = ZooKeeperConfig(
        connect=options.read("zk.zkConnect", base.connect, values.zk_connect),
        root=options.read("zk.zkRoot", base.root, values.zk_root),
        session_timeout=options.milliseconds("zk.zkSessionTimeoutMs", base.session_timeout, low=1),
        connection_timeout=options.milliseconds("zk.zkConnectionTimeoutMs", base.connection_timeout, low=1),
        sync_time=options.milliseconds("zk.zkSyncTimeMs", base.sync_time, low=0),
        enable=options.boolean("zk.zkEnable", base.enable),
    )
    return config, warnings


def _pymetaq(options: Options, base: BrokerConfig) -> BrokerConfig:
    """Return `base` with the keys of section [pymetaq], which the original ignores."""
    options.refuse_unknown(keys.PYMETAQ, ())
    size = options.integer
    config = replace(
        base,
        bind_address=options.read("bindAddress", None, values.host),
        max_message_size=size("maxMessageSize", base.max_message_size, 1),
        journal_file_size=size("journalFileSize", base.journal_file_size, 1 << 12),
        journal_limit=size("journalLimit", base.journal_limit, 1 << 12, INT64[1]),
        tail_memory=size("tailMemory", base.tail_memory, 1 << 12, INT64[1]),
        disk_reserve=size("diskReserve", base.disk_reserve, 0, INT64[1]),
        large_run=size("largeRun", base.large_run, 1),
        open_files=size("openFiles", base.open_files, 0),
        idle_timeout=options.read("idleTimeout", base.idle_timeout, values.positive_seconds),
        stop_wait=options.read("stopWait", base.stop_wait, values.seconds),
        slave_read_root=options.read("slaveReadRoot", None, values.read_root),
        replica_congestion_control=options.read(
            "replicaCongestionControl", base.replica_congestion_control, values.congestion_control
        ),
        metrics_address=options.read("metricsAddress", None, values.address),
        metrics_partitions=options.boolean("metricsPartitions", base.metrics_partitions),
        log_level=options.read("logLevel", base.log_level, values.log_level),
    )
    if config.journal_limit < config.journal_file_size:
        name = "journalLimit" if options.text("journalLimit") else "journalFileSize"
        raise options.error(
            name, f"journalLimit {config.journal_limit} is below journalFileSize {config.journal_file_size}"
        )
    return config


def _tilde(system: Options, document: Document) -> list[str]:
    """Return a warning for each path that begins with ~: it is taken as it stands, as in the original."""
    sections = [system, *(options for _, _, options in document.topics())]
    text = "~ is not the home folder here but a folder of that name; write the path in full"
    return [
        options.note(name, text)
        for options in sections
        for name in ("dataPath", "dataLogPath", "appClassPath")
        if (options.text(name) or "").startswith("~")
    ]
