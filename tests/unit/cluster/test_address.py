"""Which host a broker registers when none is configured."""

import ipaddress

import pytest

from metaq.cluster.address import choose_host, default_host, local_addresses


@pytest.mark.parametrize(
    ("addresses", "host"),
    [
        (["127.0.0.1", "10.0.0.5", "192.168.0.1", "fe80::1"], "10.0.0.5"),
        (["127.0.0.1", "::1", "fe80::1", "fd00::1"], "fe80::1"),
        (["127.0.0.1", "::1"], "127.0.0.1"),
        (["0.0.0.0", "127.0.0.9"], "127.0.0.1"),
        ([], "127.0.0.1"),
    ],
)
def test_the_first_address_that_others_can_reach_is_chosen(addresses: list[str], host: str) -> None:
    assert choose_host(addresses) == host


def test_this_machine_has_an_address() -> None:
    assert "127.0.0.1" in local_addresses()
    assert default_host() == str(ipaddress.ip_address(default_host()))
