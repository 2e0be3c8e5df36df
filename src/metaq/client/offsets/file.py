"""Positions in one file of JSON, in the form of 1.4.6.2 (reference: LocalOffsetStorage; client.md §9.3)."""

import asyncio
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, TypeAlias, TypeGuard, TypeVar

from metaq.client.offsets.blocking import Blocking
from metaq.cluster.znodes import NO_MESSAGE, Position
from metaq.errors import OffsetStoreError
from metaq.files import OsFiles
from metaq.model import BrokerPartition, ClusterPartition
from metaq.ports import Files, Threads

T = TypeVar("T")

Content: TypeAlias = dict[str, dict[ClusterPartition, Position]]

DEFAULT_NAME: Final = ".meta_offsets"  # in the user's home
_LOCK_AGAIN: Final = 0.005  # seconds


class FileOffsets:
    """An OffsetStore in a file that any number of groups, stores and processes share: none loses another's positions.

    Each save reads the file again under a lock (`<path>.lock`), puts its own positions in and replaces the file whole.
    Java processes take no lock and write what they read when they began: do not save to one file from both kinds at a
    time. A file that is not of this form is left as it is, with OffsetStoreError. `patience`: seconds to wait for the
    lock.
    """

    def __init__(
        self, path: str, *, files: Files | None = None, threads: Threads | None = None, patience: float = 10.0
    ) -> None:
        """`path` may begin with `~`. `files`, `threads`: None for those of the operating system."""
        self.path = os.path.abspath(os.path.expanduser(path))
        self._files = OsFiles() if files is None else files
        self._thread = Blocking("metaq offsets", threads)
        self._patience = patience

    async def load(self, group: str, partitions: Sequence[ClusterPartition]) -> dict[ClusterPartition, Position]:
        """Return what is stored for these partitions, of which the newest of all processes' saves counts."""
        known = await self.stored(group)
        return {partition: known[partition] for partition in partitions if partition in known}

    async def save(self, group: str, positions: Mapping[ClusterPartition, Position]) -> None:
        """Store all. A missing folder is made."""
        work = partial(self._merge, group, dict(positions))
        try:
            async with asyncio.timeout(self._patience):
                while True:
                    if await self._do(work):
                        return
                    await asyncio.sleep(_LOCK_AGAIN)  # nobody tells when a lock of another process is free
        except TimeoutError as exc:
            raise OffsetStoreError(
                f"{self.path}: not written within {self._patience:g} s; does another process hold {self.path}.lock?"
            ) from exc

    async def groups(self) -> list[str]:
        """Return the groups that have something stored, sorted."""
        content = await self._do(self._read)
        return sorted(group for group, positions in content.items() if positions)

    async def stored(self, group: str) -> dict[ClusterPartition, Position]:
        """Return all that a group has stored."""
        return (await self._do(self._read)).get(group, {})

    async def close(self) -> None:
        """Wait for what is being written."""
        await self._thread.close()

    async def _do(self, work: Callable[[], T]) -> T:
        try:
            return await self._thread.run(work)
        except OSError as exc:
            raise OffsetStoreError(f"{self.path}: {exc.strerror or exc}") from exc

    # in the thread

    def _read(self) -> Content:
        try:
            data = self._files.read(self.path)
        except FileNotFoundError:
            return {}
        try:
            return decode(data)
        except ValueError as exc:
            raise OffsetStoreError(
                f"{self.path} holds no offsets: {exc}; it was left as it is: mend it, or move it away to begin anew"
            ) from exc

    def _merge(self, group: str, positions: Mapping[ClusterPartition, Position]) -> bool:
        """Put positions into the file; False: another has the lock."""
        folder = os.path.dirname(self.path)
        self._make_folder(folder)
        try:
            lock = self._files.lock_file(f"{self.path}.lock")
        except BlockingIOError:
            return False
        try:
            content = self._read()
            content.setdefault(group, {}).update(positions)
            self._replace(folder, encode(content))
        finally:
            self._files.close(lock)
        return True

    def _make_folder(self, folder: str) -> None:
        if not self._files.exists(folder):
            above = os.path.dirname(folder)
            self._make_folder(above)
            self._files.make_dir(folder)
            self._files.sync_dir(above)

    def _replace(self, folder: str, data: bytes) -> None:
        new = f"{self.path}.tmp"
        fd = self._files.open(new, write=True, create=True)
        try:
            self._files.truncate(fd, 0)  # of one who did not come to the rename
            self._files.pwrite(fd, data, 0)
            self._files.fdatasync(fd)
        finally:
            self._files.close(fd)
        self._files.rename(new, self.path)
        self._files.sync_dir(folder)


def encode(content: Content) -> bytes:
    """Return the JSON of 1.4.6.2, in ASCII, which every encoding a Java process may have reads alike."""
    value = {group: [_entry(*each) for each in sorted(positions.items())] for group, positions in content.items()}
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def decode(data: bytes) -> Content:
    """Return what JSON of 1.4.6.2 says; empty: nothing. ValueError for anything else. Message ids may be missing."""
    if not data.strip():
        return {}
    try:
        value: object = json.loads(data)
    except RecursionError as exc:
        raise ValueError("JSON is nested too deeply") from exc
    if not isinstance(value, dict):
        raise _unknown(value)
    content: Content = {}
    for group, entries in value.items():
        positions = content.setdefault(group, {})
        if not isinstance(entries, list | None):
            raise _unknown(entries)
        for entry in entries or ():
            partition, position = _parse(entry)
            positions.setdefault(partition, position)  # of two, 1.4.6.2 takes the first
    return content


def _entry(place: ClusterPartition, position: Position) -> dict[str, object]:
    return {
        "topic": place.topic,
        "partition": {"brokerId": place.partition.broker_id, "partition": place.partition.partition},
        "offset": position.offset,
        "messageId": position.message_id,
        "modified": True,  # the original writes it and never looks at it
    }


def _parse(entry: object) -> tuple[ClusterPartition, Position]:
    match entry:
        case {"topic": str(topic), "partition": {"brokerId": broker, "partition": number}, "offset": offset, **rest}:
            numbers = [broker, number, offset, rest.get("messageId", NO_MESSAGE)]
            if _are_longs(numbers):
                broker_id, partition, where, message_id = numbers
                return ClusterPartition(topic, BrokerPartition(broker_id, partition)), Position(message_id, where)
    raise _unknown(entry)


def _are_longs(values: list[object]) -> TypeGuard[list[int]]:
    return all(isinstance(v, int) and not isinstance(v, bool) and -(1 << 63) <= v < 1 << 63 for v in values)


def _unknown(value: object) -> ValueError:
    return ValueError(f"{json.dumps(value)[:80]} is not what MetaQ writes there")
