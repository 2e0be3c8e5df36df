"""The configuration as frozen values, with the defaults of 1.4.6.2 (config.md §4-6) and ours beside them.

Times are float seconds, sizes bytes. What a key of server.ini is called and how its text is read is in `broker.py`.
"""

from dataclasses import dataclass, field
from typing import Final

DEFAULT_PORT: Final = 8123


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletePolicy:
    """What happens to sealed segments older than `age` seconds: "delete", or "archive" with or without zip."""

    action: str = "delete"
    age: float = 168 * 3600.0
    compress: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooKeeperConfig:
    """Section [zookeeper]. `enable` False: this broker uses no ZooKeeper at all."""

    connect: str = "localhost:2181"
    root: str = "/meta"
    session_timeout: float = 30.0
    connection_timeout: float = 30.0
    sync_time: float = 5.0
    enable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicConfig:
    """The settings in force for one topic, those of [system] where its own section names none."""

    name: str
    num_partitions: int = 1
    unflush_threshold: int = 1000  # messages; <= 0: synced before they are acknowledged
    unflush_interval: float = 10.0
    data_path: str = ""
    delete_policy: DeletePolicy = DeletePolicy()
    delete_when: str = "0 0 6,18 * * ?"  # Quartz cron, local time zone
    accept_publish: bool = True
    accept_subscribe: bool = True
    stat: bool = False
    filters: tuple[tuple[str, str], ...] = ()  # (group, class name)


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerConfig:
    """A whole server.ini, checked. `defaults` are the topic settings of [system]; `checksum` the CRC-32 of the file."""

    broker_id: int
    defaults: TopicConfig = field(default_factory=lambda: TopicConfig(name=""))
    topics: tuple[TopicConfig, ...] = ()  # by section, wildcard names among them, in the order of the file
    zookeeper: ZooKeeperConfig = ZooKeeperConfig()
    server_port: int = DEFAULT_PORT
    dashboard_http_port: int = 8120
    host_name: str | None = None  # to register; None: first non-loopback IPv4
    data_path: str = ""
    data_log_path: str = ""
    app_class_path: str | None = None
    max_segment_size: int = 1 << 30
    max_transfer_size: int = 1 << 20
    get_process_thread_count: int = 20
    put_process_thread_count: int = 20
    quartz_thread_count: int = 5
    max_checkpoints: int = 3
    checkpoint_interval: float = 3600.0
    max_tx_timeout_timer_capacity: int = 30000
    flush_tx_log_at_commit: int = 1
    max_tx_timeout: int = 60
    update_consumer_offsets: bool = False
    load_message_stores_in_parallel: bool = False
    # ours, section [pymetaq]
    bind_address: str | None = None  # None: all addresses, as the original
    max_message_size: int = 8 << 20
    journal_file_size: int = 64 << 20
    journal_limit: int = 256 << 20  # a checkpoint is made at the latest when this much journal waits for one
    tail_memory: int = 64 << 20
    disk_reserve: int = 64 << 20
    large_run: int = 256 << 10
    open_files: int = 0  # partition files kept open; 0: from ulimit -n
    idle_timeout: float = 300.0
    stop_wait: float | None = None  # between leaving ZooKeeper and stopping; None: zk.zkSyncTimeMs
    slave_read_root: str | None = None  # where a slave is seen as a master; None: /read-slave<k><zk root>; "": nowhere
    replica_congestion_control: str = "bbr"  # of TCP, towards whoever copies this broker; "": the system's
    metrics_address: tuple[str, int] | None = None  # where metrics are served; None: nowhere
    metrics_partitions: bool = False  # of each partition, too
    log_level: str = "info"  # debug, info, warning, error
    path: str = ""
    text: bytes = b""
    checksum: int = 0
    warnings: tuple[str, ...] = ()  # what was read but does nothing or surprises; to be logged once
    _by_name: dict[str, TopicConfig] = field(init=False, repr=False, compare=False)  # of sections named twice the first

    def __post_init__(self) -> None:
        # tens of thousands of topics are asked for by name, each time all of them
        object.__setattr__(self, "_by_name", {topic.name: topic for topic in reversed(self.topics)})

    def has_section(self, name: str) -> bool:
        """Tell whether a topic has a section of its own."""
        return name in self._by_name

    def topic(self, name: str) -> TopicConfig:
        """Return the settings in force for a topic: its own section's, else those of [system].

        A wildcard section only admits names; its settings do not reach the topics it matches (protocol.md Q18).
        """
        topic = self._by_name.get(name)
        if topic is not None:
            return topic
        return TopicConfig(**{**{s: getattr(self.defaults, s) for s in TopicConfig.__slots__}, "name": name})
