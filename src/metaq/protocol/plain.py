"""Frames with nothing unusual in them, decoded by heart: a fifth of the time that the grammar takes for any frame.

`decode` gets a line split at its last four spaces, `line.rsplit(b" ", 4)`. It takes only what the grammar would read
in the same way, ASCII digits and numbers that fit; None stands for all else. Names are those the grammar met before.
"""

from typing import Final, TypeVar

from metaq.errors import Status
from metaq.model import TopicPartition
from metaq.protocol.commands import Command, Get, Mput, Put, Result, Value

T = TypeVar("T")

# Shared by all decoders; pure functions of their keys, emptied when they grow too large.
targets: Final[dict[bytes, TopicPartition]] = {}  # by `put topic partition`
numbers: Final[dict[bytes, int]] = {}  # lengths and flags of puts
_readers: Final[dict[bytes, tuple[TopicPartition, str]]] = {}  # `get topic group partition` → target, group
_batched: Final[dict[bytes, TopicPartition]] = {}  # by `mput topic partition`
_statuses: Final[dict[bytes, Status]] = {b"%d" % status: status for status in Status}
MOST_REMEMBERED: Final = 65536  # entries
LONGEST_REMEMBERED: Final = 128  # bytes of a head, so that a peer cannot fill memory with 64 KiB topic names
LONGEST: Final = 220  # bytes of a line: a remembered head and seven numbers without needless zeros

_MIN: Final = -2147483648
_MAX: Final = 2147483647
_MAX_LONG: Final = 9223372036854775807

_new = tuple.__new__  # half the price of calling the class, once for every message


def decode(parts: list[bytes], data: bytes, start: int, most: tuple[int, int]) -> tuple[Command, int] | None:
    """Return a plain get, mput, result or value, and where it ends; its body begins at `start`, and must be whole.

    `most`: how many bytes an mput and a reply may have.
    """
    count = len(parts)
    if count == 5:
        if parts[0].startswith(b"get "):
            get = _get(parts)
            return None if get is None else (get, start)
        return _mput(parts, data, start, most[0]) if parts[0].startswith(b"mput ") else None
    if count == 4 and parts[0] == b"result":
        return _result(parts, data, start, most[1])
    return _value(parts, data, start, most[1]) if count == 3 and parts[0] == b"value" else None


def _get(parts: list[bytes]) -> Get | None:
    head, second, third, fourth, last = parts
    wait = 0
    if fourth == b"wait":  # `get topic group partition offset` size opaque wait ms
        head, _, offset = head.rpartition(b" ")
        size, mark = second, third
        if not last.isdigit() or len(last) > 18:
            return None
        wait = int(last)
    else:  # `get topic group` partition offset size opaque
        head = head + b" " + second
        offset, size, mark = third, fourth, last
    reader = _readers.get(head)
    if reader is None:
        return None
    if not (offset.isdigit() and len(offset) < 19 and size.isdigit() and mark.removeprefix(b"-").isdigit()):
        return None
    max_size, opaque = int(size), int(mark)
    if max_size > _MAX or not _MIN <= opaque <= _MAX:
        return None
    target, group = reader
    return _new(Get, (target, group, int(offset), max_size, opaque, wait))


def _mput(parts: list[bytes], data: bytes, start: int, most: int) -> tuple[Mput, int] | None:
    head, producer, epoch, sequence, mark = parts  # `mput topic partition length count` producer epoch sequence opaque
    words = head.rsplit(b" ", 2)
    target = _batched.get(words[0])
    if target is None:
        return None
    _, length, count = words
    # int() alone would be laxer than Java: blanks, underscores
    if not (
        (length.isdigit() and count.isdigit() and producer.isdigit() and epoch.isdigit())
        and sequence.isdigit()
        and mark.removeprefix(b"-").isdigit()
    ):
        return None
    size, opaque = int(length), int(mark)
    stamp = records, first, second, third = int(count), int(producer), int(epoch), int(sequence)
    end = start + size
    if size > most or end > len(data) or not _MIN <= opaque <= _MAX:
        return None
    if records > _MAX or first > _MAX_LONG or second > _MAX or third > _MAX_LONG:
        return None
    return _new(Mput, (target, data[start:end], *stamp, opaque)), end


def _result(parts: list[bytes], data: bytes, start: int, most: int) -> tuple[Result, int] | None:
    _, code, length, mark = parts
    status = _statuses.get(code)
    if status is None or not (length.isdigit() and mark.removeprefix(b"-").isdigit()):
        return None
    size, opaque = int(length), int(mark)
    end = start + size
    if size > most or end > len(data) or not _MIN <= opaque <= _MAX:
        return None
    return _new(Result, (status, data[start:end], opaque)), end


def _value(parts: list[bytes], data: bytes, start: int, most: int) -> tuple[Value, int] | None:
    _, length, mark = parts
    if not (length.isdigit() and mark.removeprefix(b"-").isdigit()):
        return None
    size, opaque = int(length), int(mark)
    end = start + size
    if size > most or end > len(data) or not _MIN <= opaque <= _MAX:
        return None
    return _new(Value, (data[start:end], opaque)), end


def remember(tokens: list[str], command: Command) -> None:
    """Learn the names of a frame that the grammar read, and the numbers of a put."""
    count = len(tokens)
    if isinstance(command, Put):
        if count == 7 and command.transaction is None:
            _learn(targets, " ".join(tokens[:3]).encode(), command.target)
            for value in (len(command.body), command.flag):
                if value >= 0:
                    _learn(numbers, b"%d" % value, value)
    elif isinstance(command, Get):
        if count == 7 or (count == 9 and tokens[7] == "wait"):
            _learn(_readers, " ".join(tokens[:4]).encode(), (command.target, command.group))
    elif isinstance(command, Mput):
        _learn(_batched, " ".join(tokens[:3]).encode(), command.target)


def _learn(table: dict[bytes, T], key: bytes, value: T) -> None:
    if len(table) >= MOST_REMEMBERED:
        table.clear()
    if len(key) <= LONGEST_REMEMBERED:
        table[key] = value
