"""Reading the log back: the rounds behind a place in it, and whether it ends there or was damaged.

Reads only; raises CorruptStore where bytes that were durable are gone or changed.
"""

from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

from metaq.errors import CorruptStore
from metaq.ports import Files
from metaq.registry.entries import (
    FILE_HEADER_SIZE,
    ROUND_HEADER_SIZE,
    ROUND_MAGIC,
    SEAL_MAGIC,
    FileHeader,
    Mark,
    RoundHeader,
    unpack_file_header,
    unpack_round_header,
    unpack_seal,
)
from metaq.registry.layout import log_path


class Round(NamedTuple):
    """One round read back: where it stands, and its bytes, header and all."""

    path: str
    position: int
    data: bytes

    @property
    def payload(self) -> bytes:
        return self.data[ROUND_HEADER_SIZE:]


class LogReader:
    """Reads the rounds behind `mark`, through all files since; `mark` None: from the first round of all.

    Afterwards: `number` and `generation` are those of the last file (0: there is none), `sequence` and `chain` those of
    the last round, `backlog` the bytes of log since the mark, `last` the last round if it is in the last file.
    """

    def __init__(self, files: Files, place: str, logs: dict[int, str], mark: Mark | None) -> None:
        self._files = files
        self._place = place
        self._mark = mark
        first = mark.number if mark else min(logs, default=1)
        self._logs = {number: path for number, path in logs.items() if number >= first}
        self._first = first
        self.sequence, self.chain = (mark.sequence, mark.chain) if mark else (0, 0)
        self.number = self.generation = 0
        self.backlog = 0
        self.last: Round | None = None
        self._end = ("", 0)  # of the rounds that could be read: path, position

    def rounds(self) -> Iterator[Round]:
        """Yield them in order. Raises CorruptStore."""
        last = max(self._logs, default=0 if self._mark is None else self._first)
        for number in range(self._first, last + 1):
            if number not in self._logs:
                raise CorruptStore(f"{log_path(self._place, number)} is missing")
        for number, path in self._logs.items():
            data = self._files.read(path)
            header = self._check_header(number, path, data)
            yield from self._read(path, data, header)
            if number == last:
                self._check_end(path, data, header.nonce)

    def _check_header(self, number: int, path: str, data: bytes) -> FileHeader:
        try:
            header = unpack_file_header(data[:FILE_HEADER_SIZE])
        except ValueError as exc:
            raise CorruptStore(f"{path}: {exc}") from exc
        if header.number != number:
            raise CorruptStore(f"{path} is number {header.number} of the log")
        if header.size != len(data):
            raise CorruptStore(f"{path} ends at {len(data)}, it was made with {header.size} bytes")
        self.number, self.generation = number, header.generation
        return header

    def _read(self, path: str, data: bytes, header: FileHeader) -> Iterator[Round]:
        position = FILE_HEADER_SIZE
        self.last = None
        if self._mark is not None and header.number == self._mark.number:
            position = self._mark.position
        else:
            self._check_joint(path, header)
            self.chain = header.seed()
        self.backlog += len(data) - position
        while (found := self._round_at(data, position, header)) is not None:
            end = position + ROUND_HEADER_SIZE + found.length
            self.sequence, self.chain = found.sequence, found.crc
            self.last = Round(path, position, data[position:end])
            yield self.last
            position = end
        self._end = path, position

    def _check_joint(self, path: str, header: FileHeader) -> None:
        """A file goes on where the one before it ended; else bytes of that one are missing, or it is another's."""
        if self._mark is None and header.number == self._first and header.first_sequence != 1:
            raise CorruptStore(f"{path} begins with round {header.first_sequence}, no snapshot has those before it")
        if (header.first_sequence, header.chain) != (self.sequence + 1, self.chain):
            raise CorruptStore(
                f"{self._damaged()}, but {path} goes on with round {header.first_sequence} behind another one"
            )

    def _damaged(self) -> str:
        path, position = self._end
        return f"{path} is damaged at {position}: no round {self.sequence + 1} is there"

    def _round_at(self, data: bytes, position: int, header: FileHeader) -> RoundHeader | None:
        found = unpack_round_header(header.nonce, data, position)
        if found is None or found.sequence != self.sequence + 1:
            return None
        start = position + ROUND_HEADER_SIZE
        content = data[start : start + found.length]
        if len(content) < found.length or crc32(content, self.chain) != found.crc:
            return None
        return found

    def _check_end(self, path: str, data: bytes, nonce: int) -> None:
        """Tell the end of the log from a hole in it: a round is durable before the next one, or a seal, is written."""
        _, position = self._end
        for search in _places(data, ROUND_MAGIC, position):
            later = unpack_round_header(nonce, data, search)
            if later is not None and later.sequence > self.sequence + 1:
                raise CorruptStore(f"{self._damaged()}, but round {later.sequence} at {search} came after it")
        for search in _places(data, SEAL_MAGIC, position):
            sealed = unpack_seal(nonce, data, search)
            if sealed is not None and sealed > self.sequence:
                raise CorruptStore(f"{self._damaged()}, but the seal at {search} says that round {sealed} was on disk")


def _places(data: bytes, magic: bytes, position: int) -> Iterator[int]:
    while (position := data.find(magic, position)) >= 0:
        yield position
        position += 1
