"""Taking over the topics, or all, of the master's server.ini (reference: SubscribeHandler.tryReloadConfig)."""

import logging
import os
from collections.abc import Awaitable
from typing import Final, Protocol

from metaq.client.asking import stats_at
from metaq.config.broker import parse
from metaq.config.model import BrokerConfig
from metaq.config.slave import Sync
from metaq.config.taking import read_theirs, same_topics, take_topics
from metaq.errors import ConfigError
from metaq.model import BrokerAddress
from metaq.ports import World
from metaq.store.awaiting import in_thread
from metaq.store.checkpoint import replace_file

log = logging.getLogger(__name__)

KEPT: Final = ".from-master"  # behind the name of our file: what the master sent and nobody could read
_PATIENCE: Final = 10.0  # seconds for dialling, and as many for the answer


class Reloading(Protocol):
    """The broker whose file it is."""

    @property
    def config(self) -> BrokerConfig: ...
    def reload(self) -> Awaitable[object]: ...


async def ask_config(world: World, address: BrokerAddress) -> bytes:
    """Return the master's server.ini as it is, over a connection of its own.

    Raises Refused if the master cannot read it itself, other ClientErrors if it does not answer.
    """
    return await stats_at(world, address, "config", _PATIENCE)


class Syncing:
    """Makes our server.ini say what the master's says of topics. Files are read, compared and written in a thread.

    Compared is what the files mean: a comment alone changes nothing. `what` Sync.ALL replaces the file by the master's
    bytes: host name, port and folders in it are then those of the master, from the next start on.
    """

    def __init__(self, what: Sync, broker: Reloading, world: World) -> None:
        self._what = what
        self._broker = broker
        self._world = world
        self._unreadable = b""  # that was kept last

    async def take(self, theirs: bytes) -> bool:
        """Write and reload our file if the master's has other topics; return whether it had.

        Raises ConfigError or OSError, with our file as it was: one that nobody can read is kept beside it.
        """
        path = self._broker.config.path
        changed = await in_thread(self._world, "metaq-sync", lambda: self._write(path, theirs))
        if changed:
            await self._broker.reload()
            log.info("%s: took over %s of the master's", path, "the topics" if self._what is Sync.TOPICS else "all")
        return changed

    def _write(self, path: str, theirs: bytes) -> bool:
        """Blocks. Return whether our file is another one now."""
        ours = self._world.files.read(path)
        folder, name = os.path.split(os.path.abspath(path))
        try:
            read_theirs(theirs)
            new = theirs if self._what is Sync.ALL else take_topics(ours, theirs, path)
            after = parse(new, path)
        except ConfigError as exc:
            self._keep(folder, name, theirs)
            raise ConfigError(f"{exc}; {path} stays as it is, what the master sent is in {path}{KEPT}") from exc
        before = parse(ours, path)
        if same_topics(before, after):
            return False
        if self._what is Sync.ALL:
            _warn_of(before, after)
        replace_file(self._world.files, folder, name, new, like=True)
        return True

    def _keep(self, folder: str, name: str, theirs: bytes) -> None:
        if theirs != self._unreadable:
            replace_file(self._world.files, folder, name + KEPT, theirs)
            self._unreadable = theirs


def _address(config: BrokerConfig) -> str | None:
    return config.metrics_address and "{}:{}".format(*config.metrics_address)


def _warn_of(before: BrokerConfig, after: BrokerConfig) -> None:
    """Say what of this machine's own will be the master's at the next start."""
    for name, ours, theirs in (
        ("hostName", before.host_name, after.host_name),
        ("serverPort", before.server_port, after.server_port),
        ("dataPath", before.data_path, after.data_path),
        ("dataLogPath", before.data_log_path, after.data_log_path),
        ("bindAddress", before.bind_address, after.bind_address),
        ("metricsAddress", _address(before), _address(after)),
    ):
        if ours != theirs:
            log.warning("%s: %s is the master's from the next start on: %s, not %s", after.path, name, theirs, ours)
