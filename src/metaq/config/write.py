"""The server.ini that `metaq server init` writes: commented, ASCII, understood by the Java broker too."""

from collections.abc import Sequence
from dataclasses import dataclass

from metaq.config.ini import escape
from metaq.config.model import DEFAULT_PORT


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What a new server.ini states. `zookeeper` None: it runs without; `data_path` None: `~/meta`."""

    broker_id: int = 0
    server_port: int = DEFAULT_PORT
    topics: Sequence[str] = ("test",)
    num_partitions: int = 1
    zookeeper: str | None = "localhost:2181"
    data_path: str | None = None
    host_name: str | None = None
    bind_address: str | None = None
    synced: bool = True


TEMPLATE = """\
; The configuration of a MetaQ broker. Sections [system], [zookeeper] and
; [topic=NAME] hold the keys of 1.4.6.2 and no others; keys of ours stand in
; [pymetaq], which a Java broker ignores. A comment needs a line of its own.
; Numbers may be expressions such as 1024*1024; a backslash is written \\\\.

[system]
; number of this broker in its cluster, 0 to 1023; its slaves have the same
brokerId={broker_id}
; TCP port for producers and consumers
serverPort={server_port}
{host_name}; partitions of a topic whose own section names no number
numPartitions={num_partitions}
; how many messages may wait before they are synced to disk;
; 0: each message is on disk before it is acknowledged
unflushThreshold={unflush_threshold}
; milliseconds after which waiting messages are synced
unflushInterval=10000
; bytes after which a partition begins a new file
maxSegmentSize=1073741824
; most bytes in one answer to a consumer
maxTransferSize=1048576
; files untouched for this many hours are deleted, and when that is looked at:
; second minute hour day-of-month month day-of-week
deletePolicy=delete,168
deleteWhen=0 0 6,18 * * ?
; where messages lie; without it in the folder meta of the user's home
{data_path}

[zookeeper]
; the ensemble that tells clients where the brokers are
{zookeeper}
zk.zkSessionTimeoutMs=30000
zk.zkConnectionTimeoutMs=30000
zk.zkSyncTimeMs=5000

; a topic must be named here before it is used; "metaq server reload" takes
; new sections into a running broker
{topics}
[pymetaq]
; address to listen on; without it all addresses
{bind_address}
"""


def server_ini(draft: Draft) -> str:
    """Return the text of a server.ini. Reading it back gives what the draft states."""
    zookeeper = f"zk.zkConnect={escape(draft.zookeeper)}" if draft.zookeeper else "zk.zkEnable=false"
    host_name = (
        f"; name or address that clients are told\nhostName={escape(draft.host_name)}\n" if draft.host_name else ""
    )
    return TEMPLATE.format(
        broker_id=draft.broker_id,
        server_port=draft.server_port,
        num_partitions=draft.num_partitions,
        unflush_threshold=0 if draft.synced else 1000,
        host_name=host_name,
        data_path=f"dataPath={escape(draft.data_path)}" if draft.data_path else ";dataPath=/var/lib/metaq",
        zookeeper=zookeeper,
        topics="".join(f"[topic={escape(topic)}]\n" for topic in draft.topics),
        bind_address=f"bindAddress={escape(draft.bind_address)}" if draft.bind_address else ";bindAddress=127.0.0.1",
    )
