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
from metaq.errors import ClientError, CorruptSpool, SpoolLocked
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
            for folder in self._folders:
                for key in folder.keys:
                    await self._go_through(await folder.spool(key), again)
        except ClientError as exc:
            log.warning("%s: messages not recovered, trying again later: %s", self._path, exc)

    async def count(self) -> int:
        """Return how many messages are kept."""
        await self._take_over()
        return sum([(await folder.spool(key)).count for folder in self._folders for key in folder.keys])

    async def close(self) -> None:
        """Give the folders back."""
        async with self._turn:
            folders, self._folders = self._folders, []
            for folder in folders:
                await folder.close()
            worker, self._worker = self._worker, None
            if worker is not None:
                worker.close()

    async def _go_through(self, spool: Spool, again: Again) -> None:
        for _ in range(spool.count):
            items = await spool.peek()
            if not items:
                return
            message = unpack(items[0])
            try:
                await again(message)
            except Exception as exc:  # noqa: BLE001 - whatever it was, the message stays
                log.warning("%s %s: message %d failed again: %r", message.topic, message.partition, message.id, exc)
                await spool.append_nowait(
                    items[0], beyond=True
                )  # before it is dropped: a crash may double it, not more
            await spool.drop()

    async def _spool(self, topic: str) -> Spool:
        await self._take_over()
        async with self._turn:
            if not self._folders:
                self._folders.append(await self._open_new())
            return await self._folders[0].spool(topic)

    async def _take_over(self) -> None:
        """Open, the first time, the folders that nobody has any more."""
        async with self._turn:
            if self._looked or not self._files.exists(self._path):
                return
            self._looked = True
            for entry in self._files.list(self._path):
                if entry.is_dir and entry.name.isdecimal():
                    folder = await self._try(f"{self._path}/{entry.name}")
                    if folder is not None:
                        self._folders.append(folder)

    async def _open_new(self) -> SpoolFolder:
        self._looked = True
        number = 0
        while True:
            folder = await self._try(f"{self._path}/{number}")
            if folder is not None:
                return folder
            number += 1

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
