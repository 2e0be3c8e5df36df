"""samsa_master.properties → SamsaConfig (reference: config.md §8, SamsaMasterBroker). Pure but for `load`.

Names that are no key are passed over with a warning, as a Java master does: keys of ours may stand in a file that both
read. The slave's gregor_slave.properties has no keys.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from metaq.config import properties
from metaq.config.reading import INT32, shortened
from metaq.errors import ConfigError

KEYS: Final = (
    "slave",
    "callbackThreadCount",
    "recoverOffset",
    "recoverParallel",
    "recoverParallelHint",
    "sendToSlaveTimeoutInMills",
    "slaveContinuousFailureThreshold",
    "checkSlaveIntervalInMills",
    "notifyCommand",
)
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamsaConfig:
    """How a broker is the master of a synchronous pair.

    `send_timeout`: seconds for a copy to be answered; `check_interval`: seconds between attempts to bring a partition
    up; `failure_threshold`: so many copies failed in a row end the registration. `recover_offset`: put the offsets of
    groups right before registering. `notify_command`: run with an event and the slave behind it; empty: none.
    """

    slave_host: str
    slave_port: int
    send_timeout: float = 2.0
    failure_threshold: int = 100
    check_interval: float = 0.1
    recover_offset: bool = False
    notify_command: tuple[str, ...] = ()
    path: str = ""
    warnings: tuple[str, ...] = ()


def load(path: str) -> SamsaConfig:
    """Return what the file says; ConfigError if it cannot be read or used."""
    return parse(properties.read(path, "the master of a pair needs it, with slave=HOST:PORT"), path)


def parse(data: bytes, path: str = "samsa_master.properties") -> SamsaConfig:
    """Return what `data` says, in GBK as the original reads it; `path` stands in messages."""
    found = properties.settings(data, path)
    file = _File(path, found)
    host, port = file.address("slave")
    return SamsaConfig(
        slave_host=host,
        slave_port=port,
        send_timeout=file.number("sendToSlaveTimeoutInMills", 2000) / 1000,
        failure_threshold=file.number("slaveContinuousFailureThreshold", 100),
        check_interval=file.number("checkSlaveIntervalInMills", 100) / 1000,
        recover_offset=found.get("recoverOffset", "").lower() == "true",
        notify_command=file.command("notifyCommand"),
        path=path,
        warnings=tuple(properties.warnings_of(found, KEYS, path)),
    )


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    found: Mapping[str, str]

    def number(self, name: str, default: int) -> int:
        text = self.found.get(name, "")
        if not text:
            return default
        if not _NUMBER.fullmatch(text):
            raise ConfigError(f"{self.path}: {name}={shortened(text)}: is no number")
        if not 1 <= int(text) <= INT32[1]:
            raise ConfigError(f"{self.path}: {name}={text}: must be between 1 and {INT32[1]}")
        return int(text)

    def address(self, name: str) -> tuple[str, int]:
        text = self.found.get(name, "")
        if not text:
            raise ConfigError(f"{self.path}: {name} must be set: HOST:PORT of the slave")
        host, _, port = text.removeprefix("meta://").rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not host or re.search(r"[\s/]", host) or not port.isdecimal() or not 0 < int(port[:6]) < 1 << 16:
            raise ConfigError(f"{self.path}: {name}={shortened(text)}: no HOST:PORT; write 10.0.0.2:8123")
        return host, int(port)

    def command(self, name: str) -> tuple[str, ...]:
        try:
            return tuple(shlex.split(self.found.get(name, "")))
        except ValueError as exc:
            raise ConfigError(f"{self.path}: {name}: {exc}") from exc
