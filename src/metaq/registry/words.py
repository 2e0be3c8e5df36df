"""Four-letter words: what administrators ask in place of a first packet (source: FourLetterCommands of 3.8)."""

import sys
from collections.abc import Callable
from typing import Final, NamedTuple

from metaq._version import __version__

VERSION: Final = f"3.8.0-metaq-{__version__}, built on <NA>"  # clients read the number to know what a server can do

_KNOWN: Final = frozenset(
    b"conf cons crst dirs dump envi gtmk ruok stmk srst srvr stat wchc wchp wchs mntr isro hash".split()
)


class Latency(NamedTuple):
    """How long answers took, in ms."""

    shortest: int = 0
    mean: float = 0.0
    longest: int = 0


class Facts(NamedTuple):
    """What a server says of itself."""

    received: int  # packets
    sent: int
    connections: int
    outstanding: int  # rounds whose answers wait for the log
    zxid: int
    nodes: int
    watches: int
    ephemerals: int
    data_size: Callable[[], int]  # bytes of paths and data; it has to be counted
    sessions: int
    uptime: int  # ms
    latency: Latency


def answer_word(word: bytes, facts: Callable[[], Facts]) -> bytes | None:
    """Return what a word is answered, or None if these four bytes are no word."""
    if word not in _KNOWN:
        return None
    if word == b"ruok":
        return b"imok"
    if word == b"srvr":
        return _srvr(facts()).encode()
    if word == b"mntr":
        return _mntr(facts()).encode()
    if word == b"envi":
        return _envi().encode()
    return word + b" is not executed because it is not in the whitelist.\n"


def _srvr(facts: Facts) -> str:
    shortest, mean, longest = facts.latency
    return (
        f"Zookeeper version: {VERSION}\n"
        f"Latency min/avg/max: {shortest}/{mean:.4g}/{longest}\n"
        f"Received: {facts.received}\n"
        f"Sent: {facts.sent}\n"
        f"Connections: {facts.connections}\n"
        f"Outstanding: {facts.outstanding}\n"
        f"Zxid: {facts.zxid:#x}\n"
        "Mode: standalone\n"
        f"Node count: {facts.nodes}\n"
    )


def _mntr(facts: Facts) -> str:
    values: dict[str, object] = {
        "version": VERSION,
        "server_state": "standalone",
        "ephemerals_count": facts.ephemerals,
        "num_alive_connections": facts.connections,
        "avg_latency": f"{facts.latency.mean:.4g}",
        "outstanding_requests": facts.outstanding,
        "znode_count": facts.nodes,
        "global_sessions": facts.sessions,
        "packets_sent": facts.sent,
        "packets_received": facts.received,
        "watch_count": facts.watches,
        "min_latency": facts.latency.shortest,
        "approximate_data_size": facts.data_size(),
        "local_sessions": 0,
        "uptime": facts.uptime,
        "max_latency": facts.latency.longest,
    }
    return "".join(f"zk_{key}\t{value}\n" for key, value in values.items())


def _envi() -> str:
    return (
        f"Environment:\nzookeeper.version={VERSION}\npython.version={sys.version.split()[0]}\nos.name={sys.platform}\n"
    )
