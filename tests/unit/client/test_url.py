"""What connect is told."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaq.client.url import BrokersUrl, ZooKeeperUrl, parse_url
from metaq.errors import ConfigError
from metaq.model import BrokerAddress


@pytest.mark.parametrize(
    ("text", "hosts", "root"),
    [
        ("zk://a:2181/meta", "a:2181", "/meta"),
        ("zk://a", "a:2181", "/meta"),
        ("zk://a:1,b:2,c/x/y", "a:1,b:2,c:2181", "/x/y"),
        ("zk://a:1/", "a:1", "/"),
        ("zk://[::1]:2181/meta/", "[::1]:2181", "/meta"),
        ("  zk://a:1,a:1/m ", "a:1", "/m"),
    ],
)
def test_zookeeper_is_named_by_hosts_and_root(text: str, hosts: str, root: str) -> None:
    assert parse_url(text) == ZooKeeperUrl(hosts, root)


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("metaq://127.0.0.1:8123", [("127.0.0.1", 8123)]),
        ("meta://h", [("h", 8123)]),
        ("metaq://a:1,b:2,a:1/", [("a", 1), ("b", 2)]),
        ("metaq://[fe80::1]:9,[::1]", [("fe80::1", 9), ("::1", 8123)]),
    ],
)
def test_brokers_are_named_one_by_one(text: str, addresses: list[tuple[str, int]]) -> None:
    assert parse_url(text) == BrokersUrl(tuple(BrokerAddress(*pair) for pair in addresses))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no zk:// or metaq://"),
        ("127.0.0.1:8123", ""),
        ("http://a:1", "unknown kind 'http'"),
        ("metaq://", "no host"),
        ("metaq://a:1,,b:2", "no host"),
        ("metaq://a:x", "port is a number"),
        ("metaq://a:0", "port is a number"),
        ("metaq://a:65536", "port is a number"),
        ("metaq://a:1/meta", "'/meta' after the brokers"),
        ("metaq://::1", "IPv6 address needs brackets"),
        ("zk://a:1/x//y", "empty part"),
        ("zk://user@a:1/x", "no user"),
        ("zk://a:1/x?y=1", "nothing may follow"),
        ("metaq://[::1", ""),
    ],
)
def test_a_bad_url_is_one_error_that_says_what_is_wanted(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=r"zk://host:port") as caught:
        parse_url(text)
    assert why in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_a_url_or_a_config_error(text: str) -> None:
    for prefix in ("", "zk://", "metaq://"):
        with suppress(ConfigError):
            parse_url(prefix + text)
