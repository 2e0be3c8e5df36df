"""Which host name a broker registers when none is configured (reference: RemotingUtils)."""

import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

_SIOCGIFADDR: Final = 0x8915  # <linux/sockios.h>: the IPv4 address of an interface
_IF_INET6: Final = Path("/proc/net/if_inet6")  # 32 hex digits, then index, prefix, scope, flags, name


def choose_host(addresses: Iterable[str]) -> str:
    """Return the first IPv4 address that is not loopback, else the first such IPv6 address, else 127.0.0.1.

    IPv6 comes without brackets: BrokerAddress writes them.
    """
    found = [ipaddress.ip_address(text) for text in addresses]
    outside = [each for each in found if not each.is_loopback and not each.is_unspecified]
    for version in (4, 6):
        for each in outside:
            if each.version == version:
                return str(each)
    return "127.0.0.1"


def local_addresses() -> list[str]:
    """Return the addresses of this machine's interfaces, IPv4 before IPv6, in the order of the interfaces."""
    addresses = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # it has none
                answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                addresses.append(socket.inet_ntoa(answer[20:24]))
    with suppress(OSError):  # no IPv6 here
        lines = _IF_INET6.read_text().splitlines()
        addresses.extend(str(ipaddress.IPv6Address(bytes.fromhex(line.split()[0]))) for line in lines)
    return addresses


def default_host() -> str:
    """Return the host this machine is reached at, as the original would find it."""
    return choose_host(local_addresses())
