"""Where the whole records of a segment file end, for files that another broker may have written."""

from typing import Final

from metaq.ports import Files
from metaq.record import HEADER, HEADER_SIZE, scan

_CHUNK: Final = 8 << 20


def whole_records(files: Files, path: str, position: int, size: int) -> int:
    """Return the end of the last whole record of a file at or after `position`, itself a record's beginning.

    `size` is that of the file. Memory is bounded by the largest record. Blocks.
    """
    fd = files.open(path)
    want = _CHUNK
    try:
        while position < size:
            data = files.pread(fd, min(want, size - position), position)
            whole = scan(data)
            position += whole
            want = _CHUNK
            if whole == 0:
                want = _record_size(data)
                if want <= len(data) or position + want > size:
                    break  # it is here, and no record; or it is cut off
    finally:
        files.close(fd)
    return position


def _record_size(data: bytes) -> int:
    """Return the bytes of the record that `data` begins with, as its header says; 0 if that is none."""
    if len(data) < HEADER_SIZE:
        return 0
    length: int = HEADER.unpack_from(data)[0]
    return HEADER_SIZE + length if length >= 0 else 0
