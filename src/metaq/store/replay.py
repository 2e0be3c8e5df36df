"""Reading journals back: which files there are, the rounds in order, where they end (design.md §2, rules 1, 2).

Reads only; raises CorruptStore where bytes that were durable are gone.
"""

from collections.abc import Iterator
from typing import NamedTuple

from metaq.errors import CorruptStore
from metaq.ports import Files
from metaq.record import crc32
from metaq.store.entries import (
    FILE_HEADER_SIZE,
    ROUND_HEADER,
    ROUND_MAGIC,
    FileHeader,
    RoundHeader,
    unpack_file_header,
    unpack_round_header,
)
from metaq.store.journal import Mark


class FoundFile(NamedTuple):
    """One file of the journal's folder; `header` None: it was never begun."""

    path: str
    number: int
    size: int
    header: FileHeader | None


class Round(NamedTuple):
    """One round read back: its sequence and its entries, still packed."""

    sequence: int
    highest_id: int
    payload: memoryview


def find_files(files: Files, place: str) -> list[FoundFile]:
    """Return the journal files of a folder, those never begun first, then by generation and number."""
    found = []
    for entry in files.list(place):
        stem, _, suffix = entry.name.partition(".")
        if suffix != "journal" or not (stem.isascii() and stem.isdigit()):
            continue
        path = f"{place}/{entry.name}"
        fd = files.open(path)
        try:
            header = unpack_file_header(files.pread(fd, FILE_HEADER_SIZE, 0))
        finally:
            files.close(fd)
        found.append(FoundFile(path, int(stem), entry.size, header))
    return sorted(found, key=lambda f: (f.header.generation, f.header.number) if f.header else (-1, f.number))


def live_files(found: list[FoundFile], mark: Mark) -> list[FoundFile]:
    """Return those that hold, or may hold, rounds after `mark`, in order. The others are free."""
    at = (mark.generation, mark.number)
    return [f for f in found if f.header is not None and (f.header.generation, f.header.number) >= at]


class JournalReader:
    """Reads the rounds after a mark, through all generations since. `sequence` is that of the last round read."""

    def __init__(self, files: Files, live: list[FoundFile], mark: Mark) -> None:
        self._files = files
        self._live = live
        self._mark = mark
        self._crc = mark.crc
        self.sequence = mark.sequence

    def rounds(self) -> Iterator[Round]:
        """Yield the rounds in order. Raises CorruptStore if something durable is missing."""
        if self._mark.position and (not self._live or self._at(0) != (self._mark.generation, self._mark.number)):
            raise CorruptStore(
                f"the journal file that the checkpoint goes on from is missing:"
                f" generation {self._mark.generation}, number {self._mark.number}"
            )
        for position, found in enumerate(self._live):
            yield from self._read(found, self._live[position + 1] if position + 1 < len(self._live) else None)

    def _at(self, position: int) -> tuple[int, int]:
        header = self._live[position].header
        assert header is not None
        return header.generation, header.number

    def _read(self, found: FoundFile, following: FoundFile | None) -> Iterator[Round]:
        header = found.header
        assert header is not None
        position = FILE_HEADER_SIZE
        if (header.generation, header.number) == (self._mark.generation, self._mark.number) and self._mark.position:
            position = self._mark.position
        else:
            self._check_start(found, header)
            self._crc = header.seed()
        data = memoryview(self._files.read(found.path))
        while (round_ := self._round_at(data, position, header)) is not None:
            sequence, length, crc = round_.sequence, round_.length, round_.crc
            self.sequence, self._crc = sequence, crc
            start = position + ROUND_HEADER.size
            position = start + length
            yield Round(sequence, round_.highest_id, data[start:position])
        self._check_break(found, following, data, position)

    def _round_at(self, data: memoryview, position: int, header: FileHeader) -> RoundHeader | None:
        found = unpack_round_header(header.nonce, data, position)
        if found is None or found.sequence != self.sequence + 1:
            return None
        start = position + ROUND_HEADER.size
        if start + found.length > len(data) or crc32(data[start : start + found.length], self._crc) != found.crc:
            return None
        return found

    def _check_start(self, found: FoundFile, header: FileHeader) -> None:
        if header.first_sequence != self.sequence + 1:
            raise CorruptStore(
                f"{found.path} goes on at round {header.first_sequence}, but the journal before it ends with"
                f" round {self.sequence}"
            )

    def _check_break(self, found: FoundFile, following: FoundFile | None, data: memoryview, position: int) -> None:
        """Tell the end of the log from a hole in it: nothing behind a true end was ever known to be durable."""
        header = found.header
        assert header is not None
        if following is not None and following.header is not None:
            self._check_start(following, following.header)
        raw = data.obj
        assert isinstance(raw, bytes)
        search = raw.find(ROUND_MAGIC, position)
        while search >= 0:
            later = unpack_round_header(header.nonce, data, search)
            if later is not None and later.durable > self.sequence:
                raise CorruptStore(
                    f"{found.path} is damaged at {position}: round {self.sequence + 1} cannot be read, but a later"
                    f" one, at {search}, says that round {later.durable} was on disk"
                )
            search = raw.find(ROUND_MAGIC, search + 1)
