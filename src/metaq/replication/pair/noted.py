"""Which messages are here alone, kept over a restart: nobody sees them before the slave has them.

One small text file beside the journal, a line for each partition that is behind; none where there is nothing to note.
What was on its way to the slave when the process died is not in it: after such an end it is seen at once.

    <bytes that the slave has> <topic>-<partition>
"""

import logging
from collections.abc import Mapping
from typing import Final

from metaq.errors import ConfigError
from metaq.model import TopicPartition
from metaq.ports import Files, Worker
from metaq.store.awaiting import call
from metaq.store.checkpoint import replace_file

log_ = logging.getLogger(__name__)

_NAME: Final = "pair-behind"


class Noted:
    """The file; its folder exists. `worker` does what blocks."""

    def __init__(self, files: Files, folder: str, worker: Worker) -> None:
        self._files = files
        self._folder = folder
        self._worker = worker
        self._written: Mapping[TopicPartition, int] = {}

    def read(self) -> dict[TopicPartition, int]:
        """Return what was noted. Blocks. Raises ConfigError if it cannot be understood, OSError."""
        path = f"{self._folder}/{_NAME}"
        try:
            text = self._files.read(path).decode()
        except FileNotFoundError:
            return {}
        noted = {}
        for line in text.splitlines():
            end, _, name = line.partition(" ")
            topic, _, partition = name.rpartition("-")
            if not (end.isdecimal() and topic and partition.isdecimal()):
                raise ConfigError(
                    f"{path}: {line[:80]!r} is no line of it; remove the file to see all messages at once"
                )
            noted[TopicPartition(topic, int(partition))] = int(end)
        self._written = noted
        return noted

    async def write(self, behind: Mapping[TopicPartition, int]) -> None:
        """Note this instead, durably. Raises OSError."""
        if behind == self._written:
            return
        lines = [f"{end} {key}\n" for key, end in sorted(behind.items())]
        await call(self._worker, lambda: self._replace("".join(lines).encode()))
        self._written = dict(behind)

    def _replace(self, data: bytes) -> None:
        if data:
            replace_file(self._files, self._folder, _NAME, data)
        elif self._files.exists(f"{self._folder}/{_NAME}"):
            self._files.remove(f"{self._folder}/{_NAME}")
            self._files.sync_dir(self._folder)
