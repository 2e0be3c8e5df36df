"""Rejected messages on the disk of this machine, given to the handler again later (reference: RecoverStorageManager).

Each consumer has a folder for itself, `<path>/<group>/<number>`; one whose process has ended is taken over by the next
that starts. A message the handler fails at again goes to the end of the line, so that it holds up no other
(features.md, part 2: #99, #111). Filters and acknowledgements do not apply.
"""

import asyncio
import json
import logging
from struct import Struct
from struct import error as StructError
from typing import Final

from metaq.client.consuming.rejecting import Again
from metaq.client.message import Message
from metaq.client.spool import Spool, SpoolFolder
from metaq.errors import ClientError, CorruptSpool, SpoolError, SpoolLocked
from metaq.ports import Files, Threads, Worker

log = logging.getLogger(__name__)

_LENGTH: Final = Struct(">I")
_FIELDS: Final = ("topic", "partition", "offset", "id", "flag")


class Recovery:
    """Keeps messages until the handler takes them. Nothing is made on the disk before the first one is rejected."""

    def __init__(self, path: str, group: str, files: Files, threads: Threads) -> None:
        self._path = f"{path}/{group}"
        self._files = files
        self._threads = threads
        self._worker: Worker | None = None
        self._folders: list[SpoolFolder] = []  # the first one is ours, the others were left by processes that ended
        self._looked = False
        self._is_closed = False
        self._turn = asyncio.Lock()

    async def reject(self, message: Message, error: BaseException) -> None:
        """Write a message down; durable when this returns. Raises SpoolError."""
        spool = await self._spool(message.topic)
        await spool.append(pack(message))
        log.warning(
            "%s %s: message %d at %d is kept in %s: %r",
            message.topic, message.partition, message.id, message.offset, self._path, error,
        )  # fmt: skip

    async def recover(self, again: Again) -> None:
        """Give each message that is kept to the handler, once. What goes wrong with the disk is logged."""
        try:
            await self._take_over()
            for folder in list(self._folders):
                for key in folder.keys:
                    if not await self._go_through(await folder.spool(key), again):
                        return
        except ClientError as exc:
            if not self._is_closed:
                log.warning("%s: messages not recovered, trying again later: %s", self._path, exc)

    async def count(self) -> int:
        """Return how many messages are kept."""
        await self._take_over()
        return sum([(await folder.spool(key)).count for folder in self._folders for key in folder.keys])

    async def close(self) -> None:
        """Give the folders back. May be called again."""
        async with self._turn:
            self._is_closed = True
            folders, self._folders = self._folders, []
            try:
                for folder in folders:
                    await folder.close()
            finally:
                worker, self._worker = self._worker, None
                if worker is not None:
                    worker.close()

    async def _go_through(self, spool: Spool, again: Again) -> bool:
        """Give a spool's messages to the handler; False: it wants no more. What it fails at, or nobody can read, stays.

        That is put at the end before it is dropped at the beginning: a crash may double it, not more.
        """
        for _ in range(spool.count):
            items = await spool.peek()
            if not items:
                break
            try:
                if not await again(unpack(items[0])):
                    return False
            except Exception as exc:  # noqa: BLE001 - whatever it was, the message stays
                log.warning("%s: a rejected message of %s failed again: %r", self._path, spool.key, exc)
                await spool.append_nowait(items[0], beyond=True)
            await spool.drop()
        return True

    async def _spool(self, topic: str) -> Spool:
        await self._take_over()
        async with self._turn:
            if not self._folders:
                self._folders.append(await self._open_new())
            return await self._folders[0].spool(topic)

    async def _take_over(self) -> None:
        """Open, the first time, the folders that nobody has any more. One that cannot be opened is left alone."""
        async with self._turn:
            self._check_open()
            for name in [] if self._looked else self._names():
                self._looked = True
                try:
                    folder = await self._try(f"{self._path}/{name}")
                except SpoolError as exc:
                    log.warning("%s/%s: left alone: %s", self._path, name, exc)
                else:
                    if folder is not None:
                        self._folders.append(folder)

    def _names(self) -> list[str]:
        """Return the names of the folders that there are. Raises SpoolError."""
        try:
            entries = self._files.list(self._path) if self._files.exists(self._path) else []
        except OSError as exc:
            raise SpoolError(f"{self._path}: {exc.strerror or exc}") from exc
        return [entry.name for entry in entries if entry.is_dir and entry.name.isdecimal()]

    async def _open_new(self) -> SpoolFolder:
        self._check_open()
        self._looked = True
        number = 0
        while True:
            folder = await self._try(f"{self._path}/{number}")
            if folder is not None:
                return folder
            number += 1

    def _check_open(self) -> None:
        if self._is_closed:
            raise SpoolError(f"{self._path}: closed")

    async def _try(self, path: str) -> SpoolFolder | None:
        if self._worker is None:
            self._worker = self._threads.worker("recover")
        try:
            return await SpoolFolder.open(path, self._files, self._worker)
        except SpoolLocked:
            return None  # a consumer that runs has it


def pack(message: Message) -> bytes:
    """Return a message as it is kept: int length and JSON of where it came from, then its body."""
    head = json.dumps({name: getattr(message, name) for name in _FIELDS}).encode()
    return _LENGTH.pack(len(head)) + head + message.body


def unpack(item: bytes) -> Message:
    """Return the message that `pack` was given. Raises CorruptSpool."""
    try:
        end = _LENGTH.size + _LENGTH.unpack_from(item)[0]
        return Message(**json.loads(item[_LENGTH.size : end]), body=item[end:])
    except (ValueError, TypeError, StructError) as exc:
        raise CorruptSpool(f"an item of {len(item)} bytes is no rejected message: {exc}") from exc
