"""Commands → bytes, in the one canonical form of 1.4.6.2: one space between tokens, no needless zeros or signs.

Pure functions. ValueError refuses what could not be read back: an empty token, one with a space, CR or LF, a number
that does not fit its field. Names that are not ASCII are fine, unlike in the original. The three functions for the
broker's replies, value_head, result and put_reply, check nothing: their numbers were decoded or made here.
"""

from functools import lru_cache
from typing import Final, assert_never

from metaq.model import TopicPartition
from metaq.protocol.commands import (
    Command,
    Get,
    Mget,
    Mput,
    Msync,
    Offset,
    Oversized,
    Put,
    Quit,
    Result,
    Stats,
    Sync,
    Transaction,
    Value,
    Version,
)
from metaq.protocol.parts import STAMP_SIZE
from metaq.txid import TransactionId

_MIN: Final = -2147483648
_MAX: Final = 2147483647
_LONG_MIN: Final = -(1 << 63)
_LONG_MAX: Final = (1 << 63) - 1


def encode(command: Command) -> bytes:
    """Return the whole frame of any command or reply. Raises ValueError, for Oversized always."""
    match command:
        case Put(target, body, flag, checksum, opaque, transaction):
            return put_head(target, len(body), flag, checksum, opaque, transaction) + body
        case Sync(target, body, flag, id, checksum, opaque):
            return sync_head(target, len(body), flag, id, checksum, opaque) + body
        case Mput(target, records, count, producer, epoch, sequence, opaque):
            return mput_head(target, len(records), count, (producer, epoch, sequence), opaque) + records
        case Msync():
            return encode_msync(command)
        case Get(target, group, offset, max_size, opaque, wait):
            numbers = _partition(target), _long(offset), _int(max_size), _int(opaque)
            patience = ("wait", _long(wait)) if wait > 0 else ()
            return _line("get", target.topic, group, *numbers, *patience)
        case Mget():
            return _mget(command)
        case Offset(target, group, offset, opaque):
            return _line("offset", target.topic, group, _partition(target), _long(offset), _int(opaque))
        case Stats("", opaque):
            return f"stats  {_int(opaque)}\r\n".encode()
        case Stats(item, opaque):
            return _line("stats", item, _int(opaque))
        case Version(opaque, extensions):
            return _line("version", _int(opaque), *extensions)
        case Quit():
            return b"quit\r\n"
        case Transaction():
            return _transaction(command)
        case Result(status, body, opaque):
            return _line("result", _int(status), str(len(body)), _int(opaque)) + body
        case Value(data, opaque):
            return _line("value", str(len(data)), _int(opaque)) + data
        case Oversized():
            raise ValueError("an oversized command stands for bytes that were thrown away")
        case _:
            assert_never(command)


def put_head(
    target: TopicPartition,
    length: int,
    flag: int,
    checksum: int,
    opaque: int,
    transaction: TransactionId | None = None,
) -> bytes:
    """Return the line of a put, CRLF included; `length` bytes of body follow it. `checksum` -1: none was computed."""
    # spelled out: this runs for every message
    if not (0 <= length <= _MAX and _MIN <= flag <= _MAX and _MIN <= checksum <= _MAX and _MIN <= opaque <= _MAX):
        raise ValueError(f"length {length}, flag {flag}, checksum {checksum} or opaque {opaque} does not fit")
    key = b"" if transaction is None else b" " + _token(str(transaction))
    return b"put %b %d %d %d%b %d\r\n" % (_target(target), length, flag, checksum, key, opaque)


def sync_head(target: TopicPartition, length: int, flag: int, id: int, checksum: int, opaque: int) -> bytes:
    """Return the line of a sync, CRLF included; `id` is the message id the master gave."""
    _check(64, id)
    _check(32, length, flag, checksum, opaque)
    return b"sync %b %d %d %d %d %d\r\n" % (_target(target), length, flag, id, checksum, opaque)


