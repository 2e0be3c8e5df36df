"""What znodes say: the bytes of zookeeper.md 4, and laws for all others."""

import json
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.cluster import znodes
from metaq.cluster.paths import broker_child, member
from metaq.cluster.znodes import Member, Position, TopicBroker
from metaq.model import BrokerAddress, BrokerPartition

longs = st.integers(-(1 << 63), (1 << 63) - 1)
ids = st.integers(0, 999_999_999)
ports = st.integers(0, 65535)
ipv4 = st.ip_addresses(v=4).map(str)
ipv6 = st.ip_addresses(v=6).map(str)
hosts = st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,20}[a-zA-Z0-9])?", fullmatch=True)


@given(st.one_of(ipv4, ipv6, hosts), ports)
def test_an_address_is_read_as_it_was_written(host: str, port: int) -> None:
    address = BrokerAddress(host, port)
    assert znodes.decode_address(znodes.encode_address(address)) == address


def test_addresses_are_the_documented_bytes() -> None:
    assert znodes.encode_address(BrokerAddress("10.0.0.5", 8123)) == b"meta://10.0.0.5:8123"
    assert znodes.encode_address(BrokerAddress("fe80:0:0:0:0:0:0:1", 8123)) == b"meta://[fe80:0:0:0:0:0:0:1]:8123"


@pytest.mark.parametrize(
    ("data", "address"),
    [
        (b"meta://Host:8123?slaveId=1", BrokerAddress("Host", 8123)),
        (b" meta://10.0.0.5:8123/\n", BrokerAddress("10.0.0.5", 8123)),
        (b"meta://my_host:1", BrokerAddress("my_host", 1)),
        (b"meta://host", BrokerAddress("host", 8123)),
        (b"meta://[::1]", BrokerAddress("::1", 8123)),
        (None, None),
        (b"", None),
        (b" ", None),
    ],
)
def test_addresses_written_by_others_are_read(data: bytes | None, address: BrokerAddress | None) -> None:
    assert znodes.decode_address(data) == address


@pytest.mark.parametrize("data", [b"http://h:1", b"meta://", b"meta://:1", b"h:1", b"meta://h:x", b"meta://h:99999",
                                  b"meta://[::1", b"meta://a b:1", b"\xff"])  # fmt: skip
def test_what_is_no_broker_url_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        znodes.decode_address(data)


def test_a_topic_is_29_bytes_of_compact_json() -> None:
    data = znodes.encode_topic(TopicBroker(4, "0-m"))
    assert data.hex(" ") == "7b 22 6e 75 6d 50 61 72 74 73 22 3a 34 2c 22 62 72 6f 6b 65 72 22 3a 22 30 2d 6d 22 7d"


@given(st.integers(0, znodes.MAX_PARTITIONS), ids, st.one_of(st.none(), ids), st.booleans(), st.sampled_from([None, 2]))
def test_a_topic_is_read_in_any_order_and_spacing(
    count: int, broker_id: int, slave_id: int | None, turned: bool, indent: int | None
) -> None:
    topic = TopicBroker(count, member(broker_id, slave_id))
    assert znodes.decode_topic(znodes.encode_topic(topic)) == topic
    items = list(json.loads(znodes.encode_topic(topic)).items())
    assert [name for name, _ in items] == ["numParts", "broker"]
    spaced = json.dumps({"later": [], **dict(items[::-1] if turned else items)}, indent=indent)
    assert znodes.decode_topic(f" {spaced}\n".encode()) == topic


@pytest.mark.parametrize(
    "data",
    [None, b"", b"4", b"[]", b"{}", b'{"numParts":"4"}', b'{"numParts":true}', b'{"numParts":-1}', b'{"numParts":1.5}',
     b'{"numParts":1000001}', b'{"numParts":4', b"[" * 100_000, b'{"numParts":' + b"9" * 5000 + b"}"],
)  # fmt: skip
def test_a_topic_without_a_usable_count_is_refused(data: bytes | None) -> None:
    with pytest.raises(ValueError):
        znodes.decode_topic(data)


