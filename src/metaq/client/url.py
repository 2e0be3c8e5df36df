"""What `connect` is told: where ZooKeeper or the brokers are. Pure."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

from metaq.config.model import DEFAULT_PORT
from metaq.errors import ConfigError
from metaq.model import BrokerAddress

DEFAULT_ROOT: Final = "/meta"
DEFAULT_ZOOKEEPER_PORT: Final = 2181
FORMS: Final = "zk://host:port[,host:port…][/root] or metaq://host:port[,host:port…]"


@dataclass(frozen=True, slots=True)
class ZooKeeperUrl:
    """A cluster found through ZooKeeper; `hosts` as ZooKeeper clients take it, `root` with its leading slash."""

    hosts: str
    root: str


@dataclass(frozen=True, slots=True)
class BrokersUrl:
    """Brokers named one by one; no ZooKeeper is used."""

    addresses: tuple[BrokerAddress, ...]


def parse_url(text: str) -> ZooKeeperUrl | BrokersUrl:
    """Return what a URL names. Raises ConfigError that says what is wrong and which forms there are."""
    try:
        parts = urlsplit(text.strip())
        if parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError("nothing may follow the path, and no user is named")
        match parts.scheme:
            case "zk":
                pairs = _hosts(parts, DEFAULT_ZOOKEEPER_PORT)
                return ZooKeeperUrl(",".join(f"{_bracketed(h)}:{p}" for h, p in pairs), _root(parts.path))
            case "metaq" | "meta":
                if parts.path.strip("/"):
                    raise ValueError(f"{parts.path!r} after the brokers")
                return BrokersUrl(tuple(BrokerAddress(h, p) for h, p in _hosts(parts, DEFAULT_PORT)))
            case "":
                raise ValueError("no zk:// or metaq:// before the hosts")
            case other:
                raise ValueError(f"unknown kind {other!r}")
    except ValueError as exc:
        raise ConfigError(f"cannot connect to {text!r}: {exc}; wanted {FORMS}") from exc


def _hosts(parts: SplitResult, default_port: int) -> list[tuple[str, int]]:
    """Return host and port of each part of the list, brackets removed, doubles too."""
    return list(dict.fromkeys(_host(item.strip(), default_port) for item in parts.netloc.split(",")))


def _host(item: str, default_port: int) -> tuple[str, int]:
    if item.startswith("["):
        host, bracket, rest = item[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{item!r} is no host and port")
        port = rest[1:]
    else:
        host, _, port = item.partition(":")
        if ":" in port:
            raise ValueError(f"{item!r}: an IPv6 address needs brackets")
    if not host or any(c.isspace() for c in host):
        raise ValueError(f"{item!r} has no host" if not host else f"{item!r} has a blank in its host")
    if not port:
        return host, default_port
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{item!r}: the port is a number from 1 to 65535")
    return host, int(port)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _root(path: str) -> str:
    root = path.rstrip("/")
    if "//" in root:
        raise ValueError(f"{path!r} has an empty part")
    return root or (DEFAULT_ROOT if not path else "/")
