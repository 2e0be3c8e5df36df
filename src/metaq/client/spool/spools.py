"""All spools of one client: each folder is opened once, whoever of its producers and consumers uses it."""

import asyncio
import os
from typing import Final, TypeAlias

from metaq.client.spool.entries import folder_name
from metaq.client.spool.folder import SharedFolder, SpoolFolder
from metaq.errors import ConfigError
from metaq.ports import Files, Threads, Worker

Path: TypeAlias = str | os.PathLike[str]

_ORDERED: Final = "ordered"
_ONE_WAY: Final = "one-way"


class Spools:
    """Opens folders when they are first asked for, and the one thread they all work in. `close` closes all."""

    def __init__(self, files: Files, threads: Threads) -> None:
        self._files = files
        self._threads = threads
        self._worker: Worker | None = None
        self._ordered: dict[str, SpoolFolder] = {}
        self._shared: dict[str, SharedFolder] = {}
        self._turn = asyncio.Lock()
        self._is_closed = False

    async def ordered(self, path: Path) -> SpoolFolder:
        """Return the folder `ordered` in a home, which this process alone has. Raises SpoolLocked, SpoolError."""
        async with self._turn:
            home = self._home(path)
            if home not in self._ordered:
                self._ordered[home] = await SpoolFolder.open(f"{home}/{_ORDERED}", self._files, self._thread())
            return self._ordered[home]

    async def one_way(self, path: Path, topic: str) -> SharedFolder:
        """Return a topic's folder in a home, which other processes may use at the same time.

        Raises SpoolError, CorruptSpool.
        """
        async with self._turn:
            home = f"{self._home(path)}/{_ONE_WAY}/{folder_name(topic)}"
            if home not in self._shared:
                self._shared[home] = await SharedFolder.open(home, self._files, self._thread())
            return self._shared[home]

    async def close(self) -> None:
        """Close all folders, wait for what is being written, and end the thread. May be called again."""
        async with self._turn:
            self._is_closed = True
            try:
                for ordered in self._ordered.values():
                    await ordered.close()
                for shared in self._shared.values():
                    await shared.close()
            finally:
                worker, self._worker = self._worker, None
                if worker is not None:
                    worker.close()

    def _home(self, path: Path) -> str:
        if self._is_closed:
            raise ConfigError("the client is closed")
        text = os.fspath(path)
        if not text:
            raise ConfigError("a spool needs a folder")
        return os.path.abspath(os.path.expanduser(text))

    def _thread(self) -> Worker:
        if self._worker is None:
            self._worker = self._threads.worker("metaq spools")
        return self._worker