@given(longs, longs.filter(lambda n: n >= 0))
def test_a_position_is_split_at_its_last_dash(message_id: int, offset: int) -> None:
    position = Position(message_id, offset)
    assert znodes.encode_position(position) == f"{message_id}-{offset}".encode()
    assert znodes.decode_position(znodes.encode_position(position)) == position


@pytest.mark.parametrize(
    ("data", "position"),
    [
        (b"8589934593-1048576", Position(8589934593, 1048576)),
        (b"-1-0", Position(-1, 0)),
        (b"1048576", Position(-1, 1048576)),
        (b"-5465310905774374905-1048576", Position(-5465310905774374905, 1048576)),
        (b"-7", Position(-1, -7)),
        (None, None),
    ],
)
def test_positions_of_all_versions_are_read(data: bytes | None, position: Position | None) -> None:
    assert znodes.decode_position(data) == position


@pytest.mark.parametrize("data", [b"", b"-", b"1-", b"x", b"1-2-3", b"1 - 2", b"1_0", b"9223372036854775808", b"\xff"])
def test_a_position_of_another_form_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        znodes.decode_position(data)


@given(ids, st.one_of(st.none(), ids))
def test_names_of_brokers_are_read_as_they_were_written(broker_id: int, slave_id: int | None) -> None:
    assert znodes.decode_member(member(broker_id, slave_id)) == Member(broker_id, slave_id)
    assert znodes.decode_broker_child(broker_child(slave_id)) == Member(-1, slave_id)


@given(ids, ids)
def test_names_of_partitions_are_read_as_they_were_written(broker_id: int, partition: int) -> None:
    name = BrokerPartition(broker_id, partition)
    assert znodes.decode_partition(str(name)) == name


@pytest.mark.parametrize(
    "name", ["", "m", "1", "1-", "1-x", "1-s", "1-sx", "-1-m", "1-m-2", "x-m", "1-s-1", "١-m", "1 -m"]
)
def test_other_children_of_a_topic_are_ignored(name: str) -> None:
    assert znodes.decode_member(name) is None


@pytest.mark.parametrize("name", ["", "slave", "slavex", "slave-1", "masters", "master_config_checksum", "Slave1"])
def test_other_children_of_a_broker_are_ignored(name: str) -> None:
    assert znodes.decode_broker_child(name) is None


@pytest.mark.parametrize("name", ["", "x", "-1", "1.0", "1_0", "12345678901"])
def test_a_broker_id_is_a_decimal_number(name: str) -> None:
    assert znodes.decode_broker_id(name) is None
    assert znodes.decode_partition(name) is None


def test_counts_and_checksums_are_decimal_text() -> None:
    assert znodes.encode_count(3421780262) == b"3421780262"
    assert znodes.decode_count(b"3421780262") == 3421780262
    for data in (None, b"", b"-1", b"x", b"1" * 11):
        with pytest.raises(ValueError):
            znodes.decode_count(data)


def test_a_consumer_names_its_topics() -> None:
    assert znodes.consumer_name("meta-example", "10.0.0.9-4711") == "meta-example_10.0.0.9-4711"
    assert znodes.encode_topics(["meta-test", "meta-orders"]) == b"meta-test,meta-orders"
    assert znodes.decode_topics(b"meta-test,meta-orders") == ["meta-test", "meta-orders"]
    assert znodes.decode_topics(None) == znodes.decode_topics(b"") == znodes.decode_topics(b" ") == []
    assert znodes.decode_owner(znodes.encode_owner("g_a")) == "g_a"
    assert znodes.decode_owner(None) is None
    assert znodes.decode_owner(b"") is None


@given(st.sampled_from([
    znodes.decode_address, znodes.decode_topic, znodes.decode_position, znodes.decode_count,
    znodes.decode_topics, znodes.decode_owner,
]), st.one_of(st.binary(max_size=60), st.text(max_size=40).map(str.encode)))  # fmt: skip
def test_any_bytes_are_read_or_refused_and_never_another_error(
    decode: Callable[[bytes | None], object], data: bytes
) -> None:
    with suppress(ValueError):
        decode(data)


@given(st.text(max_size=20))
def test_any_name_is_read_or_ignored(name: str) -> None:
    for decode in (znodes.decode_member, znodes.decode_broker_child, znodes.decode_broker_id, znodes.decode_partition):
        decode(name)
