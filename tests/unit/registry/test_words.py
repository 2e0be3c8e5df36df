"""Four-letter words."""

import re

import pytest
from kazoo.client import ENVI_VERSION, ENVI_VERSION_KEY  # type: ignore[import-untyped]

from metaq.registry.words import Facts, Latency, answer_word

FACTS = Facts(
    received=7,
    sent=8,
    connections=2,
    outstanding=1,
    zxid=0x100000004,
    nodes=5,
    watches=3,
    ephemerals=4,
    data_size=lambda: 47,
    sessions=6,
    uptime=965,
    latency=Latency(0, 1.5, 9),
)


def words(word: bytes) -> str:
    answer = answer_word(word, lambda: FACTS)
    assert answer is not None
    return answer.decode()


def test_ruok() -> None:
    assert words(b"ruok") == "imok"


def test_srvr_has_the_lines_that_monitoring_reads() -> None:
    lines = words(b"srvr").splitlines()
    assert lines[0].startswith("Zookeeper version: 3.8.0-metaq-")
    assert lines[1:] == [
        "Latency min/avg/max: 0/1.5/9",
        "Received: 7",
        "Sent: 8",
        "Connections: 2",
        "Outstanding: 1",
        "Zxid: 0x100000004",
        "Mode: standalone",
        "Node count: 5",
    ]


def test_mntr_is_a_table() -> None:
    table = dict(line.split("\t") for line in words(b"mntr").splitlines())
    assert table["zk_server_state"] == "standalone"
    assert {key: int(value) for key, value in table.items() if re.fullmatch(r"\d+", value)} == {
        "zk_ephemerals_count": 4,
        "zk_num_alive_connections": 2,
        "zk_outstanding_requests": 1,
        "zk_znode_count": 5,
        "zk_global_sessions": 6,
        "zk_packets_sent": 8,
        "zk_packets_received": 7,
        "zk_watch_count": 3,
        "zk_min_latency": 0,
        "zk_approximate_data_size": 47,
        "zk_local_sessions": 0,
        "zk_uptime": 965,
        "zk_max_latency": 9,
    }


def test_kazoo_reads_the_version_out_of_envi() -> None:
    line = next(line for line in words(b"envi").splitlines() if line.startswith(ENVI_VERSION_KEY))
    assert ENVI_VERSION.match(line.split("=")[1]).group(1) == "3.8.0"


@pytest.mark.parametrize("word", [b"stat", b"conf", b"dump", b"wchs"])
def test_words_that_are_not_enabled_say_so(word: bytes) -> None:
    assert words(word) == f"{word.decode()} is not executed because it is not in the whitelist.\n"


@pytest.mark.parametrize("word", [b"\0\0\0\x2d", b"RUOK", b"abcd", b"GET "])
def test_other_bytes_are_no_word(word: bytes) -> None:
    assert answer_word(word, lambda: FACTS) is None
