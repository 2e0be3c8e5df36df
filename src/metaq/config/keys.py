"""The keys of server.ini by section, each with the field of the configuration value that it sets.

A dotted field lies in a part of BrokerConfig. docs/configuration.md explains every key; a test holds the two together.
(Reference: config.md §2 "Unknown option names", §4-6.)
"""

from collections.abc import Iterable, Mapping
from typing import Final

SYSTEM: Final[Mapping[str, str]] = {
    "brokerId": "broker_id",
    "numPartitions": "defaults.num_partitions",
    "unflushThreshold": "defaults.unflush_threshold",
    "unflushInterval": "defaults.unflush_interval",
    "maxSegmentSize": "max_segment_size",
    "maxTransferSize": "max_transfer_size",
    "serverPort": "server_port",
    "dashboardHttpPort": "dashboard_http_port",
    "hostName": "host_name",
    "dataPath": "data_path",
    "dataLogPath": "data_log_path",
    "appClassPath": "app_class_path",
    "getProcessThreadCount": "get_process_thread_count",
    "putProcessThreadCount": "put_process_thread_count",
    "deletePolicy": "defaults.delete_policy",
    "deleteWhen": "defaults.delete_when",
    "quartzThreadCount": "quartz_thread_count",
    "maxCheckpoints": "max_checkpoints",
    "checkpointInterval": "checkpoint_interval",
    "maxTxTimeoutTimerCapacity": "max_tx_timeout_timer_capacity",
    "flushTxLogAtCommit": "flush_tx_log_at_commit",
    "maxTxTimeoutInSeconds": "max_tx_timeout",
    "acceptPublish": "defaults.accept_publish",
    "acceptSubscribe": "defaults.accept_subscribe",
    "stat": "defaults.stat",
    "updateConsumerOffsets": "update_consumer_offsets",
    "loadMessageStoresInParallel": "load_message_stores_in_parallel",
}
ZOOKEEPER: Final[Mapping[str, str]] = {
    "zk.zkConnect": "zookeeper.connect",
    "zk.zkSessionTimeoutMs": "zookeeper.session_timeout",
    "zk.zkConnectionTimeoutMs": "zookeeper.connection_timeout",
    "zk.zkSyncTimeMs": "zookeeper.sync_time",
    "zk.zkEnable": "zookeeper.enable",
    "zk.zkRoot": "zookeeper.root",
}
TOPIC: Final[Mapping[str, str]] = {
    "numPartitions": "num_partitions",
    "deletePolicy": "delete_policy",
    "deleteWhen": "delete_when",
    "dataPath": "data_path",
    "unflushThreshold": "unflush_threshold",
    "unflushInterval": "unflush_interval",
    "acceptPublish": "accept_publish",
    "acceptSubscribe": "accept_subscribe",
    "stat": "stat",
}
FILTER: Final = "group."  # of a topic: group.NAME = class of the filter that runs for consumer group NAME
PYMETAQ: Final[Mapping[str, str]] = {
    "bindAddress": "bind_address",
    "maxMessageSize": "max_message_size",
    "journalFileSize": "journal_file_size",
    "journalLimit": "journal_limit",
    "tailMemory": "tail_memory",
    "diskReserve": "disk_reserve",
    "largeRun": "large_run",
    "openFiles": "open_files",
    "idleTimeout": "idle_timeout",
    "stopWait": "stop_wait",
    "slaveReadRoot": "slave_read_root",
    "replicaCongestionControl": "replica_congestion_control",
    "metricsAddress": "metrics_address",
    "metricsPartitions": "metrics_partitions",
    "logLevel": "log_level",
}

# names of fields of the original's classes, which it takes for keys and ignores
_INTERNAL: Final = frozenset(
    (
        "topics",
        "zkConfig",
        "slaveConfig",
        "topicConfigMap",
        "closedPartitionMap",
        "propertyChangeSupport",
        "configFileChecksum",
        "lastModified",
        "path",
        "log",
        "serialVersionUID",
    )
)
IGNORED_SYSTEM: Final = _INTERNAL
IGNORED_ZOOKEEPER: Final = _INTERNAL | frozenset(SYSTEM)
IGNORED_TOPIC: Final = frozenset(("topic", "filterClassNames"))


def distance(one: str, two: str) -> int:
    """Return the edit distance: how many letters must be inserted, removed or replaced."""
    row = list(range(len(two) + 1))
    for i, a in enumerate(one, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(two, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]


def nearest(name: str, names: Iterable[str]) -> str:
    """Return the name most like `name`, capitals not told apart, the first of equals in the order of the alphabet."""
    return min(sorted(names), key=lambda other: distance(name.lower()[:100], other.lower()))
