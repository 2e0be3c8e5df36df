"""How the texts of single keys are read: policies, crons, paths, roots; each raises ValueError with a plain reason."""

import os
import re
from typing import Final

from metaq.config.cron import Cron
from metaq.config.model import DeletePolicy

PERIOD: Final = re.compile(r"([+-]?[0-9]{1,18})([smh]?)", re.ASCII)
SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "": 3600.0}
LEVELS: Final = ("debug", "info", "warning", "error")


def delete_policy(text: str) -> DeletePolicy:
    """Return the policy that `name,period[,compress]` states (reference: storage.md §7.1, DeletePolicyFactory)."""
    action, *rest = text.split(",")
    if action not in ("delete", "archive"):
        raise ValueError(f"unknown policy {action!r}; write delete,168 or archive,168 or archive,168,true")
    period = PERIOD.fullmatch(rest[0]) if rest else None
    if period is None:
        raise ValueError(
            "the period must follow the comma without a blank: a number, in hours or with s, m or h behind"
        )
    compress = action == "archive" and len(rest) > 1 and rest[1].lower() == "true"
    return DeletePolicy(action=action, age=int(period[1]) * SECONDS[period[2]], compress=compress)


def cron(text: str) -> str:
    """Return `text` if it is a Quartz cron expression that ever fires."""
    try:
        expression = Cron.parse(text)
    except ValueError as exc:
        raise ValueError(f"no Quartz cron expression: {exc}") from exc
    if expression.next_after(0.0) is None and expression.next_after(4e9) is None:
        raise ValueError("this never fires")
    return str(expression)


def path(text: str) -> str:
    """Return the absolute path; a relative one starts at the working directory."""
    if "\0" in text:
        raise ValueError("a path has no character U+0000")
    return os.path.abspath(text)


def zk_root(text: str) -> str:
    """Return the root with a leading and without a trailing slash; "" for the root of ZooKeeper itself."""
    root = text.removesuffix("/")
    if not root:
        return ""
    root = f"/{root.removeprefix('/')}"
    if any(part in ("", ".", "..") for part in root[1:].split("/")) or not root.isprintable():
        raise ValueError("no path of ZooKeeper; write it like /meta")
    return root


def read_root(text: str) -> str:
    """Return the root below which a slave appears as a master; "" for `none`."""
    root = "" if text == "none" else zk_root(text)
    if not root and text != "none":
        raise ValueError("must be a path of its own, such as /read-slave1/meta, or none")
    return root


def zk_connect(text: str) -> str:
    """Return `text` if it is `host:port[,host:port…][/chroot]`."""
    for server in text.partition("/")[0].split(","):
        host, colon, port = server.strip().rpartition(":")
        if not colon:
            host, port = port, "2181"
        if not host or re.search(r"\s", host) or not port.isdecimal() or not 0 < int(port[:6]) < 1 << 16:
            raise ValueError(f"{server.strip()!r} is no host:port; write 10.0.0.1:2181,10.0.0.2:2181")
    return text


def host(text: str) -> str:
    """Return `text` if it can be the name or address of a host."""
    if re.search(r"[\s/]", text):
        raise ValueError("no host name or address")
    return text


def address(text: str) -> tuple[str, int]:
    """Return host and port of `host:port`; an address of IPv6 stands in brackets."""
    name, colon, port = text.rpartition(":")
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    elif ":" in name:
        colon = ""
    if not (colon and name and port.isascii() and port.isdecimal() and int(port[:6]) < 1 << 16):
        raise ValueError("no host:port; write 127.0.0.1:9125, or 0.0.0.0:9125 for all addresses")
    return host(name), int(port)


def congestion_control(text: str) -> str:
    """Return the name of a congestion control of TCP; "" for `none`."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,15}", text):
        raise ValueError("no name of a congestion control; write bbr, or none for that of the system")
    return "" if text == "none" else text


def seconds(text: str) -> float:
    """Return a number of seconds, 0 or more, whole or with a decimal fraction."""
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text, re.ASCII):
        raise ValueError("must be a number of seconds, 0 or more, such as 300 or 0.5")
    return float(text)


def positive_seconds(text: str) -> float:
    """Return a number of seconds above 0."""
    value = seconds(text)
    if not value:
        raise ValueError("must be more than 0 seconds")
    return value


def log_level(text: str) -> str:
    """Return `text` if it names a level of logging."""
    if text not in LEVELS:
        raise ValueError(f"must be one of {', '.join(LEVELS)}")
    return text