def encode_msync(command: Msync) -> bytes:
    """Return an msync; the stamps, if it has any, stand behind the records and count for its length."""
    target, records, base, offset, opaque, stamps = command
    length = len(records) + len(stamps)
    _check(64, base, offset)
    _check(32, length, opaque)
    more = b" %d" % (len(stamps) // STAMP_SIZE) if stamps else b""
    head = b"msync %b %d %d %d %d%b\r\n" % (_target(target), length, base, offset, opaque, more)
    return b"".join((head, records, stamps))


def mput_head(target: TopicPartition, length: int, count: int, stamp: tuple[int, int, int], opaque: int) -> bytes:
    """Return the line of an mput, CRLF included; `length` bytes of records follow it. `stamp` (0, 0, 0): none."""
    producer, epoch, sequence = stamp
    # spelled out: this runs for every batch, and there may be as many as messages
    if not (0 <= length <= _MAX and _MIN <= count <= _MAX and _MIN <= epoch <= _MAX and _MIN <= opaque <= _MAX):
        raise ValueError(f"length {length}, count {count}, epoch {epoch} or opaque {opaque} does not fit")
    if not (_LONG_MIN <= producer <= _LONG_MAX and _LONG_MIN <= sequence <= _LONG_MAX):
        raise ValueError(f"producer {producer} or sequence {sequence} does not fit")
    return b"mput %b %d %d %d %d %d %d\r\n" % (_target(target), length, count, producer, epoch, sequence, opaque)


def part_head(nth: int, status: int, base: int, length: int, stamps: int = 0) -> bytes:
    """Return the line of one part of the reply to mget; `length` bytes of the log follow it, then so many stamps."""
    if stamps:
        return b"%d %d %d %d %d\r\n" % (nth, status, base, length, stamps)
    return b"%d %d %d %d\r\n" % (nth, status, base, length)


def value_head(length: int, opaque: int) -> bytes:
    """Return the line of a reply to get, CRLF included; `length` bytes of the log follow it."""
    return b"value %d %d\r\n" % (length, opaque)


def result(status: int, text: str, opaque: int) -> bytes:
    """Return a reply with a status and a text."""
    body = text.encode()
    return b"result %d %d %d\r\n%b" % (status, len(body), opaque, body)


def put_reply(id: int, partition: int, offset: int, opaque: int) -> bytes:
    """Return the reply to a put that was stored: message id, partition, offset of the record (-1: in a transaction)."""
    body = b"%d %d %d" % (id, partition, offset)
    return b"result 200 %d %d\r\n%b" % (len(body), opaque, body)


def _mget(command: Mget) -> bytes:
    lines = [
        _line(want.target.topic, _partition(want.target), _long(want.offset), _int(want.max_size))
        for want in command.wants
    ]
    body = b"".join(lines)
    numbers = _int(command.max_size), _long(command.wait), _int(len(body)), _int(command.opaque)
    return _line("mget", command.group, *numbers, *(("stamps",) if command.stamps else ())) + body


def _transaction(command: Transaction) -> bytes:
    tokens = ["transaction", str(command.id), command.session, command.operation.value]
    if command.timeout > 0:
        tokens.append(_int(command.timeout))
    if command.qualifier is not None:
        if command.qualifier.isdecimal() or ":" in command.qualifier:
            raise ValueError(f"qualifier {command.qualifier[:40]!r} would be read as something else")
        tokens.append(command.qualifier)
    return _line(*tokens, _int(command.opaque))


def _line(*tokens: str) -> bytes:
    return b" ".join(map(_token, tokens)) + b"\r\n"


@lru_cache(4096)
def _token(text: str) -> bytes:
    """Return a token as bytes, if it is one."""
    if not text or " " in text or "\r" in text or "\n" in text:
        raise ValueError(f"{text[:40]!r} cannot be sent: empty, or a space, CR or LF in it")
    return text.encode()


@lru_cache(65536)
def _target(target: TopicPartition) -> bytes:
    _check(32, target.partition)
    return b"%b %d" % (_token(target.topic), target.partition)


def _check(bits: int, *numbers: int) -> None:
    for number in numbers:
        if not -(1 << bits - 1) <= number < 1 << bits - 1:
            raise ValueError(f"{number} does not fit into {bits} bits")


def _int(number: int) -> str:
    _check(32, number)
    return str(int(number))


def _long(number: int) -> str:
    _check(64, number)
    return str(number)


def _partition(target: TopicPartition) -> str:
    return _int(target.partition)
