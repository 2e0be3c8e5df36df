"""Where each znode is (reference: MetaZookeeper). Pure.

<root>/brokers/ids/<b>/{master, slave<k>, master_config_checksum}
<root>/brokers/{topics, topics-pub, topics-sub}/<t>/{<b>-m, <b>-s<k>}
<root>/consumers/<g>/ids/<c>
<root>/consumers/<g>/owners/<t>/<b>-<n>
<root>/consumers/<g>/offsets/<t>/<b>-<n>
<root>/pymetaq/leftovers/<g>                held by who removes owner nodes that no session ends
<root>/pymetaq/topics/…                     changes of topics that a command asks all brokers for, see `topic_nodes`
<root>/pymetaq/…                            ours alone; no Java client looks there
"""

from metaq.model import BrokerPartition

MASTER = "master"
SLAVE = "slave"
CHECKSUM = "master_config_checksum"


def normalize_root(text: str) -> str:
    """Return the root with a leading and without a trailing slash: `meta/` and `/meta` are one.

    "/" and "" give "": the tree then begins at the top (or at the chroot).
    """
    return ("" if text.startswith("/") else "/") + text.removesuffix("/") if text.strip("/") else ""


def parent(path: str) -> str:
    """Return the path of the node above; that of "/meta" is "/"."""
    return path.rpartition("/")[0] or "/"


def broker_child(slave_id: int | None) -> str:
    """Return the name of a broker's node below its id: `master`, or `slave<k>`."""
    return MASTER if slave_id is None else f"{SLAVE}{slave_id}"


def member(broker_id: int, slave_id: int | None) -> str:
    """Return the name of a broker's node below a topic: `<b>-m`, or `<b>-s<k>`."""
    return f"{broker_id}-m" if slave_id is None else f"{broker_id}-s{slave_id}"


class Paths:
    """All paths below one root."""

    def __init__(self, root: str = "/meta") -> None:
        self.root = normalize_root(root)
        self.brokers = f"{self.root}/brokers"
        self.ids = f"{self.brokers}/ids"
        self.topics = f"{self.brokers}/topics"
        self.topics_pub = f"{self.brokers}/topics-pub"
        self.topics_sub = f"{self.brokers}/topics-sub"
        self.consumers = f"{self.root}/consumers"
        self.ours = f"{self.root}/pymetaq"

    def broker(self, broker_id: int) -> str:
        """Return the legacy node, parent of the two that follow."""
        return f"{self.ids}/{broker_id}"

    def broker_address(self, broker_id: int, slave_id: int | None = None) -> str:
        return f"{self.ids}/{broker_id}/{broker_child(slave_id)}"

    def checksum(self, broker_id: int) -> str:
        return f"{self.ids}/{broker_id}/{CHECKSUM}"

    def topic(self, topic: str) -> str:
        """Return the parent of the nodes that clients older than 1.4.3 read."""
        return f"{self.topics}/{topic}"

    def publish(self, topic: str) -> str:
        return f"{self.topics_pub}/{topic}"

    def subscribe(self, topic: str) -> str:
        return f"{self.topics_sub}/{topic}"

    def group(self, group: str) -> str:
        return f"{self.consumers}/{group}"

    def group_ids(self, group: str) -> str:
        return f"{self.consumers}/{group}/ids"

    def consumer(self, group: str, consumer: str) -> str:
        return f"{self.consumers}/{group}/ids/{consumer}"

    def leftovers(self, group: str) -> str:
        return f"{self.ours}/leftovers/{group}"

    def owners(self, group: str, topic: str) -> str:
        return f"{self.consumers}/{group}/owners/{topic}"

    def owner(self, group: str, topic: str, partition: BrokerPartition) -> str:
        return f"{self.consumers}/{group}/owners/{topic}/{partition}"

    def offsets(self, group: str, topic: str) -> str:
        return f"{self.consumers}/{group}/offsets/{topic}"

    def offset(self, group: str, topic: str, partition: BrokerPartition) -> str:
        return f"{self.consumers}/{group}/offsets/{topic}/{partition}"
