"""async_slave.properties → SlaveConfig (reference: config.md §8.1, MetamorphosisSlaveBroker). Pure but for `load`.

Names that are no key are passed over with a warning: a Java slave passes them over too, so that keys of ours may stand
in a file that both read.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from metaq.config import properties
from metaq.config.reading import INT32, shortened
from metaq.errors import ConfigError

KEYS: Final = ("slaveId", "slaveGroup", "slaveMaxDelayInMills", "autoSyncMasterConfig", "syncMasterConfig")
DEFAULT_GROUP: Final = "meta-slave-group"  # with the number behind it
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)


class Sync(Enum):
    """What a slave takes over from its master's server.ini: the topics' sections, or the file as it is."""

    TOPICS = "topics"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlaveConfig:
    """How a broker follows the master of its brokerId.

    `max_delay`: seconds, the longest pause between two fetches that found nothing. `sync` None: the slave's own
    server.ini stays as it is. `warnings`: to be logged once.
    """

    slave_id: int
    slave_group: str
    max_delay: float = 0.5
    sync: Sync | None = None
    path: str = ""
    warnings: tuple[str, ...] = ()


def load(path: str) -> SlaveConfig:
    """Return what the file says; ConfigError if it cannot be read or used."""
    return parse(properties.read(path, "a slave needs it, with slaveId=NUMBER"), path)


def parse(data: bytes, path: str = "async_slave.properties") -> SlaveConfig:
    """Return what `data` says, in GBK as the original reads it; `path` stands in messages."""
    found = properties.settings(data, path)
    file = _File(path, found)
    slave_id = file.number("slaveId", None, 0, "a number from 0 on, another one for each slave of the same master")
    delay = file.number("slaveMaxDelayInMills", 500, 1, "milliseconds, at least 1")
    return SlaveConfig(
        slave_id=slave_id,
        slave_group=found.get("slaveGroup") or f"{DEFAULT_GROUP}_{slave_id}",
        max_delay=delay / 1000,
        sync=file.sync(),
        path=path,
        warnings=tuple(file.warnings()),
    )


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    found: Mapping[str, str]

    def number(self, name: str, default: int | None, low: int, right: str) -> int:
        text = self.found.get(name, "")
        if not text and default is not None:
            return default
        if not text:
            raise ConfigError(f"{self.path}: {name} must be set: {right}")
        if not _NUMBER.fullmatch(text):
            raise ConfigError(f"{self.path}: {name}={shortened(text)}: is no number; write {right}")
        if not low <= int(text) <= INT32[1]:
            raise ConfigError(f"{self.path}: {name}={text}: must be between {low} and {INT32[1]}; write {right}")
        return int(text)

    def sync(self) -> Sync | None:
        """Read both keys, as Java does for the first: what is not "true" is false."""
        text = self.found.get("syncMasterConfig") or Sync.TOPICS.value
        try:
            what = Sync(text)
        except ValueError as exc:
            raise ConfigError(
                f"{self.path}: syncMasterConfig={shortened(text)}: "
                "write topics (the sections of topics) or all (the whole file)"
            ) from exc
        return what if self.found.get("autoSyncMasterConfig", "").lower() == "true" else None

    def warnings(self) -> list[str]:
        auto = self.found.get("autoSyncMasterConfig", "")
        warnings = properties.warnings_of(self.found, KEYS, self.path)
        if auto and auto.lower() not in ("true", "false"):
            warnings.append(f"{self.path}: autoSyncMasterConfig={shortened(auto)}: read as false; write true or false")
        return warnings
