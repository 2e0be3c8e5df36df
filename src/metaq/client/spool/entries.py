"""The files of a spool: how an entry, the mark and their names are written. Pure."""

import hashlib
from struct import Struct
from typing import Final
from urllib.parse import quote
from zlib import crc32

# A spool is a folder:
#   key                       the text it was opened with, UTF-8
#   mark                      how many entries, of all there ever were, have been dropped
#   <20 digits>.spool         entries one behind the other, nothing between them; the digits are the index of the first
#
# One entry (big-endian). `crc` covers its index, its length and the item: bytes left over from somewhere else, or
# zeros, never pass for the entry that belongs here.
#   0        4       8
#   | length | crc   | item, `length` bytes |
ENTRY: Final = Struct(">II")
_PLACE: Final = Struct(">QI")  # index and length, for the checksum
# The mark (big-endian) stands twice, at 0 and at 512, written in turn, so that one is whole whenever a crash comes;
# `crc` covers the index.
#   0               8       12
#   | index         | crc   |
MARK: Final = Struct(">QI")
MARK_PLACES: Final = (0, 512)

KEY_NAME: Final = "key"
MARK_NAME: Final = "mark"
_SUFFIX: Final = ".spool"
_DIGITS: Final = 20
_LONGEST: Final = 200  # bytes of a folder's name that is the key itself


def pack_entry(index: int, item: bytes) -> bytes:
    """Return the entry with this index."""
    return ENTRY.pack(len(item), crc32(item, crc32(_PLACE.pack(index, len(item))))) + item


def entry_size(head: bytes) -> int:
    """Return how many bytes the entry with this head has, if the head is one."""
    return ENTRY.size + int(ENTRY.unpack_from(head)[0])


def read_entries(data: bytes, index: int) -> tuple[list[bytes], int]:
    """Return the whole items at the start of `data`, the first of which has this index, and where they end.

    What follows is cut, or torn, or of no entry: this cannot be told apart here.
    """
    items: list[bytes] = []
    position, last = 0, len(data) - ENTRY.size
    while position <= last:
        length, crc = ENTRY.unpack_from(data, position)
        start = position + ENTRY.size
        item = data[start : start + length]
        if len(item) < length or crc32(item, crc32(_PLACE.pack(index, length))) != crc:
            break
        items.append(item)
        index += 1
        position = start + length
    return items, position


def pack_mark(index: int) -> bytes:
    """Return the mark that says so many entries were dropped."""
    return MARK.pack(index, crc32(index.to_bytes(8, "big")))


def read_mark(data: bytes) -> tuple[int, int]:
    """Return, from all bytes of the file, how many entries were dropped, and which of MARK_PLACES to write next.

    0 entries if neither place is of use: then some come again.
    """
    found, following = 0, 0
    for number, place in enumerate(MARK_PLACES):
        mark = data[place : place + MARK.size]
        if len(mark) == MARK.size:
            index = int(MARK.unpack(mark)[0])
            if mark == pack_mark(index) and index >= found:
                found, following = index, (number + 1) % len(MARK_PLACES)
    return found, following


def segment_name(first: int) -> str:
    """Return the name of the file whose first entry has this index."""
    return f"{first:0{_DIGITS}d}{_SUFFIX}"


def segment_first(name: str) -> int | None:
    """Return the index of the first entry of the file with this name; None: it is no segment."""
    digits = name.removesuffix(_SUFFIX)
    return int(digits) if name.endswith(_SUFFIX) and len(digits) == _DIGITS and digits.isdigit() else None


def folder_name(key: str) -> str:
    """Return the name of a key's folder: the key, percent-encoded where need be; of a long one its start and a hash."""
    name = quote(key, safe="@")
    if name.startswith("."):
        name = f"%2E{name[1:]}"
    if name and len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST - 65]}~{hashlib.sha256(key.encode()).hexdigest()}"
